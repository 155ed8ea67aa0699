"""The exchange: commands of accounts and steps of the market, each leaving events and changes to save."""

from __future__ import annotations

from copy import copy
from decimal import Decimal

from simulator.decimals import ZERO, from_units
from simulator.engine.book import Book, Level
from simulator.engine.contracts import (
    Account,
    AccountEvent,
    DepositEvent,
    Execution,
    ExpiryReason,
    Order,
    OrderRequest,
    OrderStatus,
    OrderType,
    Placement,
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
from simulator.engine.settlement import Changes, Settlement
from simulator.market.tape import CandleClosed, SymbolTape, Tick


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
        self._settlement = Settlement(self.instruments, self.ledger, self.records)

    # --- accounts ---------------------------------------------------------------------------------------

    def open_account(self, api_key: str, secret_key: str, now_ms: int) -> Account:
        account = Account(self.records.next_id("account"), api_key, secret_key, now_ms, now_ms)
        self.ledger.accounts[account.account_id] = account
        self.account_ids[api_key] = account.account_id
        self._settlement.changes.accounts.add(account.account_id)
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
        self._settlement.events.append(DepositEvent(account_id, asset, amount, now_ms))
        self._settlement.finish(now_ms)

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
        order = self._settlement.accept(account_id, request, plan, now_ms)
        if unfillable:
            self._settlement.terminate(
                order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, ExpiryReason.UNFILLED_FOK
            )
            trades = []
        else:
            trades = self._carry_out(order, plan, now_ms)
            self._settle_rest(order, plan, now_ms)
        self._settlement.finish(now_ms)
        return Placement(copy(order), trades)

    def cancel(self, order: Order, cancel_client_order_id: str, now_ms: int) -> Order:
        """Take an open order off the book. Raises -2011 when it is not open."""
        if not order.is_open:
            raise cancel_rejected()
        self.books[order.symbol].remove(order)
        self._note_book_change(order.symbol)
        self._settlement.terminate(
            order,
            OrderStatus.CANCELED,
            Execution.CANCELED,
            now_ms,
            cancel_client_order_id=cancel_client_order_id,
        )
        self._settlement.finish(now_ms)
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
        self._settlement.finish(now_ms)

    # --- out --------------------------------------------------------------------------------------------

    def take_events(self) -> list[AccountEvent]:
        """Account events since the last call, in the order in which they happened."""
        events, self._settlement.events = self._settlement.events, []
        return events

    def take_changes(self) -> Changes:
        changes, self._settlement.changes = self._settlement.changes, Changes()
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

    def _carry_out(self, order: Order, plan: Plan, now_ms: int) -> list[Trade]:
        book = self.books[order.symbol]
        for maker in plan.expired_makers:
            book.remove(maker)
            self._settlement.terminate(
                maker, OrderStatus.EXPIRED_IN_MATCH, Execution.TRADE_PREVENTION, now_ms
            )
        trades = []
        for fill in plan.fills:
            trade_id = self.records.next_id(f"trade:{order.symbol}")
            price = fill.maker.price
            counterparty = fill.maker.account_id if isinstance(fill.maker, Order) else House.MARKET
            self._settlement.swap(order, counterparty, price, fill.quantity)
            if isinstance(fill.maker, Level):
                book.liquidity.take(order.side.opposite, fill.maker, fill.quantity)
            else:
                self._settlement.book_fill(fill.maker, price, fill.quantity, trade_id, True, now_ms)
                if not fill.maker.is_open:
                    book.remove(fill.maker)
            trades.append(self._settlement.book_fill(order, price, fill.quantity, trade_id, False, now_ms))
        if plan.fills or plan.expired_makers:
            self._note_book_change(order.symbol)
        return trades

    def _settle_rest(self, order: Order, plan: Plan, now_ms: int) -> None:
        """Decide on what is left after matching: nothing, rest on the book, or expire."""
        if order.status is OrderStatus.FILLED:
            return
        if plan.taker_expires:
            self._settlement.terminate(
                order, OrderStatus.EXPIRED_IN_MATCH, Execution.TRADE_PREVENTION, now_ms
            )
        elif order.type is OrderType.MARKET:
            reason = ExpiryReason.INSUFFICIENT_LIQUIDITY
            self._settlement.terminate(order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, reason)
        elif order.time_in_force is TimeInForce.IOC:
            self._settlement.terminate(
                order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, ExpiryReason.UNFILLED_IOC
            )
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
        self._settlement.swap(order, House.MARKET, order.price, quantity)
        trade_id = self.records.next_id(f"trade:{order.symbol}")
        self._settlement.book_fill(order, order.price, quantity, trade_id, True, now_ms)
        if not order.is_open:
            self.books[order.symbol].remove(order)

    def _note_book_change(self, symbol: str) -> None:
        self.books[symbol].update_id += 1
        self.changed_books.add(symbol)


def _crossing(book: Book, side: Side, price: Decimal) -> Order | None:
    """The best resting order of `side` that a trade at `price` reaches."""
    order = book.best_resting(side)
    if order is None:
        return None
    reached = order.price >= price if side is Side.BUY else order.price <= price
    return order if reached else None
