"""Reconciliation: the verdict first, then what differs and the runs that looked."""

from typing import Any

from execution import selectors, services
from execution.models import Divergence, Order, ReconciliationRequest, ReconciliationRun
from execution.rules.reporting import WHAT_TO_DO
from tradingbot.core import clock
from tradingbot.core.panels import UnknownPanel, panel
from tradingbot.core.permissions import Deed, may

RECENT_SHOWN = 10
RUNS_SHOWN = 25
DIVERGENCES_SHOWN = 50


@panel("reconciliation.verdict", template="execution/verdict.html", topics={"reconciliation", "divergence"})
def reconciliation_verdict(user: Any, argument: str) -> dict[str, Any]:
    """One line: how many divergences, how old the last run, how it ended."""
    agreed, note = selectors.reconciliation_state(clock.now())
    rows = _divergences().filter(closed_at__isnull=True)
    return {
        "count": rows.count(),
        "oldest": rows.order_by("first_seen_at").first(),
        "run": selectors.last_completed_run(),
        "agreed": agreed,
        "note": note,
        "figures": selectors.divergence_figures(clock.now()),
    }


@panel("reconciliation.figures", template="execution/figures.html", topics={"reconciliation", "divergence"})
def figures(user: Any, argument: str) -> dict[str, Any]:
    """`reconciliation_divergences = 0 for 48 h`, and how well it was looked for."""
    return {"figures": selectors.divergence_figures(clock.now())}


@panel(
    "divergence",
    template="execution/divergence.html",
    topics={"divergence", "reconciliation"},
    keyed_by="divergence",
)
def divergence(user: Any, argument: str) -> dict[str, Any]:
    """One divergence: both records side by side, its cause, and what may be done or what was."""
    row = (
        _divergences().filter(pk=int(argument)).first()
        if argument.isdecimal() and len(argument) < 19
        else None
    )
    if row is None:
        raise UnknownPanel("there is no such divergence")
    requests = list(row.requests.order_by("-id")[:RECENT_SHOWN])
    order = None
    if row.subject.startswith("order:"):
        order = Order.objects.filter(
            environment=selectors.ENVIRONMENT, client_order_id=row.subject.removeprefix("order:")
        ).first()
    return {
        "d": row,
        "order": order,
        "records": [
            (name, row.theirs.get(name), row.ours.get(name))
            for name in dict.fromkeys([*row.theirs, *row.ours])
        ],
        "what_to_do": WHAT_TO_DO[row.kind],
        "blocks": [row.symbol] if row.symbol else ["every symbol"],
        "asked": next((request for request in requests if request.done_at is None), None),
        "answered": [request for request in requests if request.done_at is not None],
        "may": may(user, Deed.SETTLE),
        "choices": services.choices_of(row),
    }


@panel("reconciliation", template="execution/divergences.html", topics={"divergence", "reconciliation"})
def divergences(user: Any, argument: str) -> dict[str, Any]:
    """Open divergences, oldest first, and those closed lately."""
    rows = _divergences()
    return {
        "open": rows.filter(closed_at__isnull=True).order_by("first_seen_at")[:DIVERGENCES_SHOWN],
        "closed": rows.filter(closed_at__isnull=False).order_by("-closed_at")[:RECENT_SHOWN],
    }


@panel(
    "reconciliation.runs", template="execution/runs.html", topics={"reconciliation", "reconciliation_request"}
)
def runs(user: Any, argument: str) -> dict[str, Any]:
    """The last runs, and whether one is asked for."""
    asked = ReconciliationRequest.objects.filter(environment=selectors.ENVIRONMENT, run=None)
    return {"rows": _runs().order_by("-id")[:RUNS_SHOWN], "asked": asked.first()}


@panel("reconciliation.run", template="execution/run.html", topics={"reconciliation", "divergence"})
def run(user: Any, argument: str) -> dict[str, Any]:
    """One run with the divergences it saw."""
    row = _runs().filter(pk=int(argument)).first() if argument.isdecimal() and len(argument) < 19 else None
    if row is None:
        raise UnknownPanel("there is no such run")
    seen = _divergences().filter(first_run_id__lte=row.pk, last_run_id__gte=row.pk).order_by("first_seen_at")
    return {"run": row, "divergences": seen[:DIVERGENCES_SHOWN]}


def _divergences() -> Any:
    return Divergence.objects.filter(environment=selectors.ENVIRONMENT)


def _runs() -> Any:
    return ReconciliationRun.objects.filter(environment=selectors.ENVIRONMENT)
