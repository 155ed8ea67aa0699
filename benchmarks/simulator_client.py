"""Signed clients of the simulator that cost little themselves: one socket each, one request at a time."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp

from benchmarks.figures import CouldNotMeasure
from benchmarks.market_parts import Exchange

SYMBOL = "BTCUSDT"
QUANTITY = "0.0001"  # above the smallest notional, and small beside what the book offers
BALANCES = {"USDT": "100000000", "BTC": "1000"}


class Trader:
    """An account: signs market orders, buying and selling in turn so that it never runs dry."""

    def __init__(self, exchange: Exchange) -> None:
        self.port = exchange.port
        opened = exchange.control("accounts", {"balances": BALANCES})
        self.api_key, self._secret = opened["apiKey"], opened["secretKey"].encode()
        self._placed = 0

    def next_order(self) -> dict[str, str]:
        """A market order, which the book fills at once: only unfilled orders are limited in number."""
        self._placed += 1
        side = "BUY" if self._placed % 2 else "SELL"
        order = {"symbol": SYMBOL, "side": side, "type": "MARKET", "quantity": QUANTITY}
        return order | {
            "newClientOrderId": f"bench-{self._placed}",
            "timestamp": str(time.time_ns() // 10**6),
        }

    def signed_query(self, order: dict[str, str]) -> str:
        """The query string of a REST request."""
        query = urlencode(order)
        return f"{query}&signature={self._sign(query)}"

    def signed_params(self, values: dict[str, str]) -> dict[str, str]:
        """The parameters of a WS API request; the signature is over the names in order."""
        params = values | {"apiKey": self.api_key}
        text = "&".join(f"{name}={params[name]}" for name in sorted(params))
        return params | {"signature": self._sign(text)}

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


class Rest:
    """One kept-alive HTTP connection."""

    def __init__(self, trader: Trader) -> None:
        self._trader = trader
        self._headers = f"Host: 127.0.0.1:{trader.port}\r\nX-MBX-APIKEY: {trader.api_key}\r\n"

    async def connect(self, address: str) -> Self:
        """`address` is the loopback address that the exchange counts the request weight of."""
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._trader.port, local_addr=(address, 0)
        )
        return self

    async def place(self) -> str:
        """The client order id, once the exchange has answered that the order is filled."""
        order = self._trader.next_order()
        query = self._trader.signed_query(order)
        check_filled(await self._ask(f"POST /api/v3/order?{query}"))
        return order["newClientOrderId"]

    async def ping(self) -> None:
        await self._ask("GET /api/v3/ping")

    async def _ask(self, request: str) -> bytes:
        self._writer.write(f"{request} HTTP/1.1\r\n{self._headers}\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise CouldNotMeasure(f"{request.partition('?')[0]} was refused: {body[:200]!r}")
        return body

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


class WsApi:
    """One connection to the WS API."""

    def __init__(self, trader: Trader) -> None:
        self._trader = trader
        self._asked = 0

    async def connect(self, address: str) -> Self:
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        self._session = aiohttp.ClientSession(connector=connector)
        url = f"ws://127.0.0.1:{self._trader.port}/ws-api/v3"
        self.socket = await self._session.ws_connect(url, compress=0)
        return self

    async def place(self) -> str:
        """The client order id, once the exchange has answered that the order is filled."""
        order = self._trader.next_order()
        check_filled(await self._ask("order.place", self._trader.signed_params(order)))
        return order["newClientOrderId"]

    async def ping(self) -> None:
        await self._ask("ping", {})

    async def subscribe(self) -> None:
        """Hear the account's events on this socket."""
        stamp = {"timestamp": str(time.time_ns() // 10**6)}
        await self._ask("userDataStream.subscribe.signature", self._trader.signed_params(stamp))

    async def _ask(self, method: str, params: dict[str, str]) -> str:
        self._asked += 1
        await self.socket.send_str(json.dumps({"id": self._asked, "method": method, "params": params}))
        answer = await self.socket.receive_str()
        if '"status":200' not in answer:
            raise CouldNotMeasure(f"{method} was refused: {answer[:200]}")
        return answer

    async def close(self) -> None:
        await self._session.close()


Client = Rest | WsApi


def check_filled(answer: bytes | str) -> None:
    """An order that the book did not fill would measure something else."""
    filled: Any = b'"FILLED"' if isinstance(answer, bytes) else '"FILLED"'
    if filled not in answer:
        raise CouldNotMeasure(f"an order was not filled: {answer[:300]!r}")


async def drive(calls: list[Callable[[], Awaitable[Any]]], seconds: float) -> tuple[int, float]:
    """How many calls are made when each client makes one after the other for some seconds, and in what time."""
    count = 0
    end = time.perf_counter() + seconds

    async def go_on(call: Callable[[], Awaitable[Any]]) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    began = time.perf_counter()
    await asyncio.gather(*(go_on(call) for call in calls))
    return count, time.perf_counter() - began
