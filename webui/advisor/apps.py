from django.apps import AppConfig


class AdvisorConfig(AppConfig):
    name = "webui.advisor"
    default_auto_field = "django.db.models.BigAutoField"
