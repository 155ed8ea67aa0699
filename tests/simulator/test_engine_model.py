"""The engine against a slow, obvious model: every order, fill, balance and status must be the same.

The world offers nothing here (its levels are withdrawn after each tick), so that all trades are between two
accounts or with the tick's own volume. The model keeps a plain list of orders and looks through all of it for
every single step; it shares no code with the engine.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulator.engine.contracts import ListKind, ListRequest, OrderType, SelfTradePrevention
from simulator.engine.errors import ExchangeError
from tests.simulator.market_builder import SYMBOL, account, flat_exchange, limit, move, stop

PRICES = st.integers(19_980, 20_020)
LOTS = st.integers(1, 40).map(lambda lots: Decimal(lots) / 1000)
FEE = Decimal("0.999")


@dataclass
class Row:
    """An order as the model keeps it. `twin` is the other leg of an OCO."""

    name: str
    owner: int
    side: str
    price: int
    left: Decimal
    stop: int = 0
    done: Decimal = Decimal(0)
    status: str = "NEW"
    place: int = 0
    twin: Row | None = None

    @property
    def open(self) -> bool:
        return self.status in ("NEW", "PARTIALLY_FILLED")

    @property
    def resting(self) -> bool:
        return self.open and not self.stop


class Model:
    """Price-time matching of limit orders, stop-limits that turn into them, and pairs."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.money = {
            (who, asset): Decimal(amount)
            for who in (0, 1)
            for asset, amount in (("USDT", 20_000), ("BTC", 1))
        }
        self.places = 0

    def best(self, side: str, limit_price: int | None = None) -> Row | None:
        """The resting order of a side that comes first: best price, then oldest."""
        sign = -1 if side == "BUY" else 1
        found = None
        for row in self.rows:
            if not row.resting or row.side != side:
                continue
            if limit_price is not None and row.price * sign > limit_price * sign:
                continue
            if found is None or (row.price * sign, row.place) < (found.price * sign, found.place):
                found = row
        return found

    def seize(self, row: Row) -> None:
        if row.twin is not None and row.twin.open:
            row.twin.status = "EXPIRED"

    def fill(self, row: Row, price: int, quantity: Decimal) -> None:
        self.seize(row)
        row.left -= quantity
        row.done += quantity
        row.status = "PARTIALLY_FILLED" if row.left else "FILLED"
        sign = 1 if row.side == "BUY" else -1
        gets_base, gets_quote = (FEE, Decimal(1)) if sign == 1 else (Decimal(1), FEE)
        self.money[(row.owner, "BTC")] += sign * quantity * gets_base
        self.money[(row.owner, "USDT")] -= sign * quantity * price * gets_quote

    def enter(self, row: Row, tif: str) -> None:
        """A limit order comes to the book (self-trade prevention: the older order expires)."""
        other = "SELL" if row.side == "BUY" else "BUY"
        if tif == "FOK" and self.reachable(row, other) < row.left:
            row.status = "EXPIRED"
            return
        while row.left and (maker := self.best(other, row.price)) is not None:
            if maker.owner == row.owner:
                self.end(maker, "EXPIRED_IN_MATCH")
                continue
            quantity = min(row.left, maker.left)
            price = maker.price
            self.fill(maker, price, quantity)
            self.fill(row, price, quantity)
        if row.left and tif != "GTC":
            row.status = "EXPIRED"
        self.places += 1
        row.place = self.places

    def reachable(self, row: Row, other: str) -> Decimal:
        sign = -1 if other == "BUY" else 1
        makers = [
            m for m in self.rows if m.resting and m.side == other and m.price * sign <= row.price * sign
        ]
        return sum((m.left for m in makers if m.owner != row.owner), Decimal(0))

    def end(self, row: Row, status: str) -> None:
        row.status = status
        self.seize(row)

    def tick(self, price: int, volume: Decimal, hits: str) -> None:
        """The tape trades: its volume reaches resting orders of one side, then stops trigger, oldest first."""
        while volume and (row := self.best(hits, price)) is not None:
            quantity = min(volume, row.left)
            volume -= quantity
            self.fill(row, row.price, quantity)
        for row in list(self.rows):
            above = row.side == "BUY"
            reached = price >= row.stop if above else price <= row.stop
            if row.open and row.stop and reached:
                self.seize(row)
                row.stop = 0
                self.enter(row, "GTC")


class ModelMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 100))
    def open(self, seed: int) -> None:
        self.exchange = flat_exchange(seed)
        self.accounts = [account(self.exchange, name, USDT="20000", BTC="1") for name in "ab"]
        self.exchange.books[SYMBOL].liquidity.withdraw()
        # The world's quotes stay away: only the volume of ticks is there.
        self.exchange.books[SYMBOL].liquidity.requote = lambda tick: None  # type: ignore[method-assign]
        self.model = Model()
        self.last = 20_000
        self.number = 0

    def name(self) -> str:
        self.number += 1
        return f"n{self.number}"

    @rule(
        who=st.integers(0, 1),
        side=st.sampled_from(["BUY", "SELL"]),
        price=PRICES,
        quantity=LOTS,
        tif=st.sampled_from(["GTC", "GTC", "IOC", "FOK"]),
    )
    def place_limit(self, who: int, side: str, price: int, quantity: Decimal, tif: str) -> None:
        name = self.name()
        mode = SelfTradePrevention.EXPIRE_MAKER
        request = limit(side, price, quantity, tif, client_order_id=name, self_trade_prevention=mode)
        with suppress(ExchangeError):
            self.exchange.place(self.accounts[who], request, 500)
            row = Row(name, who, side, price, quantity)
            self.model.rows.append(row)
            self.model.enter(row, tif)

    @rule(
        who=st.integers(0, 1),
        side=st.sampled_from(["BUY", "SELL"]),
        away=st.integers(1, 15),
        price=PRICES,
        quantity=LOTS,
    )
    def place_stop(self, who: int, side: str, away: int, price: int, quantity: Decimal) -> None:
        name = self.name()
        trigger = self.last + away if side == "BUY" else self.last - away
        request = stop("STOP_LOSS_LIMIT", side, quantity, trigger, price, client_order_id=name)
        with suppress(ExchangeError):
            self.exchange.place(self.accounts[who], request, 500)
            self.model.rows.append(Row(name, who, side, price, quantity, stop=trigger))

    @rule(
        who=st.integers(0, 1), side=st.sampled_from(["BUY", "SELL"]), away=st.integers(1, 15), quantity=LOTS
    )
    def place_pair(self, who: int, side: str, away: int, quantity: Decimal) -> None:
        profit, loss = self.name(), self.name()
        sign = 1 if side == "SELL" else -1
        target, trigger = self.last + sign * away, self.last - sign * away
        worst = trigger - sign * 5
        legs: Any = (
            limit(side, target, quantity, type=OrderType.LIMIT_MAKER, client_order_id=profit),
            stop("STOP_LOSS_LIMIT", side, quantity, trigger, worst, client_order_id=loss),
        )
        with suppress(ExchangeError):
            self.exchange.place_list(
                self.accounts[who], ListRequest(ListKind.OCO, SYMBOL, self.name(), legs), 500
            )
            first = Row(profit, who, side, target, quantity)
            second = Row(loss, who, side, worst, quantity, stop=trigger, twin=first)
            first.twin = second
            self.model.rows += [first, second]
            self.model.places += 1
            first.place = self.model.places

    @rule(price=PRICES, lots=st.integers(0, 60), hits=st.sampled_from(["BUY", "SELL"]))
    def tick(self, price: int, lots: int, hits: str) -> None:
        volume = Decimal(lots) / 1000
        move(self.exchange, str(price), str(volume), buyer_is_maker=hits == "BUY")
        self.last = price
        self.model.tick(price, volume, hits)

    @rule(pick=st.integers(0, 20))
    def cancel(self, pick: int) -> None:
        rows = [row for row in self.model.rows if row.open]
        if not rows:
            return
        row = rows[pick % len(rows)]
        order = self.exchange.records.by_client_id(self.accounts[row.owner], SYMBOL, row.name)
        assert order is not None
        self.exchange.cancel(order, "cancel", 600)
        row.status = "CANCELED"
        if row.twin is not None and row.twin.open:
            row.twin.status = "CANCELED"

    @invariant()
    def orders_are_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        for row in self.model.rows:
            order = self.exchange.records.by_client_id(self.accounts[row.owner], SYMBOL, row.name)
            assert order is not None
            assert (row.name, order.status.value, order.executed) == (row.name, row.status, row.done)

    @invariant()
    def balances_are_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        self.exchange.audit()
        for (who, asset), amount in self.model.money.items():
            balance = self.exchange.ledger.balance(self.accounts[who], asset)
            assert balance.free + balance.locked == amount


TestModelMachine = ModelMachine.TestCase
TestModelMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
