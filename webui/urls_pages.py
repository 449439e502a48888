"""URLs of the HTML pages. Everything that changes something goes through /api/v1/."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.templatetags.static import static
from django.urls import path
from django.views.generic import RedirectView

from webui.accounts import views as accounts
from webui.containers import network_dialogs as container_networks
from webui.containers import views as containers
from webui.core import views as core
from webui.hosts import views as hosts
from webui.images import views as images
from webui.networks import views as networks
from webui.operations import views as operations
from webui.volumes import views as volumes

urlpatterns = [
    path("", core.overview, name="overview"),
    # Django's admin and browsers that are given a bare file ask for it by this name.
    path("favicon.ico", RedirectView.as_view(url=static("img/mark.svg"))),
    path("search/", core.search, name="search"),
    path("login/", accounts.SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("account/", accounts.account, name="account"),
    path("account/tokens/new/", accounts.token_dialog, name="token-create"),
    path("containers/", containers.container_list, name="containers"),
    path("containers/new/", containers.container_create, name="container-create"),
    path("containers/<str:container_id>/", containers.container_detail, name="container"),
    path(
        "containers/<str:container_id>/terminal/",
        containers.container_terminal,
        name="container-terminal",
    ),
    path(
        "containers/<str:container_id>/dialog/<slug:name>/",
        containers.container_dialog,
        name="container-dialog",
    ),
    path(
        "containers/<str:container_id>/networks/connect/",
        container_networks.connect_dialog,
        name="container-connect",
    ),
    path(
        "containers/<str:container_id>/networks/<str:network_id>/disconnect/",
        container_networks.disconnect_dialog,
        name="container-disconnect",
    ),
    path("images/", images.image_list, name="images"),
    path("images/dialog/<slug:name>/", images.images_dialog, name="images-dialog"),
    path("images/<str:image_id>/", images.image_detail, name="image"),
    path("images/<str:image_id>/dialog/<slug:name>/", images.image_dialog, name="image-dialog"),
    path("volumes/", volumes.volume_list, name="volumes"),
    path("volumes/new/", volumes.create_dialog, name="volume-create"),
    path("volumes/<str:volume_name>/remove/", volumes.remove_dialog, name="volume-remove"),
    path("networks/", networks.network_list, name="networks"),
    path("networks/new/", networks.create_dialog, name="network-create"),
    path("networks/<str:network_id>/remove/", networks.remove_dialog, name="network-remove"),
    path("networks/<str:network_id>/move/", networks.move_dialog, name="network-move"),
    path(
        "networks/<str:network_id>/connect/",
        container_networks.connect_to_dialog,
        name="network-connect",
    ),
    path("operations/", operations.operation_list, name="operations"),
    path("events/", operations.event_list, name="events"),
    path("hosts/", hosts.host_list, name="hosts"),
]
