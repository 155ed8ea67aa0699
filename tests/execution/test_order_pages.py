"""GET allOrders answers at most 1,000 orders: the rest is asked for by id, so that none is lost between pages."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from execution.adapters import binance
from execution.adapters.binance import BinanceGateway
from execution.contracts import QueryFailed
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock

PAGE = 1000  # Binance's own (binance.md §2.3)
SINCE = datetime(2026, 3, 2, 12, tzinfo=UTC)


class AllOrders(ThreadingHTTPServer):
    """Answers GET allOrders as Binance does: by id, else the oldest of a span; and counts the questions."""

    daemon_threads = True

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.questions = 0
        super().__init__(("127.0.0.1", 0), _Answers)

    def add(self, count: int, at: datetime) -> None:
        for _ in range(count):
            self.orders.append(
                {
                    "symbol": SYMBOL, "orderId": len(self.orders) + 1, "clientOrderId": f"x-{len(self.orders)}",
                    "price": "0", "origQty": "1", "executedQty": "0", "cummulativeQuoteQty": "0",
                    "status": "CANCELED", "type": "LIMIT", "side": "BUY",
                    "time": clock.to_milliseconds(at), "updateTime": clock.to_milliseconds(at),
                }
            )  # fmt: skip


class _Answers(BaseHTTPRequestHandler):
    server: AllOrders

    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        self.server.questions += 1
        first, start = int(query.get("orderId", 0)), int(query.get("startTime", 0))
        end = int(query.get("endTime", 10**15))
        rows = [o for o in self.server.orders if o["orderId"] >= first and start <= o["time"] <= end]
        body = json.dumps(rows[: min(int(query["limit"]), PAGE)]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def exchange(settings: Any, redis_server: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[AllOrders]:
    server = AllOrders()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    settings.EXCHANGE = dataclasses.replace(settings.EXCHANGE, rest_url=f"{url}/api")
    monkeypatch.setattr(binance, "now", lambda: SINCE + timedelta(days=2))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ids_since(since: datetime) -> list[int]:
    reports = BinanceGateway().orders_since(symbol=SYMBOL, since=since)
    return sorted(report.exchange_order_id for report in reports)


def test_orders_that_share_a_millisecond_are_all_found(exchange: AllOrders) -> None:
    exchange.add(2500, SINCE)

    assert ids_since(SINCE) == list(range(1, 2501))


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1])
def test_a_page_that_is_just_full_loses_no_order_around_it(exchange: AllOrders, count: int) -> None:
    exchange.add(5, SINCE - timedelta(hours=1))  # before the span
    exchange.add(count, SINCE + timedelta(hours=2))
    exchange.add(3, SINCE + timedelta(hours=40))  # two windows later

    assert ids_since(SINCE) == list(range(6, 6 + count + 3))


def test_order_at_the_border_of_two_windows_is_found_once(exchange: AllOrders) -> None:
    exchange.add(1, SINCE + binance.WINDOW)

    assert ids_since(SINCE) == [1]


def test_more_pages_than_are_asked_for_fail_and_are_never_taken_for_all(
    exchange: AllOrders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binance, "PAGES_MAX", 1)
    exchange.add(3 * PAGE, SINCE)

    with pytest.raises(QueryFailed, match="pages of orders"):
        ids_since(SINCE)


@pytest.mark.django_db
def test_the_simulator_pages_the_same_way(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [desk.buy() for _ in range(4)]
    monkeypatch.setattr(binance, "PAGE_LENGTH_MAX", 2)

    found = BinanceGateway().orders_since(symbol=SYMBOL, since=clock.now() - timedelta(minutes=5))

    assert {r.client_order_id for r in found} >= {order.client_order_id for order in orders}
