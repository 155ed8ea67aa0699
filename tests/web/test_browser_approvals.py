"""The approval queue in Chromium, on desktop and phone: what ends a decision, and what two people make of it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from execution.models import Account
from proposals import rules, selectors
from proposals import services as proposals
from proposals.models import ApprovalVote, Proposal
from proposals.services import shown
from risk.models import RiskLimits
from tests.web import seeding
from tests.web.conftest import Server, Watched, in_both_sizes
from tradingbot.core import alerts, clock
from tradingbot.operations import consumers

pytestmark = pytest.mark.browser
Desk = Callable[[str], Page]


@pytest.fixture
def row(server: Server, fresh_for_long: None) -> Proposal:
    """A pending proposal of 64.21 USDT on an armed desk that stays fresh for the length of a test."""
    now = clock.now()
    seeding.instruments(now)
    seeding.books(now)
    seeding.reconciliation(now)
    Account.objects.update(clock_offset_ms=3, clock_measured_at=now)
    seeding.arm(now)
    limits = RiskLimits.objects.filter(environment=seeding.ENVIRONMENT).latest()
    limits.pk, limits.version, limits.quote_age_max_seconds = None, limits.version + 1, Decimal(60)
    limits.save(force_insert=True)
    found = seeding.proposal(
        now,
        quantity=Decimal("0.0010"),
        notional_quote=Decimal("64.20634"),
        fee_quote=Decimal("0.06420634"),
    )
    return with_true_digest(found)


def with_true_digest(row: Proposal, **fields: object) -> Proposal:
    Proposal.objects.filter(pk=row.pk).update(**fields)
    row.refresh_from_db()
    row.digest = rules.digest_of(selectors.order_of(row), row.limits_version or 0, row.expires_at)
    row.save(update_fields=["digest"])
    return row


@pytest.fixture
def colleague(chromium: Browser, server: Server, watched: Watched) -> Iterator[Desk]:
    """Opens the desk of somebody else in a browser window of the same size."""
    size = watched.page.viewport_size
    assert size is not None
    context = chromium.new_context(viewport=size, has_touch=size["width"] < 700)

    def open_as(name: str) -> Page:
        client = Client()
        client.force_login(seeding.operator(name))
        context.add_cookies(
            [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": server.url}]
        )
        return context.new_page()

    yield open_as
    context.close()


def live(page: Page, server: Server, row: Proposal) -> Page:
    page.goto(f"{server.url}/approvals/{row.pk}/")
    expect(page.locator("#link")).to_contain_text("live")
    return page


def hold(page: Page) -> None:
    """Press the approve button for longer than it asks, and let go on it."""
    button = page.locator("button[data-command=approve]")
    expect(button).to_be_enabled()
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(1100)
    page.mouse.up()


def status_of(row: Proposal) -> str:
    return str(Proposal.objects.values_list("status", flat=True).get(pk=row.pk))


def without_409(watched: Watched) -> None:
    """The browser itself reports each answer that is no success."""
    watched.faults = [fault for fault in watched.faults if "409" not in fault]


@in_both_sizes
def test_two_people_approve_one_large_order(
    watched: Watched, server: Server, row: Proposal, colleague: Desk
) -> None:
    with_true_digest(row, approvals_required=2)
    ana, bob = live(watched.page, server, row), live(colleague("bob"), server, row)
    expect(ana.locator("#votes")).to_contain_text("0 of 2 approvals")

    hold(ana)

    expect(ana.locator("#status-slot")).to_contain_text("Your approval counts")
    expect(ana.locator("#approve-off")).to_contain_text("You approved it already")
    expect(ana.locator("button[data-command=approve]")).to_be_disabled()
    expect(bob.locator("#votes")).to_contain_text("1 of 2 approvals")
    assert status_of(row) == "pending_approval"

    hold(bob)

    expect(bob.locator(".outcome")).to_contain_text("Approved by ana and bob")
    expect(ana.locator(".outcome")).to_contain_text("Approved by ana and bob")
    assert status_of(row) == "approved"


@in_both_sizes
def test_loser_of_a_race_reads_who_and_when(
    watched: Watched, server: Server, row: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 3600.0)
    ana = live(watched.page, server, row)
    # bob decides behind the page's back: no announcement reaches ana's
    ApprovalVote.objects.create(
        proposal=row, version=row.version, digest=row.digest, actor="bob", at=clock.now()
    )
    Proposal.objects.filter(pk=row.pk).update(
        status="approved", version=2, decided_by="bob", decided_at=clock.now()
    )

    hold(ana)

    expect(ana.locator("#alert-slot")).to_contain_text("Approved by bob at")
    expect(ana.locator(".outcome")).to_contain_text("Approved by bob")
    assert ApprovalVote.objects.filter(proposal=row).count() == 1
    without_409(watched)


@in_both_sizes
def test_stale_page_is_refused_with_the_fresh_card_that_can_be_approved(
    watched: Watched, server: Server, row: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = live(watched.page, server, row)
    monkeypatch.setattr(shown, "SHOWN_SECONDS_MAX", 0.2)

    hold(ana)

    expect(ana.locator("#alert-slot")).to_contain_text("so nothing was decided")
    assert status_of(row) == "pending_approval"
    monkeypatch.setattr(shown, "SHOWN_SECONDS_MAX", 3600)
    expect(ana.locator("button[data-command=approve]:not(.in-flight)")).to_be_enabled()
    hold(ana)
    expect(ana.locator(".outcome")).to_contain_text("Approved by ana")
    without_409(watched)


@in_both_sizes
def test_stale_page_rejects_nothing_and_keeps_the_note_for_the_fresh_card(
    watched: Watched, server: Server, row: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = live(watched.page, server, row)
    ana.get_by_label("Too large").check()
    ana.get_by_label("Note").fill("before the news")
    monkeypatch.setattr(shown, "SHOWN_SECONDS_MAX", -1)  # one press takes no time: every card is too old

    ana.locator("button[data-command=reject]").click()

    expect(ana.locator("#alert-slot")).to_contain_text("so nothing was decided")
    assert status_of(row) == "pending_approval"
    expect(ana.get_by_label("Note")).to_have_value("before the news")
    monkeypatch.setattr(shown, "SHOWN_SECONDS_MAX", 3600)
    expect(ana.locator("button[data-command=reject]:not(.in-flight)")).to_be_enabled()
    ana.locator("button[data-command=reject]").click()
    expect(ana.locator(".outcome")).to_contain_text("Rejected by ana")
    expect(ana.locator(".outcome")).to_contain_text("too large: before the news")
    without_409(watched)


@in_both_sizes
def test_expiry_takes_the_buttons_away_by_itself(watched: Watched, server: Server, row: Proposal) -> None:
    ana = live(watched.page, server, row)

    over = clock.now() + timedelta(minutes=10)
    assert proposals.expire_overdue(now=over) == 1

    expect(ana.locator(".outcome")).to_contain_text("Expired at")
    expect(ana.locator("button[data-command=approve]")).to_have_count(0)
    expect(ana.locator(".outcome")).to_contain_text("Nothing was sent")


@in_both_sizes
def test_less_of_it_is_shown_and_then_approved(watched: Watched, server: Server, row: Proposal) -> None:
    ana = live(watched.page, server, row)

    ana.get_by_text("Approve less of it").click()
    ana.get_by_label("50 %").check()
    ana.locator("button[data-command=reduce]").click()

    expect(ana.locator(".lead").first).to_contain_text("Buys 0.0005 BTC for at most 32.11 USDT")
    expect(ana.locator("#reduced")).to_contain_text("ana took it down from 0.001 BTC")
    assert status_of(row) == "pending_approval"
    hold(ana)
    expect(ana.locator(".outcome")).to_contain_text("Approved by ana")
    assert Proposal.objects.get(pk=row.pk).quantity == Decimal("0.0005")


@in_both_sizes
def test_gate_of_now_follows_the_price_beside_the_gate_of_then(
    watched: Watched, server: Server, row: Proposal
) -> None:
    ana = live(watched.page, server, row)
    drift = ana.locator("tr", has_text="price drift guard").locator("[data-label=Now]")
    expect(drift).to_contain_text("0 %")

    seeding.quote("BTCUSDT", "64400.1", "64400.9", clock.now())
    alerts.announce("quote", "BTCUSDT")

    expect(drift).to_contain_text("0.3")
    too_wide = ana.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not too_wide
