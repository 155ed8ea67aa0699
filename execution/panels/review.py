"""Orders of unknown fate: what was asked, what the exchange said, and what a person may answer."""

from typing import Any
from uuid import UUID

from execution import selectors, services
from execution.contracts import REVIEWABLE, OrderStatus
from execution.models import Order
from tradingbot.core import clock
from tradingbot.core.panels import UnknownPanel, panel
from tradingbot.core.permissions import Deed, may

WAITING_SHOWN = 20
PROBES_SHOWN = 100
REQUESTS_SHOWN = 20


@panel("reviews", template="execution/reviews.html", topics={"order"})
def waiting(user: Any, argument: str) -> dict[str, Any]:
    """Orders that wait for a person or whose fate is being asked about; empty when there are none."""
    rows = Order.objects.filter(environment=selectors.ENVIRONMENT, status__in=REVIEWABLE)
    return {"rows": rows.order_by("-status", "unknown_since")[:WAITING_SHOWN]}


@panel("review", template="execution/review.html", topics={"order"}, keyed_by="order")
def review(user: Any, argument: str) -> dict[str, Any]:
    """One order with every question and raw answer, the countdown, the exposure and the three answers."""
    try:
        row = Order.objects.select_related("intent").get(environment=selectors.ENVIRONMENT, pk=UUID(argument))
    except (ValueError, Order.DoesNotExist) as error:
        raise UnknownPanel("there is no such order") from error
    requests = list(row.requests.order_by("-id")[:REQUESTS_SHOWN])
    now = clock.now()
    absent_from = services.absence_may_be_confirmed_at(row)
    return {
        "order": row,
        "reviewable": row.status in REVIEWABLE,
        "waits": row.status == OrderStatus.MANUAL_REVIEW,
        "instant": services.conclusive_instant(row),
        "instant_passed": services.conclusive_instant(row) <= now,
        "absent_from": absent_from,
        "absence_counts": absent_from <= now,
        "watched": row.watch_until is not None and row.watch_until > now,
        "probes": row.probes.order_by("-at", "-id")[:PROBES_SHOWN],
        "asked": next((request for request in requests if request.done_at is None), None),
        "answered": [request for request in requests if request.done_at is not None],
        "may": may(user, Deed.RESOLVE),
        "how_it_stands": "" if row.status in REVIEWABLE else services.how_it_stands(row),
    }
