"""Divergences and runs in words: the file, the command line, and what may be done about each kind."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from execution.contracts import DivergenceKind
from tradingbot.core import spreadsheets
from tradingbot.core.decimals import plain

COLUMNS = (
    "id", "kind", "symbol", "about", "ours", "theirs", "amount", "asset", "likely cause", "first seen",
    "last seen", "closed", "closed by", "outcome", "resolution",
)  # fmt: skip

K = DivergenceKind
# What is done about each kind: by itself from the exchange's record, or by a person.
WHAT_TO_DO: dict[str, str] = {
    K.ORDER_MISSING_HERE: "Nothing: the exchange's record was applied. Find out why we had given the order up.",
    K.ORDER_MISSING_THERE: "Look it up on the exchange. If it is gone for good, take it as ended: then nothing "
    "stays reserved for it.",
    K.STATUS: "Nothing: the exchange's record was applied.",
    K.FILL: "Nothing: the trade was posted from the exchange's record.",
    K.FEE: "Correct the balances to the exchange's fee, or ignore it with a reason.",
    K.BALANCE: "Find out what moved it. If it was a deposit, a withdrawal or a fee, book it as one.",
    K.FOREIGN_ORDER: "Find out who placed it. Cancel it while it is open; adopt its trades, or ignore it. If it "
    "was nobody: halt, and revoke the key.",
    K.ENVIRONMENT_RESET: "Accept it to begin a new ledger from the balances of now. All before is kept.",
}


def csv_of(rows: Iterable[Any]) -> str:
    """Divergences as CSV with a header; every cell is safe."""
    return spreadsheets.csv_of(COLUMNS, map(_cells, rows))


def _cells(row: Any) -> tuple[Any, ...]:
    return (
        row.pk,
        row.kind,
        row.symbol,
        row.subject,
        pairs(row.ours),
        pairs(row.theirs),
        None if row.amount is None else plain(row.amount),
        row.amount_asset,
        row.likely_cause,
        _instant(row.first_seen_at),
        _instant(row.last_seen_at),
        _instant(row.closed_at),
        row.closed_by,
        row.outcome,
        row.resolution,
    )


def pairs(record: dict[str, Any]) -> str:
    """A record as `name: value, …`."""
    return ", ".join(f"{name}: {value}" for name, value in record.items()) or "nothing"


def _instant(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def lines_of(row: Any, now: datetime) -> list[str]:
    """A divergence for the command line."""
    amount = "" if row.amount is None else f", {plain(row.amount)} {row.amount_asset}".rstrip()
    minutes = int((now - row.first_seen_at).total_seconds()) // 60
    return [
        f"divergence {row.pk}: {row.kind} {row.symbol} {row.subject}{amount}, open for {minutes} min",
        f"  the exchange's: {pairs(row.theirs)}",
        f"  ours:           {pairs(row.ours)}",
        f"  likely cause:   {row.likely_cause}",
        f"  what to do:     {WHAT_TO_DO[row.kind]}",
    ]
