"""Lots from fills: exact, first in first out, and the same whatever the order in which fills became known.

A BUY opens a lot: what it brought less a commission in base, at what it cost with a commission in anything
else. A SELL takes from the oldest lots. What it sells beyond them (coins that came from elsewhere) has no cost
here and realises its proceeds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from tradingbot.core.decimals import ZERO, wide_context

AMOUNT_QUANTUM = Decimal("1E-16")
Key = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class Trade:
    """A fill of one symbol; `commission_quote` is the commission's worth in quote, in whatever asset it was paid."""

    key: Key  # exchange's time and trade id: the order of accounting
    side: str
    quantity: Decimal
    quote_quantity: Decimal
    commission_base: Decimal
    commission_quote: Decimal

    @property
    def fee_in_money(self) -> Decimal:
        """What the fee costs besides coins: a fee in base shows as fewer coins for the same money."""
        return ZERO if self.commission_base else self.commission_quote


@dataclass(frozen=True, slots=True)
class Lot:
    """What one BUY brought, and what no SELL has taken of it yet; costs in quote with entry fees."""

    key: Key
    quantity: Decimal
    cost_quote: Decimal
    quantity_left: Decimal
    cost_left_quote: Decimal


@dataclass(frozen=True, slots=True)
class Closing:
    """The part of a SELL that one lot met, or none (`lot` is None); proceeds in quote, net of the fee."""

    sale: Key
    lot: Key | None
    quantity: Decimal
    proceeds_quote: Decimal
    cost_quote: Decimal

    @property
    def realised_quote(self) -> Decimal:
        """Proceeds less cost, net of the fees on both sides."""
        return self.proceeds_quote - self.cost_quote


def replay(lots: Iterable[Lot], trades: Iterable[Trade]) -> tuple[list[Lot], list[Closing]]:
    """The lots after `trades` (in the order of their keys), and every closing; lots stay in order of purchase."""
    books = list(lots)
    closings: list[Closing] = []
    with localcontext(wide_context()):
        for trade in trades:
            if trade.side == "BUY":
                books.append(_opened(trade))
            else:
                books, closed = _sold(books, trade)
                closings += closed
    return books, closings


def give_back(lot: Lot, closings: Iterable[Closing]) -> Lot:
    """The lot as it was before `closings` took from it."""
    taken = [closing for closing in closings if closing.lot == lot.key]
    return replace(
        lot,
        quantity_left=lot.quantity_left + sum((c.quantity for c in taken), ZERO),
        cost_left_quote=lot.cost_left_quote + sum((c.cost_quote for c in taken), ZERO),
    )


def _opened(trade: Trade) -> Lot:
    quantity = trade.quantity - trade.commission_base
    cost = _exact(trade.quote_quantity + trade.fee_in_money)
    return Lot(trade.key, quantity, cost, quantity, cost)


def _sold(lots: list[Lot], trade: Trade) -> tuple[list[Lot], list[Closing]]:
    left = sold = trade.quantity + trade.commission_base
    proceeds_left = proceeds = _exact(trade.quote_quantity - trade.fee_in_money)
    after: list[Lot] = []
    closings: list[Closing] = []
    for lot in lots:
        quantity = min(left, lot.quantity_left)
        if not quantity:
            after.append(lot)
            continue
        left -= quantity
        cost = _share(lot.cost_left_quote, quantity, lot.quantity_left)
        part = proceeds_left if not left else _share(proceeds, quantity, sold)
        proceeds_left -= part
        closings.append(Closing(trade.key, lot.key, quantity, part, cost))
        after.append(
            replace(
                lot,
                quantity_left=lot.quantity_left - quantity,
                cost_left_quote=lot.cost_left_quote - cost,
            )
        )
    if left:
        closings.append(Closing(trade.key, None, left, proceeds_left, ZERO))
    return after, closings


def _share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """`part` of `whole` of an amount; all of it leaves nothing behind."""
    return amount if part == whole else _exact(amount * part / whole)


def _exact(value: Decimal) -> Decimal:
    return value.quantize(AMOUNT_QUANTUM, rounding=ROUND_HALF_EVEN)
