from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class OperationsConfig(AppConfig):
    name = "tradingbot.operations"
    label = "operations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tradingbot import celery, checks  # noqa: F401 - the app that tasks belong to; the checks
        from tradingbot.operations import panels, roles  # noqa: F401 - registers them

        # Sent once per app with models, in their order: by the turn of the last all permissions are there.
        post_migrate.connect(roles.ensure_roles, sender=apps.get_app_config("execution"))
