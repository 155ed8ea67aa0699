"""What tests of protection share: entries that are protected, and looks at what stands on the exchange."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from execution import selectors, services
from execution.models import (
    Order,
    OrderCancel,
)
from execution.selectors import protection
from market import services as market_services
from market.contracts import Quote
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock

D = Decimal


def buy_at_limit(desk: Desk, above: str = "1.0005", **answer: Any) -> Order:
    """An entry at a limit that fills at once, with stop and target."""
    limit = f"{desk.quote(SYMBOL).ask * D(above):.2f}"
    return desk.buy(**{"order_type": "LIMIT", "limit_price": limit, "time_in_force": "IOC", **answer})


def guard(desk: Desk, after: float = 0) -> int:
    return services.guard_positions(exchange=services.gateway(), now=clock.now() + timedelta(seconds=after))


def leg(role: str) -> Order:
    return Order.objects.filter(role=role).order_by("created_at").last()  # type: ignore[return-value]


def there(desk: Desk, client_order_id: str) -> dict[str, Any]:
    (found,) = [o for o in desk.exchange.orders() if o["clientOrderId"] == client_order_id]
    return found


def open_stops(desk: Desk) -> list[dict[str, Any]]:
    return [
        o
        for o in desk.exchange.orders()
        if o["status"] in {"NEW", "PARTIALLY_FILLED"} and o["type"] == "STOP_LOSS"
    ]


def client() -> Any:
    return services.gateway()._client  # type: ignore[attr-defined]


def sell_all(desk: Desk) -> Any:
    return desk.assess(
        desk.propose(
            action="SELL", quote_amount=None, position_share_pct=100, stop_price=None, target_price=None
        )
    )


def late(desk: Desk) -> None:
    """The earlier cancel was long ago: another one is due."""
    OrderCancel.objects.update(created_at=clock.now() - timedelta(minutes=5))


def see_price(desk: Desk, factor: str) -> None:
    quote = desk.quote(SYMBOL)
    moved = Quote(SYMBOL, quote.bid * D(factor), quote.ask * D(factor), D(1), D(1), clock.now())
    market_services.record_quotes(quotes=[moved])


def without(monkeypatch: pytest.MonkeyPatch, **missing: bool) -> None:
    """The symbol's filters with something switched off."""
    from dataclasses import replace

    known = protection.filters_of(SYMBOL)
    assert known is not None
    changed = replace(known, **missing)
    monkeypatch.setattr(selectors, "filters_of", lambda _: changed)
    monkeypatch.setattr(protection, "filters_of", lambda _: changed)
