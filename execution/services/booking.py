"""Fills into lots, closings and the position; the equity curve. What a fill means in money."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal, localcontext

from django.db.models import Q

from execution import selectors
from execution.contracts import FillReport
from execution.models import Account, EquityPoint, Fill, Lot, LotClosing, Position
from execution.rules import accounting
from market import selectors as market
from market.models import Instrument
from tradingbot.core.announce import announce
from tradingbot.core.decimals import ZERO, wide_context

logger = logging.getLogger(__name__)
LOTS_A_PAGE = 50


def book_fills(*, fills: Sequence[Fill], position: Position) -> None:
    """Bring lots, closings and the amounts of `position` (locked, not saved here) to what the fills say.

    `fills` are new ones of one symbol, stored already. One that became known late takes its place in the
    exchange's order: what was closed after it is opened again, and everything from it on is done anew. So the
    outcome is the same whatever arrives first.
    """
    fresh = sorted(fills, key=_key)
    first = fresh[0]
    newer = list(
        Fill.objects.filter(_after(_key(first)), environment=first.environment, symbol=first.symbol).exclude(
            pk__in=[fill.pk for fill in fresh]
        )
    )
    undone = _undo_closings(first) if newer else []
    trades = sorted([*fresh, *newer], key=_key)
    rows = _lots_before(first, undone) if newer else _oldest_lots(first, _sold(trades, position))
    lots = _given_back(rows, undone)
    after, closings = accounting.replay(lots, [_trade(row, position.base_asset) for row in trades])
    _write(position, trades, rows, after=after, closings=closings)
    if newer:  # all that is left was read and done anew
        position.quantity = position.cost_quote = ZERO
        lots = []
    with localcontext(wide_context()):
        position.quantity += _sum(x.quantity_left for x in after) - _sum(x.quantity_left for x in lots)
        position.cost_quote += _sum(x.cost_left_quote for x in after) - _sum(x.cost_left_quote for x in lots)
        position.realised_pnl_quote += _sum(c.realised_quote for c in closings) - _sum(
            c.realised_quote for c in undone
        )
        position.fees_quote += _sum(fill.commission_quote for fill in fresh)


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)


def _key(row: Fill | Lot) -> accounting.Key:
    return row.at, row.trade_id


def _after(key: accounting.Key) -> Q:
    at, trade_id = key
    return Q(at__gt=at) | Q(at=at, trade_id__gt=trade_id)


def _trade(fill: Fill, base_asset: str) -> accounting.Trade:
    return accounting.Trade(
        key=(fill.at, fill.trade_id),
        side=fill.side,
        quantity=fill.quantity,
        quote_quantity=fill.quote_quantity,
        commission_base=fill.commission if fill.commission_asset == base_asset else ZERO,
        commission_quote=fill.commission_quote,
    )


def _undo_closings(first: Fill) -> list[accounting.Closing]:
    """Take back all closings after `first`, and the lots that were opened after it."""
    later = {"environment": first.environment, "symbol": first.symbol}
    rows = LotClosing.objects.filter(_after(_key(first)), **later)
    undone = [
        accounting.Closing(
            (row.at, row.trade_id),
            _key(row.lot) if row.lot else None,
            row.quantity,
            row.proceeds_quote,
            row.cost_quote,
        )
        for row in rows.select_related("lot")
    ]
    rows.delete()
    Lot.objects.filter(_after(_key(first)), **later).delete()
    return undone


def _sold(trades: Iterable[Fill], position: Position) -> Decimal:
    """What `trades` take from the lots, at most: a fee in coins is taken from them, too."""
    return _sum(
        fill.quantity + (fill.commission if fill.commission_asset == position.base_asset else ZERO)
        for fill in trades
        if fill.side == "SELL"
    )


def _oldest_lots(first: Fill, quantity: Decimal) -> list[Lot]:
    """The open lots that a sale of `quantity` meets, oldest first; none for a purchase."""
    found: list[Lot] = []
    rows = Lot.objects.filter(environment=first.environment, symbol=first.symbol, quantity_left__gt=0)
    while quantity > 0:
        wanted = rows.filter(_after(_key(found[-1]))) if found else rows
        page = list(wanted.order_by("at", "trade_id")[:LOTS_A_PAGE])
        found += page
        quantity -= _sum(lot.quantity_left for lot in page)
        if len(page) < LOTS_A_PAGE:
            break
    return found


def _lots_before(first: Fill, undone: Iterable[accounting.Closing]) -> list[Lot]:
    """All lots that were open before `first`, oldest first, as they are stored."""
    wanted = Q(quantity_left__gt=0)
    for at, trade_id in {c.lot for c in undone if c.lot is not None and c.lot < _key(first)}:
        wanted |= Q(at=at, trade_id=trade_id)
    rows = Lot.objects.filter(wanted, environment=first.environment, symbol=first.symbol)
    return list(rows.order_by("at", "trade_id"))


def _given_back(rows: Iterable[Lot], undone: Iterable[accounting.Closing]) -> list[accounting.Lot]:
    """The lots as they were before `undone` took from them."""
    taken: dict[accounting.Key | None, list[accounting.Closing]] = defaultdict(list)
    for closing in undone:
        taken[closing.lot].append(closing)
    lots = [
        accounting.Lot(_key(row), row.quantity, row.cost_quote, row.quantity_left, row.cost_left_quote)
        for row in rows
    ]
    return [accounting.give_back(lot, taken[lot.key]) for lot in lots]


def _write(
    position: Position,
    fills: list[Fill],
    before: list[Lot],
    *,
    after: list[accounting.Lot],
    closings: list[accounting.Closing],
) -> None:
    of_key = {_key(row): row for row in fills}
    rows = {_key(row): row for row in before}
    opened = {lot.key: _lot_row(lot, of_key[lot.key]) for lot in after if lot.key in of_key}
    changed = []
    for lot in after:
        row = rows.get(lot.key)
        if row and (row.quantity_left, row.cost_left_quote) != (lot.quantity_left, lot.cost_left_quote):
            row.quantity_left, row.cost_left_quote = lot.quantity_left, lot.cost_left_quote
            changed.append(row)
    if opened:
        Lot.objects.bulk_create(opened.values())
    if changed:
        Lot.objects.bulk_update(changed, ["quantity_left", "cost_left_quote"], batch_size=LOTS_A_PAGE)
    rows |= opened
    if not closings:
        return
    LotClosing.objects.bulk_create(
        LotClosing(
            sale=of_key[closing.sale],
            lot=rows[closing.lot] if closing.lot else None,
            environment=position.environment,
            symbol=position.symbol,
            at=closing.sale[0],
            trade_id=closing.sale[1],
            quantity=closing.quantity,
            proceeds_quote=closing.proceeds_quote,
            cost_quote=closing.cost_quote,
            realised_pnl_quote=closing.realised_quote,
        )
        for closing in closings
    )


def _lot_row(lot: accounting.Lot, fill: Fill) -> Lot:
    return Lot(
        fill=fill,
        environment=fill.environment,
        symbol=fill.symbol,
        at=fill.at,
        trade_id=fill.trade_id,
        quantity=lot.quantity,
        cost_quote=lot.cost_quote,
        quantity_left=lot.quantity_left,
        cost_left_quote=lot.cost_left_quote,
    )


def record_equity(*, now: datetime) -> EquityPoint | None:
    """Store a point of the equity curve and raise the peak; None while a balance or a price is unknown.

    Equity that rests on a guess would be a wrong drawdown later, so a hole is left instead.
    """
    books = selectors.portfolio(now=now)
    flow = selectors.net_flow_quote()
    if books.equity_quote is None or books.unrealised_quote is None or flow is None:
        return None
    totals = selectors.ledger_totals()
    point, created = EquityPoint.objects.get_or_create(
        environment=selectors.ENVIRONMENT,
        at=now.replace(second=0, microsecond=0),
        defaults={
            "equity_quote": books.equity_quote,
            "cash_quote": selectors.cash_quote(),
            "realised_pnl_quote": totals.realised_quote,
            "unrealised_pnl_quote": books.unrealised_quote,
            "fees_quote": totals.fees_quote,
            "net_flow_quote": flow,
        },
    )
    if not created:
        return None
    peak = books.equity_quote - flow
    Account.objects.filter(
        Q(equity_peak_quote__isnull=True) | Q(equity_peak_quote__lt=peak), environment=selectors.ENVIRONMENT
    ).update(equity_peak_quote=peak)
    announce("equity", point.pk)
    return point


def worth_in_quote(fill: FillReport, instrument: Instrument) -> Decimal:
    """Worth of a commission in quote: as paid, at the fill's own price for base, at the market for another asset.

    Without a price of that asset the rate that the limits reckon with stands for it: more than the discounted
    one, so that no result is shown better than it is.
    """
    if not fill.commission or fill.commission_asset == instrument.quote_asset:
        return fill.commission
    if fill.commission_asset == instrument.base_asset:
        return fill.commission * fill.price
    quote = market.latest_quote(f"{fill.commission_asset}{instrument.quote_asset}")
    if quote is not None:
        return fill.commission * quote.ask
    logger.warning("commission without a price", extra={"asset": fill.commission_asset})
    return fill.quote_quantity * selectors.fee_rate()
