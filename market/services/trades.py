"""Aggregate trades into Postgres: by COPY as they come, by an insert that skips repetitions when fetched."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from operator import attrgetter

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from market.contracts import Fence, TradeHole
from market.models import Trade
from market.models import TradeHole as TradeHoleRow
from market.rules import JUMP_IDS_MAX, AggTrade, missing_ids
from market.services import fencing, partitions

_COLUMNS = "environment, symbol, aggregate_id, price, quantity, traded_at, buyer_is_maker"
_COPY = f"COPY market_trade ({_COLUMNS}) FROM STDIN"
# COPY cannot skip what is there already; this takes the detour over a table of our own.
_STAGE = "CREATE TEMPORARY TABLE trade_stage (LIKE market_trade) ON COMMIT DROP"
_COPY_STAGE = f"COPY trade_stage ({_COLUMNS}) FROM STDIN"
_UNSTAGE = "INSERT INTO market_trade SELECT * FROM trade_stage ON CONFLICT DO NOTHING"
NO_PART = "23514"  # check_violation: "no partition of relation found for row"
REPEATED = "23505"  # unique_violation


def record_trades(
    *,
    trades: Sequence[AggTrade],
    now: datetime,
    fence: Fence | None = None,
    missing: Sequence[TradeHole] = (),
) -> None:
    """Append trades that were checked (rules.check_trade), and write down the ids missing before them.

    Those stored already are left as they are. Raises LeaseLost.
    """
    _write(list(trades), now=now, fence=fence, missing=missing)


def fill_trade_hole(
    *, hole_id: int, trades: Sequence[AggTrade], now: datetime, fence: Fence | None = None
) -> None:
    """Store what REST gave of a hole and close it; ids that it did not give become holes of the exchange."""
    row = TradeHoleRow.objects.get(pk=hole_id)
    hole = TradeHole(row.symbol, row.first_id, row.last_id)
    inside = [t for t in trades if hole.first_id <= t.aggregate_id <= hole.last_id]
    _write(
        inside, now=now, fence=fence, filled=row, refused=missing_ids(hole, [t.aggregate_id for t in inside])
    )


def drop_trades(*, symbol: str, fence: Fence | None = None) -> int:
    """Delete every trade of `symbol`: for a simulator only, whose market was put back; how many."""
    with transaction.atomic():
        fencing.check(fence)
        own = {"environment": settings.TRADING_ENVIRONMENT, "symbol": symbol}
        TradeHoleRow.objects.filter(**own).delete()
        return Trade.objects.filter(**own).delete()[0]


def _write(
    trades: list[AggTrade],
    *,
    now: datetime,
    fence: Fence | None,
    missing: Sequence[TradeHole] = (),
    filled: TradeHoleRow | None = None,
    refused: Sequence[TradeHole] = (),
) -> None:
    # A symbol after the other, as the index has them: twice as quick as in the order of arrival.
    block = _copy_text(sorted(trades, key=attrgetter("symbol")))
    append = filled is None
    for _ in range(3):  # at most one attempt for a missing part and one for a repetition
        try:
            with transaction.atomic():
                if trades:
                    (_append if append else _merge)(block)
                _record_holes(missing, now)
                if filled is not None:
                    _close_hole(filled, refused, now)
                # Last: it locks the lease to the commit, and candles and the renewal would wait for the COPY.
                fencing.check(fence)
            return
        except IntegrityError as error:
            code = getattr(error.__cause__, "sqlstate", None)
            if code == NO_PART:
                partitions.ensure_parts(_days(trades))
            elif code == REPEATED and append:
                append = False
            else:
                raise
    raise IntegrityError("trades could not be stored: parts vanish as they are made")


def _append(block: str) -> None:
    _copy(_COPY, block)


def _merge(block: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_STAGE)
        _copy(_COPY_STAGE, block)
        cursor.execute(_UNSTAGE)


def _copy(statement: str, block: str) -> None:
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(statement) as copy:
        copy.write(block)


def _copy_text(trades: Sequence[AggTrade]) -> str:
    """The lines of COPY. No field can hold a tab, a line break or a backslash: each was checked."""
    environment = settings.TRADING_ENVIRONMENT.value
    return "".join(
        [
            f"{environment}\t{t.symbol}\t{t.aggregate_id}\t{t.price}\t{t.quantity}\t"
            f"{_second(t.traded_ms // 1000)}.{t.traded_ms % 1000:03}+00\t{'t' if t.buyer_is_maker else 'f'}\n"
            for t in trades
        ]
    )


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}"


def _days(trades: Sequence[AggTrade]) -> set[date]:
    numbers = {t.traded_ms // 86_400_000 for t in trades}
    return {datetime.fromtimestamp(number * 86_400, UTC).date() for number in numbers}


def _record_holes(missing: Sequence[TradeHole], now: datetime) -> None:
    """The newest JUMP_IDS_MAX ids of each are to be fetched; what lies further back is left."""
    for hole in missing:
        fetched_from = max(hole.first_id, hole.last_id - JUMP_IDS_MAX + 1)
        if fetched_from > hole.first_id:
            left = TradeHole(hole.symbol, hole.first_id, fetched_from - 1)
            _create_hole(left, TradeHoleRow.Reason.TOO_LONG, now)
        wanted = TradeHole(hole.symbol, fetched_from, hole.last_id)
        _create_hole(wanted, TradeHoleRow.Reason.PENDING, now)


def _close_hole(row: TradeHoleRow, refused: Sequence[TradeHole], now: datetime) -> None:
    TradeHoleRow.objects.filter(pk=row.pk).update(filled_at=now)
    for hole in refused:
        _create_hole(hole, TradeHoleRow.Reason.EXCHANGE, now)


def _create_hole(hole: TradeHole, reason: TradeHoleRow.Reason, now: datetime) -> None:
    TradeHoleRow.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        symbol=hole.symbol,
        first_id=hole.first_id,
        last_id=hole.last_id,
        reason=reason,
        found_at=now,
    )
