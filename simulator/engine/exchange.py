"""The exchange: commands of accounts and steps of the market, each leaving events and changes to save."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.decimals import ZERO, amount, from_units, round_down_to_smallest
from simulator.engine.book import Book, Level
from simulator.engine.contracts import (
    Account,
    AccountEvent,
    DepositEvent,
    Execution,
    ExpiryReason,
    Order,
    OrderEvent,
    OrderRequest,
    OrderStatus,
    OrderType,
    Placement,
    PositionEvent,
    Side,
    TimeInForce,
    Trade,
)
from simulator.engine.errors import (
    ConservationError,
    account_filter_failure,
    cancel_rejected,
    insufficient_balance,
    rejected,
)
from simulator.engine.filters import check_static
from simulator.engine.instruments import Instrument
from simulator.engine.ledger import House, Ledger
from simulator.engine.matching import Plan, plan_match
from simulator.engine.records import Records
from simulator.market.tape import CandleClosed, SymbolTape, Tick

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


class Exchange:
    """All symbols and accounts. Single-threaded; every method that changes something takes `now_ms`."""

    def __init__(self, instruments: list[Instrument], tapes: dict[str, SymbolTape], seed: int) -> None:
        self.instruments = {instrument.symbol: instrument for instrument in instruments}
        self.tapes = tapes
        self.ledger = Ledger()
        self.records = Records()
        self.books = {symbol: Book(instrument, seed) for symbol, instrument in self.instruments.items()}
        self.account_ids: dict[str, int] = {}
        self.changed_books: set[str] = set()
        self._events: list[AccountEvent] = []
        self._changes = Changes()

    # --- accounts ---------------------------------------------------------------------------------------

    def open_account(self, api_key: str, secret_key: str, now_ms: int) -> Account:
        account = Account(self.records.next_id("account"), api_key, secret_key, now_ms, now_ms)
        self.ledger.accounts[account.account_id] = account
        self.account_ids[api_key] = account.account_id
        self._changes.accounts.add(account.account_id)
        return account

    def restore_account(self, account: Account) -> None:
        """Put a saved account back."""
        self.ledger.restore(account)
        self.account_ids[account.api_key] = account.account_id

    def restore_order(self, order: Order) -> None:
        """Put a saved order back; an open one rests on the book again."""
        self.records.add(order)
        if order.is_open:
            self.books[order.symbol].add(order)

    def deposit(self, account_id: int, asset: str, amount: Decimal, now_ms: int) -> None:
        """Bring money from outside, or take it there (negative). Raises -2010 when it is not free."""
        if amount < ZERO and self.ledger.balance(account_id, asset).free < -amount:
            raise insufficient_balance()
        payer, payee = (House.OUTSIDE, account_id) if amount > ZERO else (account_id, House.OUTSIDE)
        self.ledger.transfer(asset, abs(amount), payer, payee)
        self._events.append(DepositEvent(account_id, asset, amount, now_ms))
        self._finish(now_ms)

    # --- orders -----------------------------------------------------------------------------------------

    def check(self, request: OrderRequest) -> None:
        """The checks that need neither book nor balance (order/test stops here)."""
        instrument = self.instruments[request.symbol]
        if instrument.status != "TRADING":
            raise rejected("Market is closed.")
        average = from_units(self.tapes[request.symbol].average_price(instrument.average_price_minutes))
        check_static(request, instrument, average)

    def place(self, account_id: int, request: OrderRequest, now_ms: int) -> Placement:
        """Accept an order, match it, and rest or expire what is left. Raises ExchangeError, changing nothing."""
        self.check(request)
        instrument = self.instruments[request.symbol]
        if self.records.open_with_client_id(account_id, request.client_order_id) is not None:
            raise rejected("Duplicate order sent.")
        if len(self.records.open_orders(account_id, request.symbol)) >= instrument.max_open_orders:
            raise account_filter_failure("MAX_NUM_ORDERS")
        plan = plan_match(request, account_id, instrument, self.books[request.symbol])
        if request.type is OrderType.LIMIT_MAKER and (
            plan.fills or plan.expired_makers or plan.taker_expires
        ):
            raise rejected("Order would immediately match and take.")
        unfillable = request.time_in_force is TimeInForce.FOK and plan.quantity != request.quantity
        lock_asset, lock_amount = _needed(request, instrument, plan)
        if self.ledger.balance(account_id, lock_asset).free < lock_amount:
            raise insufficient_balance()
        order = self._accept(account_id, request, plan, lock_asset, lock_amount, now_ms)
        if unfillable:
            self._terminate(order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, ExpiryReason.UNFILLED_FOK)
            trades = []
        else:
            trades = self._carry_out(order, plan, now_ms)
            self._settle_rest(order, plan, now_ms)
        self._finish(now_ms)
        return Placement(copy(order), trades)

    def cancel(self, order: Order, cancel_client_order_id: str, now_ms: int) -> Order:
        """Take an open order off the book. Raises -2011 when it is not open."""
        if not order.is_open:
            raise cancel_rejected()
        self.books[order.symbol].remove(order)
        self._note_book_change(order.symbol)
        self._terminate(
            order,
            OrderStatus.CANCELED,
            Execution.CANCELED,
            now_ms,
            cancel_client_order_id=cancel_client_order_id,
        )
        self._finish(now_ms)
        return copy(order)

    # --- market -----------------------------------------------------------------------------------------

    def next_market_ms(self) -> int | None:
        """Market time of the next tick or close of any symbol, None when every tape has ended."""
        return min((tape.next_ms for tape in self.tapes.values() if tape.next_ms is not None), default=None)

    def advance(self, market_ms: int, now_ms: int, steps_max: int) -> list[Tick | CandleClosed]:
        """Let the market run up to `market_ms`, at most `steps_max` steps; fills of resting orders happen here."""
        done: list[Tick | CandleClosed] = []
        while len(done) < steps_max:
            due = [(tape.next_ms, symbol) for symbol, tape in self.tapes.items() if tape.next_ms is not None]
            if not due or min(due)[0] > market_ms:
                break
            step = self.tapes[min(due)[1]].step()
            if isinstance(step, Tick):
                self.apply_tick(step, now_ms)
            done.append(step)
        return done

    def apply_tick(self, tick: Tick, now_ms: int) -> None:
        """New liquidity around a tick; resting orders that it reaches are filled at their own price.

        First the tick's own volume hits orders at its price or better, then the new quotes do, each up to
        the amount that is there.
        """
        book = self.books[tick.symbol]
        book.liquidity.requote(tick)
        self._note_book_change(tick.symbol)
        if not len(book):
            return
        price, flow = from_units(tick.price), from_units(tick.quantity)
        maker_side = Side.BUY if tick.buyer_is_maker else Side.SELL
        while flow and (order := _crossing(book, maker_side, price)) is not None:
            quantity = min(flow, order.remaining)
            flow -= quantity
            self._fill_resting(order, quantity, now_ms)
        for side in Side:
            self._cross_with_liquidity(book, side, now_ms)
        self._finish(now_ms)

    # --- out --------------------------------------------------------------------------------------------

    def take_events(self) -> list[AccountEvent]:
        """Account events since the last call, in the order in which they happened."""
        events, self._events = self._events, []
        return events

    def take_changes(self) -> Changes:
        changes, self._changes = self._changes, Changes()
        return changes

    def audit(self) -> None:
        """Count everything afresh; raises ConservationError at the first thing that does not add up."""
        for asset, total in self.ledger.recount().items():
            if total != ZERO:
                raise ConservationError(f"{asset} sums to {total}")
        locked: dict[tuple[int, str], Decimal] = {}
        for order in self.records.all_open():
            key = (order.account_id, order.locked_asset)
            locked[key] = locked.get(key, ZERO) + order.locked
        for account in self.ledger.accounts.values():
            for asset, balance in account.balances.items():
                expected = locked.get((account.account_id, asset), ZERO)
                if balance.locked != expected:
                    raise ConservationError(
                        f"account {account.account_id}: {balance.locked} {asset} locked, orders need {expected}"
                    )

    # --- inside -----------------------------------------------------------------------------------------

    def _accept(
        self,
        account_id: int,
        request: OrderRequest,
        plan: Plan,
        lock_asset: str,
        lock_amount: Decimal,
        now_ms: int,
    ) -> Order:
        instrument = self.instruments[request.symbol]
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

    def _carry_out(self, order: Order, plan: Plan, now_ms: int) -> list[Trade]:
        book = self.books[order.symbol]
        for maker in plan.expired_makers:
            book.remove(maker)
            self._terminate(maker, OrderStatus.EXPIRED_IN_MATCH, Execution.TRADE_PREVENTION, now_ms)
        trades = []
        for fill in plan.fills:
            trade_id = self.records.next_id(f"trade:{order.symbol}")
            price = fill.maker.price
            counterparty = fill.maker.account_id if isinstance(fill.maker, Order) else House.MARKET
            self._exchange_assets(order, counterparty, price, fill.quantity)
            if isinstance(fill.maker, Level):
                book.liquidity.take(order.side.opposite, fill.maker, fill.quantity)
            else:
                self._book_fill(fill.maker, price, fill.quantity, trade_id, True, now_ms)
                if not fill.maker.is_open:
                    book.remove(fill.maker)
            trades.append(self._book_fill(order, price, fill.quantity, trade_id, False, now_ms))
        if plan.fills or plan.expired_makers:
            self._note_book_change(order.symbol)
        return trades

    def _settle_rest(self, order: Order, plan: Plan, now_ms: int) -> None:
        """Decide on what is left after matching: nothing, rest on the book, or expire."""
        if order.status is OrderStatus.FILLED:
            return
        if plan.taker_expires:
            self._terminate(order, OrderStatus.EXPIRED_IN_MATCH, Execution.TRADE_PREVENTION, now_ms)
        elif order.type is OrderType.MARKET:
            reason = ExpiryReason.INSUFFICIENT_LIQUIDITY
            self._terminate(order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, reason)
        elif order.time_in_force is TimeInForce.IOC:
            self._terminate(order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, ExpiryReason.UNFILLED_IOC)
        else:
            self.books[order.symbol].add(order)
            self._note_book_change(order.symbol)

    def _cross_with_liquidity(self, book: Book, side: Side, now_ms: int) -> None:
        """Fill resting orders of `side` that the world's quotes on the other side have reached."""
        while levels := book.liquidity.levels(side.opposite):
            order = _crossing(book, side, levels[0].price)
            if order is None:
                return
            quantity = min(levels[0].quantity, order.remaining)
            book.liquidity.take(side.opposite, levels[0], quantity)
            self._fill_resting(order, quantity, now_ms)

    def _fill_resting(self, order: Order, quantity: Decimal, now_ms: int) -> None:
        self._exchange_assets(order, House.MARKET, order.price, quantity)
        trade_id = self.records.next_id(f"trade:{order.symbol}")
        self._book_fill(order, order.price, quantity, trade_id, True, now_ms)
        if not order.is_open:
            self.books[order.symbol].remove(order)

    def _exchange_assets(self, order: Order, counterparty: int, price: Decimal, quantity: Decimal) -> None:
        """Swap base and quote between the order's owner and the other side, each paying what it had locked."""
        instrument = self.instruments[order.symbol]
        quote = amount(price, quantity)
        other_locked = counterparty >= 0
        pays, paid, gets, received = (
            (instrument.quote_asset, quote, instrument.base_asset, quantity)
            if order.side is Side.BUY
            else (instrument.base_asset, quantity, instrument.quote_asset, quote)
        )
        self.ledger.transfer(pays, paid, order.account_id, counterparty, from_locked=True)
        self.ledger.transfer(gets, received, counterparty, order.account_id, from_locked=other_locked)

    def _book_fill(
        self, order: Order, price: Decimal, quantity: Decimal, trade_id: int, is_maker: bool, now_ms: int
    ) -> Trade:
        """Count a fill on one order: commission, what stays locked, status, trade record and event."""
        instrument = self.instruments[order.symbol]
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
        self._changes.trades.append(trade)
        self._tell(order, Execution.TRADE, now_ms, trade=trade)
        return trade

    def _terminate(
        self,
        order: Order,
        status: OrderStatus,
        execution: Execution,
        now_ms: int,
        reason: ExpiryReason | None = None,
        cancel_client_order_id: str = "",
    ) -> None:
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
        self._changes.orders[(order.symbol, order.order_id)] = order
        self._events.append(
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

    def _note_book_change(self, symbol: str) -> None:
        self.books[symbol].update_id += 1
        self.changed_books.add(symbol)

    def _finish(self, now_ms: int) -> None:
        """End of a command: the books must add up; each touched account hears its new balances once."""
        self.ledger.check_touched()
        touched: dict[int, set[str]] = {}
        for party, asset in self.ledger.touched:
            self._changes.balances.add((party, asset))
            if party >= 0:
                touched.setdefault(party, set()).add(asset)
        self.ledger.touched.clear()
        for account_id in sorted(touched):
            account = self.ledger.accounts[account_id]
            account.updated_ms = now_ms
            self._changes.accounts.add(account_id)
            balances = {
                asset: (account.balances[asset].free, account.balances[asset].locked)
                for asset in sorted(touched[account_id])
            }
            self._events.append(PositionEvent(account_id, balances, now_ms))


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


def _crossing(book: Book, side: Side, price: Decimal) -> Order | None:
    """The best resting order of `side` that a trade at `price` reaches."""
    order = book.best_resting(side)
    if order is None:
        return None
    reached = order.price >= price if side is Side.BUY else order.price <= price
    return order if reached else None
