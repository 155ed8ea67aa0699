// Draws the candle chart from its JSON and again whenever the table below it is patched.
(() => {
  "use strict";
  const place = document.getElementById("chart"), problem = document.getElementById("chart-problem");
  if (!place) return;
  if (!window.LightweightCharts) { say("The chart could not be loaded. The table below holds the same."); return; }
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const UP = colour("--up"), DOWN = colour("--down"), LINE = colour("--line"), HOLE = "rgba(255, 141, 141, 0.28)";
  const {createChart, createSeriesMarkers, CandlestickSeries, LineSeries, HistogramSeries} = LightweightCharts;

  const chart = createChart(place, {
    autoSize: true,
    layout: {attributionLogo: false, background: {type: "solid", color: colour("--surface")}, textColor: colour("--muted"), panes: {separatorColor: LINE}},
    grid: {vertLines: {color: LINE}, horzLines: {color: LINE}},
    timeScale: {timeVisible: true, borderColor: LINE},
    rightPriceScale: {borderColor: LINE},
    handleScroll: {vertTouchDrag: false},
    localization: {timeFormatter: (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC"},
  });
  const quiet = {lineWidth: 1, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false};
  const holes = chart.addSeries(HistogramSeries, {priceScaleId: "holes", color: HOLE, priceLineVisible: false, lastValueVisible: false});
  holes.priceScale().applyOptions({scaleMargins: {top: 0, bottom: 0}, visible: false});
  const candles = chart.addSeries(CandlestickSeries, {upColor: UP, downColor: DOWN, wickUpColor: UP, wickDownColor: DOWN, borderVisible: false});
  const lines = {
    ema_9: chart.addSeries(LineSeries, {...quiet, color: "#ffd166"}),
    ema_21: chart.addSeries(LineSeries, {...quiet, color: "#7fd4b0"}),
    rsi_14: chart.addSeries(LineSeries, {...quiet, color: "#c9a7ff", lastValueVisible: true, autoscaleInfoProvider: () => ({priceRange: {minValue: 0, maxValue: 100}})}, 1),
  };
  for (const level of [30, 70]) lines.rsi_14.createPriceLine({price: level, color: LINE, lineWidth: 1, axisLabelVisible: false, title: ""});
  chart.panes()[0].setStretchFactor(3);
  chart.panes()[1].setStretchFactor(1);
  const markers = createSeriesMarkers(candles, []);

  function say(text) { problem.textContent = text; problem.hidden = !text; }

  function mark(found) {
    const buys = found.side === "BUY", fill = found.kind === "fill";
    return {
      time: found.time, position: buys ? "belowBar" : "aboveBar", color: fill ? "#e6edf3" : "#9aa7b4",
      shape: fill ? (buys ? "arrowUp" : "arrowDown") : "circle", size: fill ? 1 : 0.6, text: fill ? (buys ? "B" : "S") : "",
    };
  }

  // The library joins the points of a series across whatever lies between; a stretch has the colour of the point
  // it starts at, so the last point of each piece but the newest is drawn in none.
  function unjoined(pieces) {
    return pieces.flatMap((piece, number) => piece.map(([time, value], at) =>
      at === piece.length - 1 && number < pieces.length - 1 ? {time, value, color: "rgba(0, 0, 0, 0)"} : {time, value}));
  }

  let drawn = false;
  async function draw() {
    let data;
    try {
      const answer = await fetch(place.dataset.source, {headers: {Accept: "application/json"}});
      if (!answer.ok) throw new Error(String(answer.status));
      data = await answer.json();
    } catch {
      say("The chart did not get its data; it tries again with the next candle. The table below holds the same.");
      return;
    }
    const bars = data.candles.map(([time, open, high, low, close]) => ({time, open, high, low, close}));
    const gaps = data.missing.map((time) => ({time}));
    const priceFormat = {type: "price", precision: data.places, minMove: 10 ** -data.places};
    for (const series of [candles, lines.ema_9, lines.ema_21]) series.applyOptions({priceFormat});
    candles.setData([...bars, ...gaps].sort((a, b) => a.time - b.time));
    holes.setData(data.missing.map((time) => ({time, value: 1, color: HOLE})));
    for (const [name, series] of Object.entries(lines)) {
      series.setData(unjoined(data.lines[name]));
    }
    markers.setMarkers(data.marks.map(mark));
    say(bars.length ? "" : "No closed candle is stored yet.");
    // Once: later the view stays where the reader left it.
    if (!drawn && bars.length) chart.timeScale().setVisibleLogicalRange({from: Math.max(0, bars.length + gaps.length - place.clientWidth / 7), to: bars.length + gaps.length + 2});
    drawn = drawn || bars.length > 0;
    place.dataset.drawn = String(bars.length);
    place.dataset.holes = String(gaps.length);
    place.dataset.marks = String(data.marks.length);
  }

  let waiting = 0;
  function follow() {
    const table = document.getElementById(place.dataset.follows);
    if (!table) return;
    new MutationObserver(() => { clearTimeout(waiting); waiting = setTimeout(draw, 150); }).observe(table, {childList: true, subtree: true, characterData: true});
  }
  draw();
  follow();
})();
