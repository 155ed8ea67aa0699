"""The operator at a browser window: what a hand and an eye do on the desk's pages."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Request, expect

from tests.stack.running import RunningStack

HOLD_MS = 1100
APPEAR_MS = 60_000


@dataclass(frozen=True)
class Viewport:
    """A window size."""

    name: str
    width: int
    height: int
    is_phone: bool


WIDE = Viewport("desktop", 1440, 900, is_phone=False)
PHONE = Viewport("phone", 360, 800, is_phone=True)


expect.set_options(timeout=APPEAR_MS)


def panel(key: str) -> str:
    """The selector of a panel of the page."""
    return f"[data-panel='{key}']"


class DeskWindow:
    """One browser context. `faults` collects whatever must not happen on any page."""

    def __init__(self, browser: Browser, stack: RunningStack, viewport: Viewport, pictures: Path) -> None:
        self.stack, self.viewport = stack, viewport
        self.faults: list[str] = []
        self._pictures = pictures
        self._context = browser.new_context(
            viewport={"width": viewport.width, "height": viewport.height},
            is_mobile=viewport.is_phone,
            has_touch=viewport.is_phone,
        )
        self._context.set_default_timeout(APPEAR_MS)
        self._context.add_init_script(
            "addEventListener('securitypolicyviolation', "
            "e => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI))"
        )
        self.page = self.new_page()

    def close(self) -> None:
        """Close the window with all its tabs."""
        self._context.close()

    def new_page(self) -> Page:
        """One more tab, watched like the first."""
        page = self._context.new_page()
        page.on("console", lambda line: self._note(f"console {line.type}: {line.text}", line.type != "log"))
        page.on("pageerror", lambda error: self._note(f"error: {error}", True))
        page.on("request", self._check_host)
        page.on("websocket", lambda socket: self._check_address(socket.url))
        return page

    def _note(self, text: str, is_fault: bool) -> None:
        if is_fault:
            self.faults.append(f"{self.page.url}: {text}" if hasattr(self, "page") else text)

    def _check_host(self, request: Request) -> None:
        self._check_address(request.url)

    def _check_address(self, url: str) -> None:
        ours = (self.stack.url + "/", self.stack.url.replace("http", "ws", 1) + "/", "data:")
        self._note(f"request to {url}", not url.startswith(ours))

    # --- moving about -------------------------------------------------------------------------------------

    def sign_in(self) -> None:
        """From the login page to the overview."""
        self.page.goto(f"{self.stack.url}/login/?next=/")
        self.page.get_by_label("Name").fill(self.stack.user)
        self.page.get_by_label("Password").fill(self.stack.password)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page).to_have_title(re.compile("Overview"))

    def open(self, path: str, page: Page | None = None) -> Page:
        """Load a page of the desk and wait until its socket is live."""
        page = page or self.page
        page.goto(self.stack.url + path)
        self.settle(page)
        return page

    def settle(self, page: Page | None = None) -> None:
        """Wait for the live link of a page just reached, and mark the page, so that a reload would show."""
        page = page or self.page
        expect(page.locator("#link")).to_contain_text("live")
        page.evaluate("window.neverReloaded = true")

    def assert_not_reloaded(self, page: Page | None = None) -> None:
        """The page is the one that `settle` marked."""
        assert (page or self.page).evaluate("window.neverReloaded === true")

    def picture(self, name: str, page: Page | None = None) -> None:
        """Keep a screenshot of what is in sight."""
        (page or self.page).screenshot(path=self._pictures / f"{self.viewport.name}-{name}.png")

    # --- the hand -----------------------------------------------------------------------------------------

    def press(self, button: Locator) -> None:
        """A click or a tap."""
        if self.viewport.is_phone:
            button.tap()
        else:
            button.click()

    def hold(self, button: Locator) -> None:
        """Press, wait, release: with the mouse, or with a finger."""
        button.scroll_into_view_if_needed()
        box = button.bounding_box()
        assert box is not None
        page, x, y = button.page, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        if not self.viewport.is_phone:
            page.mouse.move(x, y)
            page.mouse.down()
            page.wait_for_timeout(HOLD_MS)
            page.mouse.up()
            return
        finger = self._context.new_cdp_session(page)
        finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        page.wait_for_timeout(HOLD_MS)
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        finger.detach()

    # --- the eye ------------------------------------------------------------------------------------------

    def waiting(self, page: Page) -> list[str]:
        """Ids of the proposals that the queue page shows as waiting."""
        found: Sequence[str] = page.locator("li[id^=waiting-]").evaluate_all("rows => rows.map(r => r.id)")
        return [row.removeprefix("waiting-") for row in found]

    def steps(self) -> list[str]:
        """The names on the timeline of the page."""
        return self.page.locator(".timeline .step").all_inner_texts()
