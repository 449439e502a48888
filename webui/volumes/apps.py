from django.apps import AppConfig


class VolumesConfig(AppConfig):
    name = "webui.volumes"
    default_auto_field = "django.db.models.BigAutoField"
