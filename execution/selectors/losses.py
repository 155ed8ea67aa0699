"""How the last exits went, from the ledger: it survives a restart and a late fill."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from execution.models import LotClosing
from execution.selectors.protection import ENVIRONMENT
from tradingbot.core.decimals import ZERO

# Sales by lot that are looked back on: many exits, and a bound.
CLOSINGS_MAX = 500


@dataclass(frozen=True, slots=True)
class Losses:
    """How the last exits went: how many in a row lost, and when one lost last, anywhere and by symbol."""

    streak: int
    last_at: datetime | None
    last_by_symbol: dict[str, datetime]


def recent_losses() -> Losses:
    """From the ledger: an exit is a SELL order with all its sales; it lost when they brought less than they cost."""
    rows = (
        LotClosing.objects.filter(environment=ENVIRONMENT)
        .order_by("-at", "-trade_id")
        .values_list("symbol", "sale__ledger", "sale__exchange_order_id", "at", "realised_pnl_quote")
    )
    results: dict[tuple[str, int, int], Decimal] = defaultdict(lambda: ZERO)
    ended: dict[tuple[str, int, int], datetime] = {}
    for symbol, ledger, order_id, at, result in rows[:CLOSINGS_MAX]:
        results[symbol, ledger, order_id] += result
        ended.setdefault((symbol, ledger, order_id), at)
    lost = [result < 0 for result in results.values()]
    losing = [(exit[0], ended[exit]) for exit, result in results.items() if result < 0]
    by_symbol: dict[str, datetime] = {}
    for symbol, at in losing:
        by_symbol.setdefault(symbol, at)
    streak = lost.index(False) if False in lost else len(lost)
    return Losses(streak, losing[0][1] if losing else None, by_symbol)
