"""Cancel, replace and close in Chromium: pressed twice, taken once, without a reload, at both sizes."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import expect

from execution.contracts import RequestKind
from execution.models import OperatorRequest, Order
from tests.web import seeding
from tests.web.conftest import Server, Watched
from tests.web.test_browser_review import in_both_sizes, open_live, press_twice
from tradingbot.core import clock
from tradingbot.operations.roles import ensure_roles

pytestmark = [pytest.mark.browser, in_both_sizes]


@pytest.fixture
def resting(
    server: Server, watched: Watched, settings: Any, monkeypatch: pytest.MonkeyPatch, fresh_for_long: None
) -> Order:
    """An entry on the exchange, a position, and `ana` as operator on an armed desk."""
    settings.TRADING_ENABLED = True
    # The gate's word on the new price is another test's matter.
    monkeypatch.setattr("execution.services.replacing._check_beforehand", lambda *_: None)
    ensure_roles()
    User.objects.get(username="ana").groups.add(Group.objects.get(name="operator"))
    now = clock.now()
    seeding.instruments(now)
    seeding.books(now)
    seeding.reconciliation(now)
    seeding.arm(now)
    seeding.filled_order(seeding.proposal(now - timedelta(minutes=3), status="approved"), now)
    return seeding.order(
        seeding.proposal(now, status="approved"), now, exchange_order_id=77, exchange_status="NEW",
        acknowledged_at=now, reserved_quote="963.1",
    )  # fmt: skip


def test_resting_order_is_cancelled_once(watched: Watched, resting: Order) -> None:
    page = open_live(watched, f"/orders/{resting.pk}/")

    page.locator("#cancel-reason").fill("changed my mind")
    press_twice(page, "cancel_own")

    expect(page.locator("#asked")).to_contain_text("ana asked to cancel it")
    expect(page.locator("#cancel-form")).to_have_count(0)
    assert OperatorRequest.objects.get().kind == RequestKind.CANCEL_OWN
    assert page.evaluate("window.neverReloaded")


def test_resting_order_is_put_at_another_price(watched: Watched, resting: Order) -> None:
    page = open_live(watched, f"/orders/{resting.pk}/")
    expect(page.locator("#replace-price")).to_have_value("64206.34")

    page.locator("#replace-price").fill("64200.5")
    page.locator("#replace-reason").fill("the book moved")
    press_twice(page, "replace_own")

    expect(page.locator("#asked")).to_contain_text("ana asked to put it at another price")
    asked = OperatorRequest.objects.get()
    assert (asked.kind, str(asked.price.normalize() if asked.price else "")) == ("replace_own", "64200.5")
    too_wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not too_wide
    assert page.evaluate("window.neverReloaded")


def test_position_is_closed_once(watched: Watched, resting: Order) -> None:
    page = open_live(watched, "/positions/")

    page.locator("#close-BTCUSDT summary").click()
    page.locator("#close-reason-BTCUSDT").fill("enough for today")
    press_twice(page, "close_position")

    expect(page.locator("#closing-BTCUSDT")).to_contain_text("ana asked to close BTCUSDT")
    assert OperatorRequest.objects.get().kind == RequestKind.CLOSE_POSITION
    assert page.evaluate("window.neverReloaded")
