"""Orders for charts and reports."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db.models import Count

from execution.models import (
    Fill,
    Order,
)
from execution.selectors.protection import (
    ENVIRONMENT,
)
from market.contracts import ChartMark
from tradingbot.core.decimals import plain

MARKS_MAX = 200


def order_counts() -> dict[str, int]:
    """How many orders are in each status, for reports."""
    rows = Order.objects.filter(environment=ENVIRONMENT).values("status").annotate(n=Count("pk"))
    return {row["status"]: row["n"] for row in rows}


def chart_marks(symbol: str, since: datetime) -> list[ChartMark]:
    """Our orders and fills of `symbol` recorded since `since` (`settings.CHART_MARKS`), oldest first."""
    orders = Order.objects.filter(environment=ENVIRONMENT, symbol=symbol, created_at__gte=since)
    fills = Fill.objects.filter(
        environment=ENVIRONMENT, symbol=symbol, recorded_at__gte=since, order__isnull=False
    )
    marks = [
        _mark("order", row.side, row.price, row.quantity, row.created_at, row.pk)
        for row in orders.order_by("-created_at")[:MARKS_MAX]
    ] + [
        _mark("fill", row.side, row.price, row.quantity, row.recorded_at, row.order_id)
        for row in fills.order_by("-recorded_at")[:MARKS_MAX]
    ]
    return sorted(marks, key=lambda mark: mark.recorded_at)


def _mark(
    kind: str,
    side: str,
    price: Decimal | None,
    quantity: Decimal,
    recorded_at: datetime,
    order_id: UUID | None,
) -> ChartMark:
    text = f"{kind} {side} {plain(quantity)}" + ("" if price is None else f" at {plain(price)}")
    return ChartMark(kind, side, price, quantity, recorded_at, str(order_id), text)
