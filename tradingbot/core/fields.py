"""Model fields used by all apps, so that money and environments are stored in one way."""

from django.db import models

from tradingbot.core.environments import Environment


class AmountField(models.DecimalField):
    """Money, quantity or price: NUMERIC(38, 16), exact from string to database (invariant 5)."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("max_digits", 38)
        kwargs.setdefault("decimal_places", 16)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]


class EnvironmentField(models.CharField):
    """Which environment a row belongs to; part of every key, so that environments never mix."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("max_length", 16)
        kwargs.setdefault("choices", [(e.value, e.value) for e in Environment])
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
