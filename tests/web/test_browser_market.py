"""The market pages in Chromium, wide and narrow."""

from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from market import services
from tests.market.builders import MINUTE, walk
from tests.market.filled import SYMBOL, fill_the_store
from tests.web.conftest import Watched, in_both_sizes
from tradingbot.core import clock

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def symbols(settings: Any) -> None:
    settings.SYMBOLS = (SYMBOL, "ETHUSDT")


@in_both_sizes
def test_the_chart_is_drawn_and_follows_new_candles(watched: Watched) -> None:
    now = clock.now()
    minutes = fill_the_store(now)
    page = watched.open("/market/BTCUSDT/")
    expect(page.locator("#chart[data-drawn='300'][data-holes='6']")).to_be_visible()
    assert page.locator("#chart canvas").count() > 4
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.get_by_text("TradingView Lightweight Charts™ © TradingView, Inc.")).to_be_visible()
    expect(page.locator("#link")).to_contain_text("live")

    last = minutes[-1]
    late = replace(
        walk(1, start=last.open_time + MINUTE)[0], close=last.high, high=last.high, low=last.low / 2
    )
    services.upsert_candles(candles=[late], now=clock.now(), live=True)

    expect(page.locator("table.candles tbody tr").first).to_contain_text(f"{late.open_time:%H:%M:%S}")
    page.wait_for_function(
        "at => fetch(document.getElementById('chart').dataset.source).then(a => a.json())"
        ".then(d => d.candles.at(-1)[0] === at)",
        arg=clock.to_milliseconds(late.open_time) // 1000,
    )


# Per colour of a line, how many columns of the chart's canvases show it: where a hole is shaded, and elsewhere.
COLUMNS_OF_LINES = """() => {
  const near = (d, i, [r, g, b]) => Math.abs(d[i] - r) + Math.abs(d[i + 1] - g) + Math.abs(d[i + 2] - b) < 60;
  const shaded = (d, i) => d[i] > d[i + 1] + 15 && Math.abs(d[i + 1] - d[i + 2]) < 20 && d[i] < 140;
  const panes = [...document.querySelectorAll("#chart canvas")].filter((c) => c.width > 150 && c.height > 60);
  const pixels = (c) => {
    const copy = Object.assign(document.createElement("canvas"), {width: c.width, height: c.height});
    const context = copy.getContext("2d", {willReadFrequently: true});
    context.drawImage(c, 0, 0);
    return context.getImageData(0, 0, c.width, c.height).data;
  };
  const images = panes.map((c) => [c, pixels(c)]);
  const holes = new Set();
  for (const [c, d] of images) for (let x = 0; x < c.width; x++) {
    let count = 0;
    for (let y = 0; y < c.height; y++) if (shaded(d, 4 * (y * c.width + x))) count++;
    if (count > c.height / 2) holes.add(x);
  }
  const lines = {ema_9: [255, 209, 102], ema_21: [127, 212, 176], rsi_14: [201, 167, 255]};
  return Object.fromEntries(Object.entries(lines).map(([name, colour]) => {
    const columns = new Set();
    for (const [c, d] of images) for (let x = 0; x < c.width; x++) for (let y = 0; y < c.height; y++) {
      if (d[4 * (y * c.width + x) + 3] > 150 && near(d, 4 * (y * c.width + x), colour)) { columns.add(x); break; }
    }
    const inside = [...columns].filter((x) => holes.has(x)).length;
    return [name, {holes: holes.size, inside, outside: columns.size - inside}];
  }));
}"""


@in_both_sizes
def test_no_line_is_drawn_across_a_hole(watched: Watched) -> None:
    fill_the_store(clock.now())
    page = watched.open("/market/BTCUSDT/")
    expect(page.locator("#chart[data-drawn='300'][data-holes='6']")).to_be_visible()
    page.wait_for_function(
        f"() => Object.values(({COLUMNS_OF_LINES})()).every((line) => line.holes > 10 && line.outside > 10)",
        timeout=60_000,
    )

    columns = page.evaluate(COLUMNS_OF_LINES)

    assert [line["inside"] for line in columns.values()] == [0, 0, 0], columns


@in_both_sizes
def test_the_feed_page_fits_the_screen(watched: Watched) -> None:
    fill_the_store(clock.now())

    page = watched.open("/feed/")

    expect(page.locator("#stream-market")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
