"""Event committed to DOM changed, in Chromium on the overview; beside it a bare Redis PUBLISH."""

from typing import Any

from benchmarks.desk_page import desk_page
from benchmarks.figures import Figure, figure

PORT = 9920
EVENTS = 130
GAP_SECONDS = [0.2, 0.46]  # three a second, out of step with the page's own beats
SECONDS_MAX = 120
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
    with desk_page(PORT) as (page, _, writer, listener):
        page.evaluate(WATCH)
        listener.begin("hear_publishes", wait_seconds=SECONDS_MAX)
        page.wait_for_timeout(1000)
        raised = writer.call(
            "raise_alerts", seconds_max=SECONDS_MAX, count=EVENTS, gap_seconds=GAP_SECONDS, seed=7
        )
        heard = listener.result(SECONDS_MAX)
        page.wait_for_timeout(1000)
        seen = page.evaluate("window.benchmark")
    return _figures(raised, heard, seen)


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
