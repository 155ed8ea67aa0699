"""Closed candle to proposal row, with the stand-in answering at once."""

import time
from typing import Any

import requests

from benchmarks.figures import SAMPLES_MIN, CouldNotMeasure, Figure, figure
from benchmarks.stack import Inside, Stack, temporary_folder

PORT = 9900
SPEED = "40"  # a candle every 1.5 s, of each symbol
WARM_UP_SECONDS = 12
SAMPLES = 300
SECONDS_MAX = 300


def measure() -> list[Figure]:
    """From stored timestamps: candle received, decision begun, model's latency, proposal, gate's verdict."""
    with (
        temporary_folder() as folder,
        Stack(folder / "data", PORT, SPEED=SPEED) as stack,
        Inside(stack) as inside,
    ):
        inside.call("arm", threshold_quote="1000")
        inside.call("ask_on_every_candle")
        time.sleep(WARM_UP_SECONDS)
        found = _collect(inside)
        asked = inside.call("model_requests", count=SAMPLES_MIN)
        inside.call("silence_strategies")
        time.sleep(2)
        alone = [_ask_directly(stack, request) for request in asked]
    return _figures(found, alone)


def _collect(inside: Inside) -> dict[str, Any]:
    since_us = time.time_ns() // 1000
    deadline = time.monotonic() + SECONDS_MAX
    while inside.call("count_decisions", since_us=since_us) < SAMPLES and time.monotonic() < deadline:
        time.sleep(3)
    found: dict[str, Any] = inside.call("decisions", since_us=since_us)
    return found


def _ask_directly(stack: Stack, request: dict[str, Any]) -> float:
    """Milliseconds of the same request over plain HTTP, each on a connection of its own."""
    began = time.perf_counter()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = "Bearer no-key"
        answer = session.post(f"{stack.model_url}/chat/completions", json=request, timeout=10)
        answer.raise_for_status()
    return (time.perf_counter() - began) * 1000


def _figures(found: dict[str, Any], alone: list[float]) -> list[Figure]:
    rows = found["rows"]
    if any(row["started"] < row["received"] for row in rows):
        raise CouldNotMeasure("a decision began before its candle was received: a candle was rewritten")
    print(
        f"candle to proposal: {found['candles']} candles received, {len(rows)} decided well, "
        f"{len(found['failed'])} otherwise {sorted(set(found['failed']))}; stamps are microseconds"
    )
    judged = [row for row in rows if row["judged"] is not None]
    ordered = [row for row in rows if row["acknowledged"] is not None]
    own = [_ms(row, "started", "proposed") - row["model_ms"] for row in rows]
    whole = [_ms(row, "received", "proposed") for row in rows]
    figures = [
        figure("closed candle -> proposal row", whole, baseline=("stand-in over plain HTTP", alone)),
        figure("  candle -> decision begun", [_ms(row, "received", "started") for row in rows]),
        figure("  model's latency, as stored", [float(row["model_ms"]) for row in rows]),
        figure("  decision, the rest of it", own),
        figure(
            "proposal row -> gate's verdict", [_ms(row, "proposed", "judged") for row in judged], least=20
        ),
    ]
    if len(ordered) >= 20:
        took = [_ms(row, "received", "acknowledged") for row in ordered]
        figures.append(figure("closed candle -> order acknowledged (automatic)", took, least=20))
    return figures


def _ms(row: dict[str, Any], start: str, end: str) -> float:
    return (int(row[end]) - int(row[start])) / 1000
