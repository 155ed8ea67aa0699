"""The desk in Chromium, wide and narrow: it changes without a reload and asks before it acts."""

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import Page, Route, expect

from proposals import services as proposals
from proposals.models import Proposal
from tests.web import seeding
from tests.web.conftest import Server, Watched, in_both_sizes, open_live, wait_for
from tradingbot.core import alerts, clock
from tradingbot.core.models import Alert
from tradingbot.operations import consumers

pytestmark = pytest.mark.browser
LIVE = "live"


@pytest.fixture
def row(server: Server, fresh_for_long: None) -> Proposal:
    """A pending proposal on an armed desk whose streams stay fresh for the length of a test."""
    now = clock.now()
    seeding.instruments(now)
    seeding.books(now)
    seeding.arm(now)
    return seeding.proposal(now)


def press_for(page: Page, milliseconds: int, *, release_off: bool = False) -> None:
    button = page.locator("button[data-command=approve]")
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(milliseconds)
    if release_off:
        page.mouse.move(box["x"] + box["width"] / 2, 200)
    page.mouse.up()


def status_of(row: Proposal) -> str:
    return Proposal.objects.values_list("status", flat=True).get(pk=row.pk)


@in_both_sizes
def test_new_proposal_appears_in_the_queue_and_the_title_by_itself(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, "/approvals/")
    expect(page).to_have_title("(1) Queue · tradingbot")

    late = seeding.proposal(clock.now(), symbol="ETHUSDT", quantity="0.31", notional_quote="962.6")
    alerts.announce("proposal", late.pk)

    expect(page.locator(f"#waiting-{late.pk}")).to_contain_text("Buys 0.31 ETH for at most 962.60 USDT")
    expect(page).to_have_title("(2) Queue · tradingbot")
    assert page.evaluate("window.neverReloaded")


def test_slow_extension_still_opens_the_socket(watched: Watched, row: Proposal) -> None:
    def late(route: Route) -> None:
        watched.page.wait_for_timeout(400)
        route.continue_()

    watched.page.route("**/hx-ws.min.js", late)

    open_live(watched, "/approvals/")


@in_both_sizes
def test_holding_the_button_approves(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")

    press_for(page, 1100)

    expect(page.locator("#status-slot")).to_contain_text("Approved.")
    expect(page.locator(".outcome")).to_contain_text("Approved by ana")
    assert status_of(row) == "approved"
    assert page.evaluate("window.neverReloaded")


def test_short_press_does_not_approve(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")

    press_for(page, 200)

    expect(page.locator("#status-slot")).to_contain_text("Not sent: hold the button")
    assert status_of(row) == "pending_approval"


def test_sliding_off_the_button_does_not_approve(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")

    press_for(page, 1100, release_off=True)

    expect(page.locator("#status-slot")).to_contain_text("Not sent: you slid off")
    assert status_of(row) == "pending_approval"


def test_keyboard_approves_with_two_separate_presses(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")
    button = page.locator("button[data-command=approve]")

    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_contain_text("Press again to approve: 963.10 USDT")
    assert status_of(row) == "pending_approval"
    page.wait_for_timeout(700)
    page.keyboard.press("Enter")

    expect(page.locator(".outcome")).to_contain_text("Approved by ana")


def test_enter_in_the_note_rejects_and_never_approves(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")

    page.locator("#reject-note").fill("news at noon")
    page.keyboard.press("Enter")

    expect(page.locator(".outcome")).to_contain_text("Rejected by ana")
    assert status_of(row) == "rejected"


@in_both_sizes
def test_rejecting_takes_one_press_and_the_chosen_reason(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")

    page.get_by_label("Price moved").check()
    page.locator("button[data-command=reject]").click()

    expect(page.locator(".outcome")).to_contain_text("price moved")
    assert status_of(row) == "rejected"


def test_loser_of_two_answers_is_told_who_and_when(
    watched: Watched, row: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 3600.0)
    page = open_live(watched, f"/approvals/{row.pk}/")
    Proposal.objects.filter(pk=row.pk).update(  # behind the page's back: no announcement
        status="rejected", version=2, decided_by="bob", decided_at=clock.now(), decision_reason="no"
    )

    press_for(page, 1100)

    expect(page.locator("#alert-slot")).to_contain_text("Rejected by bob at")
    expect(page.locator(".outcome")).to_contain_text("Rejected by bob")
    watched.faults = [fault for fault in watched.faults if "409" not in fault]


def test_change_during_the_hold_sends_nothing(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")
    button = page.locator("button[data-command=approve]")
    button.scroll_into_view_if_needed()
    button.hover()
    page.mouse.down()

    seeding.quote("BTCUSDT", "65000.1", "65000.9", clock.now())
    alerts.announce("quote", "BTCUSDT")
    expect(page.locator("#approve-off")).to_contain_text("The price moved beyond")
    page.wait_for_timeout(1000)
    page.mouse.up()

    expect(page.locator("#alert-slot")).to_contain_text("Nothing was sent")
    assert status_of(row) == "pending_approval"


def test_typed_note_and_choice_survive_the_patches(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")
    page.get_by_label("Too large").check()
    page.locator("#reject-note").fill("half of it")

    seeding.quote("BTCUSDT", "64300.1", "64300.9", clock.now())
    alerts.announce("quote", "BTCUSDT")
    expect(page.locator("body")).to_contain_text("+0.15")

    expect(page.locator("#reject-note")).to_have_value("half of it")
    expect(page.locator("#reject-note")).to_be_focused()
    expect(page.get_by_label("Too large")).to_be_checked()


def test_silent_server_switches_the_commands_off_but_not_the_halt(
    watched: Watched, row: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")

    monkeypatch.setattr(consumers, "BEAT_SECONDS", 3600.0)
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 3600.0)

    expect(page.locator("#link")).to_contain_text("STALE")
    expect(page.locator("#stale-note")).to_be_visible()
    expect(page.locator("button[data-command=approve]")).to_be_disabled()
    expect(page.locator("button[data-command=reject]")).to_be_disabled()
    expect(page.locator("button[data-command=halt]")).to_be_enabled()


def test_ended_session_says_so(watched: Watched, row: Proposal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "SESSION_CHECK_SECONDS", 0.3)
    page = open_live(watched, "/approvals/")

    Session.objects.all().delete()

    expect(page.locator("#alert-slot")).to_contain_text("You are signed out here")
    expect(page.locator("#link")).to_contain_text("signed out")


def test_page_resyncs_after_the_server_came_back(watched: Watched, row: Proposal, server: Server) -> None:
    page = open_live(watched, "/approvals/")
    server.stop()
    expect(page.locator("#link")).to_contain_text("STALE")
    proposals.reject_proposal(
        proposal_id=row.pk, version=1, digest=row.digest, actor="bob", reason="no", now=clock.now()
    )

    again = Server(server.port)
    again.start()
    try:
        expect(page.locator("[data-panel=queue]")).to_contain_text("Nothing waits")
        expect(page.locator("#link")).to_contain_text(LIVE)
        assert page.evaluate("window.neverReloaded")
    finally:
        page.close()
        again.stop()
    # the browser itself reports each connection that fails
    watched.faults = [f for f in watched.faults if "WebSocket" not in f and "htmx:ws:error" not in f]


@in_both_sizes
def test_acknowledging_takes_one_press(watched: Watched, row: Proposal) -> None:
    alert = seeding.alert(clock.now())
    page = open_live(watched, "/alerts/")

    page.get_by_role("button", name="Acknowledge").click()

    expect(page.locator(f"#alert-{alert.pk}")).to_contain_text("Acknowledged by ana")
    wait_for(lambda: Alert.objects.get(pk=alert.pk).acknowledged_by == "ana")


def test_reconciliation_is_asked_for_by_one_press(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, "/reconciliation/")

    page.get_by_role("button", name="Compare now").click()

    expect(page.locator("[data-panel='reconciliation.runs']")).to_contain_text("A run is asked for")


@in_both_sizes
def test_every_page_is_clean_and_fits_its_width(watched: Watched, server: Server) -> None:
    desk = seeding.desk(clock.now())
    pages = [
        "/", "/more/", "/approvals/", "/proposals/", "/orders/", "/positions/", "/alerts/", "/reconciliation/",
        f"/approvals/{desk.pending.pk}/", f"/approvals/{desk.refused.pk}/", f"/orders/{desk.unknown.pk}/",
        f"/reconciliation/{desk.run.pk}/",
    ]  # fmt: skip

    for path in pages:
        page = open_live(watched, path)
        too_wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        small = page.evaluate(
            "[...document.querySelectorAll('main button, .halt button, .rail a')]"
            ".filter(e => e.checkVisibility() && (e.offsetHeight < 44 || e.offsetWidth < 44)).length"
        )
        assert (path, too_wide, small) == (path, False, 0)
