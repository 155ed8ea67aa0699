"""Lots from fills: exact sums, first in first out, and one outcome whatever becomes known first."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from execution import selectors, services
from execution.contracts import FillReport
from execution.models import (
    Account,
    AccountBalance,
    BalanceMovement,
    EquityPoint,
    Fill,
    Lot,
    LotClosing,
    Position,
)
from execution.rules import accounting
from execution.rules.accounting import Closing, Trade
from execution.services import booking
from market import selectors as market_selectors
from market.models import Instrument
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
D = Decimal


def trade(number: int, side: str, quantity: str, price: str, *, base: str = "0", worth: str = "0") -> Trade:
    """The `number`th trade; `base` is its commission in coins, `worth` what the commission is worth in quote."""
    return Trade(
        (AT + timedelta(seconds=number), number), side, D(quantity), D(quantity) * D(price), D(base), D(worth)
    )


# --- pure ---
def test_a_fee_in_base_leaves_fewer_coins_for_the_same_money() -> None:
    [lot], _ = accounting.replay([], [trade(1, "BUY", "1", "100", base="0.001", worth="0.1")])

    assert (lot.quantity, lot.cost_quote) == (D("0.999"), D(100))


def test_a_fee_in_quote_or_in_a_third_asset_raises_the_cost() -> None:
    [lot], _ = accounting.replay([], [trade(1, "BUY", "1", "100", worth="0.09")])

    assert (lot.quantity, lot.cost_quote) == (D(1), D("100.09"))


def test_a_sale_takes_the_oldest_lots_first() -> None:
    lots, closings = accounting.replay(
        [],
        [
            trade(1, "BUY", "1", "100"),
            trade(2, "BUY", "2", "200"),
            trade(3, "SELL", "2", "300", worth="0.6"),
        ],
    )

    assert [lot.quantity_left for lot in lots] == [0, 1]
    assert [c.cost_quote for c in closings] == [100, 200]
    assert sum(c.realised_quote for c in closings) == D("599.4") - 300


def test_what_is_sold_beyond_the_lots_realises_its_proceeds() -> None:
    lots, closings = accounting.replay([], [trade(1, "BUY", "1", "100"), trade(2, "SELL", "3", "100")])

    assert [lot.quantity_left for lot in lots] == [0]
    assert closings[-1] == Closing(closings[0].sale, None, D(2), D(200), D(0))


amounts = st.decimals("0.00001", "50", places=5)
prices = st.decimals("1", "90000", places=2)
sides = st.sampled_from(["BUY", "SELL"])


@given(st.lists(st.tuples(sides, amounts, prices, st.sampled_from(["quote", "base", "third"])), max_size=25))
def test_lots_equal_exact_arithmetic(orders: list[tuple[str, Decimal, Decimal, str]]) -> None:
    """Against fractions without rounding: coins to the last one, money to the last stored digit of each part."""
    trades, queue, realised, cash = [], [], Fraction(0), Fraction(0)
    for number, (side, quantity, price, fee_in) in enumerate(orders):
        fee = (quantity * D("0.001")).quantize(D("1E-8")) if fee_in == "base" else D(0)
        worth = (quantity * price * D("0.001")).quantize(D("1E-8"))
        trades.append(trade(number, side, str(quantity), str(price), base=str(fee), worth=str(worth)))
        money = Fraction(quantity * price) + Fraction(0 if fee_in == "base" and fee else worth) * (
            1 if side == "BUY" else -1
        )
        cash += -money if side == "BUY" else money
        if side == "BUY":
            queue.append([Fraction(quantity - fee), money])
            continue
        left, cost = Fraction(quantity + fee), Fraction(0)
        while left and queue:
            taken = min(left, queue[0][0])
            share = queue[0][1] * taken / queue[0][0]
            queue[0] = [queue[0][0] - taken, queue[0][1] - share]
            left, cost = left - taken, cost + share
            if not queue[0][0]:
                queue.pop(0)
        realised += money - cost

    lots, closings = accounting.replay([], trades)

    held = sum((lot.quantity_left for lot in lots), D(0))
    cost_left = sum((lot.cost_left_quote for lot in lots), D(0))
    assert Fraction(held) == sum((quantity for quantity, _ in queue), Fraction(0))
    result = sum((c.realised_quote for c in closings), D(0))
    assert abs(Fraction(result) - realised) < Fraction(1, 10**12)
    assert Fraction(result) - Fraction(cost_left) == cash  # not a digit of money is lost between the two


# --- stored ---
@pytest.fixture
def instrument(db: None) -> Instrument:
    return Instrument(environment=selectors.ENVIRONMENT, symbol=SYMBOL, base_asset="BTC", quote_asset="USDT")


def known(number: int, side: str, quantity: str, price: str, fee: str, asset: str) -> Fill:
    """Fill `number` of the exchange's record becomes known now."""
    paid = D(fee)
    return Fill.objects.create(
        environment=selectors.ENVIRONMENT,
        symbol=SYMBOL,
        trade_id=number,
        exchange_order_id=number,
        side=side,
        price=D(price),
        quantity=D(quantity),
        quote_quantity=D(quantity) * D(price),
        commission=paid,
        commission_asset=asset,
        commission_quote=paid * (D(price) if asset == "BTC" else D(600) if asset == "BNB" else 1),
        is_maker=False,
        at=AT + timedelta(seconds=number // 3),  # several in one millisecond
        recorded_at=AT,
    )


def books_after(record: list[tuple[Any, ...]], order: list[int], together: int = 1) -> dict[str, Any]:
    """Lots, closings and position after the record became known in `order`, `together` at a time.

    Everything is forgotten first.
    """
    LotClosing.objects.all().delete()
    Lot.objects.all().delete()
    Position.objects.all().delete()
    Fill.objects.all()._raw_delete("default")
    position = Position.objects.create(
        environment=selectors.ENVIRONMENT, symbol=SYMBOL, base_asset="BTC", quote_asset="USDT", updated_at=AT
    )
    for start in range(0, len(order), together):
        fills = [known(number, *record[number]) for number in order[start : start + together]]
        booking.book_fills(fills=fills, position=position)
    return {
        "position": (
            position.quantity,
            position.cost_quote,
            position.realised_pnl_quote,
            position.fees_quote,
        ),
        "lots": list(
            Lot.objects.order_by("at", "trade_id").values_list("trade_id", "quantity_left", "cost_left_quote")
        ),
        "closings": sorted(
            LotClosing.objects.values_list("trade_id", "lot__trade_id", "quantity", "realised_pnl_quote"),
            key=str,
        ),
    }


def record_of(rng: random.Random, length: int) -> list[tuple[Any, ...]]:
    return [
        (
            rng.choice(["BUY", "BUY", "SELL"]),
            str(D(rng.randint(1, 500)) / 1000),
            str(rng.randint(20_000, 30_000)),
            str(D(rng.randint(0, 9)) / 10_000),
            rng.choice(["BTC", "USDT", "BNB"]),
        )
        for _ in range(length)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_arrival_comes_to_the_same_books(
    append_only_off: None, instrument: Instrument, seed: int
) -> None:
    rng = random.Random(seed)
    record = record_of(rng, 10)
    in_order = list(range(len(record)))
    expected = books_after(record, in_order)

    for together in (1, 1, 2, 3, 10):
        assert books_after(record, rng.sample(in_order, len(in_order)), together) == expected


def test_a_sale_meets_as_many_lots_as_it_takes(
    append_only_off: None, instrument: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booking, "LOTS_A_PAGE", 2)
    bought: list[tuple[Any, ...]] = [("BUY", "1", str(100 + n), "0", "USDT") for n in range(7)]

    books = books_after([*bought, ("SELL", "4.5", "200", "0", "USDT")], list(range(8)))

    assert [left for _, left, _ in books["lots"]] == [0, 0, 0, 0, D("0.5"), 1, 1]
    assert books["position"][0] == D("2.5")


def test_a_purchase_reads_no_lot_however_many_are_open(append_only_off: None, instrument: Instrument) -> None:
    books_after([("BUY", "1", "100", "0", "USDT")] * 9, list(range(9)))
    position = Position.objects.get()

    with CaptureQueriesContext(connection) as asked:
        booking.book_fills(fills=[known(9, "BUY", "1", "100", "0", "USDT")], position=position)

    assert not [q for q in asked.captured_queries if q["sql"].startswith('SELECT "execution_lot"')]


@pytest.fixture
def append_only_off(db: None) -> None:
    """Lets a test forget fills between its rounds; rolled back with it."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE execution_fill DISABLE TRIGGER append_only")


def test_a_sale_that_became_known_before_its_purchase_leaves_no_phantom_position(
    instrument: Instrument,
) -> None:
    position = Position(
        environment=selectors.ENVIRONMENT, symbol=SYMBOL, base_asset="BTC", quote_asset="USDT", updated_at=AT
    )

    booking.book_fills(fills=[known(9, "SELL", "1", "110", "0", "USDT")], position=position)
    booking.book_fills(fills=[known(1, "BUY", "1", "100", "0", "USDT")], position=position)

    assert (position.quantity, position.cost_quote, position.realised_pnl_quote) == (0, 0, 10)


def report(commission: str, asset: str) -> FillReport:
    return FillReport(1, D(100), D(2), D(200), D(commission), asset, False, AT)


def test_a_commission_in_an_asset_without_a_price_counts_at_the_rate_of_the_limits(
    instrument: Instrument,
) -> None:
    assert booking.worth_in_quote(report("0.001", "NOPE"), instrument) == 200 * selectors.fee_rate() > 0


# --- the equity curve ---
def test_a_point_of_the_equity_curve_holds_what_the_account_is_worth(desk: Desk) -> None:
    desk.buy()
    desk.reconcile()
    now = clock.now()

    point = services.record_equity(now=now)

    books = selectors.portfolio(now=now)
    assert point is not None
    assert point.equity_quote == books.equity_quote
    assert point.fees_quote == Position.objects.get(symbol=SYMBOL).fees_quote > 0
    assert Account.objects.get().equity_peak_quote == point.equity_quote
    assert services.record_equity(now=now) is None  # one a minute


def test_without_a_price_there_is_a_hole_in_the_curve_and_no_guess(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    AccountBalance.objects.filter(asset="BTC").delete()
    BalanceMovement.objects.create(
        environment=selectors.ENVIRONMENT, asset="BTC", amount=1, event_key="x", at=clock.now()
    )
    monkeypatch.setattr(market_selectors, "latest_quote", lambda symbol: None)

    assert services.record_equity(now=clock.now()) is None
    assert not EquityPoint.objects.exists()


def test_a_deposit_raises_no_peak(desk: Desk) -> None:
    services.record_equity(now=clock.now())
    peak = Account.objects.get().equity_peak_quote
    BalanceMovement.objects.create(
        environment=selectors.ENVIRONMENT,
        asset=settings.QUOTE_ASSET,
        amount=500,
        event_key="x",
        at=clock.now(),
    )
    AccountBalance.objects.filter(asset=settings.QUOTE_ASSET).update(free=D(10_500))

    point = services.record_equity(now=clock.now() + timedelta(minutes=1))

    assert point is not None and point.net_flow_quote == 500
    assert Account.objects.get().equity_peak_quote == peak


def test_a_long_curve_is_thinned_to_the_last_point_of_each_slice(db: None) -> None:
    EquityPoint.objects.bulk_create(
        EquityPoint(
            environment=selectors.ENVIRONMENT,
            at=AT + timedelta(minutes=minute),
            equity_quote=minute,
            cash_quote=0,
            realised_pnl_quote=0,
            unrealised_pnl_quote=0,
            fees_quote=0,
            net_flow_quote=0,
        )
        for minute in range(1000)
    )

    curve = selectors.equity_curve(since=AT, points_max=100)

    assert len(curve) <= 101
    assert curve[-1].equity_quote == 999
    assert [point.at for point in curve] == sorted(point.at for point in curve)
