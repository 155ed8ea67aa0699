"""A stack of its own with the desk in Chromium, signed in, and two processes inside the stack."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from benchmarks.figures import CouldNotMeasure
from benchmarks.stack import Inside, Stack, temporary_folder

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
LIVE_MS_MAX = 15_000
SETTLE_MS = 4000


@contextmanager
def desk_page(port: int) -> Iterator[tuple[Page, Stack, Inside, Inside]]:
    """The overview of the operator, its first seconds behind us; raises CouldNotMeasure without a browser."""
    browser_path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser_path is None:
        raise CouldNotMeasure("there is no Chromium: sh deploy/ensure_chromium")
    with (
        temporary_folder() as folder,
        Stack(folder / "data", port, SPEED="1") as stack,
        Inside(stack) as first,
        Inside(stack) as second,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=browser_path, args=BROWSER_ARGS)
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            _sign_in(page, stack)
            yield page, stack, first, second
        finally:
            browser.close()


def _sign_in(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/login/")
    page.fill("#id_username", "operator")
    page.fill("#id_password", stack.password)
    page.click("button.primary")
    page.wait_for_selector("body[data-link=live]", timeout=LIVE_MS_MAX)
    page.wait_for_timeout(SETTLE_MS)
