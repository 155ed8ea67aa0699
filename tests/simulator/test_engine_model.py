"""The engine against a slow, obvious model: refusals, the book, every event in its order, all balances.

The world offers nothing here (its levels are withdrawn after each tick), so that all trades are between two
accounts or with the tick's own volume.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulator.engine.contracts import (
    AccountEvent,
    ListEvent,
    ListKind,
    ListRequest,
    OrderEvent,
    OrderRequest,
    OrderType,
    PositionEvent,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from simulator.engine.errors import ExchangeError
from tests.simulator.market_builder import SYMBOL, account, flat_exchange, move
from tests.simulator.slow_model import Group, Row, SlowExchange

START = {"USDT": "3000", "BTC": "0.15"}
WHO = st.integers(0, 1)
SIDES = st.sampled_from(["BUY", "SELL"])
PRICES = st.integers(19_980, 20_020)
LOTS = st.integers(1, 40).map(lambda lots: Decimal(lots) / 1000)
TIFS = st.sampled_from(["GTC", "GTC", "GTC", "IOC", "FOK"])
MODES = st.sampled_from(["EXPIRE_MAKER", "EXPIRE_MAKER", *(mode.value for mode in SelfTradePrevention)])
AWAY = st.integers(1, 15)


def request_of(row: Row) -> OrderRequest:
    """The same order in the engine's words."""
    kind = "LIMIT" if row.price is not None else "MARKET"
    if row.maker_only:
        kind = "LIMIT_MAKER"
    elif row.is_stop:
        kind = ("TAKE_PROFIT" if row.takes_profit else "STOP_LOSS") + ("_LIMIT" if row.price else "")
    return OrderRequest(
        symbol=SYMBOL,
        side=Side(row.side),
        type=OrderType(kind),
        client_order_id=row.name,
        time_in_force=TimeInForce(row.tif),
        quantity=row.quantity or None,
        price=Decimal(row.price or 0),
        stop_price=Decimal(row.stop),
        trailing_delta=row.delta,
        iceberg_quantity=row.iceberg,
        self_trade_prevention=SelfTradePrevention(row.mode),
    )


class ModelMachine(RuleBasedStateMachine):
    """Every command goes to both; then both must have told, and must show, the same."""

    @initialize(seed=st.integers(0, 100))
    def open(self, seed: int) -> None:
        self.exchange = flat_exchange(seed)
        self.accounts = [account(self.exchange, name, **START) for name in "ab"]
        liquidity = self.exchange.books[SYMBOL].liquidity
        liquidity.withdraw()
        # The world's quotes stay away: only the volume of ticks is there.
        liquidity.requote = lambda tick: None  # type: ignore[method-assign]
        money = {(who, asset): Decimal(amount) for who in (0, 1) for asset, amount in START.items()}
        self.model = SlowExchange(money, last=20_000)
        self.number = 0

    def name(self) -> str:
        self.number += 1
        return f"n{self.number}"

    def place(self, row: Row) -> None:
        request, refusal = request_of(row), None
        try:
            self.exchange.place(self.accounts[row.owner], request, 500)
        except ExchangeError as error:
            refusal = error.message
        assert refusal == self.model.place(row)

    # --- orders -----------------------------------------------------------------------------------------

    @rule(who=WHO, side=SIDES, price=PRICES, quantity=LOTS, tif=TIFS, mode=MODES)
    def place_limit(self, who: int, side: str, price: int, quantity: Decimal, tif: str, mode: str) -> None:
        self.place(Row(self.name(), who, side, price, quantity, tif, mode=mode))

    @rule(who=WHO, side=SIDES, price=PRICES, quantity=LOTS)
    def place_maker(self, who: int, side: str, price: int, quantity: Decimal) -> None:
        self.place(Row(self.name(), who, side, price, quantity, maker_only=True))

    @rule(who=WHO, side=SIDES, quantity=LOTS, mode=MODES)
    def place_market(self, who: int, side: str, quantity: Decimal, mode: str) -> None:
        self.place(Row(self.name(), who, side, None, quantity, mode=mode))

    @rule(
        who=WHO, side=SIDES, price=st.sampled_from([19_995, 20_005]), part=LOTS, parts=st.integers(2, 4),
        mode=MODES,
    )  # fmt: skip
    def place_iceberg(self, who: int, side: str, price: int, part: Decimal, parts: int, mode: str) -> None:
        part = part / 4
        self.place(Row(self.name(), who, side, price, part * parts, mode=mode, iceberg=part))

    @rule(
        who=WHO, side=SIDES, profit=st.booleans(), away=st.integers(-2, 15), price=st.none() | PRICES,
        quantity=LOTS, tif=TIFS, mode=MODES,
    )  # fmt: skip
    def place_stop(
        self, who: int, side: str, profit: bool, away: int, price: int | None, quantity: Decimal, tif: str,
        mode: str,
    ) -> None:  # fmt: skip
        row = Row(self.name(), who, side, price, quantity, tif if price else "GTC", mode=mode)
        row.takes_profit = profit
        row.stop = self.model.last + (away if row.above else -away)
        self.place(row)

    @rule(
        who=WHO, side=SIDES, profit=st.booleans(), start=st.integers(-5, 10), delta=st.sampled_from([10, 11]),
        price=PRICES, quantity=LOTS, tif=TIFS,
    )  # fmt: skip
    def place_trailing(
        self, who: int, side: str, profit: bool, start: int, delta: int, price: int, quantity: Decimal,
        tif: str,
    ) -> None:  # fmt: skip
        """Without a stop price it follows at once, with one from there on."""
        row = Row(self.name(), who, side, price, quantity, tif, takes_profit=profit, delta=delta)
        row.stop = 0 if start < 0 else self.model.last + (start if row.above else -start)
        self.place(row)

    # --- lists ------------------------------------------------------------------------------------------

    def pair(self, who: int, side: str, center: int, away: int, quantity: Decimal, delta: int) -> list[Row]:
        """Legs of an OCO, the one above first: one takes profit at a limit or by a stop, one stops the loss."""
        sign = 1 if side == "SELL" else -1
        profit = Row(self.name(), who, side, center + sign * away, quantity, maker_only=True)
        trigger = center - sign * away
        loss = Row(self.name(), who, side, trigger - sign * 3, quantity, stop=trigger, delta=delta)
        if away % 3 == 0:
            profit.maker_only, profit.takes_profit, profit.stop = False, True, center + sign * away
        if side == "SELL" and away % 2:
            loss.price = None
        return [profit, loss] if side == "SELL" else [loss, profit]

    def place_group(self, kind: ListKind, group: Group) -> None:
        request = ListRequest(kind, SYMBOL, group.name, tuple(request_of(leg) for leg in group.legs))
        refusal = None
        try:
            self.exchange.place_list(self.accounts[group.owner], request, 500)
        except ExchangeError as error:
            refusal = error.message
        assert refusal == self.model.place_list(group)

    @rule(
        who=WHO,
        side=SIDES,
        off=st.integers(-3, 3),
        away=AWAY,
        quantity=LOTS,
        delta=st.sampled_from([0, 0, 10]),
    )
    def place_pair(self, who: int, side: str, off: int, away: int, quantity: Decimal, delta: int) -> None:
        legs = self.pair(who, side, self.model.last + off, away, quantity, delta)
        self.place_group(ListKind.OCO, Group(self.name(), who, None, legs))

    @rule(
        who=WHO, side=SIDES, price=PRICES, quantity=LOTS, share=st.sampled_from([1, 1, 2]), tif=TIFS,
        pending=st.sampled_from(["LIMIT", "MAKER", "MARKET", "STOP", "TRAIL"]), same=st.booleans(), away=AWAY,
        maker=st.booleans(), onward=st.booleans(),
    )  # fmt: skip
    def place_one_triggers_other(
        self, who: int, side: str, price: int, quantity: Decimal, share: int, tif: str, pending: str,
        same: bool, away: int, maker: bool, onward: bool,
    ) -> None:  # fmt: skip
        """OTO and OPO."""
        onward = onward and side == "BUY"
        working = Row(self.name(), who, side, price, quantity, "GTC" if maker else tif, maker_only=maker)
        other = side if same and not onward else ("SELL" if side == "BUY" else "BUY")
        sign = 1 if other == "SELL" else -1
        leg = Row(self.name(), who, other, price + sign * away, Decimal(0) if onward else quantity / share)
        if pending == "MARKET" and other == "SELL":
            leg.price = None
        leg.maker_only = pending == "MAKER"
        if pending in ("STOP", "TRAIL"):
            leg.stop = price - sign * away if pending == "STOP" or away % 2 else 0
            leg.delta = 10 if pending == "TRAIL" else 0
        kind = ListKind.OPO if onward else ListKind.OTO
        self.place_group(kind, Group(self.name(), who, working, [leg], onward))

    @rule(
        who=WHO, side=SIDES, price=PRICES, quantity=LOTS, tif=TIFS, away=AWAY, maker=st.booleans(),
        onward=st.booleans(), delta=st.sampled_from([0, 0, 10]),
    )  # fmt: skip
    def place_one_triggers_a_pair(
        self, who: int, side: str, price: int, quantity: Decimal, tif: str, away: int, maker: bool,
        onward: bool, delta: int,
    ) -> None:  # fmt: skip
        """OTOCO and OPOCO."""
        onward = onward and side == "BUY"
        working = Row(self.name(), who, side, price, quantity, "GTC" if maker else tif, maker_only=maker)
        other = "SELL" if side == "BUY" else "BUY"
        legs = self.pair(who, other, price, away, Decimal(0) if onward else quantity, delta)
        kind = ListKind.OPOCO if onward else ListKind.OTOCO
        self.place_group(kind, Group(self.name(), who, working, legs, onward))

    # --- everything else --------------------------------------------------------------------------------

    @rule(price=st.integers(19_960, 20_040), lots=st.integers(0, 60), hits=SIDES)
    def tick(self, price: int, lots: int, hits: str) -> None:
        volume = Decimal(lots) / 1000
        move(self.exchange, str(price), str(volume), buyer_is_maker=hits == "BUY")
        self.model.tick(price, volume, hits)

    @rule(pick=st.integers(0, 20))
    def cancel(self, pick: int) -> None:
        rows = [row for row in self.model.rows if row.open]
        if rows:
            row = rows[pick % len(rows)]
            order = self.exchange.records.by_client_id(self.accounts[row.owner], SYMBOL, row.name)
            assert order is not None
            self.exchange.cancel(order, "cancel", 600)
            self.model.cancel(row)

    @rule(pick=st.integers(0, 20), share=st.sampled_from(["0.5", "0.75", "1", "1.25"]))
    def amend(self, pick: int, share: str) -> None:
        rows = [row for row in self.model.rows if row.open]
        if not rows:
            return
        row, refusal = rows[pick % len(rows)], None
        quantity = row.quantity * Decimal(share) // Decimal("0.00025") * Decimal("0.00025")
        if quantity * 19_000 < 5 or row.quantity < Decimal("0.001"):
            return
        order = self.exchange.records.by_client_id(self.accounts[row.owner], SYMBOL, row.name)
        assert order is not None
        try:
            self.exchange.amend(order, quantity, row.name, 650)
        except ExchangeError as error:
            refusal = error.message
        assert refusal == self.model.amend(row, quantity)

    @rule(who=WHO, amount=st.integers(-1_500, 1_500).filter(bool))
    def move_money(self, who: int, amount: int) -> None:
        refusal = None
        try:
            self.exchange.deposit(self.accounts[who], "USDT", Decimal(amount), 700)
        except ExchangeError as error:
            refusal = error.message
        assert refusal == self.model.move_money(who, "USDT", Decimal(amount))

    # --- both must be the same --------------------------------------------------------------------------

    @invariant()
    def events_are_the_same_in_the_same_order(self) -> None:
        if hasattr(self, "model"):
            told = [self.plain(event) for event in self.exchange.take_events()]
            assert told == self.model.told
            self.model.told.clear()

    def plain(self, event: AccountEvent) -> tuple[Any, ...]:
        """An event in the model's words."""
        who = self.accounts.index(event.account_id)
        if isinstance(event, ListEvent):
            return who, "LIST", event.order_list.client_order_id, event.order_list.is_done
        if isinstance(event, PositionEvent):
            return who, "BALANCES", event.balances
        if not isinstance(event, OrderEvent):
            return who, "DEPOSIT", event.asset, event.amount
        order, trade = event.order, event.trade
        return (
            who, event.execution.value, order.client_order_id, order.status.value,
            trade.quantity if trade else 0, trade.price if trade else 0, order.executed, order.prevented,
        )  # fmt: skip

    @invariant()
    def books_are_the_same(self) -> None:
        if hasattr(self, "model"):
            book = self.exchange.books[SYMBOL]
            for side in Side:
                engine = [
                    (order.client_order_id, order.price, order.remaining, order.visible)
                    for order in book.resting(side)
                ]
                slow = [(row.name, row.price, row.left, row.shown) for row in self.model.book(side.value)]
                assert engine == slow

    @invariant()
    def orders_are_the_same(self) -> None:
        if hasattr(self, "model"):
            for row in self.model.rows:
                order = self.exchange.records.by_client_id(self.accounts[row.owner], SYMBOL, row.name)
                assert order is not None
                seen = (order.status.value, order.executed, order.prevented, order.quantity, order.is_working)
                assert seen == (row.status, row.done, row.lost, row.quantity, row.fired), row.name

    @invariant()
    def balances_are_the_same(self) -> None:
        if hasattr(self, "model"):
            self.exchange.audit()
            for who, asset in self.model.money:
                balance = self.exchange.ledger.balance(self.accounts[who], asset)
                assert (balance.free, balance.locked) == (
                    self.model.free(who, asset), self.model.locked(who, asset),
                )  # fmt: skip


TestModelMachine = ModelMachine.TestCase
TestModelMachine.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
