"""Every URL: pages, REST, admin."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from webui.api import api

admin.site.site_header = "Slipway"
admin.site.site_title = "Slipway"

urlpatterns = [
    path("api/v1/", api.urls),
    path("admin/", admin.site.urls),
    path("", include("webui.urls_pages")),
]
