"""The digest that binds an approval to an order (invariants 2 and 13)."""

import hashlib
import json
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal

from proposals.contracts import QuantisedOrder
from tradingbot.core.decimals import plain

STORED_PLACES = Decimal("1e-16")  # tradingbot.core.fields.AmountField


def storable(order: QuantisedOrder) -> QuantisedOrder:
    """`order` with every number in the 16 places of the database, so that a read row has the same digest.

    Quantities and prices lie on the exchange's grid (8 places) and stay as they are; computed costs are
    rounded away from zero, never in the bot's favour.
    """
    return order.model_copy(
        update={
            name: value.quantize(STORED_PLACES, rounding=ROUND_UP)
            for name, value in order
            if isinstance(value, Decimal)
        }
    )


def digest_of(order: QuantisedOrder, limits_version: int, expires_at: datetime) -> str:
    """SHA-256 (hexadecimal) of all that is approved: the order in every field, limits version and expiry."""
    content: dict[str, object] = {
        name: plain(value) if isinstance(value, Decimal) else value for name, value in order
    }
    content["limits_version"] = limits_version
    content["expires_at"] = expires_at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


SAME_WHEN_REDUCED = (
    "symbol",
    "side",
    "order_type",
    "time_in_force",
    "price",
    "stop_price",
    "target_price",
    "reference_price",
)


def is_less_of(after: QuantisedOrder, before: QuantisedOrder) -> bool:
    """Whether `after` is the order `before` with less of it: nothing else may differ, no cost may be higher."""
    return (
        all(getattr(after, name) == getattr(before, name) for name in SAME_WHEN_REDUCED)
        and 0 < after.quantity < before.quantity
        and after.notional_quote < before.notional_quote
        and after.fee_quote <= before.fee_quote
    )
