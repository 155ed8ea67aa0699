"""Amend keep priority: an open order gets smaller and keeps its place in the queue (order_amend_keep_priority.md).

Where the documentation is silent: an amend that would leave nothing of the order is refused, and the legs of a
pair are amended together and both reported.
"""

from __future__ import annotations

from decimal import Decimal

from simulator.engine.contracts import Amendment, Execution, Order, OrderList, OrderRequest, OrderStatus
from simulator.engine.errors import ExchangeError
from simulator.engine.floor import Floor
from simulator.engine.instruments import TRADING, Instrument
from simulator.engine.records import Records
from simulator.engine.settlement import Settlement


def amend_refused(message: str) -> ExchangeError:
    return ExchangeError(-2038, message)


def check_amend(
    order: Order, quantity: Decimal, client_order_id: str, instrument: Instrument, records: Records
) -> None:
    """Raise -2038 unless the order can be amended so."""
    order_list = records.lists.get(order.list_id)
    amends = len(records.amendments_of(order))
    onward = order_list is not None and order_list.kind.pays_onward
    holder = records.open_with_client_id(order.account_id, client_order_id)
    for holds, message in (
        (order.is_open, "Unknown order sent."),
        (instrument.status == TRADING, "Market is closed."),
        (
            not (onward and order.status is OrderStatus.PENDING_NEW),
            "Order amend (pending OPO order) is not supported.",
        ),
        (quantity <= order.quantity, "Order amend (quantity increase) is not supported."),
        (
            order.executed + order.prevented < quantity != order.quantity,
            "The requested action would change no state; rejecting.",
        ),
        (amends < instrument.max_order_amends, "Filter failure: MAX_NUM_ORDER_AMENDS"),
        (holder in (None, order), "Duplicate order sent."),
    ):
        if not holds:
            raise amend_refused(message)


def as_request(order: Order, quantity: Decimal) -> OrderRequest:
    """What the filters are asked about."""
    return OrderRequest(
        order.symbol, order.side, order.type, order.client_order_id, order.time_in_force, quantity,
        price=order.price, stop_price=order.stop_price, trailing_delta=order.trailing_delta,
    )  # fmt: skip


def carry_out(
    order: Order,
    quantity: Decimal,
    client_order_id: str,
    records: Records,
    settlement: Settlement,
    floor: Floor,
    now_ms: int,
) -> Amendment:
    """Cut the order, and the other leg of its pair, give back what they no longer need, and tell their owner."""
    order_list = records.lists.get(order.list_id)
    legs = _pair_of(order, order_list, records)
    before = (order.client_order_id, order.quantity)
    for leg in legs:
        leg.quantity = quantity
        leg.iceberg_quantity = min(leg.iceberg_quantity, quantity)
        leg.updated_ms = now_ms
    holder = max(legs, key=lambda leg: leg.locked)
    settlement.give_back(holder, max(settlement.needed_by(leg) for leg in legs))
    if client_order_id != order.client_order_id:
        records.rename(order, client_order_id)
    for leg in [order, *(leg for leg in legs if leg is not order)]:
        settlement.tell(leg, Execution.REPLACED, now_ms)
    if order_list is not None and before[0] != order.client_order_id:
        settlement.tell_list(order_list, now_ms, renamed=True)
    floor.note_book_change(order.symbol)
    amendment = Amendment(
        order.symbol, order.order_id, settlement.execution_id_of(order), before[0], order.client_order_id,
        before[1], quantity, now_ms,
    )  # fmt: skip
    records.add_amendment(amendment)
    settlement.changes.amendments.append(amendment)
    return amendment


def _pair_of(order: Order, order_list: OrderList | None, records: Records) -> list[Order]:
    if order_list is None or not order_list.kind.has_pair or order.order_id == order_list.working_id:
        return [order]
    return [leg for leg in records.legs(order_list)[-2:] if leg.is_open]
