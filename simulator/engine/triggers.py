"""Stops that wait for their trigger: the last price reaches stopPrice, or turns by trailingDelta (binance.md §2.4)."""

from __future__ import annotations

from decimal import Decimal

from simulator.decimals import ZERO
from simulator.engine.contracts import Order, OrderRequest, Side

BASIS_POINTS = Decimal(10_000)


class Waiting:
    """The waiting stops of one symbol, oldest first."""

    def __init__(self) -> None:
        self._orders: dict[int, Order] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def add(self, order: Order, last_price: Decimal, now_ms: int) -> None:
        """Wait from now on; a trailing stop without a stopPrice follows the price at once."""
        self._orders[order.order_id] = order
        if order.trailing_delta and not order.stop_price:
            order.trail_price, order.trailing_ms = last_price, now_ms

    def restore(self, order: Order) -> None:
        self._orders[order.order_id] = order

    def discard(self, order: Order) -> None:
        self._orders.pop(order.order_id, None)

    def follow(self, price: Decimal, now_ms: int) -> list[Order]:
        """Let the trailing stops follow a last price; hands back those that have moved."""
        return [
            order for order in self._orders.values() if order.trailing_delta and _moves(order, price, now_ms)
        ]

    def triggered_by(self, price: Decimal) -> list[Order]:
        """Those that a last price of `price` triggers, oldest first. Trailing ones have followed it before."""
        return [order for order in self._orders.values() if _is_triggered(order, price)]


def would_trigger(request: OrderRequest, last_price: Decimal) -> bool:
    """A new stop whose price the market has passed already. One that trails only begins to follow there."""
    if request.trailing_delta:
        return False
    return _has_reached(_above(request), request.stop_price, last_price)


def order_would_trigger(order: Order, last_price: Decimal) -> bool:
    """The same for a pending leg whose turn has come."""
    if order.trailing_delta:
        return False
    return _has_reached(order.triggers_above, order.stop_price, last_price)


def _moves(order: Order, price: Decimal, now_ms: int) -> bool:
    above = order.triggers_above
    if not order.trail_price:
        # stopPrice is the price at which it begins to follow.
        if not _has_reached(above, order.stop_price, price):
            return False
        order.trail_price, order.trailing_ms = price, now_ms
        return True
    before = order.trail_price
    order.trail_price = min(before, price) if above else max(before, price)
    return order.trail_price != before


def _is_triggered(order: Order, price: Decimal) -> bool:
    above = order.triggers_above
    if not order.trailing_delta:
        return _has_reached(above, order.stop_price, price)
    if not order.trail_price:
        return False
    if above:
        return price * BASIS_POINTS >= order.trail_price * (BASIS_POINTS + order.trailing_delta)
    return price * BASIS_POINTS <= order.trail_price * (BASIS_POINTS - order.trailing_delta)


def _above(request: OrderRequest) -> bool:
    return (request.side is Side.BUY) != request.type.is_take_profit


def _has_reached(above: bool, stop_price: Decimal, price: Decimal) -> bool:
    if stop_price <= ZERO:
        return False
    return price >= stop_price if above else price <= stop_price
