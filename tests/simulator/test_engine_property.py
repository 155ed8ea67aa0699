"""Whatever accounts and market do, no money appears or disappears, and locks equal what open orders need."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulator.decimals import ZERO
from simulator.engine.contracts import (
    ListKind,
    ListRequest,
    OrderEvent,
    OrderStatus,
    OrderType,
    SelfTradePrevention,
    Side,
)
from simulator.engine.errors import ExchangeError
from tests.simulator.market_builder import SYMBOL, account, flat_exchange, limit, market, move, stop

PRICES = st.integers(19_900, 20_100)
QUANTITIES = st.integers(1, 400).map(lambda lots: Decimal(lots) / 1000)


class ExchangeMachine(RuleBasedStateMachine):
    """Two accounts and the market act in any order; after each step everything is counted afresh."""

    @initialize(seed=st.integers(0, 100))
    def open(self, seed: int) -> None:
        self.exchange = flat_exchange(seed)
        self.accounts = [account(self.exchange, n, USDT="20000", BTC="1") for n in "ab"]
        self.received: dict[tuple[int, str], Decimal] = {}
        self.number = 0

    def client_id(self) -> str:
        self.number += 1
        return f"n{self.number}"

    @rule(
        who=st.integers(0, 1),
        side=st.sampled_from(list(Side)),
        kind=st.sampled_from(["GTC", "IOC", "FOK", "MAKER"]),
        mode=st.sampled_from(list(SelfTradePrevention)),
        price=PRICES,
        quantity=QUANTITIES,
    )
    def place_limit(
        self, who: int, side: Side, kind: str, mode: SelfTradePrevention, price: int, quantity: Decimal
    ) -> None:
        maker = kind == "MAKER"
        request = limit(
            side,
            price,
            quantity,
            "GTC" if maker else kind,
            type=OrderType.LIMIT_MAKER if maker else OrderType.LIMIT,
            self_trade_prevention=mode,
            client_order_id=self.client_id(),
        )
        self.attempt(who, request)

    @rule(
        who=st.integers(0, 1), side=st.sampled_from(list(Side)), quantity=QUANTITIES, by_amount=st.booleans()
    )
    def place_market(self, who: int, side: Side, quantity: Decimal, by_amount: bool) -> None:
        if by_amount:
            request = market(side, quote=quantity * 20_000, client_order_id=self.client_id())
        else:
            request = market(side, quantity, client_order_id=self.client_id())
        self.attempt(who, request)

    @rule(
        who=st.integers(0, 1),
        side=st.sampled_from(list(Side)),
        kind=st.sampled_from(["STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"]),
        stop_price=PRICES,
        price=PRICES,
        quantity=QUANTITIES,
        delta=st.sampled_from([0, 0, 10, 50]),
        tif=st.sampled_from(["GTC", "IOC", "FOK"]),
    )
    def place_stop(
        self,
        who: int,
        side: Side,
        kind: str,
        stop_price: int,
        price: int,
        quantity: Decimal,
        delta: int,
        tif: str,
    ) -> None:
        limited = kind.endswith("LIMIT")
        request = stop(
            kind, side, quantity, stop_price, price if limited else 0, tif if limited else "GTC",
            trailing_delta=delta, client_order_id=self.client_id(),
        )  # fmt: skip
        self.attempt(who, request)

    @rule(who=st.integers(0, 1), side=st.sampled_from(list(Side)), price=PRICES, parts=st.integers(2, 20))
    def place_iceberg(self, who: int, side: Side, price: int, parts: int) -> None:
        part = Decimal("0.005")
        request = limit(side, price, part * parts, iceberg_quantity=part, client_order_id=self.client_id())
        self.attempt(who, request)

    @rule(
        who=st.integers(0, 1),
        kind=st.sampled_from(list(ListKind)),
        entry=PRICES,
        width=st.integers(5, 150),
        quantity=QUANTITIES,
        loss=st.sampled_from(["STOP_LOSS", "STOP_LOSS_LIMIT"]),
        tif=st.sampled_from(["GTC", "IOC", "FOK"]),
        sells=st.booleans(),
    )
    def place_a_list(
        self,
        who: int,
        kind: ListKind,
        entry: int,
        width: int,
        quantity: Decimal,
        loss: str,
        tif: str,
        sells: bool,
    ) -> None:
        sells = sells or kind.pays_onward
        side, sign = ("SELL", 1) if sells else ("BUY", -1)
        size = None if kind.pays_onward else quantity
        profit = replace(
            limit(
                side, entry + sign * width, "1", type=OrderType.LIMIT_MAKER, client_order_id=self.client_id()
            ),
            quantity=size,
        )
        limited = entry - 2 * sign * width if loss.endswith("LIMIT") else 0
        lossy = stop(loss, side, size, entry - sign * width, limited, client_order_id=self.client_id())
        legs = [profit, lossy] if kind.has_pair else [lossy]
        if kind is not ListKind.OCO:
            working = "BUY" if sells else "SELL"
            legs.insert(0, limit(working, entry, quantity, tif, client_order_id=self.client_id()))
        request = ListRequest(kind, SYMBOL, self.client_id(), tuple(legs))
        with suppress(ExchangeError):
            self.exchange.place_list(self.accounts[who], request, 500)

    def attempt(self, who: int, request: object) -> None:
        try:
            placement = self.exchange.place(self.accounts[who], request, 500)  # type: ignore[arg-type]
        except ExchangeError:
            return
        order = placement.order
        assert sum((trade.quantity for trade in placement.trades), ZERO) == order.executed <= order.quantity
        if order.type.has_price:
            worse = [
                t
                for t in placement.trades
                if (t.price - order.price) * (1 if order.side is Side.BUY else -1) > 0
            ]
            assert worse == []

    @rule(who=st.integers(0, 1), pick=st.integers(0, 10))
    def cancel(self, who: int, pick: int) -> None:
        orders = self.exchange.records.open_orders(self.accounts[who], SYMBOL)
        if orders:
            self.exchange.cancel(orders[pick % len(orders)], "cancel", 600)

    @rule(price=PRICES, lots=st.integers(0, 300), buyer_is_maker=st.booleans(), time=st.integers(0, 10**6))
    def market_moves(self, price: int, lots: int, buyer_is_maker: bool, time: int) -> None:
        move(self.exchange, str(price), str(Decimal(lots) / 1000), buyer_is_maker, time)

    @rule(who=st.integers(0, 1), amount=st.integers(-5_000, 5_000).filter(bool))
    def money_moves(self, who: int, amount: int) -> None:
        try:
            self.exchange.deposit(self.accounts[who], "USDT", Decimal(amount), 700)
        except ExchangeError:
            assert amount < 0

    @invariant()
    def books_add_up(self) -> None:
        if hasattr(self, "exchange"):
            self.exchange.audit()

    @invariant()
    def nothing_on_the_book_is_crossed_by_the_world(self) -> None:
        if not hasattr(self, "exchange"):
            return
        book = self.exchange.books[SYMBOL]
        bids, asks = book.liquidity.levels(Side.BUY), book.liquidity.levels(Side.SELL)
        for order in book.resting(Side.BUY):
            assert not asks or order.price < asks[0].price
        for order in book.resting(Side.SELL):
            assert not bids or order.price > bids[0].price

    @invariant()
    def events_tell_the_same_as_the_records(self) -> None:
        if not hasattr(self, "exchange"):
            return
        for event in self.exchange.take_events():
            if isinstance(event, OrderEvent) and event.trade:
                key = (event.order.order_id, "executed")
                self.received[key] = self.received.get(key, ZERO) + event.trade.quantity
                assert self.received[key] == event.order.executed

    @invariant()
    def lists_keep_their_rules(self) -> None:
        if not hasattr(self, "exchange"):
            return
        for order_list in self.exchange.records.lists.values():
            legs = self.exchange.records.legs(order_list)
            if order_list.is_done:
                assert all(leg.status is not OrderStatus.PENDING_NEW for leg in legs)
                assert sum(leg.is_open for leg in legs) <= 1
            if order_list.kind.has_pair:
                assert sum(leg.executed > 0 for leg in legs[-2:]) <= 1
            if order_list.working_id >= 0 and any(leg.executed for leg in legs[1:]):
                assert legs[0].status is OrderStatus.FILLED

    @invariant()
    def no_stop_waits_that_the_market_has_reached(self) -> None:
        if not hasattr(self, "exchange"):
            return
        floor = self.exchange._floor
        assert floor.waiting[SYMBOL].triggered_by(floor.last_prices[SYMBOL]) == []

    @invariant()
    def everything_survives_a_state_file(self) -> None:
        if not hasattr(self, "exchange"):
            return
        for order in self.exchange.take_changes().orders.values():
            assert msgspec.json.decode(msgspec.json.encode(order), type=type(order)) == order


TestExchangeMachine = ExchangeMachine.TestCase
TestExchangeMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
