"""What commands do to balances, orders and records: lock, swap, charge, release, tell."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.decimals import ZERO, amount, round_down_to_smallest
from simulator.engine.contracts import (
    AccountEvent,
    Amendment,
    Execution,
    ExpiryReason,
    ListEvent,
    Order,
    OrderEvent,
    OrderList,
    OrderRequest,
    OrderStatus,
    OrderType,
    PositionEvent,
    PreventedMatch,
    SelfTradePrevention,
    Side,
    Trade,
)
from simulator.engine.errors import insufficient_balance
from simulator.engine.instruments import Instrument
from simulator.engine.ledger import House, Ledger
from simulator.engine.matching import Plan
from simulator.engine.records import Records

COMMISSION_RATE = Decimal("0.001")
BNB = "BNB"
BNB_DISCOUNT = Decimal("0.75")
"""What is left of a commission that is paid in BNB."""


@dataclass(slots=True)
class Changes:
    """What has changed since the last call of take_changes(), for a state file."""

    accounts: set[int] = field(default_factory=set)
    balances: set[tuple[int, str]] = field(default_factory=set)
    orders: dict[tuple[str, int], Order] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    prevented: list[PreventedMatch] = field(default_factory=list)
    amendments: list[Amendment] = field(default_factory=list)
    lists: dict[int, OrderList] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.accounts or self.balances or self.orders or self.trades or self.lists)


class Settlement:
    """Carries out what matching decided, and keeps the events and changes that follow from it.

    `touched_lists` are the order lists of which a leg has changed since somebody looked.
    """

    def __init__(
        self,
        instruments: dict[str, Instrument],
        ledger: Ledger,
        records: Records,
        last_price: Callable[[str], Decimal | None],
    ) -> None:
        self._instruments = instruments
        self._last_price = last_price
        self.ledger = ledger
        self.records = records
        self.events: list[AccountEvent] = []
        self.changes = Changes()
        self.touched_lists: dict[int, None] = {}

    # --- beginnings -------------------------------------------------------------------------------------

    def accept(self, account_id: int, request: OrderRequest, plan: Plan, now_ms: int) -> Order:
        """Number and lock a new order and tell its owner. Raises -2010 when the money is not free."""
        instrument = self._instruments[request.symbol]
        lock_amount = self.needed_for(request, plan)
        if self.ledger.balance(account_id, lock_asset(request, instrument)).free < lock_amount:
            raise insufficient_balance()
        order = self.create(account_id, request, now_ms, quantity=_quantity(request, instrument, plan))
        self.lock(order, lock_amount)
        self.tell(order, Execution.NEW, now_ms)
        return order

    def create(
        self,
        account_id: int,
        request: OrderRequest,
        now_ms: int,
        *,
        quantity: Decimal,
        list_id: int = -1,
        pending: bool = False,
    ) -> Order:
        """Number and record a new order that locks nothing yet."""
        waits = pending or request.type.is_stop
        order = Order(
            symbol=request.symbol,
            order_id=self.records.next_id(f"order:{request.symbol}"),
            account_id=account_id,
            client_order_id=request.client_order_id,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            price=request.price,
            quantity=quantity,
            quote_quantity=request.quote_quantity or ZERO,
            self_trade_prevention=request.self_trade_prevention,
            locked_asset=lock_asset(request, self._instruments[request.symbol]),
            created_ms=now_ms,
            updated_ms=now_ms,
            working_ms=-1 if waits else now_ms,
            status=OrderStatus.PENDING_NEW if pending else OrderStatus.NEW,
            is_working=not waits,
            list_id=list_id,
            stop_price=request.stop_price,
            trailing_delta=request.trailing_delta,
            iceberg_quantity=request.iceberg_quantity,
            strategy_id=request.strategy_id,
            strategy_type=request.strategy_type,
        )
        self.records.add(order)
        return order

    def lock(self, order: Order, lock_amount: Decimal) -> None:
        self.ledger.lock(order.account_id, order.locked_asset, lock_amount)
        order.locked += lock_amount

    def needed_for(self, request: OrderRequest, plan: Plan | None = None) -> Decimal:
        """What a new order must lock of its asset."""
        instrument = self._instruments[request.symbol]
        if request.type is OrderType.MARKET:
            assert plan is not None
            if request.side is Side.SELL:
                return _quantity(request, instrument, plan)
            # The amount named must be there, even if steps leave a little of it unspent.
            return max(plan.quote, request.quote_quantity or ZERO)
        assert request.quantity is not None
        if request.side is Side.SELL:
            return request.quantity
        return self._cost(request, request.quantity)

    def needed_by(self, order: Order) -> Decimal:
        """What an open order that is not a MARKET buy must hold for what is left of it."""
        return order.remaining if order.side is Side.SELL else self._cost(order, order.remaining)

    def _cost(self, order: Order | OrderRequest, quantity: Decimal) -> Decimal:
        """What a buy would pay. A stop without a limit holds what it would pay at its trigger; the rest of
        what it really pays is taken when it fires."""
        at_trigger = order.stop_price or self._last_price(order.symbol) or ZERO
        return amount(order.price if order.type.has_price else at_trigger, quantity)

    # --- fills ------------------------------------------------------------------------------------------

    def swap(self, order: Order, counterparty: int, price: Decimal, quantity: Decimal) -> None:
        """Swap base and quote between the order's owner and the other side, each paying what it had locked."""
        instrument = self._instruments[order.symbol]
        quote = amount(price, quantity)
        other_locked = counterparty >= 0
        pays, paid, gets, received = (
            (instrument.quote_asset, quote, instrument.base_asset, quantity)
            if order.side is Side.BUY
            else (instrument.base_asset, quantity, instrument.quote_asset, quote)
        )
        self.ledger.transfer(pays, paid, order.account_id, counterparty, from_locked=True)
        self.ledger.transfer(gets, received, counterparty, order.account_id, from_locked=other_locked)

    def book_fill(
        self, order: Order, price: Decimal, quantity: Decimal, trade_id: int, is_maker: bool, now_ms: int
    ) -> Trade:
        """Count a fill on one order: commission, what stays locked, status, trade record and event."""
        instrument = self._instruments[order.symbol]
        quote = amount(price, quantity)
        is_buy = order.side is Side.BUY
        order.executed += quantity
        order.executed_quote += quote
        order.locked -= quote if is_buy else quantity
        if is_buy and order.type.has_price:
            # A buy below its limit gives the difference back at once.
            self.trim(order)
        asset, commission = self._charge(order.account_id, instrument, is_buy, quantity, quote)
        filled = not order.remaining
        order.status = OrderStatus.FILLED if filled else OrderStatus.PARTIALLY_FILLED
        order.updated_ms = now_ms
        if filled:
            self._release(order)
        trade = Trade(
            order.symbol, trade_id, order.order_id, order.account_id, order.side, price, quantity, quote,
            commission, asset, now_ms, is_maker, order.list_id,
        )  # fmt: skip
        self.records.add_trade(trade)
        self.changes.trades.append(trade)
        self.tell(order, Execution.TRADE, now_ms, trade=trade)
        return trade

    def _charge(
        self, account_id: int, instrument: Instrument, is_buy: bool, quantity: Decimal, quote: Decimal
    ) -> tuple[str, Decimal]:
        """Take the commission: in BNB where the account wants that and has enough of it free, else from what
        was received."""
        if self.ledger.accounts[account_id].pays_in_bnb:
            price = Decimal(1)
            if instrument.quote_asset != BNB:
                price = self._last_price(BNB + instrument.quote_asset) or ZERO
            if price:
                commission = round_down_to_smallest(quote * COMMISSION_RATE * BNB_DISCOUNT / price)
                if self.ledger.balance(account_id, BNB).free >= commission:
                    self.ledger.transfer(BNB, commission, account_id, House.FEES)
                    return BNB, commission
        asset, received = (instrument.base_asset, quantity) if is_buy else (instrument.quote_asset, quote)
        commission = round_down_to_smallest(received * COMMISSION_RATE)
        self.ledger.transfer(asset, commission, account_id, House.FEES)
        return asset, commission

    def trim(self, order: Order) -> None:
        """Give back what an order holds beyond its need."""
        needed = self.needed_by(order)
        self.ledger.unlock(order.account_id, order.locked_asset, order.locked - needed)
        order.locked = needed

    def note_prevented(
        self,
        taker: Order,
        maker: Order,
        mode: SelfTradePrevention,
        taker_loses: Decimal,
        maker_loses: Decimal,
        now_ms: int,
    ) -> PreventedMatch:
        """Record that two orders of an account did not trade (GET myPreventedMatches)."""
        match = PreventedMatch(
            taker.symbol, self.records.next_id(f"prevented:{taker.symbol}"), taker.account_id, taker.order_id,
            maker.order_id, mode, maker.price, taker_loses or None, maker_loses or None, now_ms,
        )  # fmt: skip
        self.records.add_prevented(match)
        self.changes.prevented.append(match)
        return match

    def prevent(self, order: Order, quantity: Decimal, match: PreventedMatch) -> None:
        """Take from an order what it would have traded with its own account; it ends when that was all."""
        order.prevented += quantity
        order.prevented_match_id = match.match_id
        order.updated_ms = match.time_ms
        if not order.remaining:
            order.status = OrderStatus.EXPIRED_IN_MATCH
            self._release(order)
        elif order.side is Side.SELL or order.type.has_price:
            self.trim(order)
        self.tell(order, Execution.TRADE_PREVENTION, match.time_ms, prevented=match)

    def give_back(self, order: Order, needed: Decimal) -> None:
        """Keep no more locked than that."""
        if needed < order.locked:
            self.ledger.unlock(order.account_id, order.locked_asset, order.locked - needed)
            order.locked = needed

    def pass_lock(self, giver: Order, taker: Order) -> None:
        """The legs of a pair lock once: the one that goes on takes what the other one held."""
        taker.locked += giver.locked
        giver.locked = ZERO

    # --- ends and news ----------------------------------------------------------------------------------

    def terminate(
        self,
        order: Order,
        status: OrderStatus,
        execution: Execution,
        now_ms: int,
        reason: ExpiryReason | None = None,
        cancel_client_order_id: str = "",
    ) -> None:
        """End an open order that is not filled: give back what it locks and tell its owner."""
        order.status = status
        order.expiry_reason = reason
        order.updated_ms = now_ms
        self._release(order)
        self.tell(order, execution, now_ms, cancel_client_order_id=cancel_client_order_id)

    def _release(self, order: Order) -> None:
        self.ledger.unlock(order.account_id, order.locked_asset, order.locked)
        order.locked = ZERO
        self.records.close(order)

    def tell(
        self,
        order: Order,
        execution: Execution,
        now_ms: int,
        trade: Trade | None = None,
        cancel_client_order_id: str = "",
        prevented: PreventedMatch | None = None,
    ) -> None:
        """Note that an order has changed and report it to its owner."""
        self.note(order)
        if order.list_id >= 0:
            self.touched_lists[order.list_id] = None
        self.events.append(
            OrderEvent(
                order.account_id,
                execution,
                self.records.next_id("execution"),
                copy(order),
                now_ms,
                trade,
                cancel_client_order_id,
                prevented,
            )
        )

    def execution_id_of(self, order: Order) -> int:
        """That of the last event of an order in the present command."""
        return next(
            event.execution_id
            for event in reversed(self.events)
            if isinstance(event, OrderEvent)
            and (event.order.symbol, event.order.order_id) == (order.symbol, order.order_id)
        )

    def note(self, order: Order) -> None:
        """Note that an order has changed, for the state file."""
        self.changes.orders[(order.symbol, order.order_id)] = order

    def tell_list(self, order_list: OrderList, now_ms: int, *, renamed: bool = False) -> None:
        """Note that an order list has changed and report it to its owner."""
        self.changes.lists[order_list.list_id] = order_list
        legs = tuple((leg.order_id, leg.client_order_id) for leg in self.records.legs(order_list))
        self.events.append(ListEvent(order_list.account_id, deepcopy(order_list), legs, now_ms, renamed))

    def finish(self, now_ms: int) -> None:
        """End of a command: the books must add up; each touched account hears its new balances once."""
        if not self.ledger.touched:
            return
        self.ledger.check_touched()
        touched: dict[int, set[str]] = {}
        for party, asset in self.ledger.touched:
            self.changes.balances.add((party, asset))
            if party >= 0:
                touched.setdefault(party, set()).add(asset)
        self.ledger.touched.clear()
        for account_id in sorted(touched):
            account = self.ledger.accounts[account_id]
            account.updated_ms = now_ms
            self.changes.accounts.add(account_id)
            balances = {
                asset: (account.balances[asset].free, account.balances[asset].locked)
                for asset in sorted(touched[account_id])
            }
            self.events.append(PositionEvent(account_id, balances, now_ms))


def _quantity(request: OrderRequest, instrument: Instrument, plan: Plan) -> Decimal:
    """The order's quantity. An order by amount has what the amount buys, and a step more where the book
    could not give it all, so that it ends EXPIRED after a partial fill (binance.md §2.4)."""
    if request.quantity is not None:
        return request.quantity
    bought = plan.quantity + plan.prevented
    return bought + instrument.step_size if plan.ran_out else bought


def lock_asset(request: OrderRequest, instrument: Instrument) -> str:
    return instrument.base_asset if request.side is Side.SELL else instrument.quote_asset
