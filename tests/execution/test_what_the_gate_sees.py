"""What execution tells the gate of the account, between the steps of an order and after a clock was set back."""

from datetime import timedelta

import pytest

from execution import selectors, services
from execution.contracts import OrderStatus
from execution.models import AccountBalance, BalanceMovement
from risk.models import RiskLimits
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock

pytestmark = pytest.mark.django_db


def test_order_that_another_worker_is_about_to_send_counts_for_the_pace(desk: Desk) -> None:
    """Two workers claim one after the other, before either has sent: the second is over the limit."""
    newest = RiskLimits.objects.filter(environment=selectors.ENVIRONMENT).latest()
    newest.pk, newest.version, newest.orders_per_minute_max = None, newest.version + 1, 1
    newest.save()
    first = desk.assess(desk.propose())
    second = desk.assess(desk.propose(symbol="ETHUSDT"))

    desk.claim(first)
    refused = desk.claim(second)

    assert (refused.status, "orders_per_minute" in refused.reason) == (OrderStatus.ABORTED, True)


def test_pace_forgets_what_was_never_sent(desk: Desk) -> None:
    order = desk.claim(desk.assess(desk.propose()))

    services.abort_stale_intents(now=clock.now() + timedelta(minutes=1))

    order.refresh_from_db()
    assert order.status == OrderStatus.ABORTED
    assert selectors.portfolio(now=clock.now()).orders_last_minute == 0


def test_purchase_whose_trades_are_not_told_yet_counts_as_exposure(desk: Desk) -> None:
    """An answer to a query names what was executed and no trades: the position comes with those, later."""
    order = desk.claim(desk.assess(desk.propose()))
    worst_quote = order.reserved_quote
    desk.exchange.arm(kind="drop_answer", method="POST", path="/api/v3/order", count=1)
    services.send_order(order_id=order.pk, now=clock.now())
    services.probe_unknown(exchange=services.gateway(), now=clock.now() + timedelta(minutes=1))
    order.refresh_from_db()
    assert (order.exchange_status, order.fills.count()) == ("FILLED", 0)

    reserved = selectors.portfolio(now=clock.now()).reserved_quote[SYMBOL]

    assert order.cumulative_quote < reserved <= worst_quote

    desk.refresh_feeds()
    desk.reconcile()

    books = selectors.portfolio(now=clock.now())
    assert (books.reserved_quote.get(SYMBOL, 0), SYMBOL in books.holdings) == (0, True)


def test_comparison_dated_in_the_future_says_nothing_of_now(desk: Desk) -> None:
    """The clock was set back: the last comparison is dated after now, and nobody has looked since."""
    earlier = clock.now() - timedelta(hours=1)

    books = selectors.portfolio(now=earlier)

    assert books.reconciled is False


def test_deposit_of_an_asset_that_is_no_part_of_equity_leaves_the_peak_known(desk: Desk) -> None:
    """An airdrop: nothing here trades it, equity leaves it out, and so must what moved equity."""
    services.record_equity(now=clock.now())
    BalanceMovement.objects.create(
        environment=selectors.ENVIRONMENT, asset="XYZ", amount=7, event_key="airdrop", at=clock.now()
    )
    AccountBalance.objects.create(
        environment=selectors.ENVIRONMENT, asset="XYZ", free=7, locked=0, as_of=clock.now()
    )

    books = selectors.portfolio(now=clock.now())

    assert books.equity_peak_quote == books.equity_quote == 10_000
