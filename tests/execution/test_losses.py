"""What the gate is told of losses: from the ledger, exit by exit, net of deposits."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings

from execution import selectors, services
from execution.models import Account, AccountBalance, BalanceMovement, EquityPoint, Fill, LotClosing
from tests.desk import Desk
from tradingbot.core import clock

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
D = Decimal


def sold(number: int, result: str, *, symbol: str = "BTCUSDT", order: int = 0) -> None:
    """A sale of one lot, `number` minutes on; sales of one `order` are one exit."""
    at = AT + timedelta(minutes=number)
    sale = Fill.objects.create(
        environment=selectors.ENVIRONMENT,
        symbol=symbol,
        trade_id=number,
        exchange_order_id=order or number,
        side="SELL",
        price=1,
        quantity=1,
        quote_quantity=1,
        commission=0,
        commission_asset="USDT",
        commission_quote=0,
        is_maker=False,
        at=at,
        recorded_at=at,
    )
    LotClosing.objects.create(
        sale=sale,
        environment=selectors.ENVIRONMENT,
        symbol=symbol,
        at=at,
        trade_id=number,
        quantity=1,
        proceeds_quote=1,
        cost_quote=1,
        realised_pnl_quote=D(result),
    )


@pytest.mark.django_db
def test_streak_counts_back_to_the_last_exit_that_did_not_lose() -> None:
    for number, result in enumerate(["-1", "2", "-3", "-0.01"], start=1):
        sold(number, result)

    losses = selectors.recent_losses()

    assert (losses.streak, losses.last_at) == (2, AT + timedelta(minutes=4))


@pytest.mark.django_db
def test_sales_of_one_order_are_one_exit() -> None:
    sold(1, "5", order=7)
    sold(2, "-1", order=7)

    assert selectors.recent_losses() == selectors.Losses(0, None, {})


@pytest.mark.django_db
def test_each_symbol_remembers_its_own_last_loss() -> None:
    sold(1, "-1", symbol="ETHUSDT")
    sold(2, "-1")
    sold(3, "-1", symbol="ETHUSDT")
    sold(4, "1")

    losses = selectors.recent_losses()

    assert losses.last_by_symbol == {
        "ETHUSDT": AT + timedelta(minutes=3),
        "BTCUSDT": AT + timedelta(minutes=2),
    }
    assert losses.streak == 0


def test_deposit_and_withdrawal_move_the_peak_with_the_equity(desk: Desk) -> None:
    services.record_equity(now=clock.now())
    for amount in (500, -800):
        BalanceMovement.objects.create(
            environment=selectors.ENVIRONMENT,
            asset=settings.QUOTE_ASSET,
            amount=amount,
            event_key=str(amount),
            at=clock.now(),
        )
    AccountBalance.objects.filter(asset=settings.QUOTE_ASSET).update(free=D(9_600))

    books = selectors.portfolio(now=clock.now())

    assert (books.equity_peak_quote, books.equity_quote) == (9_700, 9_600)


def test_before_the_first_point_of_the_curve_the_present_is_the_peak(desk: Desk) -> None:
    books = selectors.portfolio(now=clock.now())

    assert books.equity_peak_quote == books.equity_quote is not None


def stood_at(at: datetime, unrealised: str) -> None:
    amounts = dict.fromkeys(("cash_quote", "realised_pnl_quote", "fees_quote", "net_flow_quote"), 0)
    EquityPoint.objects.create(
        environment=selectors.ENVIRONMENT,
        at=at,
        equity_quote=10_000,
        unrealised_pnl_quote=D(unrealised),
        **amounts,
    )


@pytest.mark.parametrize(
    ("before_midnight", "unrealised", "carried"),
    [
        (timedelta(0), "150", "150"),
        (timedelta(minutes=7), "150", "150"),
        (timedelta(0), "-150", "0"),
        (timedelta(minutes=-1), "150", "0"),
        (timedelta(hours=25), "150", "0"),
    ],
)
def test_gain_that_stood_at_midnight_is_none_of_today(
    desk: Desk, before_midnight: timedelta, unrealised: str, carried: str
) -> None:
    Account.objects.update(baseline_at=clock.now() - timedelta(days=9))
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    stood_at(midnight - before_midnight, unrealised)

    assert selectors.portfolio(now=midnight + timedelta(hours=5)).carried_gain_quote == D(carried)


def test_gain_of_before_a_reset_is_not_carried(desk: Desk) -> None:
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    Account.objects.update(baseline_at=midnight + timedelta(hours=1))
    stood_at(midnight, "150")

    assert selectors.portfolio(now=midnight + timedelta(hours=5)).carried_gain_quote == 0
