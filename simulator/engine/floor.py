"""The floor: what comes to the books is matched, what is left rests or waits, what the market reaches is filled."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from simulator.decimals import ZERO, floor_to, from_units
from simulator.engine.book import Book, Level
from simulator.engine.contracts import (
    Execution,
    ExpiryReason,
    Order,
    OrderStatus,
    Side,
    TimeInForce,
    Trade,
)
from simulator.engine.instruments import TRADING, Instrument
from simulator.engine.ledger import House
from simulator.engine.matching import Plan, Step, Taker, limit_plan, plan_match
from simulator.engine.settlement import Settlement
from simulator.engine.triggers import Waiting
from simulator.faults import FaultBook, FaultKind
from simulator.market.tape import Tick


class Floor:
    """All books with the stops that wait beside them. `seize` is called before an order of a list executes
    or triggers for the first time, so that its list can give it the shared lock."""

    def __init__(
        self,
        instruments: dict[str, Instrument],
        books: dict[str, Book],
        last_prices: dict[str, Decimal],
        settlement: Settlement,
        faults: FaultBook,
    ) -> None:
        self._instruments = instruments
        self._books = books
        self._settlement = settlement
        self._faults = faults
        self._stalled: dict[tuple[str, int], int] = {}
        self.last_prices = last_prices
        self.waiting: dict[str, Waiting] = {symbol: Waiting() for symbol in instruments}
        self.changed_books: set[str] = set()
        self.seize: Callable[[Order, int], None] = lambda order, now_ms: None

    # --- orders -----------------------------------------------------------------------------------------

    def plan(self, taker: Taker, symbol: str) -> Plan:
        return plan_match(taker, self._instruments[symbol], self._books[symbol])

    def execute(self, order: Order, plan: Plan, now_ms: int) -> list[Trade]:
        """Carry a plan out for an accepted order; what is left rests or expires."""
        if order.time_in_force is TimeInForce.FOK and plan.quantity != order.quantity:
            reason = ExpiryReason.UNFILLED_FOK
            self._settlement.terminate(order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, reason)
            return []
        if plan.touches_book or not order.type.has_price:
            self.seize(order, now_ms)
        self._cut_short(order, plan, now_ms)
        trades = self._carry_out(order, plan, now_ms)
        self._settle_rest(order, plan, now_ms)
        return trades

    def start(self, order: Order, now_ms: int) -> list[Trade]:
        """Bring an order that has its lock to the book: a pending leg that is placed, a stop that fired."""
        if order.type.is_stop and not order.is_working:
            self.wait(order, now_ms)
            return []
        return self.execute(order, self.plan(Taker.of_order(order), order.symbol), now_ms)

    def wait(self, order: Order, now_ms: int) -> None:
        """Let a stop wait for its trigger."""
        self.waiting[order.symbol].add(order, self.last_prices[order.symbol], now_ms)

    def restore(self, order: Order) -> None:
        """Put a saved open order back where it was."""
        if order.status is OrderStatus.PENDING_NEW:
            return
        if order.type.is_stop and not order.is_working:
            self.waiting[order.symbol].restore(order)
        else:
            self._books[order.symbol].add(order)

    def withdraw(self, order: Order) -> None:
        """Take an order off its book or out of the waiting stops; a pending leg is in neither."""
        book = self._books[order.symbol]
        if order in book:
            book.remove(order)
            self.note_book_change(order.symbol)
        self.waiting[order.symbol].discard(order)
        self._stalled.pop((order.symbol, order.order_id), None)

    def _cut_short(self, order: Order, plan: Plan, now_ms: int) -> None:
        """The fault partial_fill: the plan ends early, and the rest is left alone for a while."""
        if plan.quantity:
            part = self._stall(order, now_ms)
            if part is not None:
                limit_plan(plan, part)

    def _stall(self, order: Order, now_ms: int) -> Decimal | None:
        """What an armed partial_fill leaves of an order's next fill; None when there is no such fault."""
        fault = self._faults.take(
            FaultKind.PARTIAL_FILL, "", order.client_order_id, now_ms, None, order.symbol
        )
        if fault is None:
            return None
        self._stalled[(order.symbol, order.order_id)] = now_ms + max(1, int(fault.seconds * 1000))
        wanted = order.quantity * Decimal(str(fault.fraction)) - order.executed
        return floor_to(max(ZERO, wanted), self._instruments[order.symbol].step_size)

    def _is_stalled(self, order: Order, now_ms: int) -> bool:
        until_ms = self._stalled.get((order.symbol, order.order_id))
        if until_ms is not None and now_ms >= until_ms:
            del self._stalled[(order.symbol, order.order_id)]
            return False
        return until_ms is not None

    def _carry_out(self, order: Order, plan: Plan, now_ms: int) -> list[Trade]:
        book, settlement = self._books[order.symbol], self._settlement
        trades = []
        for step in plan.steps:
            maker = step.maker
            if isinstance(maker, Level):
                trade_id = settlement.records.next_id(f"trade:{order.symbol}")
                settlement.swap(order, House.MARKET, maker.price, step.quantity)
                book.liquidity.take(order.side.opposite, maker, step.quantity)
            else:
                if step.prevention is not None:
                    self._prevent(order, maker, step, now_ms)
                    continue
                self.seize(maker, now_ms)
                trade_id = settlement.records.next_id(f"trade:{order.symbol}")
                settlement.swap(order, maker.account_id, maker.price, step.quantity)
                settlement.book_fill(maker, maker.price, step.quantity, trade_id, True, now_ms)
                book.after_fill(maker, step.quantity)
            trades.append(settlement.book_fill(order, maker.price, step.quantity, trade_id, False, now_ms))
        if plan.touches_book:
            self.note_book_change(order.symbol)
        return trades

    def _prevent(self, order: Order, maker: Order, step: Step, now_ms: int) -> None:
        """A match with the account's own order does not happen; the maker hears of it first."""
        assert step.prevention is not None
        settlement = self._settlement
        match = settlement.note_prevented(
            order, maker, step.prevention, step.taker_loses, step.maker_loses, now_ms
        )
        if step.maker_loses:
            self.seize(maker, now_ms)
            settlement.prevent(maker, step.maker_loses, match)
            self._books[order.symbol].after_fill(maker, step.maker_loses)
        if step.taker_loses:
            settlement.prevent(order, step.taker_loses, match)

    def _settle_rest(self, order: Order, plan: Plan, now_ms: int) -> None:
        """Decide on what is left after matching: nothing, rest on the book, or expire."""
        if not order.is_open:
            return
        settlement = self._settlement
        if not order.type.has_price:
            reason = ExpiryReason.INSUFFICIENT_LIQUIDITY
            settlement.terminate(order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, reason)
        elif order.time_in_force is TimeInForce.IOC:
            reason = ExpiryReason.UNFILLED_IOC
            settlement.terminate(order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, reason)
        else:
            self._books[order.symbol].add(order)
            self.note_book_change(order.symbol)

    # --- market -----------------------------------------------------------------------------------------

    def apply_tick(self, tick: Tick, now_ms: int) -> None:
        """New liquidity around a tick; resting orders that it reaches are filled at their own price, and
        stops that it triggers come to the book.

        First the tick's own volume hits orders at its price or better, then the new quotes do, each up to
        the amount that is there.
        """
        book = self._books[tick.symbol]
        book.liquidity.requote(tick)
        self.note_book_change(tick.symbol)
        if self._instruments[tick.symbol].status != TRADING:
            return
        price = from_units(tick.price)
        self.last_prices[tick.symbol] = price
        if len(book):
            self._fill_reached(book, tick, price, now_ms)
        waiting = self.waiting[tick.symbol]
        if not len(waiting):
            return
        for order in waiting.follow(price, now_ms):
            self._settlement.note(order)
        for order in waiting.triggered_by(price):
            # Another one may have ended it meanwhile: they can share a list.
            if order.is_open and not order.is_working:
                self._fire(order, now_ms)

    def _fill_reached(self, book: Book, tick: Tick, price: Decimal, now_ms: int) -> None:
        flow = from_units(tick.quantity)
        maker_side = Side.BUY if tick.buyer_is_maker else Side.SELL
        while flow and (order := self._crossing(book, maker_side, price, now_ms)) is not None:
            flow -= self._fill_resting(book, order, flow, now_ms)
        for side in Side:
            while (best := book.liquidity.best_price(side.opposite)) is not None:
                order = self._crossing(book, side, best, now_ms)
                if order is None:
                    break
                level = book.liquidity.levels(side.opposite)[0]
                filled = self._fill_resting(book, order, level.quantity, now_ms)
                if filled:
                    book.liquidity.take(side.opposite, level, filled)

    def _fill_resting(self, book: Book, order: Order, available: Decimal, now_ms: int) -> Decimal:
        """Fill a resting order with what is there; hands back how much it was."""
        quantity = min(available, order.visible)
        part = self._stall(order, now_ms)
        if part is not None:
            quantity = min(quantity, part)
        if not quantity:
            return ZERO
        self.seize(order, now_ms)
        self._settlement.swap(order, House.MARKET, order.price, quantity)
        trade_id = self._settlement.records.next_id(f"trade:{order.symbol}")
        self._settlement.book_fill(order, order.price, quantity, trade_id, True, now_ms)
        book.after_fill(order, quantity)
        return quantity

    def _crossing(self, book: Book, side: Side, price: Decimal, now_ms: int) -> Order | None:
        """The best resting order of `side` that a trade at `price` reaches."""
        if self._stalled:
            free = (order for order in book.resting(side) if not self._is_stalled(order, now_ms))
            order = next(free, None)
        else:
            order = book.best_resting(side)
        if order is None:
            return None
        reached = order.price >= price if side is Side.BUY else order.price <= price
        return order if reached else None

    def _fire(self, order: Order, now_ms: int) -> None:
        """A stop has triggered: it comes to the book as the MARKET or LIMIT order that it is from now on."""
        self.waiting[order.symbol].discard(order)
        self.seize(order, now_ms)
        order.is_working = True
        order.working_ms = order.updated_ms = now_ms
        plan = self.plan(Taker.of_order(order), order.symbol)
        short = plan.quote - order.locked
        if order.side is Side.BUY and not order.type.has_price and short > ZERO:
            # It locked what it would pay at its trigger; the book asks for more.
            if self._settlement.ledger.balance(order.account_id, order.locked_asset).free < short:
                order.reject_reason = "INSUFFICIENT_BALANCES"
                reason = ExpiryReason.REJECTED
                self._settlement.terminate(order, OrderStatus.EXPIRED, Execution.EXPIRED, now_ms, reason)
                return
            self._settlement.lock(order, short)
        self._settlement.tell(order, Execution.NEW, now_ms)
        self.execute(order, plan, now_ms)

    def note_book_change(self, symbol: str) -> None:
        self._books[symbol].update_id += 1
        self.changed_books.add(symbol)
