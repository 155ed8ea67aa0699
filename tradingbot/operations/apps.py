from django.apps import AppConfig
from django.db.models.signals import post_migrate


class OperationsConfig(AppConfig):
    name = "tradingbot.operations"
    label = "operations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tradingbot import checks  # noqa: F401 - registers them
        from tradingbot.operations import panels, roles  # noqa: F401 - registers them

        # This app is the last one: by its turn the permissions of all apps are there.
        post_migrate.connect(roles.ensure_roles, sender=self)
