"""The page of the trading control in Chromium."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from execution.models import Order
from risk import selectors as risk
from risk import services
from risk.contracts import TradingState
from risk.models import Kill
from tests.web import seeding
from tests.web.conftest import Server, Watched, in_both_sizes
from tradingbot.core import clock
from tradingbot.operations.rehearsal.streams import ALL_WELL

pytestmark = pytest.mark.browser
PAGES = (
    "/", "/more/", "/approvals/", "/proposals/", "/orders/", "/positions/", "/alerts/", "/reconciliation/",
    "/feed/", "/control/",
)  # fmt: skip


@pytest.fixture
def entry(server: Server, watched: Watched) -> Order:
    """An armed desk with a position and an open entry."""
    now = clock.now()
    seeding.instruments(now)
    seeding.books(now)
    seeding.reconciliation(now)
    seeding.arm(now)
    return seeding.order(
        seeding.proposal(now, status="approved"), now, exchange_order_id=77, exchange_status="NEW",
        reserved_quote="964.0582", acknowledged_at=now,
    )  # fmt: skip


def picture(page: Page, name: str) -> None:
    """For people to look at, where PICTURES says so."""
    if folder := os.environ.get("PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}-{page.viewport_size['width']}.png"), full_page=True)  # type: ignore[index]


@in_both_sizes
def test_scopes_name_what_they_touch_and_the_kill_shows_its_time(watched: Watched, entry: Order) -> None:
    page = watched.open("/control/")
    expect(page.locator("#kill-cancel")).to_contain_text("1 open entry is cancelled: up to 964.06 USDT")
    expect(page.locator("#kill-flatten")).to_contain_text("1 position is sold at market")
    picture(page, "control")

    button = page.locator("#kill-cancel button")
    button.click()
    expect(button).to_contain_text("Press again")
    page.wait_for_timeout(700)
    button.click()

    expect(page.locator("#status-slot")).to_contain_text("the open entries are being cancelled")
    expect(page.locator("#kill-stop")).to_contain_text("Halt again")
    kill = Kill.objects.get()
    expect(page.locator(f"#kill-{kill.pk}")).to_contain_text("under way")
    assert kill.switched_ms is not None
    assert (kill.scope, kill.actor, risk.trading_state()) == ("cancel_entries", "ana", TradingState.HALTED)
    expect(page.locator("#kill-flatten button")).to_be_disabled()
    picture(page, "control-halted")


def test_stopping_the_entries_takes_one_press_there_too(watched: Watched, entry: Order) -> None:
    page = watched.open("/control/")

    page.locator("#kill-stop button").click()

    expect(page.locator("#status-slot")).to_contain_text("Halted.")
    assert Kill.objects.get().scope == "stop_entries"


@in_both_sizes
def test_lowered_autonomy_shows_on_every_page_with_its_reason_and_the_way_back(
    watched: Watched, entry: Order
) -> None:
    services.follow_health(health=replace(ALL_WELL, open_breakers=("rehearsal-1",)), now=clock.now())

    for path in PAGES:
        page = watched.open(path)
        expect(page.locator("#autonomy")).to_have_text("approval only")
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), path
    page.locator("#trading-state summary").click()
    expect(page.locator("#trading-state")).to_contain_text(
        "Every entry waits for a person, because of advisor"
    )
    picture(page, "autonomy-header")
    expect(page.locator("#way-back")).to_contain_text("the model has to answer the next probe")

    page.goto(watched.server.url + "/approvals/")
    services.follow_health(health=ALL_WELL, now=clock.now() + timedelta(seconds=1))
    services.follow_health(health=ALL_WELL, now=clock.now() + timedelta(seconds=7))

    expect(page.locator("#autonomy")).to_have_count(0)
