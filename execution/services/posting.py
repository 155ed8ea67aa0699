"""Trades of our orders into the ledger and the positions, each once."""

from collections.abc import Sequence
from datetime import datetime

from execution.contracts import FillReport
from execution.models import Fill, Order, Position, current_ledger
from execution.services import booking
from market.models import Instrument
from tradingbot.core.announce import announce
from tradingbot.core.decimals import ZERO


def post_fills(*, order: Order, trades: Sequence[tuple[int, FillReport]], now: datetime) -> list[FillReport]:
    """Apply (exchange order id, trade) of one order, each once; those that were not applied before.

    The caller holds the transaction and the order's row lock. A late trade of an order whose ledger was
    closed by a reset is not booked: the new baseline begins after it.
    """
    if not trades or order.ledger != current_ledger():
        return []
    instrument = Instrument.objects.get(environment=order.environment, symbol=order.symbol)
    position = _locked_position(order, instrument, now)
    told = {fill.trade_id: (exchange_order_id, fill) for exchange_order_id, fill in reversed(trades)}
    booked = set(
        Fill.objects.filter(
            environment=order.environment, ledger=order.ledger, symbol=order.symbol, trade_id__in=told
        ).values_list("trade_id", flat=True)
    )
    fresh = [(number, *told[number]) for number in sorted(told.keys() - booked)]
    if not fresh:
        return []
    rows = Fill.objects.bulk_create(
        _row(order, exchange_order_id, fill, instrument, now) for _, exchange_order_id, fill in fresh
    )
    was_flat = position.quantity == 0
    booking.book_fills(fills=rows, position=position)
    _save_position(position, order, now, opening=was_flat and position.quantity > 0)
    announce("position", order.symbol)
    return [fill for _, _, fill in fresh]


def _row(
    order: Order, exchange_order_id: int, fill: FillReport, instrument: Instrument, now: datetime
) -> Fill:
    return Fill(
        environment=order.environment,
        ledger=order.ledger,
        symbol=order.symbol,
        trade_id=fill.trade_id,
        order=order,
        exchange_order_id=exchange_order_id,
        side=order.side,
        price=fill.price,
        quantity=fill.quantity,
        quote_quantity=fill.quote_quantity,
        commission=fill.commission,
        commission_asset=fill.commission_asset,
        commission_quote=booking.worth_in_quote(fill, instrument),
        is_maker=fill.is_maker,
        at=fill.at,
        recorded_at=now,
    )


def _locked_position(order: Order, instrument: Instrument, now: datetime) -> Position:
    rows = Position.objects.select_for_update().filter(environment=order.environment, symbol=order.symbol)
    found = rows.first()
    if found is not None:
        return found
    Position.objects.bulk_create(
        [
            Position(
                environment=order.environment,
                symbol=order.symbol,
                base_asset=instrument.base_asset,
                quote_asset=instrument.quote_asset,
                updated_at=now,
            )
        ],
        ignore_conflicts=True,
    )
    return rows.get()


def _save_position(position: Position, order: Order, now: datetime, *, opening: bool) -> None:
    position.updated_at = now
    if order.side == "BUY":
        position.stop_price, position.target_price = order.intent.stop_price, order.intent.target_price
    if opening:
        position.opened_at = now
        position.seconds_unprotected = ZERO
    if position.quantity == 0:
        position.opened_at = position.stop_price = position.target_price = None
    position.save()
