"""What commands do to balances, orders and records: lock, swap, charge, release, tell."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.decimals import ZERO, amount, round_down_to_smallest
from simulator.engine.contracts import (
    AccountEvent,
    Execution,
    ExpiryReason,
    Order,
    OrderEvent,
    OrderRequest,
    OrderStatus,
    OrderType,
    PositionEvent,
    Side,
    Trade,
)
from simulator.engine.errors import insufficient_balance
from simulator.engine.instruments import Instrument
from simulator.engine.ledger import House, Ledger
from simulator.engine.matching import Plan
from simulator.engine.records import Records

COMMISSION_RATE = Decimal("0.001")


@dataclass(slots=True)
class Changes:
    """What has changed since the last call of take_changes(), for a state file."""

    accounts: set[int] = field(default_factory=set)
    balances: set[tuple[int, str]] = field(default_factory=set)
    orders: dict[tuple[str, int], Order] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.accounts or self.balances or self.orders or self.trades)


class Settlement:
    """Carries out what matching decided, and keeps the events and changes that follow from it."""

    def __init__(self, instruments: dict[str, Instrument], ledger: Ledger, records: Records) -> None:
        self._instruments = instruments
        self.ledger = ledger
        self.records = records
        self.events: list[AccountEvent] = []
        self.changes = Changes()

    def accept(
        self,
        account_id: int,
        request: OrderRequest,
        plan: Plan,
        now_ms: int,
    ) -> Order:
        """Number and lock a new order and tell its owner. Raises -2010 when the money is not free."""
        instrument = self._instruments[request.symbol]
        lock_asset, lock_amount = _needed(request, instrument, plan)
        if self.ledger.balance(account_id, lock_asset).free < lock_amount:
            raise insufficient_balance()
        order = Order(
            symbol=request.symbol,
            order_id=self.records.next_id(f"order:{request.symbol}"),
            account_id=account_id,
            client_order_id=request.client_order_id,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            price=request.price,
            quantity=_quantity(request, instrument, plan),
            quote_quantity=request.quote_quantity or ZERO,
            self_trade_prevention=request.self_trade_prevention,
            locked_asset=lock_asset,
            created_ms=now_ms,
            updated_ms=now_ms,
            working_ms=now_ms,
            locked=lock_amount,
        )
        self.ledger.lock(account_id, lock_asset, lock_amount)
        self.records.add(order)
        self._tell(order, Execution.NEW, now_ms)
        return order

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
        if is_buy and order.type is not OrderType.MARKET:
            # A buy below its limit gives the difference back at once.
            needed = amount(order.price, order.remaining)
            self.ledger.unlock(order.account_id, order.locked_asset, order.locked - needed)
            order.locked = needed
        asset, received = (instrument.base_asset, quantity) if is_buy else (instrument.quote_asset, quote)
        commission = round_down_to_smallest(received * COMMISSION_RATE)
        self.ledger.transfer(asset, commission, order.account_id, House.FEES)
        filled = not order.remaining
        order.status = OrderStatus.FILLED if filled else OrderStatus.PARTIALLY_FILLED
        order.updated_ms = now_ms
        if filled:
            self._release(order)
        trade = Trade(
            order.symbol, trade_id, order.order_id, order.account_id, order.side, price, quantity, quote,
            commission, asset, now_ms, is_maker,
        )  # fmt: skip
        self.records.add_trade(trade)
        self.changes.trades.append(trade)
        self._tell(order, Execution.TRADE, now_ms, trade=trade)
        return trade

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
        self._tell(order, execution, now_ms, cancel_client_order_id=cancel_client_order_id)

    def _release(self, order: Order) -> None:
        self.ledger.unlock(order.account_id, order.locked_asset, order.locked)
        order.locked = ZERO
        self.records.close(order)

    def _tell(
        self,
        order: Order,
        execution: Execution,
        now_ms: int,
        trade: Trade | None = None,
        cancel_client_order_id: str = "",
    ) -> None:
        self.changes.orders[(order.symbol, order.order_id)] = order
        self.events.append(
            OrderEvent(
                order.account_id,
                execution,
                self.records.next_id("execution"),
                copy(order),
                now_ms,
                trade,
                cancel_client_order_id,
            )
        )

    def finish(self, now_ms: int) -> None:
        """End of a command: the books must add up; each touched account hears its new balances once."""
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
    return plan.quantity + instrument.step_size if plan.ran_out else plan.quantity


def _needed(request: OrderRequest, instrument: Instrument, plan: Plan) -> tuple[str, Decimal]:
    """Asset and amount that an order must lock when it is accepted."""
    if request.side is Side.SELL:
        return instrument.base_asset, _quantity(request, instrument, plan)
    if request.type is OrderType.MARKET:
        # The amount named must be there, even if steps leave a little of it unspent.
        return instrument.quote_asset, max(plan.quote, request.quote_quantity or ZERO)
    assert request.quantity is not None
    return instrument.quote_asset, amount(request.price, request.quantity)
