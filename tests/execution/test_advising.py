"""What the advisor is told of the account: money, positions with their protection, what the limits leave."""

from dataclasses import replace
from decimal import Decimal

import pytest

from execution import selectors
from risk import selectors as risk
from tests.desk import SYMBOL, Desk
from tests.execution.protected import buy_at_limit, guard
from tests.risk.passing import LIMITS, PORTFOLIO
from tradingbot.core import clock

EMPTY = replace(PORTFOLIO, holdings={}, reserved_quote={}, equity_quote=Decimal(10_000))


@pytest.mark.django_db
def test_position_of_the_symbol_and_the_others_are_told_with_their_protection(desk: Desk) -> None:
    buy_at_limit(desk)
    bare = selectors.advisor_account("ETHUSDT", clock.now()).other_positions
    guard(desk)

    own = selectors.advisor_account(SYMBOL, clock.now())
    other = selectors.advisor_account("ETHUSDT", clock.now())

    assert own.position is not None
    assert (own.position.is_protected, own.position.stop_price is not None) == (True, True)
    assert (own.other_positions, other.position) == ({}, None)
    assert other.other_positions == {SYMBOL: own.position}
    assert set(bare) == {SYMBOL}


@pytest.mark.django_db
def test_limits_that_remain_shrink_with_what_is_held(desk: Desk) -> None:
    before = selectors.advisor_account("ETHUSDT", clock.now()).limits_remaining
    desk.buy()
    desk.reconcile()

    after = selectors.advisor_account("ETHUSDT", clock.now()).limits_remaining

    assert int(after["open_positions"]) == int(before["open_positions"]) - 1
    assert int(after["orders_this_hour"]) == int(before["orders_this_hour"]) - 1
    assert Decimal(after["exposure_quote"]) < Decimal(before["exposure_quote"])
    own = selectors.advisor_account(SYMBOL, clock.now()).limits_remaining
    assert Decimal(own["symbol_exposure_quote"]) < Decimal(after["symbol_exposure_quote"])
    assert own["open_positions"] == before["open_positions"]
    assert Decimal(after["order_notional_quote"]) == risk.current_limits().order_notional_max_quote


def test_loss_of_today_takes_from_what_may_still_be_lost() -> None:
    lost = replace(
        EMPTY, realised_today_quote=Decimal(-30), unrealised_quote=Decimal(-20), carried_gain_quote=Decimal(0)
    )
    won = replace(lost, realised_today_quote=Decimal(500))
    beyond = replace(lost, realised_today_quote=Decimal(-9000))
    whole = 100 * LIMITS.daily_loss_max_pct

    left = [
        selectors.limits_remaining(books, LIMITS, SYMBOL)["loss_today_quote"] for books in (lost, won, beyond)
    ]

    assert [Decimal(amount) for amount in left] == [whole - 50, whole, 0]


def test_what_is_unknown_is_left_out_and_not_told_as_room() -> None:
    known = selectors.limits_remaining(EMPTY, LIMITS, SYMBOL)
    holding = next(iter(PORTFOLIO.holdings.values()))
    unpriced = replace(EMPTY, holdings={holding.symbol: replace(holding, mark_price=None)})

    without_price = selectors.limits_remaining(unpriced, LIMITS, SYMBOL)
    without_equity = selectors.limits_remaining(replace(EMPTY, equity_quote=None), LIMITS, SYMBOL)

    assert known.keys() - without_price.keys() == {"exposure_quote", "symbol_exposure_quote"}
    assert known.keys() - without_equity.keys() == {
        "exposure_quote", "symbol_exposure_quote", "loss_per_trade_quote", "loss_today_quote",
    }  # fmt: skip
