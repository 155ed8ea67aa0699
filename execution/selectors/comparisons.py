"""Reconciliation: whether the books agree with the exchange's, and since when."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import F, Max, Q

from execution.contracts import Outcome
from execution.models import (
    Divergence,
    ReconciliationRequest,
    ReconciliationRun,
)
from execution.selectors.protection import (
    ENVIRONMENT,
)
from market.models import FeedSession

RECONCILED_WITHIN = timedelta(seconds=150)
DIVERGENCES_MAX = 10_000
FIGURES_WINDOW = timedelta(hours=48)
# Between two completed comparisons; a longer gap is time in which nobody looked.
COMPARED_EVERY_MAX = timedelta(minutes=5)
# A difference that went away sooner was a message on its way (two polls).
UNEXPLAINED_AFTER = timedelta(seconds=120)


def open_divergences() -> list[Divergence]:
    """Open divergences, oldest first."""
    return list(
        Divergence.objects.filter(environment=ENVIRONMENT, closed_at__isnull=True).order_by("id")[:200]
    )


def last_completed_run() -> ReconciliationRun | None:
    """The newest run that is over."""
    return (
        ReconciliationRun.objects.filter(environment=ENVIRONMENT)
        .exclude(status="running")
        .order_by("-id")
        .first()
    )


def reconciliation_state(now: datetime) -> tuple[bool, str]:
    """Whether our books agree with the exchange's since the last connect, and the words for it.

    Open divergences block their symbols (`blocked_symbols`), not the account.
    """
    run = last_completed_run()
    if run is None or run.finished_at is None:
        return False, "no reconciliation has completed yet"
    age = now - run.finished_at
    if run.status == "degraded":
        return False, f"the last reconciliation was degraded: {run.note}"
    if abs(age) > RECONCILED_WITHIN:
        return False, f"the last reconciliation is {int(age.total_seconds())} s old"
    session = account_session_start()
    if session is not None and run.started_at < session:
        return False, "no reconciliation has completed since the account stream connected"
    return True, f"reconciled {int(age.total_seconds())} s ago"


def account_session_start() -> datetime | None:
    """When the account stream last connected."""
    return (
        FeedSession.objects.filter(environment=ENVIRONMENT, stream="account")
        .order_by("-connected_at")
        .values_list("connected_at", flat=True)
        .first()
    )


def reconciliation_is_due() -> str | None:
    """Why a reconciliation is wanted now (a request, a new account session, none yet), or None."""
    request = ReconciliationRequest.objects.filter(environment=ENVIRONMENT, run__isnull=True).first()
    if request is not None:
        return request.trigger
    # Only a run that came to its end counts: the worker of one that did not may be dead.
    newest = last_completed_run()
    session = account_session_start()
    if newest is None:
        return "start"
    if session is not None and newest.started_at < session:
        return "reconnect"
    return None


@dataclass(frozen=True, slots=True)
class DivergenceFigures:
    """`reconciliation_divergences = 0 for 48 h`: what was opened and how well it was looked for.

    `opened` counts what no record of the exchange explained at once; `posted` what one did. `agreed_since` is
    the instant from which there was none and comparisons never paused for long; None while one is open.
    """

    window: timedelta
    opened: int
    open_now: int
    posted: int
    runs: int
    degraded: int
    longest_gap: timedelta | None
    agreed_since: datetime | None
    agreed_for: timedelta

    @property
    def met(self) -> bool:
        """Whether the goal is reached now."""
        return self.agreed_for >= self.window

    @property
    def agreed_hours(self) -> Decimal:
        """Hours without a divergence, rounded down to a tenth, at most the window."""
        hours = Decimal(min(self.agreed_for, self.window) // timedelta(minutes=6)) / 10
        return hours.quantize(Decimal("0.1"))


def divergence_figures(now: datetime) -> DivergenceFigures:
    """The figures of the last 48 h, from stored rows."""
    start = now - FIGURES_WINDOW
    rows = Divergence.objects.filter(environment=ENVIRONMENT)
    passing = Q(outcome=Outcome.GONE, closed_at__lt=F("first_seen_at") + UNEXPLAINED_AFTER)
    unexplained = rows.exclude(outcome=Outcome.POSTED).exclude(passing)
    open_now = rows.filter(closed_at__isnull=True).count()
    runs = ReconciliationRun.objects.filter(environment=ENVIRONMENT, finished_at__gte=start)
    # From a little before the window: its first comparison may lie just outside.
    ended = (
        ReconciliationRun.objects.filter(environment=ENVIRONMENT, finished_at__gte=start - COMPARED_EVERY_MAX)
        .exclude(status__in=["degraded", "running"])
        .order_by("-finished_at")
    )
    gap, covered_since = _coverage(
        [run.finished_at for run in ended.only("finished_at") if run.finished_at], now
    )
    closed = unexplained.aggregate(last=Max("closed_at"))["last"]
    since = None if open_now or covered_since is None else max(covered_since, closed or covered_since)
    return DivergenceFigures(
        window=FIGURES_WINDOW,
        opened=unexplained.filter(first_seen_at__gte=start).count(),
        open_now=open_now,
        posted=rows.filter(outcome=Outcome.POSTED, first_seen_at__gte=start).count(),
        runs=runs.count(),
        degraded=runs.filter(status="degraded").count(),
        longest_gap=gap,
        agreed_since=since,
        agreed_for=now - since if since else timedelta(0),
    )


def _coverage(ended: list[datetime], now: datetime) -> tuple[timedelta | None, datetime | None]:
    """The longest time between two comparisons, and since when none was too long; `ended` is newest first."""
    longest, since, unbroken = None, None, True
    newer = now
    for at in ended:
        longest = max(longest or timedelta(0), newer - at)
        unbroken = unbroken and newer - at <= COMPARED_EVERY_MAX
        if unbroken:
            since = at
        newer = at
    return longest, since


def all_divergences() -> list[Divergence]:
    """Every divergence on record, the newest first, as far as one file may hold."""
    return list(Divergence.objects.filter(environment=ENVIRONMENT).order_by("-id")[:DIVERGENCES_MAX])
