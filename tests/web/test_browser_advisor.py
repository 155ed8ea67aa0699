"""The pages of the advisor and the scoreboard in Chromium, wide and narrow."""

import os
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from proposals.contracts import Side
from proposals.models import AdvisorBreaker, Decision, DecisionRequest, Proposal, ProposalScore, Strategy
from tests.web import seeding
from tests.web.conftest import Watched, in_both_sizes, open_live, wait_for
from tradingbot.core import clock
from tradingbot.core.announce import announce

pytestmark = pytest.mark.browser


def see_that_it_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small = page.evaluate(
        "[...document.querySelectorAll('main :is(button, select), .filters a')]"
        ".filter(e => e.checkVisibility() && (e.offsetHeight < 44 || e.offsetWidth < 44)).length"
    )
    assert small == 0


def picture(page: Page, name: str) -> None:
    """For people to look at, where PICTURES says so."""
    if folder := os.environ.get("PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}-{page.viewport_size['width']}.png"), full_page=True)  # type: ignore[index]


# --- advisor ---------------------------------------------------------------------------------------------
@pytest.fixture
def strategy(watched: Watched) -> Strategy:
    """One that trades, with a budget half used, beside a shadow that may not ask and one that is off."""
    now = clock.now()
    seeding.instruments(now)
    seeding.books(now)
    seeding.arm(now)
    Strategy.objects.all().delete()  # the one of the installation, where no test has emptied the tables yet
    row = Strategy.objects.create(
        name="momentum 1m", symbols=["BTCUSDT", "ETHUSDT"], decisions_per_hour_max=120, tokens_per_day_max=100_000,
    )  # fmt: skip
    Strategy.objects.create(
        name="shadow of a larger model", shadow=True, symbols=["BTCUSDT"], model="large-2"
    )
    Strategy.objects.create(name="resting", enabled=False, symbols=["SOLUSDT"])
    AdvisorBreaker.objects.create(name="rehearsal-1", changed_at=now - timedelta(hours=2))
    AdvisorBreaker.objects.create(
        name="large-2",
        shadow=True,
        state="open",
        failures=5,
        changed_at=now,
        open_until=now + timedelta(minutes=2),
    )
    for number in range(3):
        Decision.objects.filter(pk=seeding.decision(now).pk).update(
            strategy=row, attempts=1, counted_tokens=2052, candle_open_time=now - timedelta(minutes=number)
        )
    return row


@in_both_sizes
def test_advisor_page_shows_state_strategies_and_budgets(watched: Watched, strategy: Strategy) -> None:
    page = open_live(watched, "/advisor/")

    line = page.locator(f"#strategy-{strategy.pk}")
    expect(line).to_contain_text("momentum 1m")
    expect(line.locator("[data-label='Calls this hour']")).to_have_text("3 of 120")
    expect(line.locator("[data-label='Tokens today']")).to_have_text("6 156 of 100 000")
    expect(line.locator("[data-label='Within budget']")).to_have_text("yes")
    expect(page.locator("#breaker-1")).to_contain_text("answers rehearsal-1")
    expect(page.locator("#breaker-2")).to_contain_text("breaker open")
    expect(page.locator("#ask-what option")).to_have_text(
        ["BTCUSDT, momentum 1m", "ETHUSDT, momentum 1m", "BTCUSDT, shadow of a larger model (shadow)"]
    )
    see_that_it_fits(page)
    picture(page, "advisor")


@in_both_sizes
def test_one_press_asks_and_what_comes_of_it_appears_by_itself(watched: Watched, strategy: Strategy) -> None:
    page = open_live(watched, "/advisor/")

    page.locator("#ask-what").select_option(label="ETHUSDT, momentum 1m")
    page.get_by_role("button", name="Ask now").click()

    expect(page.locator("#status-slot")).to_contain_text("Asked.")
    row = DecisionRequest.objects.get()
    assert (row.strategy, row.symbol, row.requested_by) == (strategy, "ETHUSDT", "ana")
    line = page.locator(f"#request-{row.pk}")
    expect(line).to_contain_text("waits for its turn")

    proposal = seeding.proposal(clock.now(), symbol="ETHUSDT")
    DecisionRequest.objects.filter(pk=row.pk).update(decision=proposal.decision)
    announce("proposal", proposal.pk)

    expect(line).to_contain_text("waits for a person")
    expect(line.get_by_role("link")).to_have_attribute("href", f"/approvals/{proposal.pk}/")
    assert page.evaluate("window.neverReloaded")
    see_that_it_fits(page)
    picture(page, "advisor-asked")


def test_question_beyond_the_hours_number_is_refused_with_the_reason(
    watched: Watched, strategy: Strategy
) -> None:
    Strategy.objects.filter(pk=strategy.pk).update(requests_per_hour_max=0)
    page = open_live(watched, "/advisor/")

    page.get_by_role("button", name="Ask now").click()

    expect(page.locator("#alert-slot")).to_contain_text("Not asked: momentum 1m takes 0 questions an hour")
    expect(page.get_by_role("button", name="Ask now")).to_be_enabled()
    assert not DecisionRequest.objects.exists()
    watched.faults = [fault for fault in watched.faults if "409" not in fault]


# --- scoreboard ------------------------------------------------------------------------------------------
def scored(
    now: datetime, score: str, net_pct: str | None = None, *, side: Side = Side.BUY, **changes: Any
) -> Proposal:
    """A proposal over 963.0951 and what it would have brought, or saved against keeping."""
    proposal = seeding.proposal(now, **changes)
    ended = score not in {"waiting", "held"}
    net = {} if net_pct is None else {
        "net_pct": Decimal(net_pct), "net_quote": Decimal(net_pct) * Decimal("9.630951"),
        "entry_price": Decimal("64206"), "exit_price": Decimal("65000"), "entry_at": now, "exit_at": now,
    }  # fmt: skip
    ProposalScore.objects.create(
        proposal=proposal, environment=seeding.ENVIRONMENT, symbol=proposal.symbol, side=side, score=score,
        fee_rate=Decimal("0.001"), size_quote=Decimal("963.0951"), quote=Decimal("64206"), waits=False,
        stop_price=Decimal("63430.1"), target_price=Decimal("65800"), start=now,
        valid_until=now + timedelta(minutes=5), next_minute=now,
        looked_at=now, settled_at=now if ended else None, **net,
    )  # fmt: skip
    return proposal


@pytest.fixture
def scores(watched: Watched) -> datetime:
    """To buy: two targets, a stop, one sold for time, one that goes on, one shadow. To sell: a stop, a target."""
    now = clock.now()
    seeding.instruments(now)
    seeding.arm(now)
    scored(now, "target", "2.1", status="auto_approved", claimed_at=now)
    scored(
        now,
        "target",
        "1.9",
        status="rejected",
        decided_by="ana",
        decided_at=now,
        decision_reason="price moved",
    )
    scored(now, "stop", "-1.4", status="auto_approved", claimed_at=now, symbol="ETHUSDT")
    scored(now, "time", "-0.25", status="expired")
    scored(now, "held")
    scored(now, "target", "2.2", status="shadow", shadow=True, digest="")
    scored(now, "stop", "1.2", side=Side.SELL, status="auto_approved", claimed_at=now)
    scored(now, "target", "-0.8", side=Side.SELL, status="expired")
    return now


@in_both_sizes
def test_scoreboard_adds_up_and_follows_a_new_result_by_itself(watched: Watched, scores: datetime) -> None:
    page = open_live(watched, "/scoreboard/")

    total, sold = (page.locator("[data-panel^=scoreboard] dl").nth(number) for number in (0, 1))
    expect(total).to_contain_text("Proposals to buy6 1 not decided yet")
    refused = page.locator("#buy-fate-rejected")
    expect(refused.locator("[data-label='Target / stop / time']")).to_have_text("1 / 0 / 0")
    expect(refused.locator("[data-label=Mean]")).to_have_text("▲ +1.90 %")
    expect(refused.locator("[data-label='Sum, USDT']")).to_have_text("▲ +18.30")
    expect(sold).to_contain_text("50 % of 2 that ended at target or stop")
    expect(sold).to_contain_text("▲ +3.85 USDT")
    expect(page.get_by_role("row").filter(has_text="Rejected by ana")).to_have_count(1)
    see_that_it_fits(page)
    picture(page, "scoreboard")

    scored(scores, "stop", "-1.4", status="expired")
    announce("score", "settled")

    expect(total).to_contain_text("7")
    assert page.evaluate("window.neverReloaded")


@in_both_sizes
def test_period_is_chosen_by_a_press_and_the_rows_come_as_a_file(watched: Watched, scores: datetime) -> None:
    page = open_live(watched, "/scoreboard/")

    page.get_by_role("link", name="24h").click()
    expect(page.locator(".filters [aria-current]")).to_have_text("24h")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="All rows as CSV").click()

    assert waiting.value.suggested_filename.startswith("scoreboard-simulator-24h-")
    wait_for(lambda: len(waiting.value.path().read_text().splitlines()) == 9)


@in_both_sizes
@pytest.mark.parametrize("path", ["/advisor/", "/scoreboard/"])
def test_page_without_any_row_says_so(watched: Watched, path: str) -> None:
    page = open_live(watched, path)

    expect(page.locator("main .empty").first).to_be_visible()
    see_that_it_fits(page)
    picture(page, f"empty-{path.strip('/')}")
