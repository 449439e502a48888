from django.apps import AppConfig


class HostsConfig(AppConfig):
    name = "webui.hosts"
    default_auto_field = "django.db.models.BigAutoField"
