"""Order lists: OCO, OTO, OTOCO, OPO, OPOCO with their rules of activation and exclusion (binance.md §2.5).

Where the documentation is silent the stricter reading stands here: a list is done once nothing in it depends
on anything any more (a pair is decided, or every leg is closed), and pending legs lock nothing, so that they
can be rejected when their turn comes.
"""

from __future__ import annotations

from copy import copy, deepcopy
from decimal import Decimal

from simulator.decimals import ZERO, floor_to
from simulator.engine.contracts import (
    Execution,
    ExpiryReason,
    ListKind,
    ListPlacement,
    ListRequest,
    Order,
    OrderList,
    OrderRequest,
    OrderStatus,
    OrderType,
    Side,
    Trade,
)
from simulator.engine.errors import insufficient_balance, rejected
from simulator.engine.floor import Floor
from simulator.engine.instruments import Instrument
from simulator.engine.matching import Plan, Taker
from simulator.engine.records import Records
from simulator.engine.settlement import Settlement
from simulator.engine.triggers import order_would_trigger, would_trigger
from simulator.faults import FaultBook, FaultKind

WOULD_TRIGGER = "Order would trigger immediately."
WOULD_TAKE = "Order would immediately match and take."
BAD_PRICES = "The relationship of the prices for the orders is not correct."


class ListDesk:
    """All order lists. `follow_up` must run at the end of every command that may have changed a leg."""

    def __init__(
        self,
        instruments: dict[str, Instrument],
        floor: Floor,
        settlement: Settlement,
        records: Records,
        faults: FaultBook,
    ) -> None:
        self._instruments = instruments
        self._floor = floor
        self._settlement = settlement
        self._records = records
        self._faults = faults
        floor.seize = self.seize

    # --- commands ---------------------------------------------------------------------------------------

    def place(self, account_id: int, request: ListRequest, now_ms: int) -> ListPlacement:
        """Accept a list whose legs have passed all filters. Raises ExchangeError, changing nothing."""
        place = self._place_pair if request.kind is ListKind.OCO else self._place_working
        order_list, trades = place(account_id, request, now_ms)
        reports = [copy(leg) for leg in self._records.legs(order_list)]
        answered = deepcopy(order_list)
        # Pending legs are shown as they were placed, even if the working leg is filled already.
        self.follow_up(now_ms)
        return ListPlacement(answered, reports, trades)

    def cancel(self, order_list: OrderList, cancel_client_order_id: str, now_ms: int) -> None:
        """Cancel every open leg of an open list."""
        for leg in self._records.legs(order_list):
            if leg.is_open:
                self._floor.withdraw(leg)
                self._settlement.terminate(
                    leg, OrderStatus.CANCELED, Execution.CANCELED, now_ms, None, cancel_client_order_id
                )
        self._finish(order_list, now_ms)

    def _place_pair(
        self, account_id: int, request: ListRequest, now_ms: int
    ) -> tuple[OrderList, list[Trade]]:
        """An OCO: both legs go to the book, or wait, at once."""
        last = self._floor.last_prices[request.symbol]
        for wanted in request.legs:
            if not _on_its_side(wanted, last):
                raise rejected(BAD_PRICES)
            if wanted.type.is_stop and would_trigger(wanted, last):
                raise rejected(WOULD_TRIGGER)
            if wanted.type is OrderType.LIMIT_MAKER and self._takes(account_id, wanted):
                raise rejected(WOULD_TAKE)
        needs = [self._settlement.needed_for(wanted) for wanted in request.legs]
        self._check_balance(account_id, request.legs[0], max(needs))
        order_list = self._open(account_id, request, now_ms)
        legs = self._create(order_list, request.legs, now_ms, pending=False)
        self._settlement.lock(legs[needs.index(max(needs))], max(needs))
        self._settlement.tell_list(order_list, now_ms)
        for leg in legs:
            self._settlement.tell(leg, Execution.NEW, now_ms)
        for leg in legs:
            self._floor.start(leg, now_ms)
        return order_list, []

    def _place_working(
        self, account_id: int, request: ListRequest, now_ms: int
    ) -> tuple[OrderList, list[Trade]]:
        """The OTO kinds: only the first leg goes to the book."""
        working = request.legs[0]
        plan = self._floor.plan(Taker.of_request(account_id, working), request.symbol)
        if working.type is OrderType.LIMIT_MAKER and plan.touches_book:
            raise rejected(WOULD_TAKE)
        needed = self._settlement.needed_for(working)
        self._check_balance(account_id, working, needed)
        order_list = self._open(account_id, request, now_ms)
        legs = self._create(order_list, request.legs[:1], now_ms, pending=False)
        legs += self._create(order_list, request.legs[1:], now_ms, pending=True)
        order_list.working_id = legs[0].order_id
        self._settlement.lock(legs[0], needed)
        self._settlement.tell_list(order_list, now_ms)
        for leg in legs:
            self._settlement.tell(leg, Execution.NEW, now_ms)
        return order_list, self._floor.execute(legs[0], plan, now_ms)

    def _open(self, account_id: int, request: ListRequest, now_ms: int) -> OrderList:
        order_list = OrderList(
            list_id=self._records.next_id("list"),
            account_id=account_id,
            symbol=request.symbol,
            kind=request.kind,
            client_order_id=request.client_order_id,
            order_ids=[],
            created_ms=now_ms,
            updated_ms=now_ms,
            is_active=request.kind is ListKind.OCO,
        )
        self._records.add_list(order_list)
        return order_list

    def _create(
        self, order_list: OrderList, legs: tuple[OrderRequest, ...], now_ms: int, *, pending: bool
    ) -> list[Order]:
        orders = [
            self._settlement.create(
                order_list.account_id,
                leg,
                now_ms,
                quantity=leg.quantity or ZERO,
                list_id=order_list.list_id,
                pending=pending,
            )
            for leg in legs
        ]
        order_list.order_ids += [order.order_id for order in orders]
        return orders

    def _check_balance(self, account_id: int, request: OrderRequest, needed: Decimal) -> None:
        instrument = self._instruments[request.symbol]
        asset = instrument.base_asset if request.side is Side.SELL else instrument.quote_asset
        if self._settlement.ledger.balance(account_id, asset).free < needed:
            raise insufficient_balance()

    def _takes(self, account_id: int, request: OrderRequest) -> bool:
        return self._floor.plan(Taker.of_request(account_id, request), request.symbol).touches_book

    # --- consequences -----------------------------------------------------------------------------------

    def seize(self, order: Order, now_ms: int) -> None:
        """A leg of a pair is about to execute: the other one expires and leaves it the lock that they share."""
        if order.list_id < 0 or order.executed or order.prevented:
            return
        order_list = self._records.lists[order.list_id]
        if order_list.is_done or order.order_id == order_list.working_id or not order_list.kind.has_pair:
            return
        for other in self._records.legs(order_list)[-2:]:
            if other is not order and other.is_open:
                self._settlement.pass_lock(other, order)
                self._expire(other, ExpiryReason.OCO_TRIGGER, now_ms)
        if order.side is Side.SELL or order.type.has_price:
            self._settlement.trim(order)

    def follow_up(self, now_ms: int) -> None:
        """Draw the consequences of everything that has happened to legs, until nothing follows any more."""
        touched = self._settlement.touched_lists
        while touched:
            order_list = self._records.lists[next(iter(touched))]
            del touched[order_list.list_id]
            if not order_list.is_done:
                self._advance(order_list, now_ms)

    def _advance(self, order_list: OrderList, now_ms: int) -> None:
        legs = self._records.legs(order_list)
        if not order_list.is_active:
            working, pending = legs[0], legs[1:]
            if working.is_open:
                return
            if working.status is OrderStatus.FILLED:
                self._activate(order_list, working, pending, now_ms)
                return
            for leg in pending:
                self._expire(leg, ExpiryReason.OTO_PHASE_ONE_EXPIRED, now_ms)
        pair = legs[-2:] if order_list.kind.has_pair else []
        if any(not leg.is_open for leg in pair):
            for leg in pair:
                if leg.is_open and not leg.executed and not (leg.type.is_stop and leg.is_working):
                    self._expire(leg, ExpiryReason.OCO_TRIGGER, now_ms)
            self._finish(order_list, now_ms)
        elif not any(leg.is_open for leg in legs):
            self._finish(order_list, now_ms)

    def _activate(self, order_list: OrderList, working: Order, pending: list[Order], now_ms: int) -> None:
        """The working leg is filled: the pending ones are placed, or all rejected."""
        order_list.is_active = True
        self._settlement.changes.lists[order_list.list_id] = order_list
        if order_list.kind.pays_onward:
            bought = self._bought(working)
            for leg in pending:
                leg.quantity = bought
        plans = [self._floor.plan(Taker.of_order(leg), leg.symbol) for leg in pending]
        needs = [self._needed(leg, plan) for leg, plan in zip(pending, plans, strict=True)]
        problem = self._problem(pending, plans, max(needs), now_ms)
        for leg in pending:
            leg.updated_ms = now_ms
            if problem is not None:
                leg.reject_reason = problem
                self._expire(leg, ExpiryReason.REJECTED, now_ms)
        if problem is not None:
            return
        self._settlement.lock(pending[needs.index(max(needs))], max(needs))
        for leg in pending:
            leg.status = OrderStatus.NEW
            leg.is_working = not leg.type.is_stop
            leg.working_ms = now_ms if leg.is_working else -1
            self._settlement.tell(leg, Execution.NEW, now_ms)
        for leg in pending:
            self._floor.start(leg, now_ms)

    def _needed(self, leg: Order, plan: Plan) -> Decimal:
        if leg.type is OrderType.MARKET and leg.side is Side.BUY:
            return plan.quote
        return self._settlement.needed_by(leg)

    def _bought(self, working: Order) -> Decimal:
        """What a filled BUY left its owner of the base asset, in whole steps."""
        instrument = self._instruments[working.symbol]
        trades = self._records.trades_of(working.account_id, working.symbol)
        fees = sum(
            (
                trade.commission
                for trade in trades
                if trade.order_id == working.order_id and trade.commission_asset == instrument.base_asset
            ),
            ZERO,
        )
        return floor_to(working.executed - fees, instrument.step_size)

    def _problem(self, pending: list[Order], plans: list[Plan], needed: Decimal, now_ms: int) -> str | None:
        """Why the pending legs cannot be placed now, in the words of `r`; None when they can."""
        first = pending[0]
        last = self._floor.last_prices[first.symbol]
        if self._faults.take(FaultKind.REJECT_PENDING, "", "", now_ms, None, first.symbol) is not None:
            return "NONE"
        if first.quantity < self._instruments[first.symbol].step_size:
            return "NONE"
        if self._settlement.ledger.balance(first.account_id, first.locked_asset).free < needed:
            return "INSUFFICIENT_BALANCES"
        for leg, plan in zip(pending, plans, strict=True):
            if leg.type.is_stop and order_would_trigger(leg, last):
                return "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY"
            if leg.type is OrderType.LIMIT_MAKER and plan.touches_book:
                return "WOULD_MATCH_IMMEDIATELY"
        return None

    def _expire(self, leg: Order, reason: ExpiryReason, now_ms: int) -> None:
        self._floor.withdraw(leg)
        self._settlement.terminate(leg, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, reason)

    def _finish(self, order_list: OrderList, now_ms: int) -> None:
        order_list.updated_ms = now_ms
        self._records.close_list(order_list)
        self._settlement.tell_list(order_list, now_ms)


def _on_its_side(leg: OrderRequest, last_price: Decimal) -> bool:
    """A limit leg of an OCO stands on the better side of the market, a stop on its trigger's side."""
    if leg.type is OrderType.LIMIT_MAKER:
        return leg.price > last_price if leg.side is Side.SELL else leg.price < last_price
    if not leg.stop_price:
        return True
    above = (leg.side is Side.BUY) != leg.type.is_take_profit
    return leg.stop_price > last_price if above else leg.stop_price < last_price
