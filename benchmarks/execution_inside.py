"""`python -m benchmarks.execution_inside`: fills a fresh database of the product and times its own services.

Prints one line of JSON. The exchange of the reconciliation is a server on loopback that answers signed REST
questions from two lists, with Binance's page lengths and request weights (reference/binance.md §2.3).
"""

import json
import os
import threading
import time
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

SYMBOLS = {"BTCUSDT": "60000", "ETHUSDT": "3000", "SOLUSDT": "150", "BNBUSDT": "600"}
ORDERS = 10_000
FILLS_PER_ORDER = 5
MISSED_ORDERS = 40  # whose fills are still to be posted in the second reconciliation
EVENT_ORDERS = 100
DAYS = 5
FEE = Decimal("0.001")
PAGE = 1000
WEIGHTS = {
    "allOrders": 20,
    "myTrades": 20,
    "openOrders": 6,
    "openOrderList": 6,
    "account": 20,
    "order": 4,
    "time": 1,
}
ACCOUNT_START = Decimal(10_000_000)
BOTH = ("BUY", "SELL")  # in turn, so that few lots are open at a time


def exchange_info(symbol: str) -> dict[str, Any]:
    """What the fold reads of exchangeInfo (binance.md §3): whether what is held is more than dust."""
    return {
        "symbol": symbol, "baseAsset": symbol.removesuffix("USDT"), "quoteAsset": "USDT", "status": "TRADING",
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT"],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
            {"filterType": "NOTIONAL", "minNotional": "5", "applyMinToMarket": True,
             "maxNotional": "9000000", "applyMaxToMarket": False, "avgPriceMins": 5},
        ],
    }  # fmt: skip


class Books:
    """The exchange's side: orders and trades of one account, as GET allOrders and GET myTrades tell them."""

    def __init__(self) -> None:
        self.orders: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.trades: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.balances: dict[str, Decimal] = defaultdict(Decimal, {"USDT": ACCOUNT_START})
        self.requests = self.weight = 0

    def answer(self, path: str, query: dict[str, str]) -> Any:
        """The body of an answer; counts its weight."""
        name = path.rsplit("/", 1)[-1]
        self.requests += 1
        self.weight += WEIGHTS[name]
        symbol, start = query.get("symbol", ""), int(query.get("startTime", "0"))
        if name == "allOrders":
            end = int(query.get("endTime", "9" * 15))
            return [row for row in self.orders[symbol] if start <= row["time"] <= end][:PAGE]
        if name == "myTrades":
            first = int(query.get("fromId", "0"))
            return [row for row in self.trades[symbol] if row["id"] >= first and row["time"] >= start][:PAGE]
        if name == "account":
            held = sorted(self.balances.items())
            return {"balances": [{"asset": a, "free": f"{v:f}", "locked": "0"} for a, v in held if v]}
        if name == "order":
            return next(
                row for row in self.orders[symbol] if row["clientOrderId"] == query["origClientOrderId"]
            )
        return [] if name in {"openOrders", "openOrderList"} else {"serverTime": time.time_ns() // 1_000_000}

    def fill(self, symbol: str, client_id: str, at: datetime, side: str) -> None:
        """One more order at market, filled in FILLS_PER_ORDER trades."""
        price, quantity = Decimal(SYMBOLS[symbol]), Decimal("0.001")
        order_id, at_ms = len(self.orders[symbol]) + 1, int(at.timestamp() * 1000)
        whole, sign, base = (
            quantity * FILLS_PER_ORDER,
            1 if side == "BUY" else -1,
            symbol.removesuffix("USDT"),
        )
        fee, fee_asset = (quantity * FEE, base) if side == "BUY" else (quantity * price * FEE, "USDT")
        self.orders[symbol].append(
            {
                "symbol": symbol, "orderId": order_id, "orderListId": -1, "clientOrderId": client_id,
                "price": "0.00000000", "origQty": f"{whole}", "executedQty": f"{whole}",
                "cummulativeQuoteQty": f"{whole * price}", "status": "FILLED", "timeInForce": "GTC",
                "type": "MARKET", "side": side, "stopPrice": "0.00000000", "time": at_ms,
                "updateTime": at_ms, "isWorking": True,
            }
        )  # fmt: skip
        for _ in range(FILLS_PER_ORDER):
            self.trades[symbol].append(
                {
                    "symbol": symbol, "id": len(self.trades[symbol]) + 1, "orderId": order_id,
                    "orderListId": -1, "price": f"{price}", "qty": f"{quantity}",
                    "quoteQty": f"{quantity * price}", "commission": f"{fee}",
                    "commissionAsset": fee_asset, "time": at_ms, "isBuyer": side == "BUY",
                    "isMaker": False, "isBestMatch": True,
                }
            )  # fmt: skip
            self.balances["USDT"] -= sign * quantity * price
            self.balances[base] += sign * quantity
            self.balances[fee_asset] -= fee


def _serve(books: Books) -> str:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            data = json.dumps(books.answer(parts.path, dict(parse_qsl(parts.query)))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-MBX-USED-WEIGHT-1M", str(books.weight))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


BOOKS = Books()
os.environ["SIMULATOR_URL"] = _serve(BOOKS)  # before the settings are read
os.environ["BINANCE_SIMULATOR_API_KEY"] = os.environ["BINANCE_SIMULATOR_API_SECRET"] = "benchmark-no-key"
os.environ["SYMBOLS"] = ",".join(SYMBOLS)

import django  # noqa: E402

django.setup()

from django.conf import settings  # noqa: E402
from django.db import transaction  # noqa: E402

from execution import services  # noqa: E402
from execution.models import Account, ExecutionIntent, Fill, Order, Position  # noqa: E402
from market import services as market  # noqa: E402
from market.contracts import AccountFrame  # noqa: E402
from market.models import Instrument  # noqa: E402
from proposals.models import Decision, Proposal, Strategy  # noqa: E402
from tradingbot.core import clock  # noqa: E402


def make_orders(
    count: int, prefix: str, status: str, since: datetime, span: timedelta, sides: tuple[str, ...] = ("BUY",)
) -> list[Order]:
    """`count` claimed orders at market, spread evenly over `span`, with all that hangs on them."""
    environment = settings.TRADING_ENVIRONMENT
    strategy = Strategy.objects.first()
    names, quantity = list(SYMBOLS), Decimal("0.001") * FILLS_PER_ORDER
    decisions, proposals, intents, orders = [], [], [], []
    for number in range(count):
        at, symbol = since + span * number / count, names[number % len(names)]
        side = sides[number // len(names) % len(sides)]
        client_id = f"{prefix}-{number}"
        decisions.append(
            Decision(
                environment=environment, strategy=strategy, symbol=symbol, candle_open_time=at,
                prompt_version="v1", outcome="OK", started_at=at, finished_at=at,
            )
        )  # fmt: skip
        proposals.append(
            Proposal(
                environment=environment, decision=decisions[-1], symbol=symbol, action=side, answer={},
                status="auto_approved", created_at=at, expires_at=at + timedelta(minutes=5), side=side,
                order_type="MARKET", quantity=quantity, digest="0" * 64, decided_at=at, decided_by="gate",
                claimed_at=at,
            )
        )  # fmt: skip
        intents.append(
            ExecutionIntent(
                environment=environment, proposal=proposals[-1], client_order_id=client_id, symbol=symbol,
                side=side, order_type="MARKET", quantity=quantity, digest="0" * 64, limits_version=1,
                control_version=1, timestamp_ms=int(at.timestamp() * 1000), recv_window_ms=3000, created_at=at,
            )
        )  # fmt: skip
        confirmed = status == "execution_confirmed"
        orders.append(
            Order(
                id=uuid4(), environment=environment, intent=intents[-1], symbol=symbol, side=side,
                client_order_id=client_id, quantity=quantity, status=status, created_at=at, sent_at=at,
                exchange_order_id=number // len(names) + 1 if confirmed else None,
                exchange_status="FILLED" if confirmed else "",
                executed_quantity=quantity if confirmed else 0,
                cumulative_quote=quantity * Decimal(SYMBOLS[symbol]) if confirmed else 0,
                acknowledged_at=at if confirmed else None, closed_at=at if confirmed else None,
            )
        )  # fmt: skip
    with transaction.atomic():
        for model, rows in (
            (Decision, decisions),
            (Proposal, proposals),
            (ExecutionIntent, intents),
            (Order, orders),
        ):
            model.objects.bulk_create(rows, batch_size=1000)
    return orders


def book_fills(orders: list[Order]) -> None:
    """The trades of `orders` as rows, as though each had been folded when it came."""
    by_number = {(order.symbol, order.exchange_order_id): order for order in orders}
    rows = []
    for symbol, trades in BOOKS.trades.items():
        for trade in trades:
            order = by_number.get((symbol, trade["orderId"]))
            if order is None:
                continue
            rows.append(
                Fill(
                    environment=order.environment, symbol=symbol, trade_id=trade["id"], order=order,
                    exchange_order_id=trade["orderId"], side="BUY", price=Decimal(trade["price"]),
                    quantity=Decimal(trade["qty"]), quote_quantity=Decimal(trade["quoteQty"]),
                    commission=Decimal(trade["commission"]), commission_asset=trade["commissionAsset"],
                    commission_quote=Decimal(trade["commission"]) * Decimal(trade["price"]), is_maker=False,
                    at=clock.from_milliseconds(trade["time"]), recorded_at=order.created_at,
                )
            )  # fmt: skip
    Fill.objects.bulk_create(rows, batch_size=1000)


def prepare(now: datetime) -> None:
    """Instruments, the account's opening balances of DAYS ago, and no comparison since."""
    environment = settings.TRADING_ENVIRONMENT
    for symbol in SYMBOLS:
        Instrument.objects.create(
            environment=environment, symbol=symbol, base_asset=symbol.removesuffix("USDT"), quote_asset="USDT",
            status="TRADING", raw=exchange_info(symbol), refreshed_at=now,
        )  # fmt: skip
    Account.objects.create(
        environment=environment,
        baseline={"USDT": f"{ACCOUNT_START}"},
        baseline_at=now - timedelta(days=DAYS, minutes=1),
        clock_offset_ms=0,
        clock_measured_at=now,
    )


def time_reconciliation(name: str, notes: list[str]) -> dict[str, Any]:
    """One comparison through the real gateway: seconds, requests and their weight."""
    BOOKS.requests = BOOKS.weight = 0
    began = time.perf_counter()
    run = services.reconcile(
        exchange=services.gateway(), trigger="benchmark", holder="benchmark", now=clock.now()
    )
    seconds = time.perf_counter() - began
    assert run is not None
    notes.append(
        f"{name}: {run.status}, {run.orders_compared} orders and {run.fills_compared} fills compared, "
        f"{run.fills_posted} posted, {run.divergence_count} open, {BOOKS.requests} requests of weight "
        f"{BOOKS.weight}; {run.note[:160]}"
    )
    return {"name": name, "n": 1, "value": seconds, "unit": "s"}


def fold_events(orders: list[Order]) -> dict[str, Any]:
    """NEW and then a trade at a time for each order, stored as the stream worker does, then folded."""
    now = clock.now()
    frames, trade_id = [], 10_000_000
    for number, order in enumerate(orders):
        price, part = Decimal(SYMBOLS[order.symbol]), Decimal("0.001")
        base = order.symbol.removesuffix("USDT")
        fee, fee_asset = (part * FEE, base) if order.side == "BUY" else (part * price * FEE, "USDT")
        for turn in range(FILLS_PER_ORDER + 1):
            trade_id += 1
            at_ms = int(now.timestamp() * 1000) + number * (FILLS_PER_ORDER + 1) + turn
            payload = {
                "e": "executionReport", "E": at_ms, "s": order.symbol, "c": order.client_order_id, "C": "",
                "S": order.side, "o": "MARKET", "f": "GTC", "q": f"{order.quantity}", "p": "0", "i": 5_000_000 + number,
                "x": "TRADE" if turn else "NEW",
                "X": "NEW" if not turn else "FILLED" if turn == FILLS_PER_ORDER else "PARTIALLY_FILLED",
                "r": "NONE", "l": f"{part}", "z": f"{part * turn}", "L": f"{price}", "n": f"{fee}",
                "N": fee_asset, "T": at_ms, "t": trade_id, "m": False,
                "Z": f"{part * turn * price}", "Y": f"{part * price}",
            }  # fmt: skip
            frames.append(AccountFrame("executionReport", clock.from_milliseconds(at_ms), now, payload))
    for start in range(0, len(frames), 100):
        market.record_account_events(events=frames[start : start + 100])
    began, folded = time.perf_counter(), 0
    while done := services.fold_pending_events(now=clock.now()):
        folded += done
    seconds = time.perf_counter() - began
    assert folded == len(frames), (folded, len(frames))
    return {"name": "events folded a second", "n": folded, "value": folded / seconds, "unit": "events"}


def main() -> None:
    """Reconcile booked fills, then some that are missing, then fold events."""
    now, notes = clock.now(), []
    prepare(now)
    span = timedelta(days=DAYS)
    orders = make_orders(ORDERS, "bench", "execution_confirmed", now - span, span - timedelta(minutes=1))
    for order in orders:
        BOOKS.fill(order.symbol, order.client_order_id, order.created_at, order.side)
    book_fills(orders)
    figures = [time_reconciliation("reconciliation, 10,000 orders and 50,000 fills, all booked", notes)]
    recent = now - timedelta(minutes=1)
    missed = make_orders(
        MISSED_ORDERS, "missed", "submitted_to_exchange", recent, timedelta(seconds=30), BOTH
    )
    for order in missed:
        BOOKS.fill(order.symbol, order.client_order_id, order.created_at, order.side)
    figures.append(time_reconciliation("reconciliation, 40 orders and 200 fills to be posted", notes))
    waiting = make_orders(EVENT_ORDERS, "events", "submitted_to_exchange", now, timedelta(seconds=1), BOTH)
    figures.append(fold_events(waiting))
    notes.append(f"positions: {Position.objects.count()}, fills: {Fill.objects.count()}")
    print(json.dumps({"figures": figures, "notes": notes}))


if __name__ == "__main__":
    main()
