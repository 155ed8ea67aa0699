"""Messages a second and CPU a message: our whole path (socket to stored candles and trades, latest price).

    python -m tradingbot.launcher with-servers -- python -m benchmarks.market_ingest

50 symbols of aggTrade and kline, against bare receivers of the same flood that only parse: python-binance's
multiplex socket and websockets, both with orjson, and picows + msgspec, which is the limit. orjson is none of our
dependencies: it is installed from benchmarks/requirements.txt into a folder that is thrown away.

A bare receiver is flooded flat out: a reader that is slow slows the sender. Ours is flooded at rising RATES, and the
highest counts at which it dropped nothing and did not fall behind, since it never holds the exchange up.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from benchmarks.figures import CouldNotMeasure, Figure, figure, print_table
from benchmarks.market_flood import PER_SYMBOL_AND_MINUTE, SYMBOLS, trades_in
from benchmarks.market_parts import ROOT, free_port, set_up_django, wait_for

RECEIVERS = ("picows", "websockets", "python-binance", "ours")
NAMES = {
    "ours": "our whole path",
    "picows": "picows + msgspec, bare",
    "websockets": "websockets + orjson, bare",
    "python-binance": "python-binance multiplex, bare",
}
STREAMS = [f"{symbol.lower()}@{kind}" for symbol in SYMBOLS for kind in ("kline_1m", "aggTrade")]
SECONDS_MAX = 120
RATES = (40_000, 80_000, 120_000, 140_000, 150_000, 160_000, 180_000, 200_000)
BEHIND_MAX = 1.15  # times as long as the flood itself takes


class Meter:
    """Counts messages; CPU and wall time from the first message to the last."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.count = 0
        self._cpu = self._wall = 0.0
        self.candles: dict[str, Any] = {}
        self.prices: dict[str, Any] = {}

    def begin(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def take(self, frame: dict[str, Any]) -> bool:
        """What a bare receiver does with a parsed message; True when it was the last."""
        if "data" not in frame:
            return False
        if not self.count:
            self.begin()
        self.count += 1
        data = frame["data"]
        if "k" in data:
            self.candles[data["s"]] = data["k"]
        else:
            self.prices[data["s"]] = data["p"]
        return self.count >= self.wanted

    def report(self) -> None:
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        print(
            json.dumps({"messages": self.count, "cpu": cpu, "seconds": wall, "peak_mb": peak_mb}), flush=True
        )


async def receive_websockets(port: int, meter: Meter) -> None:
    from orjson import loads
    from websockets.asyncio.client import connect

    async with connect(f"ws://127.0.0.1:{port}/stream", compression=None, proxy=None) as socket:
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": STREAMS, "id": 1}))
        print("ready", flush=True)
        async for message in socket:
            if meter.take(loads(message)):
                return


async def receive_python_binance(port: int, meter: Meter) -> None:
    import orjson  # noqa: F401 - python-binance takes it when it is there; without it this fails here
    from binance import AsyncClient
    from binance.ws.streams import BinanceSocketManager

    class Sockets(BinanceSocketManager):
        STREAM_URL = f"ws://127.0.0.1:{port}/"

    manager = Sockets(AsyncClient(), max_queue_size=10**9)
    async with manager.multiplex_socket(STREAMS) as socket:
        print("ready", flush=True)
        while not meter.take(await socket.recv()):
            pass


async def receive_picows(port: int, meter: Meter) -> None:
    import msgspec
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    decode, done = msgspec.json.Decoder().decode, asyncio.Event()

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport: WSTransport) -> None:
            transport.send(
                WSMsgType.TEXT, msgspec.json.encode({"method": "SUBSCRIBE", "params": STREAMS, "id": 1})
            )
            print("ready", flush=True)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type is WSMsgType.TEXT and meter.take(decode(frame.get_payload_as_bytes())):
                done.set()

    await ws_connect(Listener, f"ws://127.0.0.1:{port}/stream")
    await done.wait()


async def receive_ours(port: int, meter: Meter) -> None:
    from market import services

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    watcher = threading.Thread(target=_watch, args=(meter, lambda: loop.call_soon_threadsafe(stop.set)))
    watcher.start()
    await services.run_streams(stop)
    watcher.join()


def prepare_ours(port: int, folder: Path) -> None:
    """Empty tables, and settings that point at the flood."""
    (folder / "key").write_text("fake-key-of-the-benchmark")
    (folder / "secret").write_text("fake-secret-of-the-benchmark")
    set_up_django(folder, f"http://127.0.0.1:{port}", ",".join(SYMBOLS))
    from market.models import Candle, FeedSession, FeedState, Quote, Trade, TradeHole

    for model in (Candle, FeedSession, FeedState, Quote, Trade, TradeHole):
        model.objects.all().delete()


def _watch(meter: Meter, stop: Callable[[], Any]) -> None:
    """Waits until all is stored; a second connection or a hole means that messages were dropped."""
    from market.models import Candle, FeedSession, FeedState, TradeHole
    from market.selectors.trades import last_trades

    minutes = meter.wanted // (len(SYMBOLS) * PER_SYMBOL_AND_MINUTE)
    try:
        wait_for(
            lambda: FeedState.objects.filter(stream="market", resynced_at__isnull=False), "caught up", 60
        )
        wait_for(lambda: len(last_trades(SYMBOLS)) == len(SYMBOLS), "where the trades stand", 60)
        before = Candle.objects.filter(interval="1m").count()
        print("ready", flush=True)
        meter.begin()
        while min(number for number, _ in last_trades(SYMBOLS).values()) < trades_in(minutes):
            ended = FeedSession.objects.filter(stream="market", ended_at__isnull=False).first()
            if ended is not None or TradeHole.objects.exists():
                why = ended.end_reason if ended is not None else "ids are missing"
                print(json.dumps({"dropped": why}), flush=True)
                return
            time.sleep(0.2)
        done = Candle.objects.filter(interval="1m")
        wait_for(lambda: done.count() >= before + (minutes - 1) * len(SYMBOLS), "every candle", 20)
        meter.count = meter.wanted
        meter.report()
    finally:
        stop()


def measure(receiver: str, minutes: int, per_second: int, orjson: Path) -> dict[str, Any]:
    """What a receiver reports of itself, in a process of its own against a server of its own."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.market_flood", str(port)], cwd=ROOT)
    http = requests.Session()
    http.trust_env = False
    client: subprocess.Popen[str] | None = None
    try:
        wait_for(lambda: _answers(http, port), "the flood server answers")
        wanted = minutes * len(SYMBOLS) * PER_SYMBOL_AND_MINUTE
        command = [
            sys.executable,
            "-m",
            "benchmarks.market_ingest",
            "--receive",
            receiver,
            str(port),
            str(wanted),
        ]
        body = {"minutes": minutes}
        http.post(f"http://127.0.0.1:{port}/prepare", json=body, timeout=60).raise_for_status()
        environment = os.environ | ({"PYTHONPATH": str(orjson)} if receiver != "ours" else {})
        client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
        assert client.stdout is not None
        if client.stdout.readline().strip() != "ready":
            raise CouldNotMeasure(f"{receiver} did not get ready")
        body = {"per_second": per_second}
        http.post(f"http://127.0.0.1:{port}/start", json=body, timeout=60).raise_for_status()
        output, _ = client.communicate(timeout=SECONDS_MAX)
        if not output.strip():
            raise CouldNotMeasure(f"{receiver} did not finish")
        return dict(json.loads(output.strip().splitlines()[-1]))
    except subprocess.TimeoutExpired as error:
        raise CouldNotMeasure(f"{receiver} did not finish in {SECONDS_MAX} s") from error
    finally:
        for process in (client, server):
            if process is not None:
                process.kill()
                process.wait(10)


def _answers(http: requests.Session, port: int) -> bool:
    try:
        return http.get(f"http://127.0.0.1:{port}/api/v3/ping", timeout=1).ok
    except requests.RequestException:
        return False


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receive", nargs=3, metavar=("WHO", "PORT", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--minutes", type=int, default=60, help="of market time, 20,000 messages each (default 60)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of all receivers in turn (default 3)")
    options = parser.parse_args(arguments)
    if options.receive:
        who, port, count = options.receive
        meter = Meter(int(count))
        work = {
            "picows": receive_picows,
            "websockets": receive_websockets,
            "python-binance": receive_python_binance,
            "ours": receive_ours,
        }[who]
        with tempfile.TemporaryDirectory() as name:
            if who == "ours":
                prepare_ours(int(port), Path(name))
            asyncio.run(work(int(port), meter))
        if who != "ours":
            meter.report()
        return 0
    with tempfile.TemporaryDirectory(prefix="tradingbot-orjson-") as name:
        try:
            install_orjson(Path(name))
            figures = compare(options, Path(name))
        except (CouldNotMeasure, subprocess.CalledProcessError) as error:
            print(f"could not measure: {error}", file=sys.stderr)
            return 1
    print_table(figures)
    return 0


def install_orjson(folder: Path) -> None:
    """The parser that the bare receivers use, at the version and the hashes of benchmarks/requirements.txt."""
    wanted = ["--require-hashes", "-r", str(ROOT / "benchmarks" / "requirements.txt")]
    command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--target", str(folder), *wanted]
    subprocess.run(command, check=True, timeout=120)


def compare(options: argparse.Namespace, orjson: Path) -> list[Figure]:
    """Every receiver in turn, `--rounds` times."""
    cpu: dict[str, list[float]] = {name: [] for name in RECEIVERS}
    rate: dict[str, list[float]] = {name: [] for name in RECEIVERS}
    for number in range(options.rounds):
        for receiver in RECEIVERS:
            if receiver == "ours":
                found = sustained(options.minutes, orjson)
            else:
                found = measure(receiver, options.minutes, 0, orjson)
            cpu[receiver].append(found["cpu"] / found["messages"] * 1e6)
            rate[receiver].append(found["messages"] / found["seconds"])
            print(
                f"round {number + 1}: {receiver}: {cpu[receiver][-1]:.2f} µs, {rate[receiver][-1]:,.0f} a second, "
                f"{found['peak_mb']:.0f} MB, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    figures = []
    for name, values, unit in (("CPU a message", cpu, "µs"), ("messages a second", rate, "/s")):
        for other in ("python-binance", "websockets", "picows"):
            baseline = (NAMES[other], values[other])
            figures.append(figure(f"{name}, ours", values["ours"], unit, least=1, baseline=baseline))
    return figures


def sustained(minutes: int, orjson: Path) -> dict[str, Any]:
    """What our path reports at the highest of RATES that it takes, everything stored."""
    best: dict[str, Any] = {}
    for per_second in RATES:
        found = measure("ours", minutes, per_second, orjson)
        if found.get("dropped"):
            print(f"ours: {per_second} a second: {found['dropped']}", flush=True)
            break
        print(f"ours: {per_second} a second: {found}", flush=True)
        if found["seconds"] > BEHIND_MAX * found["messages"] / per_second + 1:
            break
        best = found
    if not best:
        raise CouldNotMeasure(f"ours did not take {RATES[0]} a second")
    return best


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
