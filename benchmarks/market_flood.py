"""An exchange that only talks: REST for the start, then prebuilt frames at a rate. Run by market_ingest."""

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

from benchmarks.market_proxy import text_frame

SYMBOLS = tuple(f"S{number:02}USDT" for number in range(50))
PER_SYMBOL_AND_MINUTE = 400  # some seven a second, as a lively symbol has
KLINE_EVERY = 10
# Of 400 messages of a minute those at the tens and the last one are klines.
TRADES_PER_MINUTE = PER_SYMBOL_AND_MINUTE - PER_SYMBOL_AND_MINUTE // KLINE_EVERY - 1
CHUNK = 500
START_MS = 1_772_409_600_000
MINUTE_MS = 60_000
FILTERS = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
    {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.00", "stepSize": "0.00001"},
]


def minute_of_frames(minute: int) -> list[bytes]:
    """Aggregate trades and open candles of each symbol, and at last its closed candle."""
    frames = []
    for number in range(PER_SYMBOL_AND_MINUTE):
        for symbol in SYMBOLS:
            last = number == PER_SYMBOL_AND_MINUTE - 1
            if last or number % KLINE_EVERY == 0:
                frames.append(_kline(symbol, minute, closed=last))
            else:
                frames.append(_trade(symbol, minute, number))
    return [text_frame(json.dumps(frame, separators=(",", ":")).encode()) for frame in frames]


def trades_in(minutes: int) -> int:
    """How many aggregate trades of one symbol so many minutes hold; their ids are 1 to that number."""
    return minutes * TRADES_PER_MINUTE


def _trade(symbol: str, minute: int, number: int) -> dict[str, Any]:
    """`number` counts all messages of the minute: those at the tens are klines."""
    trade_id = minute * TRADES_PER_MINUTE + number - number // KLINE_EVERY
    return {
        "stream": f"{symbol.lower()}@aggTrade",
        "data": {"e": "aggTrade", "E": 0} | _trade_fields(symbol, trade_id),
    }


def _trade_fields(symbol: str, trade_id: int) -> dict[str, Any]:
    at_ms = START_MS + trade_id * (MINUTE_MS // TRADES_PER_MINUTE)
    price = 50000 + trade_id % 997
    return {
        "s": symbol, "a": trade_id, "p": f"{price}.10000000", "q": "0.00525000", "f": 2 * trade_id,
        "l": 2 * trade_id + 1, "T": at_ms, "m": trade_id % 2 == 0, "M": True,
    }  # fmt: skip


def _kline(symbol: str, minute: int, *, closed: bool) -> dict[str, Any]:
    open_ms, price = START_MS + minute * MINUTE_MS, 50000 + minute % 997
    k = {
        "t": open_ms, "T": open_ms + MINUTE_MS - 1, "s": symbol, "i": "1m", "f": 1, "L": 9, "o": f"{price}.00",
        "c": f"{price}.50", "h": f"{price + 1}.00", "l": f"{price - 1}.00", "v": "12.50000", "n": 9, "x": closed,
        "q": "625000.00", "V": "6.25000", "Q": "312500.00", "B": "0",
    }  # fmt: skip
    data = {"e": "kline", "E": open_ms + MINUTE_MS, "s": symbol, "k": k}
    return {"stream": f"{symbol.lower()}@kline_1m", "data": data}


class Flood:
    """`POST /start` begins the frames on every market socket: {"per_second": n}, 0 for flat out."""

    def __init__(self) -> None:
        self._transports: set[asyncio.Transport] = set()
        self._task: asyncio.Task[None] | None = None
        self._chunks: list[bytes] = []

    def application(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/v3/time", lambda _: _json({"serverTime": START_MS})),
                web.get("/api/v3/ping", lambda _: _json({})),
                web.get("/api/v3/exchangeInfo", self._exchange_info),
                web.get("/api/v3/klines", self._klines),
                web.get("/api/v3/ticker/bookTicker", self._tickers),
                web.get("/api/v3/aggTrades", self._trades),
                web.get("/stream", self._market),
                web.get("/ws-api/v3", self._account),
                web.post("/prepare", self._prepare),
                web.post("/start", self._start),
            ]
        )
        return app

    async def _exchange_info(self, request: web.Request) -> web.Response:
        entry = {"status": "TRADING", "quoteAsset": "USDT", "orderTypes": ["LIMIT"], "filters": FILTERS}
        return await _json({"symbols": [entry | {"symbol": s, "baseAsset": s[:3]} for s in SYMBOLS]})

    async def _klines(self, request: web.Request) -> web.Response:
        if request.query["interval"] != "1m":
            return await _json([])
        rows = [_kline(request.query["symbol"], minute, closed=True)["data"]["k"] for minute in (-2, -1, 0)]
        order = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")
        return await _json([[row[name] for name in order] for row in rows])

    async def _tickers(self, request: web.Request) -> web.Response:
        names = ("bidPrice", "bidQty", "askPrice", "askQty")
        values = dict(zip(names, ("49999", "1", "50001", "1"), strict=True))
        return await _json([{"symbol": s} | values for s in json.loads(request.query["symbols"])])

    async def _trades(self, request: web.Request) -> web.Response:
        """The trade before the flood; a gap in it is not filled, so that a drop shows."""
        return await _json([_trade_fields(request.query["symbol"], 0)])

    async def _market(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, autoping=True)
        await socket.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._transports.add(transport)
        try:
            async for message in socket:
                request_id = json.loads(message.data).get("id")
                await socket.send_json({"result": None, "id": request_id})
        finally:
            self._transports.discard(transport)
        return socket

    async def _account(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            request_id = json.loads(message.data)["id"]
            await socket.send_json({"id": request_id, "status": 200, "result": {"subscriptionId": 0}})
        return socket

    async def _prepare(self, request: web.Request) -> web.Response:
        """Build the frames beforehand: {"minutes": n}."""
        frames = [f for minute in range((await request.json())["minutes"]) for f in minute_of_frames(minute)]
        self._chunks = [b"".join(frames[at : at + CHUNK]) for at in range(0, len(frames), CHUNK)]
        return await _json({"messages": len(frames)})

    async def _start(self, request: web.Request) -> web.Response:
        self._task = asyncio.create_task(self._send(self._chunks, (await request.json())["per_second"]))
        return await _json({})

    async def _send(self, chunks: list[bytes], per_second: int) -> None:
        """In chunks; a reader that is slow slows us, and nobody else."""
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        for chunk in chunks:
            for transport in self._transports:
                transport.write(chunk)
                while transport.get_write_buffer_size() > 1 << 20:
                    await asyncio.sleep(0.001)
            sent += CHUNK
            ahead = sent / per_second - (loop.time() - began) if per_second else 0.0
            await asyncio.sleep(max(0.0, ahead))


async def _json(content: Any) -> web.Response:
    return web.json_response(content)


if __name__ == "__main__":
    web.run_app(Flood().application(), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
