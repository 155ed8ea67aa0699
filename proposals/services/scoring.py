"""The scoreboard's rows: begun for each BUY and SELL, moved on by the candles that came, settled once."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from market.contracts import Candle, Interval
from market.rules.candles import length
from market.selectors.candles import last_closed, last_minute_had_at, minutes_between
from proposals import selectors
from proposals.contracts import Side
from proposals.models import Decision, Proposal, ProposalScore
from proposals.rules import scoring
from proposals.rules.scoring import Idea, Reckoning, Score
from tradingbot.core.announce import announce

BATCH = 500
MINUTES_AT_ONCE = 1440
# A hole that is older than this, by the market's time, is not filled any more.
HOLE_GRACE = timedelta(hours=1)


def score_proposals(*, now: datetime) -> int:
    """Begin the reckoning of new proposals and move the others on; how many were settled."""
    begin_scores(now=now)
    return move_scores(now=now)


@transaction.atomic
def begin_scores(*, now: datetime) -> int:
    """A row for each BUY and SELL that has none; without a known fee none is begun."""
    fee_rate: Decimal | None = import_string(settings.SCORE_FEE_RATE)()
    if fee_rate is None:
        return 0
    rows = [_begun(proposal, fee_rate, now) for proposal in selectors.proposals_to_score(BATCH)]
    ProposalScore.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def _begun(proposal: Proposal, fee_rate: Decimal, now: datetime) -> ProposalScore:
    answer, decision, snapshot = proposal.answer, proposal.decision, proposal.decision.snapshot
    assert snapshot is not None  # proposals_to_score leaves out those without
    payload, start = snapshot.payload, _first_minute(decision, Interval(snapshot.interval))
    side = Side(proposal.action)
    ends = answer if side is Side.BUY else _held(proposal)
    idea = Idea(
        side=side,
        quote=Decimal(payload["quote"]["ask" if side is Side.BUY else "bid"]),
        limit=_amount(answer["limit_price"]),
        waits=answer["time_in_force"] == "GTC",
        stop=_amount(ends["stop_price"]),
        target=_amount(ends["target_price"]),
        start=start,
        valid_until=start + timedelta(seconds=answer["valid_for_seconds"]),
    )
    row = ProposalScore(
        proposal=proposal,
        environment=proposal.environment,
        symbol=proposal.symbol,
        side=side,
        fee_rate=fee_rate,
        size_quote=proposal.notional_quote or _asked_for(proposal, idea),
        quote=idea.quote,
        limit_price=idea.limit,
        waits=idea.waits,
        stop_price=idea.stop,
        target_price=idea.target,
        start=idea.start,
        valid_until=idea.valid_until,
    )
    _keep(row, scoring.begin(idea), now)
    return row


def _first_minute(decision: Decision, interval: Interval) -> datetime:
    """The first minute that counts: none of which a part may have passed before the model was asked."""
    closed = decision.candle_open_time + length(interval)
    newest = last_minute_had_at(decision.symbol, decision.started_at)
    running = closed if newest is None else newest + scoring.MINUTE
    if decision.on_demand or running > closed:
        return max(closed, running) + scoring.MINUTE
    return closed


def _held(proposal: Proposal) -> dict[str, Any]:
    assert proposal.held is not None  # proposals_to_score leaves out sales without
    held: dict[str, Any] = proposal.held
    return held


def _asked_for(proposal: Proposal, idea: Idea) -> Decimal:
    """The size in quote asset that the model wanted, where the gate formed no order."""
    if idea.buys:
        return Decimal(proposal.answer["quote_amount"])
    share = Decimal(proposal.answer["position_share_pct"]) / 100
    return Decimal(_held(proposal)["quantity"]) * share * idea.quote


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


@transaction.atomic
def move_scores(*, now: datetime) -> int:
    """Move what is not settled on by the candles that are stored; how many were settled by it."""
    rows = list(
        ProposalScore.objects.select_for_update(skip_locked=True)
        .filter(environment=settings.TRADING_ENVIRONMENT, settled_at=None)
        .order_by("looked_at", "pk")[:BATCH]
    )
    settled = 0
    for symbol in sorted({row.symbol for row in rows}):
        of_symbol = [row for row in rows if row.symbol == symbol]
        start = min(row.next_minute for row in of_symbol)
        end = start + MINUTES_AT_ONCE * scoring.MINUTE
        candles = {c.open_time: c for c in minutes_between(symbol, start, end)}
        newest = last_closed(symbol, Interval.M1)
        for row in of_symbol:
            _move(row, candles, end, newest, now)
            settled += row.settled_at is not None
    ProposalScore.objects.bulk_update(
        rows,
        ["score", "detail", "next_minute", "entry_price", "entry_at", "exit_price", "exit_at", "net_pct",
         "net_quote", "looked_at", "settled_at"],
        batch_size=100,
    )  # fmt: skip
    if settled:
        announce("score", "settled")
    return settled


def _move(
    row: ProposalScore,
    candles: Mapping[datetime, Candle],
    end: datetime,
    newest: Candle | None,
    now: datetime,
) -> None:
    """`candles` are all that are stored from before `row.next_minute` up to `end`."""
    seen = scoring.advance(_reckoning(row), _idea(row), candles)
    is_hole = newest is not None and newest.open_time >= seen.next_minute + HOLE_GRACE
    if seen.score in scoring.GOING_ON and is_hole and seen.next_minute < end:
        seen = scoring.give_up(seen)
    _keep(row, seen, now)


def _idea(row: ProposalScore) -> Idea:
    return Idea(
        side=Side(row.side),
        quote=row.quote,
        limit=row.limit_price,
        waits=row.waits,
        stop=row.stop_price,
        target=row.target_price,
        start=row.start,
        valid_until=row.valid_until,
    )


def _reckoning(row: ProposalScore) -> Reckoning:
    return Reckoning(
        score=Score(row.score),
        next_minute=row.next_minute,
        entry_price=row.entry_price,
        entry_at=row.entry_at,
    )


def _keep(row: ProposalScore, seen: Reckoning, now: datetime) -> None:
    for name, value in asdict(seen).items():
        setattr(row, name, value)
    row.looked_at = now
    if seen.score in scoring.GOING_ON:
        return
    row.settled_at = now
    if seen.entry_price is not None and seen.exit_price is not None:
        row.net_pct = scoring.net_pct(Side(row.side), seen.entry_price, seen.exit_price, row.fee_rate)
        row.net_quote = scoring.net_quote(row.net_pct, row.size_quote)
