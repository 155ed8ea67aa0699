"""The REST client against a real socket that answers well, badly or not at all."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from market.adapters.binance_rest import BinanceClient, MarketClient
from market.contracts import ExchangeUnavailable, Interval, MalformedFrame
from tests.market.builders import row, walk
from tests.market.scripted import ScriptedExchange
from tradingbot.core.environments import Environment, endpoints

Answer = tuple[int, dict[str, str], bytes]


class AnsweringServer:
    """Answers every request with what it was told, and remembers the requests."""

    def __init__(self) -> None:
        self.answer: Answer = (200, {}, b"{}")
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                status, headers, body = outer.answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(settings: Any) -> Iterator[AnsweringServer]:
    answering = AnsweringServer()
    settings.EXCHANGE = endpoints(Environment.SIMULATOR, simulator_url=answering.url)
    yield answering
    answering.close()


def klines() -> Any:
    return MarketClient().fetch_candles("BTCUSDT", Interval.M1)


def test_constructing_a_client_sends_nothing(server: AnsweringServer) -> None:
    BinanceClient("fake-key", "fake-secret")

    assert server.requests == []


def test_a_proxy_of_the_environment_is_not_used(
    server: AnsweringServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.answer = (200, {}, b'{"serverTime":1}')

    assert MarketClient().fetch_server_time_ms() == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((500, {}, b"<html>"), ExchangeUnavailable),
        ((403, {}, b"<html>blocked"), ExchangeUnavailable),
        ((400, {}, b'{"code":-1121,"msg":"Invalid symbol."}'), ExchangeUnavailable),
        ((200, {}, b"<html>"), MalformedFrame),
        ((200, {}, b"{}"), MalformedFrame),
        ((200, {}, b"[[1,2]]"), MalformedFrame),
        ((200, {}, b"[7]"), MalformedFrame),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_answer_is_one_of_the_markets_errors(
    server: AnsweringServer, answer: Answer, error: type[Exception]
) -> None:
    server.answer = answer

    with pytest.raises(error, match=r"GET klines|kline"):
        klines()
    assert len(server.requests) == 1  # no retry behind our back


def test_an_unreachable_exchange_is_said_in_one_sentence(settings: Any) -> None:
    settings.EXCHANGE = endpoints(Environment.SIMULATOR, simulator_url="http://127.0.0.1:1")

    with pytest.raises(ExchangeUnavailable, match=r"got no answer from http://127\.0\.0\.1:1/api"):
        klines()


def test_rate_limited_requests_are_not_sent_before_the_stated_time(server: AnsweringServer) -> None:
    server.answer = (429, {"Retry-After": "30"}, b'{"code":-1003,"msg":"Too many requests."}')
    client = MarketClient()
    with pytest.raises(ExchangeUnavailable, match="429"):
        client.fetch_server_time_ms()

    with pytest.raises(ExchangeUnavailable, match="rate limited for"):
        client.fetch_server_time_ms()

    assert len(server.requests) == 1


def test_klines_out_of_order_are_refused(server: AnsweringServer) -> None:
    server.answer = (200, {}, json.dumps([row(c) for c in reversed(walk(3))]).encode())

    with pytest.raises(MalformedFrame, match="out of order"):
        klines()


def test_the_last_kline_is_open_until_a_later_one_exists(exchange: ScriptedExchange) -> None:
    candles = exchange.candles["BTCUSDT"]

    assert MarketClient().fetch_candles("BTCUSDT", Interval.M1, limit=10) == candles[-9:]
    assert not MarketClient().fetch_candle_rows("BTCUSDT", Interval.M1, limit=10)[-1].closed


def test_symbols_that_are_not_listed_are_left_out(exchange: ScriptedExchange) -> None:
    found = MarketClient().fetch_instruments(("NOPEUSDT", "BTCUSDT"))

    assert [filters.symbol for filters, _ in found] == ["BTCUSDT"]


def test_the_clock_offset_is_the_exchanges_time_minus_ours(exchange: ScriptedExchange) -> None:
    exchange.clock_ahead_ms = 7_200_000

    assert abs(MarketClient().measure_clock_offset_ms() - 7_200_000) < 60_000


Fetch = Callable[[MarketClient], Any]


@pytest.mark.parametrize(
    "fetch",
    [
        lambda c: c.fetch_server_time_ms(),
        lambda c: c.fetch_instruments(("BTCUSDT",)),
        lambda c: c.fetch_quotes(("BTCUSDT",)),
    ],
)
@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b"7", b'[{"symbol":"BTCUSDT","bidPrice":1}]'])
def test_an_answer_of_another_shape_is_malformed_or_empty(
    server: AnsweringServer, fetch: Fetch, body: bytes
) -> None:
    server.answer = (200, {}, body)

    try:
        assert fetch(MarketClient()) == []
    except MalformedFrame:
        return
