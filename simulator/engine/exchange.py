"""The exchange: commands of accounts and steps of the market, each leaving events and changes to save."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from decimal import Decimal
from heapq import heapify, heappop, heapreplace
from typing import Any

from simulator.decimals import ZERO, from_units
from simulator.engine.account_filters import RULES, ExchangeRules, check_account
from simulator.engine.amending import as_request, carry_out, check_amend
from simulator.engine.book import Book
from simulator.engine.contracts import (
    Account,
    AccountEvent,
    Amendment,
    DepositEvent,
    Execution,
    KeyType,
    ListPlacement,
    ListRequest,
    Order,
    OrderList,
    OrderRequest,
    OrderStatus,
    OrderType,
    Placement,
)
from simulator.engine.errors import (
    ConservationError,
    ExchangeError,
    cancel_rejected,
    insufficient_balance,
    rejected,
)
from simulator.engine.filters import check_static
from simulator.engine.floor import Floor
from simulator.engine.instruments import STATUSES, TRADING, Instrument, changed
from simulator.engine.ledger import House, Ledger
from simulator.engine.lists import WOULD_TAKE, WOULD_TRIGGER, ListDesk
from simulator.engine.matching import Plan, Taker
from simulator.engine.records import Records
from simulator.engine.settlement import Changes, Settlement
from simulator.engine.triggers import would_trigger
from simulator.faults import FaultBook
from simulator.market.tape import CandleClosed, SymbolTape, Tick

CLOSED = "Market is closed."


class Exchange:
    """All symbols and accounts. Single-threaded; every method that changes something takes `now_ms`.

    `faults` are asked for what happens inside of matching (simulator.faults); the exchange has its own, empty
    book when none is given.
    """

    def __init__(
        self,
        instruments: list[Instrument],
        tapes: dict[str, SymbolTape],
        seed: int,
        faults: FaultBook | None = None,
    ) -> None:
        self.instruments = {instrument.symbol: instrument for instrument in instruments}
        self.tapes = tapes
        self.rules = ExchangeRules()
        self.faults = faults or FaultBook()
        self.ledger = Ledger()
        self.records = Records()
        self.books = {symbol: Book(instrument, seed) for symbol, instrument in self.instruments.items()}
        self.account_ids: dict[str, int] = {}
        last_prices = {symbol: from_units(tape.last_price) for symbol, tape in tapes.items()}
        self._settlement = Settlement(self.instruments, self.ledger, self.records, last_prices.get)
        self._floor = Floor(self.instruments, self.books, last_prices, self._settlement, self.faults)
        self._lists = ListDesk(self.instruments, self._floor, self._settlement, self.records, self.faults)

    @property
    def changed_books(self) -> set[str]:
        """Symbols whose book has changed since this set was last cleared."""
        return self._floor.changed_books

    # --- accounts ---------------------------------------------------------------------------------------

    def open_account(
        self,
        api_key: str,
        secret_key: str,
        now_ms: int,
        key_type: KeyType = KeyType.HMAC,
        pays_in_bnb: bool = False,
    ) -> Account:
        account = Account(self.records.next_id("account"), api_key, secret_key, now_ms, now_ms)
        account.key_type, account.pays_in_bnb = key_type, pays_in_bnb
        self.ledger.accounts[account.account_id] = account
        self.account_ids[api_key] = account.account_id
        self._settlement.changes.accounts.add(account.account_id)
        return account

    def restore_account(self, account: Account) -> None:
        """Put a saved account back."""
        self.ledger.restore(account)
        self.account_ids[account.api_key] = account.account_id

    def restore_order(self, order: Order) -> None:
        """Put a saved order back; an open one rests on the book, or waits, again."""
        self.records.add(order)
        if order.is_open:
            self._floor.restore(order)

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
        if instrument.status != TRADING:
            raise rejected(CLOSED)
        average = from_units(self.tapes[request.symbol].average_price(instrument.average_price_minutes))
        check_static(request, instrument, average)

    def place(self, account_id: int, request: OrderRequest, now_ms: int) -> Placement:
        """Accept an order, match it, and rest, keep or expire what is left. Raises ExchangeError, changing
        nothing."""
        self.check(request)
        self._check_new(account_id, [request], is_list=False)
        if request.type.is_stop:
            if would_trigger(request, self._floor.last_prices[request.symbol]):
                raise rejected(WOULD_TRIGGER)
            order = self._settlement.accept(account_id, request, Plan(), now_ms)
            self._floor.wait(order, now_ms)
            self._end_command(now_ms)
            return Placement(copy(order), [])
        plan = self._floor.plan(Taker.of_request(account_id, request), request.symbol)
        if request.quote_quantity is not None and plan.ran_out and not plan.touches_book:
            raise rejected("Order book liquidity is less than symbol minimum quantity.")
        if request.type is OrderType.LIMIT_MAKER and plan.touches_book:
            raise rejected(WOULD_TAKE)
        order = self._settlement.accept(account_id, request, plan, now_ms)
        trades = self._floor.execute(order, plan, now_ms)
        answered = copy(order)
        self._end_command(now_ms)
        return Placement(answered, trades)

    def check_list(self, request: ListRequest) -> None:
        """The static checks of every leg."""
        for leg in request.legs:
            self.check(leg)

    def place_list(self, account_id: int, request: ListRequest, now_ms: int) -> ListPlacement:
        """Accept an order list. Raises ExchangeError, changing nothing."""
        self.check_list(request)
        self._check_new(account_id, request.legs, is_list=True)
        if any(
            order_list.client_order_id == request.client_order_id
            for order_list in self.records.open_lists(account_id)
        ):
            raise rejected("Duplicate order sent.")
        placement = self._lists.place(account_id, request, now_ms)
        self._end_command(now_ms)
        return placement

    def cancel(self, order: Order, cancel_client_order_id: str, now_ms: int) -> Order:
        """Take an open order off the book, together with its list while that is open. Raises -2011 when it
        is not open."""
        if not order.is_open:
            raise cancel_rejected()
        order_list = self.records.lists.get(order.list_id)
        if order_list is not None and not order_list.is_done:
            self.cancel_list(order_list, cancel_client_order_id, now_ms)
            return copy(order)
        self._check_cancel(order.symbol)
        self._floor.withdraw(order)
        self._settlement.terminate(
            order,
            OrderStatus.CANCELED,
            Execution.CANCELED,
            now_ms,
            cancel_client_order_id=cancel_client_order_id,
        )
        self._end_command(now_ms)
        return copy(order)

    def amend(self, order: Order, quantity: Decimal, client_order_id: str, now_ms: int) -> Amendment:
        """Make an open order smaller without losing its place. Raises ExchangeError, changing nothing."""
        check_amend(order, quantity, client_order_id, self.instruments[order.symbol], self.records)
        self.check(as_request(order, quantity))
        amendment = carry_out(
            order, quantity, client_order_id, self.records, self._settlement, self._floor, now_ms
        )
        self._end_command(now_ms)
        return amendment

    def cancel_list(self, order_list: OrderList, cancel_client_order_id: str, now_ms: int) -> None:
        """Cancel an order list whole. Raises -2011 when it is done."""
        if order_list.is_done:
            raise cancel_rejected()
        self._check_cancel(order_list.symbol)
        self._lists.cancel(order_list, cancel_client_order_id, now_ms)
        self._end_command(now_ms)

    def _check_cancel(self, symbol: str) -> None:
        # Whether a halted symbol takes cancels is not documented; only CANCEL_ONLY says so. The stricter reading.
        if self.instruments[symbol].status not in (TRADING, "CANCEL_ONLY"):
            raise ExchangeError(-2011, CLOSED)

    def _check_new(
        self, account_id: int, requests: list[OrderRequest] | tuple[OrderRequest, ...], *, is_list: bool
    ) -> None:
        """What an account's open orders forbid."""
        ids = [request.client_order_id for request in requests]
        known = [
            client_id
            for client_id in ids
            if self.records.open_with_client_id(account_id, client_id) is not None
        ]
        if known or len(set(ids)) < len(ids):
            raise rejected("Duplicate order sent.")
        instrument = self.instruments[requests[0].symbol]
        check_account(account_id, requests, is_list, instrument, self.rules, self.records, self.ledger)

    def _end_command(self, now_ms: int) -> None:
        self._lists.follow_up(now_ms)
        self._settlement.finish(now_ms)

    def wipe(self) -> None:
        """Forget orders, lists, trades and balances without a word; accounts and their keys stay."""
        for order in list(self.records.all_open()):
            self._floor.withdraw(order)
        self.records.clear()
        self.ledger.clear()
        self._settlement.touched_lists.clear()
        self._settlement.changes.accounts.update(self.ledger.accounts)

    # --- rules ------------------------------------------------------------------------------------------

    def set_status(self, symbol: str, status: str) -> None:
        """HALT, BREAK, CANCEL_ONLY, ... : the symbol takes no orders and nothing is filled until TRADING."""
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}")
        self.instruments[symbol] = replace(self.instruments[symbol], status=status)

    def change_filters(self, symbols: Sequence[str], values: dict[str, Any]) -> None:
        """Other filters of these symbols, and rules of the whole exchange, from now on; orders that are open
        stay. Raises ValueError, changing nothing."""
        rules = {name: value for name, value in values.items() if name in RULES or name == "max_assets"}
        filters = {name: value for name, value in values.items() if name not in rules}
        instruments = {symbol: changed(self.instruments[symbol], filters) for symbol in symbols}
        self.rules.change(rules)
        self.instruments.update(instruments)

    def set_pays_in_bnb(self, account_id: int, pays_in_bnb: bool) -> None:
        self.ledger.accounts[account_id].pays_in_bnb = pays_in_bnb
        self._settlement.changes.accounts.add(account_id)

    # --- market -----------------------------------------------------------------------------------------

    def next_market_ms(self) -> int | None:
        """Market time of the next tick or close of any symbol, None when every tape has ended."""
        return min((tape.next_ms for tape in self.tapes.values() if tape.next_ms is not None), default=None)

    def advance(self, market_ms: int, now_ms: int, steps_max: int) -> list[Tick | CandleClosed]:
        """Let the market run up to `market_ms`, at most `steps_max` steps; fills of resting orders happen here."""
        done: list[Tick | CandleClosed] = []
        due = [(tape.next_ms, symbol) for symbol, tape in self.tapes.items() if tape.next_ms is not None]
        heapify(due)
        while due and due[0][0] <= market_ms and len(done) < steps_max:
            symbol = due[0][1]
            tape = self.tapes[symbol]
            step = tape.step()
            if isinstance(step, Tick):
                self.apply_tick(step, now_ms)
            done.append(step)
            if (next_ms := tape.next_ms) is None:
                heappop(due)
            else:
                heapreplace(due, (next_ms, symbol))
        return done

    def apply_tick(self, tick: Tick, now_ms: int) -> None:
        """New quotes around a tick, and everything that they fill, trigger and bring about."""
        self._floor.apply_tick(tick, now_ms)
        self._end_command(now_ms)

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
