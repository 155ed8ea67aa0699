"""Closed candle to proposal row, with the stand-in answering at once."""

import time
from typing import Any

import requests

from benchmarks.figures import SAMPLES_MIN, CouldNotMeasure, Figure, figure
from benchmarks.stack import Inside, Stack, temporary_folder

PORT = 9900
SPEED = "40"  # a candle every 1.5 s, of each symbol
WARM_UP_SECONDS = 12
COLLECT_SECONDS = 90


def measure() -> list[Figure]:
    """From stored timestamps: candle received, decision begun, model's latency, proposal, gate's verdict."""
    with (
        temporary_folder() as folder,
        Stack(folder / "data", PORT, SPEED=SPEED) as stack,
        Inside(stack) as inside,
        Inside(stack) as listener,
    ):
        inside.call("arm", threshold_quote="1000")
        inside.call("ask_on_every_candle")
        time.sleep(WARM_UP_SECONDS)
        since_us = time.time_ns() // 1000
        heard = listener.call(
            "hear_proposals", seconds_max=COLLECT_SECONDS + 30, wait_seconds=COLLECT_SECONDS
        )
        inside.call("silence_strategies")
        found = inside.call("decisions", since_us=since_us)
        alone = [
            _ask_directly(stack, request) for request in inside.call("model_requests", count=SAMPLES_MIN)
        ]
    for row in found["rows"]:
        row["announced"] = heard.get(row["id"])
    return _figures(found, alone)


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
    rows = [row for row in found["rows"] if row["announced"] is not None]
    if any(row["announced"] < row["received"] for row in rows):
        raise CouldNotMeasure(
            "a proposal was announced before its candle was received: a candle was rewritten"
        )
    early = sum(row["started"] < row["received"] for row in rows)
    print(
        f"candle to proposal: {found['candles']} candles received, {len(rows)} decided well, "
        f"{len(found['failed'])} otherwise {sorted(set(found['failed']))}; {early} began before their candle "
        "came (a task that had waited for the one before it); stamps are microseconds"
    )
    judged = [row for row in rows if row["judged"] is not None]
    ordered = [row for row in rows if row["acknowledged"] is not None]
    own = [_ms(row, "started", "proposed") - row["model_ms"] for row in rows]
    whole = [_ms(row, "received", "proposed") for row in rows]
    announced = [_ms(row, "received", "announced") for row in rows]
    figures = [
        figure("closed candle -> proposal announced to another process", announced),
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
