"""Model fields used by all apps, so that money and environments are stored in one way."""

from typing import Any

from django.db import models

from tradingbot.core.environments import Environment
from tradingbot.core.form_fields import PlainDecimalField


class AmountField(models.DecimalField):
    """Money, quantity or price: NUMERIC(38, 16), exact from string to database (invariant 5)."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("max_digits", 38)
        kwargs.setdefault("decimal_places", 16)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def formfield(self, **kwargs: Any) -> Any:
        """Forms take plain decimals only."""
        # Not super's: it hands on options that only Django's own number field knows.
        return models.Field.formfield(self, **{"form_class": PlainDecimalField} | kwargs)


class EnvironmentField(models.CharField):
    """Which environment a row belongs to; part of every key, so that environments never mix."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("max_length", 16)
        kwargs.setdefault("choices", [(e.value, e.value) for e in Environment])
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
