"""The review page in Chromium: it opens by itself when absence begins to count, and takes one answer."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Page, expect

from execution import rules
from execution.contracts import OrderStatus, RequestKind
from execution.models import Divergence, OperatorRequest, Order, Probe
from tests.web import seeding
from tests.web.conftest import Server, Watched, in_both_sizes, open_live
from tradingbot.core import alerts, clock
from tradingbot.operations import consumers

pytestmark = pytest.mark.browser
TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture
def lost(server: Server, watched: Watched, fresh_for_long: None) -> Order:
    """An order under review whose absence may be confirmed in ten minutes; `ana` may decide."""
    may = Permission.objects.filter(codename__in=["resolve_order", "settle_divergence"])
    User.objects.get(username="ana").user_permissions.set(may)
    now = clock.now()
    seeding.instruments(now)
    seeding.books(now)
    seeding.feeds(now)
    return unknown(now, absence_counts_in=TEN_MINUTES)


def unknown(now: datetime, *, absence_counts_in: timedelta) -> Order:
    grace = timedelta(seconds=settings.RECONCILE_GRACE_SECONDS, milliseconds=3000 + rules.SKEW_MS)
    return seeding.order(
        seeding.proposal(now, status="approved"), now, status=OrderStatus.MANUAL_REVIEW, unknown_since=now,
        reason="no proof by the deadline", reserved_quote="963.1", signed_at=now + absence_counts_in - grace,
    )  # fmt: skip


def press_twice(page: Page, command: str) -> None:
    button = page.locator(f"button[data-command={command}]")
    button.click()
    expect(button).to_contain_text("Press again")
    page.wait_for_timeout(700)
    button.click()


@pytest.fixture
def ten_minutes_later() -> Iterator[Callable[[], None]]:
    """Moves the server's clock; the page follows the time of its frames."""
    yield lambda: clock.set_source(lambda: datetime.fromtimestamp(time.time(), UTC) + TEN_MINUTES)
    clock.set_source(None)


@in_both_sizes
def test_absence_can_be_confirmed_once_the_countdown_is_over(
    watched: Watched, lost: Order, ten_minutes_later: Callable[[], None]
) -> None:
    page = open_live(watched, f"/orders/{lost.pk}/review/")
    button = page.locator("button[data-command=confirm_absent]")
    expect(page.locator("#absence-countdown time")).to_have_attribute(
        "data-shown", re.compile(r"^\d\d:\d\d$")
    )
    expect(button).to_be_disabled()
    page.locator("#absent-reason").fill("not in the exchange's list")

    ten_minutes_later()

    expect(button).to_be_enabled()
    press_twice(page, "confirm_absent")

    expect(page.locator("#asked")).to_contain_text("ana answered “confirm absent”")
    assert OperatorRequest.objects.get().reason == "not in the exchange's list"
    assert page.evaluate("window.neverReloaded")


def test_second_answer_is_told_whose_the_first_was(
    watched: Watched, lost: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 3600.0)
    page = open_live(watched, f"/orders/{lost.pk}/review/")
    OperatorRequest.objects.create(  # behind the page's back: no announcement
        environment=seeding.ENVIRONMENT, kind=RequestKind.CONFIRM_FILLED, order=lost, trade_ids=[7],
        seen_version=lost.version, reason="seen on their page", actor="bob", asked_at=clock.now(),
    )  # fmt: skip

    page.locator("#watch-reason").fill("not sure")
    page.locator("button[data-command=keep_watching]").click()

    expect(page.locator("#alert-slot")).to_contain_text("bob asked to confirm it filled at")
    expect(page.locator("#asked")).to_contain_text("bob answered")
    watched.faults = [fault for fault in watched.faults if "409" not in fault]


def test_new_probe_appears_without_a_reload_and_typed_text_stays(watched: Watched, lost: Order) -> None:
    page = open_live(watched, f"/orders/{lost.pk}/review/")
    page.locator("#trade-ids").fill("28457")

    probe = Probe.objects.create(
        order=lost, method="GET order", answer="absent", detail="-2013 Order does not exist",
        raw={"code": -2013}, at=clock.now(),
    )  # fmt: skip
    alerts.announce("order", lost.pk)

    expect(page.locator(f"#probe-{probe.pk}")).to_contain_text("-2013 Order does not exist")
    expect(page.locator("#trade-ids")).to_have_value("28457")
    assert page.evaluate("window.neverReloaded")


@in_both_sizes
def test_divergence_is_settled_with_a_reason(watched: Watched, lost: Order) -> None:
    seeding.reconciliation(clock.now(), divergent=True)
    found = Divergence.objects.get()
    page = open_live(watched, f"/reconciliation/divergences/{found.pk}/")

    page.locator("#reason-ignore").fill("seen by the treasurer")
    press_twice(page, "ignore")

    expect(page.locator(".outcome")).to_contain_text("by ana: seen by the treasurer")
    assert page.evaluate("window.neverReloaded")


@in_both_sizes
def test_pages_fit_their_width(watched: Watched, lost: Order) -> None:
    run = seeding.reconciliation(clock.now(), divergent=True)
    found = Divergence.objects.get()
    Probe.objects.create(
        order=lost,
        method="GET order",
        answer="found",
        detail="order 1 is NEW",
        raw=long_answer(),
        at=clock.now(),
    )
    for path in (
        "/", "/reconciliation/", f"/reconciliation/{run.pk}/", f"/orders/{lost.pk}/review/",
        f"/reconciliation/divergences/{found.pk}/",
    ):  # fmt: skip
        page = open_live(watched, path)
        for summary in page.locator("details.raw summary").all():
            summary.click()
        too_wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        small = page.evaluate(
            "[...document.querySelectorAll('main button')]"
            ".filter(e => e.checkVisibility() && (e.offsetHeight < 44 || e.offsetWidth < 44)).length"
        )
        assert (path, too_wide, small) == (path, False, 0)


def long_answer() -> dict[str, Any]:
    return {"symbol": "BTCUSDT", "clientOrderId": "tbs-" + "a" * 32, "status": "NEW", "note": "x" * 300}
