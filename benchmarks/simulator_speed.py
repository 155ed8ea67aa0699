"""Orders a second over REST and the WS API, place to executionReport, and candles a second of a replay."""

import asyncio
import csv
import gzip
import io
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.figures import CouldNotMeasure, Figure, figure
from benchmarks.market_parts import Exchange
from benchmarks.simulator_client import SYMBOL, Client, Rest, Trader, WsApi, drive
from benchmarks.stack import temporary_folder
from simulator.market.recording import read_recording

CLIENTS = (1, 8)
WINDOWS = 8
ORDER_SECONDS = 1.5
PING_SECONDS = 0.5  # an address may use a weight of 6,000 a minute: each connection has its own
PING = "`ping`, the same way"
SAMPLES = 600
MARKET_SPEED = "20"  # the book is filled up again by every tick
PARSES = 7
HOUR_MS = 3_600_000
DAYS = 20
HOURS_HEARD = 48
STREAMS = ("kline_1m", "aggTrade", "bookTicker")


def measure(recording: Path | None) -> list[Figure]:
    """Everything on state files, as the product runs it; the replay figures need a candle file."""
    with temporary_folder() as folder:
        exchange = Exchange(folder, "--speed", MARKET_SPEED)
        try:
            exchange.start()
            figures = asyncio.run(_orders(exchange))
        finally:
            exchange.kill()
    if recording is None:
        raise CouldNotMeasure("there is no candle file: name one with --replay")
    return figures + _replay(recording)


# --- orders ---------------------------------------------------------------------------------------------


async def _orders(exchange: Exchange) -> list[Figure]:
    addresses = iter(f"127.0.{n // 250}.{n % 250 + 1}" for n in range(1, 10_000))
    figures: list[Figure] = []
    for name, kind in (("REST", Rest), ("WS API", WsApi)):
        for clients in CLIENTS:
            figures += await _throughput(exchange, name, kind, clients, addresses)
    for name, kind in (("REST", Rest), ("WS API", WsApi)):
        figures.append(await _to_report(exchange, name, kind, addresses))
    return figures


async def _throughput(exchange: Exchange, name: str, kind: Any, clients: int, addresses: Any) -> list[Figure]:
    """Windows of orders and of pings in turn, on connections of the same kind and number."""
    traders = [Trader(exchange) for _ in range(clients)]
    rates: dict[str, list[float]] = {"place": [], "ping": []}
    cpu_us: dict[str, list[float]] = {"place": [], "ping": []}
    for _ in range(WINDOWS):
        for seconds, method in ((ORDER_SECONDS, "place"), (PING_SECONDS, "ping")):
            async with AsyncExitStack() as stack:
                opened: list[Client] = []
                for trader in traders:
                    opened.append(await kind(trader).connect(next(addresses)))
                    stack.push_async_callback(opened[-1].close)
                calls = [getattr(client, method) for client in opened]
                await drive(calls, 0.1)
                before = exchange.cpu_seconds()
                made, took = await drive(calls, seconds)
                cpu_us[method].append((exchange.cpu_seconds() - before) / made * 1e6)
                rates[method].append(made / took)
    who = "1 client" if clients == 1 else f"{clients} clients at once"
    return [
        figure(what, taken["place"], unit, least=WINDOWS, baseline=(PING, taken["ping"]))
        for what, taken, unit in (
            (f"orders over {name}, {who}", rates, "1/s"),
            ("– CPU of the server for each", cpu_us, "µs"),
        )
    ]


async def _to_report(exchange: Exchange, name: str, kind: Any, addresses: Any) -> Figure:
    """From just before an order is sent to its fill on the user stream of another socket."""
    trader = Trader(exchange)
    placing: Client = await kind(trader).connect(next(addresses))
    hearing = await WsApi(trader).connect(next(addresses))
    await hearing.subscribe()
    taken: list[float] = []
    pings: list[float] = []
    for _ in range(SAMPLES):
        began = time.perf_counter()
        placed = asyncio.create_task(placing.place())
        heard_at, heard = await _hear_fill(hearing)
        taken.append((heard_at - began) * 1000)
        if await placed != heard:
            raise CouldNotMeasure(f"the fill of {await placed} was expected and that of {heard} came")
        began = time.perf_counter()
        await placing.ping()
        pings.append((time.perf_counter() - began) * 1000)
    await placing.close()
    await hearing.close()
    return figure(f"place over {name} → executionReport", taken, baseline=(PING, pings))


async def _hear_fill(hearing: WsApi) -> tuple[float, str]:
    """When the next fill came, and whose it is."""
    while True:
        text = await asyncio.wait_for(hearing.socket.receive_str(), 10)
        at = time.perf_counter()
        event = json.loads(text).get("event", {})
        if event.get("x") == "TRADE" and event.get("X") == "FILLED":
            return at, event["c"]


# --- replay ---------------------------------------------------------------------------------------------


def _replay(recording: Path) -> list[Figure]:
    bare = ("gzip, csv and Decimal alone", _rates(lambda: _bare_parse(recording)))
    checked = _rates(lambda: len(read_recording(recording).candles))
    (stepped, cpu_us), heard = _stepped(recording), asyncio.run(_heard(recording))
    return [
        figure("reading a candle file, every line checked", checked, "1/s", least=PARSES, baseline=bare),
        figure("replay, candles a second", stepped, "1/s", least=DAYS, baseline=bare),
        figure("– CPU of the server for each", cpu_us, "µs", least=DAYS),
        figure(f"– heard by a client ({', '.join(STREAMS)})", heard, "1/s", least=HOURS_HEARD, baseline=bare),
    ]


def _rates(candles: Callable[[], int]) -> list[float]:
    rates = []
    for _ in range(PARSES):
        began = time.perf_counter()
        count = candles()
        rates.append(count / (time.perf_counter() - began))
    return rates


def _bare_parse(recording: Path) -> int:
    """The least that a reader of the file can do."""
    data = recording.read_bytes()
    text = (gzip.decompress(data) if recording.suffix == ".gz" else data).decode()
    rows = csv.reader(io.StringIO(text))
    next(rows)
    return len([(int(row[0]), *map(Decimal, row[1:6])) for row in rows])


def _stepped(recording: Path) -> tuple[list[float], list[float]]:
    """Candles a second of a market that is stepped day by day, and microseconds of CPU for each."""
    rates, cpu_us = [], []
    with temporary_folder() as folder:
        exchange = Exchange(folder, "--replay", str(recording))
        try:
            exchange.start()
            exchange.control("clock", {"mode": "stepped"})
            for _ in range(DAYS):
                cpu, played = exchange.cpu_seconds(), _played(exchange)
                rates.append(_step(exchange, 24 * HOUR_MS))
                cpu_us.append((exchange.cpu_seconds() - cpu) / (_played(exchange) - played) * 1e6)
        finally:
            exchange.kill()
    return rates, cpu_us


def _step(exchange: Exchange, step_ms: int) -> float:
    before = _played(exchange)
    began = time.perf_counter()
    exchange.control("clock", {"step_ms": step_ms})
    seconds = time.perf_counter() - began
    return (_played(exchange) - before) / seconds


def _played(exchange: Exchange) -> int:
    return int(exchange.control("market")["symbols"][SYMBOL]["candles_played"])


async def _heard(recording: Path) -> list[float]:
    """The same with a client on three streams: until it has the hour's last closed candle."""
    rates = []
    with temporary_folder() as folder:
        exchange = Exchange(folder, "--replay", str(recording))
        try:
            exchange.start()
            exchange.control("clock", {"mode": "stepped"})
            names = "/".join(f"{SYMBOL.lower()}@{stream}" for stream in STREAMS)
            async with aiohttp.ClientSession() as session:
                address = f"ws://127.0.0.1:{exchange.port}/stream?streams={names}"
                async with session.ws_connect(address, compress=0) as socket:
                    for _ in range(HOURS_HEARD):
                        began = time.perf_counter()
                        step = asyncio.create_task(asyncio.to_thread(_step, exchange, HOUR_MS))
                        closed = 0
                        while closed < 60:
                            text = await asyncio.wait_for(socket.receive_str(), 20)
                            closed += '"x":true' in text
                        rates.append(closed / (time.perf_counter() - began))
                        await step
        finally:
            exchange.kill()
    return rates
