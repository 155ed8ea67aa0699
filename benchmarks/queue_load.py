"""A hundred waiting proposals before twenty open browsers: patches a second, and commit to DOM."""

from typing import Any

from playwright.sync_api import Page

from benchmarks.desk_page import desk_page
from benchmarks.figures import CouldNotMeasure, Figure, figure
from benchmarks.stack import Inside, Stack

PORT = 9924
CARDS = 100
CLIENTS = 19  # sockets of a program; the twentieth is Chromium
# Changes of the queue: about one a second, then five; the strategies of the desk make three a minute.
PHASES = {"1 a second": (40, [0.8, 1.2]), "5 a second": (30, [0.15, 0.25])}
SETTLE_MS = 6000
LEAST = 20
# Stamps the first change of the DOM that holds a proposal's card.
WATCH = """() => {
  const seen = window.benchmark = {};
  const look = () => {
    const now = Date.now();
    for (const card of document.querySelectorAll("[id^=waiting-]")) seen[card.id.slice(8)] ??= now;
  };
  const whole = {subtree: true, childList: true, attributes: true, attributeFilter: ["id"]};
  new MutationObserver(look).observe(document.body, whole);
  look();
}"""


def measure() -> list[Figure]:
    """The same queue page in twenty browsers while proposals come and go."""
    with desk_page(PORT) as (page, stack, writer, clients):
        writer.call("silence_strategies")
        oldest = writer.call("fill_queue", count=CARDS)
        page.goto(f"{stack.url}/approvals/")
        page.wait_for_selector("body[data-link=live]")
        if (cards := page.locator("[id^=waiting-]").count()) != CARDS:
            raise CouldNotMeasure(f"the page shows {cards} cards, not {CARDS}")
        page.evaluate(WATCH)
        return [row for name in PHASES for row in _phase(name, page, stack, writer, clients, oldest)]


def _phase(
    name: str, page: Page, stack: Stack, writer: Inside, clients: Inside, oldest: list[str]
) -> list[Figure]:
    seconds, gaps = PHASES[name]
    session = next(c["value"] for c in page.context.cookies() if c["name"] == "sessionid")
    lasts = seconds + SETTLE_MS / 1000 + 4
    clients.begin("watch_queue", url=stack.url, session=session, clients=CLIENTS, seconds=lasts)
    page.wait_for_timeout(SETTLE_MS)  # every socket has sent its first, whole patch
    committed: dict[str, int] = writer.call(
        "change_queue", seconds_max=seconds + 60, seconds=seconds, gap_seconds=gaps, seed=7, oldest=oldest
    )
    heard = clients.result(lasts + 60)
    seen: dict[str, int] = page.evaluate("window.benchmark")
    oldest[:] = [*oldest, *committed][-CARDS:]
    return _figures(name, committed, heard, seen)


def _figures(
    name: str, committed: dict[str, int], heard: dict[str, Any], seen: dict[str, int]
) -> list[Figure]:
    start, end = min(committed.values()), max(committed.values())
    patches = [(at, size) for at, size in heard["patches"] if start <= at <= end]
    each_second = [0] * ((end - start) // 1_000_000 + 1)
    for at, _ in patches:
        each_second[(at - start) // 1_000_000] += 1
    frames = [
        (first[pk] - at) / 1000 for first in heard["first"] for pk, at in committed.items() if pk in first
    ]
    shown = [seen[pk] - at / 1000 for pk, at in committed.items() if pk in seen]
    print(
        f"queue, {name}: {len(committed)} changes committed, {len(shown)} seen in the DOM, "
        f"{len(frames)} of {len(committed) * CLIENTS} seen by {CLIENTS} sockets, "
        f"{sum(size for _, size in patches) / max(len(patches), 1) / 1000:.0f} kB a patch"
    )
    return [
        figure(f"queue of {CARDS}, {name}: committed -> DOM changed", shown, least=LEAST),
        figure(f"  committed -> patch at {CLIENTS} other browsers", frames, least=LEAST),
        figure(f"  patches a second to those {CLIENTS}", each_second, "1/s", least=LEAST),
    ]
