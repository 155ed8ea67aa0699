"""The scoreboard: what proposals would have brought by their own terms, by who and what made or stopped them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Avg, Case, Count, F, IntegerField, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Cast, Least

from proposals.contracts import Fate, ProposalStatus, Side
from proposals.models import Decision, ProposalScore
from proposals.rules.scoring import GOING_ON, Score
from tradingbot.core.decimals import plain

_FATE = Case(
    When(proposal__shadow=True, then=Value(Fate.SHADOW)),
    When(proposal__claimed_at__isnull=False, then=Value(Fate.ORDERED)),
    When(proposal__status=ProposalStatus.REJECTED, then=Value(Fate.REJECTED)),
    When(proposal__status=ProposalStatus.EXPIRED, then=Value(Fate.EXPIRED)),
    When(proposal__status=ProposalStatus.RISK_REJECTED, then=Value(Fate.REFUSED)),
    default=Value(Fate.WAITING),
)
# What the proposal was about came true: a purchase's target, or the stop that a sale forestalled.
_HIT = Q(side=Side.BUY, score=Score.TARGET) | Q(side=Side.SELL, score=Score.STOP)
_BIN = Cast(Least(F("proposal__confidence_pct") / 10, Value(9)), IntegerField())
_MODEL = ("proposal__decision__model_requested", "proposal__decision__prompt_version", "proposal__shadow")
SYMBOL, FATE, MODEL, STRATEGY = (
    ("symbol",), ("fate",), _MODEL, ("proposal__decision__strategy__name", "proposal__shadow"),
)  # fmt: skip

# Name -> days; 0 is all time.
PERIODS = {"24h": 1, "7d": 7, "30d": 30, "all": 0}


def since_of(period: str, now: datetime) -> datetime | None:
    """The beginning of one of PERIODS; None for all time."""
    days = PERIODS[period]
    return now - timedelta(days=days) if days else None


@dataclass(frozen=True, slots=True)
class Line:
    """One group. Money in quote asset after fees; a mean or a share is None without anything behind it."""

    key: tuple[Any, ...]
    proposals: int
    going_on: int
    not_filled: int
    unknown: int
    targets: int
    stops: int
    timed: int
    hits: int
    net_quote: Decimal | None
    net_pct: Decimal | None

    @property
    def hit_pct(self) -> Decimal | None:
        """Share that proved right among those that ended at target or stop, in percent: a BUY at its target, a SELL
        at the stop that keeping would have met."""
        ended = self.targets + self.stops
        return Decimal(self.hits) * 100 / ended if ended else None


@dataclass(frozen=True, slots=True)
class Bin:
    """Proposals whose confidence was from `low` up to `low` + 10: what was stated, and what came true."""

    low: int
    ended: int
    hits: int
    stated_pct: Decimal

    @property
    def hit_pct(self) -> Decimal:
        """How many of them proved right, in percent."""
        return Decimal(self.hits) * 100 / self.ended


@dataclass(frozen=True, slots=True)
class Spent:
    """What one model with one prompt was asked and used, `shadow` or not.

    `cost_usd` is that of the calls whose price was known, all but `calls_unpriced`.
    """

    calls: int
    calls_unpriced: int
    tokens: int
    cost_usd: Decimal | None


def scores(since: datetime | None, side: Side | None = None) -> QuerySet[Any]:
    """The reckonings of proposals made since then, of one side or of both, with their `fate`."""
    rows = ProposalScore.objects.filter(environment=settings.TRADING_ENVIRONMENT).annotate(fate=_FATE)
    if side is not None:
        rows = rows.filter(side=side)
    return rows if since is None else rows.filter(proposal__created_at__gte=since)


def lines(rows: QuerySet[Any], by: tuple[str, ...]) -> list[Line]:
    """`rows` in groups, by name."""
    return [_line(found, by) for found in _grouped(rows, by)]


def by_person(rows: QuerySet[Any]) -> list[tuple[str, Line]]:
    """(what was done, group) for each person who approved or rejected, and for what needed nobody."""
    voted = rows.filter(proposal__votes__digest=F("proposal__digest")).exclude(proposal__digest="")
    approved = voted.filter(proposal__status__in=[ProposalStatus.APPROVED, ProposalStatus.EXPIRED])
    rejected = rows.filter(proposal__status=ProposalStatus.REJECTED)
    automatic = rows.filter(proposal__status=ProposalStatus.AUTO_APPROVED)
    return [
        *(("approved", line) for line in lines(approved, ("proposal__votes__actor",))),
        *(("rejected", line) for line in lines(rejected, ("proposal__decided_by",))),
        *(("needed nobody", line) for line in lines(automatic, ("proposal__status",))),
    ]


def _grouped(rows: QuerySet[Any], by: tuple[str, ...]) -> QuerySet[Any, dict[str, Any]]:
    def count(*found: Score) -> Count:
        return Count("pk", filter=Q(score__in=found))

    return (
        rows.values(*by)
        .order_by(*by)
        .annotate(
            proposals=Count("pk"),
            going_on=count(*GOING_ON),
            not_filled=count(Score.NOT_FILLED),
            unknown=count(Score.UNKNOWN),
            targets=count(Score.TARGET),
            stops=count(Score.STOP),
            timed=count(Score.TIME),
            hits=Count("pk", filter=_HIT),
            sum_quote=Sum("net_quote"),
            mean_pct=Avg("net_pct"),
        )
    )


def _line(found: dict[str, Any], by: tuple[str, ...]) -> Line:
    counts = {name: found[name] for name in
              ("proposals", "going_on", "not_filled", "unknown", "targets", "stops", "timed", "hits")}  # fmt: skip
    return Line(
        key=tuple(found[name] for name in by),
        net_quote=found["sum_quote"],
        net_pct=found["mean_pct"],
        **counts,
    )


def calibration(rows: QuerySet[Any]) -> list[Bin]:
    """Stated confidence against hits, in bins of ten; only what ended at its target or its stop and had both."""
    ended = rows.filter(
        score__in=[Score.TARGET, Score.STOP],
        proposal__confidence_pct__isnull=False,
        stop_price__isnull=False,
        target_price__isnull=False,
    )
    found = (
        ended.annotate(low=_BIN)
        .values("low")
        .order_by("low")
        .annotate(
            ended=Count("pk"),
            hits=Count("pk", filter=_HIT),
            stated_pct=Avg("proposal__confidence_pct"),
        )
    )
    return [Bin(row["low"] * 10, row["ended"], row["hits"], Decimal(str(row["stated_pct"]))) for row in found]


def spent(since: datetime | None) -> dict[tuple[Any, ...], Spent]:
    """What each (model, prompt version, shadow) used, whatever its answers were."""
    rows = Decision.objects.filter(environment=settings.TRADING_ENVIRONMENT)
    rows = rows if since is None else rows.filter(started_at__gte=since)
    by = ("model_requested", "prompt_version", "shadow")
    found = rows.values(*by).order_by(*by).annotate(
        calls=Sum("attempts"), unpriced=Sum("attempts", filter=Q(cost_usd=None), default=0),
        tokens=Sum("counted_tokens"), cost=Sum("cost_usd"),
    )  # fmt: skip
    return {
        tuple(row[name] for name in by): Spent(row["calls"], row["unpriced"], row["tokens"], row["cost"])
        for row in found
    }


CSV_COLUMNS = (
    "proposal", "made", "symbol", "side", "strategy", "shadow", "model", "prompt", "fate", "decided by",
    "confidence pct", "score", "detail", "size quote", "entry", "entry at", "exit", "exit at", "fee rate", "net pct",
    "net quote",
)  # fmt: skip


def csv_rows(rows: QuerySet[Any], limit: int) -> Iterator[tuple[Any, ...]]:
    """The newest `limit` of `rows` as cells of CSV_COLUMNS; numbers as plain text, instants as ISO 8601."""
    found = rows.select_related("proposal__decision__strategy").order_by("-proposal__created_at")
    for row in found[:limit].iterator(chunk_size=500):
        proposal, decision = row.proposal, row.proposal.decision
        yield (
            proposal.pk, _text(proposal.created_at), row.symbol, row.side, decision.strategy.name,
            "yes" if proposal.shadow else "no", decision.model_requested, decision.prompt_version,
            row.fate, proposal.decided_by, proposal.confidence_pct, row.score, row.detail,
            _text(row.size_quote), _text(row.entry_price), _text(row.entry_at), _text(row.exit_price),
            _text(row.exit_at), _text(row.fee_rate), _text(row.net_pct), _text(row.net_quote),
        )  # fmt: skip


def _text(value: datetime | Decimal | None) -> str:
    if value is None:
        return ""
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else plain(value)
