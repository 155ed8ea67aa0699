"""The rehearsal with real processes: a short run, and that its wires, its plan and its judge do what they say."""

import http.client
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tradingbot.core import clock
from tradingbot.core.alerts import raise_alert
from tradingbot.core.models import AlertChannel, AlertDelivery
from tradingbot.operations import channels, delivery
from tradingbot.operations.rehearsal.processes.alerts import check_alerts
from tradingbot.operations.rehearsal.processes.inbox import Inbox
from tradingbot.operations.rehearsal.processes.ledger import judge
from tradingbot.operations.rehearsal.processes.model import always_trade
from tradingbot.operations.rehearsal.processes.plan import Kind, draw
from tradingbot.operations.rehearsal.processes.wire import Ambush, Deed, Moment, Wires

ROOT = Path(__file__).resolve().parents[2]
LAST_LINE = re.compile(
    r"processes: kills=(\d+) orders=(\d+) redis=(\d+) postgres=(\d+) cuts=(\d+) "
    r"duplicates=(\d+) lost=(\d+) unexplained=(\d+) manual_review=(\d+)"
)
KILLS = 6
ANSWER_BYTES = 1000
WHOLE = b"x" * ANSWER_BYTES


@pytest.mark.stack
@pytest.mark.timeout(560)
def test_short_run_of_kills_loses_and_doubles_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "rehearse_processes", "--kills", str(KILLS), "--minutes", "4"],
        cwd=ROOT,
        env=os.environ | {"SECRET_KEY": "not-a-secret-for-tests-only", "TRADING_ENABLED": "true"},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )

    found = LAST_LINE.fullmatch(done.stdout.splitlines()[-1] if done.stdout else "")
    assert found is not None, done.stdout + done.stderr
    kills, orders, redis, postgres, _cuts, duplicates, lost, unexplained, _reviews = map(int, found.groups())
    assert (duplicates, lost, unexplained) == (0, 0, 0), done.stdout
    assert kills == KILLS and orders > 0 and redis > 0 and postgres > 0, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


# --- the plan ---------------------------------------------------------------------------------------------


def test_same_seed_draws_the_same_blows() -> None:
    assert draw(5, 40) == draw(5, 40)
    assert draw(5, 40) != draw(6, 40)


def test_plan_kills_as_often_as_asked_and_traders_most() -> None:
    victims = Counter(blow.part for blow in draw(1, 200) if blow.kind is Kind.KILL)

    assert victims.total() == 200
    assert victims["trading"] + victims["trading-2"] > 80
    assert victims.keys() == {"trading", "trading-2", "advisor", "web", "streams", "beat", "alerts"}


# --- the wires --------------------------------------------------------------------------------------------


class _Exchange(BaseHTTPRequestHandler):
    """Notes what reaches it and answers at length."""

    protocol_version = "HTTP/1.1"
    arrived: list[bytes]

    def do_POST(self) -> None:
        self.arrived.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", str(ANSWER_BYTES))
        self.end_headers()
        self.wfile.write(WHOLE)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def exchange() -> Iterator[type[_Exchange]]:
    class Fresh(_Exchange):
        arrived: list[bytes] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Fresh.port = server.server_port  # type: ignore[attr-defined]
    yield Fresh
    server.shutdown()
    server.server_close()


@pytest.fixture
def wires(exchange: Any) -> Iterator[Wires]:
    laid = Wires(exchange.port, ("trading", "web"))
    yield laid
    laid.calm()
    laid.stop()


def order(wires: Wires, part: str = "trading") -> bytes | None:
    """The body of the answer to an order; None when there is no whole answer."""
    connection = http.client.HTTPConnection("127.0.0.1", wires.ports[part], timeout=20)
    try:
        connection.request("POST", "/api/v3/order", body=b"newClientOrderId=one")
        body = connection.getresponse().read()
        return body if len(body) == ANSWER_BYTES else None  # a halved head tells no length
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def test_wires_pass_an_order_on_when_nothing_is_laid(wires: Wires, exchange: Any) -> None:
    assert order(wires) == WHOLE
    assert exchange.arrived == [b"newClientOrderId=one"]


@pytest.mark.parametrize("deed", [Deed.CUT, Deed.HALVE])
def test_request_that_is_cut_or_halved_never_arrives(wires: Wires, exchange: Any, deed: Deed) -> None:
    wires.lay("trading", Ambush(Moment.REQUEST, deed))

    assert order(wires) is None
    assert exchange.arrived == []


@pytest.mark.parametrize("deed", [Deed.CUT, Deed.HALVE])
def test_answer_that_is_cut_or_halved_leaves_an_executed_order(
    wires: Wires, exchange: Any, deed: Deed
) -> None:
    wires.lay("trading", Ambush(Moment.ANSWER, deed))

    assert order(wires) is None
    assert exchange.arrived == [b"newClientOrderId=one"]


def test_held_request_arrives_when_the_hold_is_over(wires: Wires, exchange: Any) -> None:
    ambush = Ambush(Moment.REQUEST, Deed.HOLD)
    wires.lay("trading", ambush)
    answers: list[bytes | None] = []
    asker = threading.Thread(target=lambda: answers.append(order(wires)))
    asker.start()

    assert ambush.met.wait(20)
    assert exchange.arrived == []
    ambush.over.set()
    asker.join(20)
    assert answers == [WHOLE]


def test_ambush_meets_only_the_part_it_is_laid_for(wires: Wires) -> None:
    ambush = Ambush(Moment.REQUEST, Deed.CUT)
    wires.lay("trading", ambush)

    assert order(wires, "web") is not None
    assert not ambush.met.is_set()


def test_strike_breaks_an_open_connection(wires: Wires) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", wires.ports["web"], timeout=20)
    connection.request("POST", "/api/v3/order", body=b"newClientOrderId=one")
    connection.getresponse().read()

    assert wires.strike(Deed.CUT, 0.0, Random(1)) == "web"
    with suppress(OSError):
        connection.sock.settimeout(20)
        assert connection.sock.recv(1) == b""
    connection.close()


# --- model and judge --------------------------------------------------------------------------------------


def test_eager_model_quotes_the_facts_as_they_are() -> None:
    facts = {"close_1m": "100", "ema_9_1m": "98", "ema_21_1m": "99", "rsi_14_1m": "55", "atr_14_1m": "1"}
    snapshot = {
        "snapshot_id": "s",
        "symbol": "BTCUSDT",
        "as_of": "2026-01-01T00:01:00+00:00",
        "facts": [{"id": name, "value": value} for name, value in facts.items()],
        "quote": {"bid": "99.9", "ask": "100.1"},
        "filters": {"tick_size": "0.01"},
        "position": None,
    }

    bought = always_trade(snapshot)
    held = {"quantity": "2", "stop_price": None, "target_price": None}
    sold = always_trade(snapshot | {"position": held})

    assert (bought["action"], sold["action"]) == ("BUY", "SELL")
    assert {fact["id"]: fact["value"] for fact in bought["facts"]}.items() <= facts.items()


def told(**changes: Any) -> dict[str, Any]:
    """An order as GET /sim/orders tells it."""
    return {
        "symbol": "BTCUSDT",
        "orderId": 1,
        "price": "0",
        "stopPrice": "0",
        "clientOrderId": "tb-unheard-of",
        "side": "BUY",
        "type": "MARKET",
        "status": "FILLED",
        "origQty": "0.1",
        "executedQty": "0.1",
    } | changes


def ledger(orders: list[dict[str, Any]], usdt: str) -> Any:
    """What the judge asks of a product."""
    balances = {"USDT": {"free": usdt, "locked": "0"}}
    answers = {
        "/sim/orders": {"orders": orders, "trades": [], "lists": []},
        "/sim/market": {"symbols": {"BTCUSDT": {"last_price": "60000.00000000"}}},
        "/api/v3/exchangeInfo": {"symbols": [{"symbol": "BTCUSDT", "baseAsset": "BTC"}]},
        "/sim/ledger": {"accounts": [{"balances": balances}]},
    }
    return SimpleNamespace(exchange=lambda path: answers[path])


@pytest.mark.django_db
def test_judge_finds_nothing_wrong_with_two_empty_books() -> None:
    verdict = judge(ledger([], "10000"), {"USDT": Decimal(10000)})

    assert (verdict.duplicates, verdict.lost, verdict.complaints) == (0, 0, ())


@pytest.mark.django_db
def test_judge_names_an_order_of_the_exchange_that_is_not_ours() -> None:
    verdict = judge(ledger([told()], "10000"), {"USDT": Decimal(10000)})

    assert verdict.lost == 1
    assert any("without a committed intent" in line for line in verdict.complaints)


@pytest.mark.django_db
def test_judge_counts_an_order_that_is_there_twice() -> None:
    verdict = judge(ledger([told(), told()], "10000"), {"USDT": Decimal(10000)})

    assert verdict.duplicates == 1


@pytest.mark.django_db
def test_judge_names_money_that_no_fill_explains() -> None:
    verdict = judge(ledger([], "9999.5"), {"USDT": Decimal(10000)})

    assert verdict.complaints == ("USDT: 9999.5 there, opening and fills come to 10000",)


# --- the alerts -------------------------------------------------------------------------------------------


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    found = Inbox(seed=1)
    yield found
    found.stop()


@pytest.fixture
def told_alert(db: None, tmp_path: Path, settings: Any, inbox: Inbox) -> int:
    """An alert that was delivered to the one channel there is, at whatever attempt."""
    settings.ALERT_SECRETS_DIR = tmp_path / "alert-channels"
    row = AlertChannel(name="pager", severity_min="high")
    channels.save_channel(channel=row, address=inbox.address_of("pager"), actor="test", now=clock.now())
    alert_id = raise_alert(kind="test", severity="high", title="Look", now=clock.now())
    delivery.run(now=clock.now())
    while AlertDelivery.objects.get().sent_at is None:  # the inbox is away at times
        AlertDelivery.objects.update(due_at=clock.now())
        delivery.run(now=clock.now())
    return alert_id


def test_alert_that_came_is_no_complaint(told_alert: int, inbox: Inbox) -> None:
    wrong, line = check_alerts(inbox.came)

    assert (wrong, inbox.came) == ([], {("pager", told_alert): 1})
    assert line.startswith("alerts: 1 delivered")


def test_receipt_without_a_message_is_a_lost_alert(told_alert: int) -> None:
    wrong, _ = check_alerts({})

    assert wrong == [f"alert {told_alert}: 1 receipts of pager, 0 messages came"]


def test_delivery_that_never_ends_is_a_lost_alert(told_alert: int, inbox: Inbox) -> None:
    AlertDelivery.objects.update(sent_at=None, claimed_until=clock.now())

    wrong, _ = check_alerts(inbox.came)

    assert wrong == [f"alert {told_alert} was not delivered to pager in {attempts()} attempts"]


def test_notice_that_was_planned_for_nobody_is_a_lost_alert(told_alert: int, inbox: Inbox) -> None:
    AlertDelivery.objects.all().delete()

    wrong, _ = check_alerts(inbox.came)

    assert wrong == [f"alert {told_alert}, round 1: planned for nobody"]


def attempts() -> int:
    return AlertDelivery.objects.get().attempts
