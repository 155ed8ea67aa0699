"""Event committed to DOM changed, in Chromium on the overview; beside it a bare Redis PUBLISH."""

import shutil
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.figures import CouldNotMeasure, Figure, figure
from benchmarks.stack import Inside, Stack, temporary_folder

PORT = 9920
EVENTS = 130
GAP_SECONDS = [0.2, 0.46]  # three a second, out of step with the page's own beats
LIVE_MS_MAX = 15_000
SETTLE_MS = 4000
SECONDS_MAX = 120
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Stamps the first change of the DOM, and the first frame, that carries an event's title.
WATCH = """() => {
  const seen = window.benchmark = {dom: {}, frame: {}, sent: {}};
  const each = (text, note) => { for (const found of text.matchAll(/benchmark event (\\d+) end/g)) note(found[1]); };
  document.addEventListener("htmx:ws:before:message:incoming", (event) => {
    const now = Date.now(), frame = JSON.parse(event.detail.message.data);
    each(frame.content || "", (n) => { seen.frame[n] ??= now; seen.sent[n] ??= Date.parse(frame.at); });
  });
  new MutationObserver(() => {
    const now = Date.now();
    each(document.getElementById("panel-alerts.open").textContent, (n) => { seen.dom[n] ??= now; });
  }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def measure() -> list[Figure]:
    """Alerts raised through the service by another process, about three a second."""
    browser_path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser_path is None:
        raise CouldNotMeasure("there is no Chromium: sh deploy/ensure_chromium")
    with (
        temporary_folder() as folder,
        Stack(folder / "data", PORT, SPEED="1") as stack,
        Inside(stack) as writer,
        Inside(stack) as listener,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            sign_in(page, stack)
            page.evaluate(WATCH)
            listener.begin("hear_publishes", wait_seconds=SECONDS_MAX)
            page.wait_for_timeout(1000)
            raised = writer.call(
                "raise_alerts", seconds_max=SECONDS_MAX, count=EVENTS, gap_seconds=GAP_SECONDS, seed=7
            )
            heard = listener.result(SECONDS_MAX)
            page.wait_for_timeout(1000)
            seen = page.evaluate("window.benchmark")
        finally:
            browser.close()
    return _figures(raised, heard, seen)


def sign_in(page: Page, stack: Stack) -> None:
    """The operator's session on `page`, and the first seconds of it behind us."""
    page.goto(f"{stack.url}/login/")
    page.fill("#id_username", "operator")
    page.fill("#id_password", stack.password)
    page.click("button.primary")
    page.wait_for_selector("body[data-link=live]", timeout=LIVE_MS_MAX)
    page.wait_for_timeout(SETTLE_MS)


def _figures(raised: dict[str, Any], heard: dict[str, int], seen: dict[str, Any]) -> list[Figure]:
    committed, published = raised["committed"], raised["published"]
    shown = [n for n in committed if n in seen["dom"] and n in seen["frame"]]
    print(
        f"page: {len(committed)} events committed, {len(shown)} seen in the DOM; "
        "the browser's stamps are whole milliseconds, cut off: up to 1 ms early"
    )
    redis = [(heard[n] - published[n]) / 1000 for n in published if n in heard]
    return [
        figure(
            "event committed -> DOM changed (overview)",
            [seen["dom"][n] - committed[n] / 1000 for n in shown],
            baseline=("bare Redis PUBLISH to another process", redis),
        ),
        figure(
            "  committed -> frame sent by the server", [seen["sent"][n] - committed[n] / 1000 for n in shown]
        ),
        figure("  frame sent -> frame in the page", [seen["frame"][n] - seen["sent"][n] for n in shown]),
        figure("  frame in the page -> DOM changed", [seen["dom"][n] - seen["frame"][n] for n in shown]),
        figure("bare Redis PUBLISH to another process", redis),
    ]
