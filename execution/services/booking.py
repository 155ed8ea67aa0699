"""Fills into lots, closings and the position; the equity curve. What a fill means in money."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from django.db.models import Q, QuerySet

from execution import selectors
from execution.contracts import FillReport
from execution.models import Account, EquityPoint, Fill, Lot, LotClosing, Position
from execution.rules import accounting
from market import selectors as market
from market.models import Instrument
from tradingbot.core.announce import announce
from tradingbot.core.decimals import ZERO

logger = logging.getLogger(__name__)


def book_fill(*, fill: Fill, position: Position) -> None:
    """Bring lots, closings and the amounts of `position` (locked, not saved here) to what the fills say.

    A fill that became known late takes its place in the exchange's order: what was closed after it is opened
    again, and everything from it on is done anew. So the outcome is the same whatever arrives first.
    """
    key = (fill.at, fill.trade_id)
    fills = Fill.objects.filter(environment=fill.environment, symbol=fill.symbol)
    newer = list(fills.filter(_after(key)).order_by("at", "trade_id"))
    undone = _undo_closings(fill, key) if newer else []
    lots = _lots_before(fill, key, undone)
    trades = [_trade(row, position.base_asset) for row in [fill, *newer]]
    after, closings = accounting.replay(lots, trades)
    _write(position, [fill, *newer], before=lots, after=after, closings=closings)
    position.quantity = sum((lot.quantity_left for lot in after), ZERO)
    position.cost_quote = sum((lot.cost_left_quote for lot in after), ZERO)
    position.realised_pnl_quote += sum((c.realised_quote for c in closings), ZERO) - sum(
        (c.realised_quote for c in undone), ZERO
    )
    position.fees_quote += fill.commission_quote


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


def _undo_closings(fill: Fill, key: accounting.Key) -> list[accounting.Closing]:
    """Take back all closings after `key`, and the lots that were opened after it."""
    rows = LotClosing.objects.filter(_after(key), environment=fill.environment, symbol=fill.symbol)
    undone = [
        accounting.Closing(
            (row.at, row.trade_id),
            (row.lot.at, row.lot.trade_id) if row.lot else None,
            row.quantity,
            row.proceeds_quote,
            row.cost_quote,
        )
        for row in rows.select_related("lot")
    ]
    rows.delete()
    Lot.objects.filter(_after(key), environment=fill.environment, symbol=fill.symbol).delete()
    return undone


def _lots_before(
    fill: Fill, key: accounting.Key, undone: Iterable[accounting.Closing]
) -> list[accounting.Lot]:
    """The lots that were open at `key`, oldest first."""
    taken: dict[accounting.Key, list[accounting.Closing]] = defaultdict(list)
    for closing in undone:
        if closing.lot is not None:
            taken[closing.lot].append(closing)
    rows: QuerySet[Lot] = Lot.objects.filter(environment=fill.environment, symbol=fill.symbol)
    reopened = [lot for lot in taken if lot < key]
    wanted = Q(quantity_left__gt=0)
    for at, trade_id in reopened:
        wanted |= Q(at=at, trade_id=trade_id)
    return [
        accounting.give_back(
            accounting.Lot(
                (row.at, row.trade_id),
                row.quantity,
                row.cost_quote,
                row.quantity_left,
                row.cost_left_quote,
            ),
            taken[(row.at, row.trade_id)],
        )
        for row in rows.filter(wanted).order_by("at", "trade_id")
    ]


def _write(
    position: Position,
    fills: list[Fill],
    *,
    before: list[accounting.Lot],
    after: list[accounting.Lot],
    closings: list[accounting.Closing],
) -> None:
    of_key = {(row.at, row.trade_id): row for row in fills}
    opened = [lot for lot in after if lot.key in of_key]
    Lot.objects.bulk_create([_lot_row(lot, of_key[lot.key]) for lot in opened])
    touched = {lot.key for lot in before}
    rows = {
        (row.at, row.trade_id): row
        for row in Lot.objects.filter(environment=position.environment, symbol=position.symbol).filter(
            Q(fill__in=[of_key[lot.key].pk for lot in opened])
            | Q(at__in=[at for at, _ in touched], trade_id__in=[trade_id for _, trade_id in touched])
        )
    }
    for lot in after:
        row = rows[lot.key]
        if (row.quantity_left, row.cost_left_quote) != (lot.quantity_left, lot.cost_left_quote):
            row.quantity_left, row.cost_left_quote = lot.quantity_left, lot.cost_left_quote
            row.save(update_fields=["quantity_left", "cost_left_quote"])
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
