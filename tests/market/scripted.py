"""A tiny exchange on a real socket that says exactly what a test tells it, and the streams under test."""

import asyncio
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from market import services
from market.contracts import Candle, Interval
from tests.market.builders import MINUTE, listing, milliseconds, row, trade_frame, trade_row, walk

DEADLINE_SECONDS = 60


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """The first true result of `condition`; fails after a deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"in {DEADLINE_SECONDS} s it did not come to pass: {what}"
        time.sleep(0.02)


def longer(minutes: list[Candle], interval: Interval) -> list[Candle]:
    """The exchange's own candles of `interval`, the last one still open; written anew, to check ours by."""
    span = timedelta(milliseconds=interval.milliseconds)
    found: dict[int, Candle] = {}
    for minute in minutes:
        start_ms = milliseconds(minute.open_time) // interval.milliseconds * interval.milliseconds
        before = found.get(start_ms)
        open_time = minute.open_time - timedelta(milliseconds=milliseconds(minute.open_time) - start_ms)
        found[start_ms] = replace(
            minute,
            interval=interval,
            open_time=open_time,
            close_time=open_time + span - timedelta(milliseconds=1),
            open=before.open if before else minute.open,
            high=max(before.high, minute.high) if before else minute.high,
            low=min(before.low, minute.low) if before else minute.low,
            volume=before.volume + minute.volume if before else minute.volume,
            quote_volume=before.quote_volume + minute.quote_volume if before else minute.quote_volume,
            trade_count=before.trade_count + minute.trade_count if before else minute.trade_count,
        )
    return list(found.values())


class ScriptedExchange:
    """Candles are given; frames are sent by hand. Runs in a thread with its own loop."""

    def __init__(self) -> None:
        self.candles: dict[str, list[Candle]] = {"BTCUSDT": walk(400)}
        self.klines_hidden_after: Candle | None = None  # REST lags behind
        self.trades: dict[str, list[dict[str, Any]]] = {"BTCUSDT": [trade_row(1000)]}
        self.requests: list[str] = []
        self.subscriptions: list[dict[str, Any]] = []
        self.account_requests: list[dict[str, Any]] = []
        self.refuse_market = self.refuse_account = False
        self.clock_ahead_ms = 0
        self.status = "TRADING"
        self._listed_streams: list[str] = []
        self._market: set[web.WebSocketResponse] = set()
        self._account: set[web.WebSocketResponse] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    # --- for the test ---
    def send_market(self, *frames: dict[str, Any] | bytes) -> None:
        """Send frames to every market connection."""
        self._call(self._send(self._market, frames))

    def send_account(self, *events: dict[str, Any] | bytes) -> None:
        """Send user-data events to every WS-API connection."""
        frames = [e if isinstance(e, bytes) else {"subscriptionId": 0, "event": e} for e in events]
        self._call(self._send(self._account, frames))

    def close_market(self) -> None:
        """Close every market connection."""
        self._call(self._close(self._market))

    def close_account(self) -> None:
        """Close every WS-API connection."""
        self._call(self._close(self._account))

    def forget_streams(self) -> None:
        """Lose the market subscriptions without a word."""
        self._listed_streams = []

    def trade(self, *numbers: int, symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
        """Further trades of these ids, known to REST from now on; the frames that tell of them."""
        rows = [trade_row(number) for number in numbers]
        self.trades.setdefault(symbol, []).extend(rows)
        return [trade_frame(row, symbol) for row in rows]

    def append(self, symbol: str = "BTCUSDT", count: int = 1) -> list[Candle]:
        """`count` further candles, known to REST from now on."""
        series = self.candles[symbol]
        more = walk(count, symbol=symbol, seed=len(series), start=series[-1].open_time + MINUTE)
        self.candles[symbol] = [*series, *more]
        return more

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    # --- the server ---
    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/v3/time", self._time),
                web.get("/api/v3/exchangeInfo", self._exchange_info),
                web.get("/api/v3/klines", self._klines),
                web.get("/api/v3/ticker/bookTicker", self._book_tickers),
                web.get("/api/v3/aggTrades", self._agg_trades),
                web.get("/stream", self._market_socket),
                web.get("/ws-api/v3", self._account_socket),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await self._close(self._market | self._account)
        await runner.cleanup()

    async def _time(self, request: web.Request) -> web.Response:
        return web.json_response({"serverTime": round(time.time() * 1000) + self.clock_ahead_ms})

    async def _exchange_info(self, request: web.Request) -> web.Response:
        symbols = json.loads(request.query["symbols"])
        if not set(symbols) <= set(self.candles):
            return web.json_response({"code": -1121, "msg": "Invalid symbol."}, status=400)
        return web.json_response(
            {"symbols": [listing(symbol) | {"status": self.status} for symbol in symbols]}
        )

    async def _klines(self, request: web.Request) -> web.Response:
        self.requests.append(request.query_string)
        series = self.candles[request.query["symbol"]]
        if self.klines_hidden_after is not None:
            series = [c for c in series if c.open_time <= self.klines_hidden_after.open_time]
        newest = series[-1]
        forming = walk(1, symbol=newest.symbol, seed=99, start=newest.open_time + MINUTE)
        series = longer([*series, *forming], Interval(request.query["interval"]))
        limit = int(request.query["limit"])
        if "startTime" in request.query:
            start = int(request.query["startTime"])
            series = [c for c in series if milliseconds(c.open_time) >= start][:limit]
        return web.json_response([row(c) for c in series[-limit:]])

    async def _book_tickers(self, request: web.Request) -> web.Response:
        return web.json_response(
            [
                {"symbol": s, "bidPrice": "49990", "bidQty": "1", "askPrice": "50010", "askQty": "1"}
                for s in json.loads(request.query["symbols"])
            ]
        )

    async def _agg_trades(self, request: web.Request) -> web.Response:
        rows, limit = self.trades.get(request.query["symbol"], []), int(request.query["limit"])
        if "fromId" in request.query:
            first = int(request.query["fromId"])
            return web.json_response([r for r in rows if r["a"] >= first][:limit])
        return web.json_response(rows[-limit:])

    async def _market_socket(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_market:
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._market.add(socket)
        try:
            async for message in socket:
                await self._answer_market(socket, json.loads(message.data))
        finally:
            self._market.discard(socket)
        return socket

    async def _answer_market(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        if message["method"] == "SUBSCRIBE":
            self.subscriptions.append(message)
            self._listed_streams = [*self._listed_streams, *message["params"]]
            await socket.send_json({"result": None, "id": message["id"]})
        else:
            await socket.send_json({"result": self._listed_streams, "id": message["id"]})

    async def _account_socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._account.add(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._answer_account(socket, json.loads(message.data))
        finally:
            self._account.discard(socket)
        return socket

    async def _answer_account(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        self.account_requests.append(message)
        if message["method"] != "ping" and self.refuse_account:
            error = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
            await socket.send_json({"id": message["id"], "status": 401, "error": error})
            return
        await socket.send_json({"id": message["id"], "status": 200, "result": {"subscriptionId": 0}})

    @staticmethod
    async def _send(sockets: set[web.WebSocketResponse], frames: Any) -> None:
        texts = [frame.decode() if isinstance(frame, bytes) else json.dumps(frame) for frame in frames]
        for socket in list(sockets):
            with suppress(ConnectionError):  # the client may leave in the midst of it
                for text in texts:
                    await socket.send_str(text)

    @staticmethod
    async def _close(sockets: set[web.WebSocketResponse]) -> None:
        for socket in list(sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)


class RunningStreams:
    """`services.run_streams` in a thread of its own."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        if self.alive:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(DEADLINE_SECONDS)
        assert not self.alive, "the streams did not stop:\n" + self._where()

    def _where(self) -> str:
        """What the streams' tasks and all threads are waiting for."""
        tasks = [repr(t) for t in asyncio.all_tasks(self._loop)]
        names = {t.ident: t.name for t in threading.enumerate()}
        stacks = [
            f"{names.get(ident)}:\n" + "".join(traceback.format_stack(frame)[-4:])
            for ident, frame in sys._current_frames().items()
        ]
        return "\n".join([*tasks, *stacks])

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.failure = error

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await services.run_streams(self._stop)
