"""Halt is one press, from every page, by pointer, finger and keyboard; and it never fails silently."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from proposals.models import Proposal
from risk.models import Kill, TradingControl
from tests.web import seeding
from tests.web.conftest import NARROW, WIDE, Server, Watched, in_both_sizes, open_live, wait_for
from tradingbot.core import clock
from tradingbot.operations import consumers

pytestmark = pytest.mark.browser
PAGES = (
    "/", "/more/", "/approvals/", "/proposals/", "/orders/", "/positions/", "/alerts/", "/reconciliation/",
    "/feed/", "/control/", "/advisor/", "/scoreboard/", "/no-such-page/",
)  # fmt: skip
HALT = "**/halt/"
LOST = "No answer to Halt: orders may still go out. Press Halt again"


@pytest.fixture
def row(server: Server) -> Proposal:
    """A pending proposal on an armed desk."""
    now = clock.now()
    seeding.instruments(now)
    seeding.books(now)
    seeding.arm(now)
    return seeding.proposal(now)


def button_of(page: Page) -> Locator:
    return page.locator("#halt-form button")


def press(page: Page) -> None:
    """A click; a tap where the window is a phone's."""
    button = button_of(page)
    if page.viewport_size == {"width": NARROW[0], "height": NARROW[1]}:
        button.tap()
    else:
        button.click()


def switch() -> str:
    return TradingControl.objects.get(pk=seeding.ENVIRONMENT).status


def expect_halted(page: Page) -> None:
    expect(page.locator("#trading-state summary")).to_contain_text("HALTED")
    expect(page.locator("#status-slot")).to_contain_text("Halted.")
    expect(button_of(page)).to_be_disabled()
    assert switch() == "HALTED"


def held_back(page: Page) -> list[Route]:
    """The halts that were sent and did not reach the server."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(HALT, hold)
    return held


def without(watched: Watched, *words: str) -> None:
    """The browser itself reports what the test made fail."""
    watched.faults = [fault for fault in watched.faults if not any(word in fault for word in words)]


@pytest.mark.parametrize(
    ("browser_context", "paths"),
    [(WIDE, ("/", "/feed/", "/no-such-page/")), (NARROW, PAGES)],
    indirect=["browser_context"],
    ids=["desktop", "phone"],
)
def test_one_press_halts_from_every_page(watched: Watched, row: Proposal, paths: tuple[str, ...]) -> None:
    for path in (*paths, f"/approvals/{row.pk}/"):
        seeding.arm(clock.now())
        page = open_live(watched, path)
        expect(button_of(page)).to_be_in_viewport()

        press(page)

        expect_halted(page)
    without(watched, "404")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_one_press_of_a_key_halts(watched: Watched, row: Proposal, key: str) -> None:
    page = open_live(watched, "/orders/")

    button_of(page).focus()
    page.keyboard.press(key)

    expect_halted(page)


@in_both_sizes
def test_double_click_halts_once(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, "/orders/")

    button_of(page).dblclick()

    expect_halted(page)
    expect(page.locator("#alert-slot")).to_be_empty()
    assert Kill.objects.count() == 1


@in_both_sizes
def test_press_shows_at_once_that_it_works_and_then_the_outcome(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, "/orders/")
    held = held_back(page)

    press(page)

    expect(button_of(page)).to_have_text("Halting…", use_inner_text=True)
    expect(button_of(page)).to_be_disabled()
    assert switch() == "ACTIVE"
    held[0].continue_()
    expect_halted(page)


@in_both_sizes
@pytest.mark.parametrize("failure", ["network", "500", "503 of a proxy"])
def test_halt_that_got_no_answer_says_so_and_can_be_pressed_again(
    watched: Watched, row: Proposal, failure: str
) -> None:
    page = open_live(watched, "/proposals/")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.route(
        HALT,
        lambda route: route.abort() if failure == "network" else route.fulfill(status=int(failure[:3])),
    )

    press(page)

    expect(page.locator("#alert-slot")).to_contain_text(LOST)
    expect(page.locator("#alert-slot")).to_be_in_viewport()
    expect(button_of(page)).to_be_enabled()
    expect(button_of(page)).to_have_text("Halt", use_inner_text=True)
    page.unroute(HALT)
    press(page)
    expect_halted(page)
    expect(page.locator("#alert-slot")).to_be_empty()
    without(watched, "net::ERR_FAILED", "500", "503", "htmx:error", "Failed to fetch")


def test_server_that_never_answers_is_given_up_after_ten_seconds(watched: Watched, row: Proposal) -> None:
    watched.page.clock.install()
    page = open_live(watched, "/orders/")
    held_back(page)
    press(page)
    expect(button_of(page)).to_have_text("Halting…", use_inner_text=True)

    page.clock.fast_forward(10_000)

    expect(page.locator("#alert-slot")).to_contain_text(LOST)
    expect(button_of(page)).to_be_enabled()
    without(watched, "htmx:error", "timeout")


def test_page_that_cannot_know_any_more_that_trading_is_halted_offers_the_halt_again(
    watched: Watched, row: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_live(watched, "/orders/")
    press(page)
    expect_halted(page)
    monkeypatch.setattr(consumers, "BEAT_SECONDS", 3600.0)
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 3600.0)
    expect(page.locator("#link")).to_contain_text("STALE")
    seeding.arm(clock.now())  # by somebody else, unseen

    expect(button_of(page)).to_have_text("Halt again", use_inner_text=True)
    press(page)

    wait_for(lambda: switch() == "HALTED")


def test_halt_by_keyboard_works_while_an_approval_is_held(watched: Watched, row: Proposal) -> None:
    page = open_live(watched, f"/approvals/{row.pk}/")
    page.locator("button[data-command=approve]").hover()
    page.mouse.down()

    button_of(page).focus()
    page.keyboard.press("Enter")

    expect(page.locator("#trading-state summary")).to_contain_text("HALTED")
    page.mouse.up()
    assert switch() == "HALTED"
    assert Proposal.objects.get(pk=row.pk).status != "approved"


@pytest.fixture
def finger(watched: Watched, browser_context: BrowserContext) -> "Finger":
    return Finger(watched.page, browser_context)


class Finger:
    """Raw touches, as the browser gets them from the glass."""

    def __init__(self, page: Page, context: BrowserContext) -> None:
        self._page, self._glass = page, context.new_cdp_session(page)

    def _touch(self, kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y} for x, y in points]
        self._glass.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def slide(self, button: Locator, by: float) -> None:
        """Down on the button, up the screen in steps, and off."""
        x, y = self._middle(button)
        self._touch("touchStart", (x, y))
        for step in range(1, 11):
            self._touch("touchMove", (x, y + by * step / 10))
        self._touch("touchEnd")

    def hold(self, button: Locator, milliseconds: int) -> None:
        self._touch("touchStart", self._middle(button))
        self._page.wait_for_timeout(milliseconds)
        self._touch("touchEnd")

    @staticmethod
    def _middle(button: Locator) -> tuple[float, float]:
        box = button.bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("browser_context", [NARROW], indirect=True)
def test_scroll_that_begins_on_the_button_does_not_halt(
    watched: Watched, row: Proposal, finger: Finger
) -> None:
    page = open_live(watched, "/")

    finger.slide(button_of(page), by=300)
    finger.slide(button_of(page), by=40)
    page.locator("#trading-state summary").tap()

    expect(page.locator("#trading-state .why")).to_be_visible()
    expect(button_of(page)).to_have_text("Halt", use_inner_text=True)
    assert (switch(), Kill.objects.count()) == ("ACTIVE", 0)


@pytest.mark.parametrize("browser_context", [NARROW], indirect=True)
def test_finger_that_stays_on_the_button_halts_too(watched: Watched, row: Proposal, finger: Finger) -> None:
    page = open_live(watched, "/orders/")

    finger.hold(button_of(page), 1100)

    expect_halted(page)
    assert Kill.objects.count() == 1


@in_both_sizes
def test_halt_needs_no_script(watched: Watched, row: Proposal, browser_context: BrowserContext) -> None:
    browser = browser_context.browser
    assert browser is not None
    bare = browser.new_context(java_script_enabled=False, viewport=watched.page.viewport_size)
    bare.add_cookies(browser_context.cookies())  # type: ignore[arg-type]
    page = bare.new_page()
    page.goto(f"{watched.server.url}/positions/")

    page.locator("#halt-form button").click()

    expect(page.locator("#status-slot")).to_contain_text("Halted.")
    expect(page).to_have_url(f"{watched.server.url}/positions/")
    bare.close()
    assert switch() == "HALTED"


@in_both_sizes
def test_one_press_halts_from_the_admin(watched: Watched, row: Proposal) -> None:
    User.objects.filter(username="ana").update(is_staff=True, is_superuser=True)
    page = watched.open("/admin/risk/risklimits/add/")
    button = page.get_by_role("button", name="Halt trading")
    expect(button).to_be_in_viewport()
    assert button.evaluate("e => e.offsetHeight >= 44 && document.documentElement.scrollWidth <= innerWidth")

    button.click()

    expect(page.locator(".messagelist .success")).to_contain_text("Halted.")
    expect(page).to_have_url(f"{watched.server.url}/admin/risk/risklimits/add/")
    assert switch() == "HALTED"
