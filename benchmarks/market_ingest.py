"""Messages a second and CPU a message: our whole path (socket to stored candle and latest price), 50 symbols.

    python -m tradingbot.launcher with-servers -- python -m benchmarks.market_ingest

Against bare receivers of the same frames that only parse: python-binance's multiplex socket, websockets + json
(orjson is not among our dependencies), and picows + msgspec, which is the limit. The tickers are bookTicker
frames, since the latest price is kept from these; they are as long as aggTrade's.
"""

import argparse
import asyncio
import json
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

from benchmarks.figures import CouldNotMeasure, Figure, print_table
from benchmarks.market_flood import PER_SYMBOL_AND_MINUTE, SYMBOLS
from benchmarks.market_parts import ROOT, free_port, set_up_django, wait_for

RECEIVERS = ("picows", "websockets", "python-binance", "ours")
NAMES = {
    "ours": "our whole path",
    "picows": "picows + msgspec, bare",
    "websockets": "websockets + json, bare",
    "python-binance": "python-binance multiplex, bare",
}
STREAMS = [f"{symbol.lower()}@{kind}" for symbol in SYMBOLS for kind in ("kline_1m", "bookTicker")]
SECONDS_MAX = 120


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
            self.prices[data["s"]] = data["b"]
        return self.count >= self.wanted

    def report(self) -> None:
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        print(
            json.dumps({"messages": self.count, "cpu": cpu, "seconds": wall, "peak_mb": peak_mb}), flush=True
        )


async def receive_websockets(port: int, meter: Meter) -> None:
    from websockets.asyncio.client import connect

    async with connect(f"ws://127.0.0.1:{port}/stream", compression=None, proxy=None) as socket:
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": STREAMS, "id": 1}))
        print("ready", flush=True)
        async for message in socket:
            if meter.take(json.loads(message)):
                return


async def receive_python_binance(port: int, meter: Meter) -> None:
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
    from market.models import Candle, FeedSession, FeedState, Quote

    for model in (Candle, FeedSession, FeedState, Quote):
        model.objects.all().delete()


def _watch(meter: Meter, stop: Callable[[], Any]) -> None:
    """Waits until all candles are stored; a second connection means that messages were dropped."""
    from market.models import Candle, FeedSession, FeedState

    minutes = meter.wanted // (len(SYMBOLS) * PER_SYMBOL_AND_MINUTE)
    try:
        wait_for(
            lambda: FeedState.objects.filter(stream="market", resynced_at__isnull=False), "caught up", 60
        )
        before = Candle.objects.filter(interval="1m").count()
        print("ready", flush=True)
        wait_for(lambda: Candle.objects.filter(interval="1m").count() > before, "the first candle", 60)
        meter.begin()
        wanted = before + minutes * len(SYMBOLS)
        done = Candle.objects.filter(interval="1m")
        first = done.count() - before
        while done.count() < wanted:
            if FeedSession.objects.filter(stream="market").count() > 1:
                print(json.dumps({"dropped": True}), flush=True)
                return
            time.sleep(0.25)
        meter.count = (minutes * len(SYMBOLS) - first) * PER_SYMBOL_AND_MINUTE
        meter.report()
    finally:
        stop()


def measure(receiver: str, minutes: int, per_second: int) -> dict[str, Any]:
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
        client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        if client.stdout.readline().strip() != "ready":
            raise CouldNotMeasure(f"{receiver} did not get ready")
        body = {"minutes": minutes, "per_second": per_second}
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
        "--per-second", type=int, default=10_000, help="messages a second sent (default 10000)"
    )
    parser.add_argument(
        "--minutes", type=int, default=6, help="of market time, 20,000 messages each (default 6)"
    )
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
    found: dict[str, dict[str, Any]] = {}
    for receiver in RECEIVERS:
        try:
            found[receiver] = measure(receiver, options.minutes, options.per_second)
        except CouldNotMeasure as error:
            print(f"could not measure: {error}", file=sys.stderr)
            return 1
        if found[receiver].get("dropped"):
            print(f"could not measure: {receiver} dropped messages and reconnected", file=sys.stderr)
            return 1
        print(receiver, found[receiver], flush=True)
    cpu = {name: row["cpu"] / row["messages"] * 1e6 for name, row in found.items()}
    count = int(found["ours"]["messages"])
    print_table(
        [
            Figure("CPU a message: our whole path", count, cpu["ours"], None, "µs", NAMES[name], cpu[name])
            for name in ("python-binance", "websockets", "picows")
        ]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
