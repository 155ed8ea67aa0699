from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "tradingbot.operations"
    label = "operations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tradingbot.operations import panels  # noqa: F401 - registers them
