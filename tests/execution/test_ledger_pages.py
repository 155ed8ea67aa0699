"""Positions page: lots, residue and the equity curve."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client

from execution import selectors
from execution.models import EquityPoint, Order
from execution.panels.ledger import equity
from execution.panels.orders import fate
from tests.desk import Desk
from tests.web import seeding
from tradingbot.core import clock
from tradingbot.core.panels import UnknownPanel

D = Decimal


def curve(*values: str, minutes: int = 1) -> None:
    """The newest points of the curve, `minutes` apart, the last one now."""
    now = clock.now().replace(second=0, microsecond=0)
    for age, value in enumerate(reversed(values)):
        EquityPoint.objects.create(
            environment=selectors.ENVIRONMENT,
            at=now - timedelta(minutes=age * minutes),
            equity_quote=D(value),
            cash_quote=D(value),
            realised_pnl_quote=0,
            unrealised_pnl_quote=0,
            fees_quote=0,
            net_flow_quote=0,
        )


def test_a_purchase_is_listed_as_a_lot_with_its_order(client: Client, desk: Desk) -> None:
    order = desk.buy()
    client.force_login(seeding.operator())

    text = client.get("/positions/").content.decode()

    assert f"/orders/{order.pk}/" in text
    assert "Cost of what is left" in text


def test_the_fate_of_a_proposal_is_that_of_its_entry_and_not_of_a_leg(desk: Desk) -> None:
    limit = f"{desk.quote('BTCUSDT').ask * D('1.001'):.2f}"
    entry = desk.buy(order_type="LIMIT", limit_price=limit, time_in_force="GTC")
    legs = Order.objects.exclude(pk=entry.pk)
    assert legs.update(created_at=entry.created_at - timedelta(seconds=1)) == 2

    assert fate(None, str(entry.intent.proposal_id))["order"] == entry


def test_what_is_too_small_to_sell_is_named_a_residue(client: Client, desk: Desk) -> None:
    desk.buy()
    desk.reconcile()
    desk.buy(action="SELL", quote_amount=None, position_share_pct=100, stop_price=None, target_price=None)
    client.force_login(seeding.operator())

    text = client.get("/positions/").content.decode()

    assert "too small to sell" in text


def test_the_deepest_drawdown_is_measured_from_the_peak_before_it(db: None) -> None:
    curve("100", "120", "90", "110")

    shown = equity(None, "24h")

    assert shown["drawdown_pct"] == 25
    assert shown["change"] == 10
    assert len(shown["lines"]) == 1


def test_a_hole_in_the_curve_breaks_the_line(db: None) -> None:
    curve("100", "101", minutes=30)

    assert len(equity(None, "24h")["lines"]) == 2


def test_an_unknown_period_is_no_page(client: Client, db: None) -> None:
    client.force_login(seeding.operator())

    assert client.get("/positions/?period=2y").status_code == 404
    with pytest.raises(UnknownPanel):
        equity(None, "")
