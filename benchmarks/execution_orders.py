"""Claim to request on the wire, and an unknown order to its end: the whole product with wires to the exchange."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import requests

from benchmarks.approval_speed import Desk
from benchmarks.figures import CouldNotMeasure, Figure, figure, print_table
from benchmarks.stack import Inside, Stack, temporary_folder
from tradingbot.launcher import simulator_client
from tradingbot.launcher.__main__ import main as launch
from tradingbot.launcher.stack import PRODUCT
from tradingbot.operations.rehearsal.processes.table import WIRES_SETTING, wired
from tradingbot.operations.rehearsal.processes.wire import Ambush, Deed, Moment, Wires

PORT = 21650
INSIDE = "inside"
SAMPLES = 110
ATTEMPTS_MAX = 400
SECONDS_MAX = 120
READY_SECONDS_MAX = 60
QUOTE_AMOUNT = "20"
RATE_PAUSE_SECONDS = 3  # orders of ten seconds are limited in number
BOOKS_EVERY = 20  # orders; in one process nobody else measures the clock and compares the books
GRACE_SECONDS = 5
UNKNOWN_SAMPLES = 22
UNKNOWN_LEAST = 15  # a saga may end otherwise than it was meant to
UNKNOWN_SECONDS_MAX = 900
MET_SECONDS_MAX = 20
CLIENT_ID = re.compile(rb"newClientOrderId=([A-Za-z0-9_-]+)")


class StampingWires(Wires):
    """Wires that note when the whole request of an order was there, in microseconds of the system's clock."""

    def __init__(self, target_port: int) -> None:
        self.seen_us: dict[str, int] = {}
        super().__init__(target_port, (*(process.name for process in PRODUCT.processes), INSIDE))

    async def _spring(self, link: Any, moment: Moment, data: bytes, writer: Any) -> bool:
        if moment is Moment.REQUEST and (found := CLIENT_ID.search(data)):
            self.seen_us.setdefault(found[1].decode(), time.time_ns() // 1000)
        return await super()._spring(link, moment, data, writer)


class WiredStack(Stack):
    """The product as it is, but with wires between its parts and the exchange."""

    def __init__(self, data: Path, port: int, **settings: str) -> None:
        self.wires = StampingWires(port + 1)
        super().__init__(
            data,
            port,
            command=(sys.executable, "-m", "benchmarks.execution_orders"),
            **{WIRES_SETTING: json.dumps(self.wires.ports)},
            **settings,
        )

    def _stop(self) -> None:
        super()._stop()
        self.wires.stop()

    def inside_environment(self) -> dict[str, str]:
        own = {"SIMULATOR_URL": f"http://127.0.0.1:{self.wires.ports[INSIDE]}"}
        return super().inside_environment() | simulator_client.key_files(self.data) | own

    def stop_worker(self, number: int) -> None:
        """SIGSTOP or SIGCONT to the trading worker."""
        rows = json.loads((self.data / "processes.json").read_text(encoding="utf-8"))
        os.kill(next(row["pid"] for row in rows if row["name"] == "trading"), number)


def measure() -> list[Figure]:
    """Orders through Celery, the same in one process, then orders whose request or answer is lost."""
    with (
        temporary_folder() as folder,
        WiredStack(
            folder / "data",
            PORT,
            SPEED="1",
            EXCHANGE_TIMEOUT_SECONDS="3",
            PROTECT_ON_EXCHANGE="false",  # or each entry leaves a stop, and a symbol takes five
            RECONCILE_GRACE_SECONDS=str(GRACE_SECONDS),
        ) as stack,
        Inside(stack) as inside,
    ):
        inside.call("silence_strategies")
        inside.call("arm", threshold_quote="1000")
        symbols = stack.symbols()
        _wait_until_orders_go_out(inside, symbols[0])
        with_celery = _order_through_celery(stack, inside, symbols)
        alone = _order_in_one_process(stack, inside, symbols)
        print_table(_send_figures(with_celery, alone))  # whatever becomes of the lost ones
        unknown = _lose_orders(stack, inside, symbols)
        direct = _ask_directly(stack)
    return _send_figures(with_celery, alone) + _unknown_figures(unknown, direct)


def _wait_until_orders_go_out(inside: Inside, symbol: str) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        made = inside.call("propose", symbol=symbol, quote_amount=QUOTE_AMOUNT, wait_seconds=10)
        if made["status"] == "auto_approved":
            inside.call("fate", proposal_id=made["id"], wait_seconds=15)
            return
        if time.monotonic() > deadline:
            raise CouldNotMeasure(f"nothing is approved: {made['status']} {made['why']}")
        inside.call("end_what_waits")
        time.sleep(1)


def _order_through_celery(stack: WiredStack, inside: Inside, symbols: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    refused: list[str] = []
    deadline = time.monotonic() + SECONDS_MAX
    for turn in range(ATTEMPTS_MAX):
        if len(rows) >= SAMPLES or time.monotonic() > deadline:
            break
        symbol = symbols[turn % len(symbols)]
        made = inside.call("propose", symbol=symbol, quote_amount=QUOTE_AMOUNT, wait_seconds=10)
        if made["status"] != "auto_approved":
            refused.append(made["why"] or made["status"])
            continue
        _keep(rows, refused, stack, inside.call("fate", proposal_id=made["id"], wait_seconds=15))
    print(f"with Celery: {len(rows)} orders, {len(refused)} not {refused[:2]}")
    return rows


def _order_in_one_process(stack: WiredStack, inside: Inside, symbols: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    refused: list[str] = []
    deadline = time.monotonic() + SECONDS_MAX
    _stop_worker_between_transactions(stack, inside)
    try:
        for turn in range(ATTEMPTS_MAX):
            if len(rows) >= SAMPLES or time.monotonic() > deadline:
                break
            if turn % BOOKS_EVERY == 0:
                inside.call("keep_books_here")
            symbol = symbols[turn % len(symbols)]
            _keep(rows, refused, stack, inside.call("order_here", symbol=symbol, quote_amount=QUOTE_AMOUNT))
    finally:
        stack.stop_worker(signal.SIGCONT)
    print(f"in one process: {len(rows)} orders, {len(refused)} not {refused[:2]}")
    return rows


def _stop_worker_between_transactions(stack: WiredStack, inside: Inside) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        stack.stop_worker(signal.SIGSTOP)
        time.sleep(0.5)
        if inside.call("nothing_is_held"):
            return
        stack.stop_worker(signal.SIGCONT)
        time.sleep(0.2)
    raise CouldNotMeasure("the trading worker was always in the middle of a transaction")


def _keep(rows: list[dict[str, Any]], refused: list[str], stack: WiredStack, fate: dict[str, Any]) -> None:
    seen = stack.wires.seen_us.get(fate.get("client_order_id", ""))
    if seen is None or not fate.get("acknowledged"):
        if "rate limit" in fate.get("why", ""):
            time.sleep(RATE_PAUSE_SECONDS)
        refused.append(f"{fate['status']}: {fate['why']}")
    else:
        rows.append({**fate, "wire": seen})


def _lose_orders(stack: WiredStack, inside: Inside, symbols: list[str]) -> list[dict[str, Any]]:
    """Lose a request and an answer in turn, each when the one before has come to its end.

    With two orders of unknown fate only exits pass, and after a few of them the desk approves nothing by itself for an
    hour (risk.rules.autonomy): then a person's POST approves.
    """
    desk = Desk(stack)
    lost = turn = 0
    deadline = time.monotonic() + UNKNOWN_SECONDS_MAX
    while lost < 2 * UNKNOWN_SAMPLES and time.monotonic() < deadline:
        symbol = symbols[turn % len(symbols)]
        turn += 1
        ambush = Ambush(Moment.ANSWER if lost % 2 else Moment.REQUEST, Deed.CUT)
        stack.wires.lay("trading", ambush)
        made = inside.call("propose", symbol=symbol, quote_amount=QUOTE_AMOUNT, wait_seconds=10)
        if made["status"] == "pending_approval":
            desk.approve(made["id"])
        if made["status"] != "risk_rejected" and ambush.met.wait(MET_SECONDS_MAX):
            lost += 1
            _wait_for_ends(inside)
            continue
        stack.wires.lift("trading")
        print(f"not lost: {made['status']} {made['why']}")
        time.sleep(RATE_PAUSE_SECONDS)
    return _wait_for_ends(inside)


def _wait_for_ends(inside: Inside) -> list[dict[str, Any]]:
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        time.sleep(0.5)  # the worker notes the loss after the wire's cut
        rows: list[dict[str, Any]] = inside.call("unknown_orders")
        if all(row["resolved"] or row["status"] == "manual_review_required" for row in rows):
            return rows
        if time.monotonic() > deadline:
            raise CouldNotMeasure("orders of unknown outcome came to no end")


def _ask_directly(stack: Stack) -> list[float]:
    """Milliseconds of a public question to the exchange, straight."""
    took = []
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(SAMPLES):
            began = time.perf_counter()
            session.get(f"{stack.simulator_url}/api/v3/time", timeout=10).raise_for_status()
            took.append((time.perf_counter() - began) * 1000)
    return took


def _ms(row: dict[str, Any], start: str, end: str) -> float:
    return (int(row[end]) - int(row[start])) / 1000


def _send_figures(rows: list[dict[str, Any]], alone: list[dict[str, Any]]) -> list[Figure]:
    def both(name: str, start: str, end: str) -> Figure:
        baseline = ("the same calls in one process", [_ms(row, start, end) for row in alone])
        return figure(name, [_ms(row, start, end) for row in rows], baseline=baseline)

    straight = [_ms(row, "claimed", "wire") for row in alone]
    return [
        both("claim -> request on the wire (Celery, Redis, PostgreSQL)", "claimed", "wire"),
        both("  claim -> send begins (gate, intent committed)", "claimed", "sent"),
        both("  send begins -> request on the wire (`submitted` committed)", "sent", "wire"),
        figure(
            "gate begins -> request on the wire (verdict, commit, doorbell, claim)",
            [_ms(row, "judged", "wire") for row in rows],
        ),
        figure("claim -> request on the wire, in one process", straight),
    ]


def _unknown_figures(rows: list[dict[str, Any]], direct: list[float]) -> list[Figure]:
    figures = []
    for status, name in (
        ("execution_confirmed", "unknown -> resolved: placed, the answer was lost"),
        ("not_placed", "unknown -> resolved: never placed, the request was lost"),
    ):
        took = [_ms(row, "unknown", "resolved") / 1000 for row in rows if row["status"] == status]
        if status == "not_placed":
            # What no saga can undercut: the rest of the window, in which a late request would be taken, and an answer.
            rests = [
                max(0.0, row["window_ms"] - _ms(row, "claimed", "unknown")) / 1000 + sorted(direct)[50] / 1000
                for row in rows
                if row["status"] == status
            ]
            baseline = ("rest of the recvWindow and an answer", rests)
        else:
            baseline = ("an answer of the exchange", [ms / 1000 for ms in direct])
        figures.append(figure(name, took, "s", least=UNKNOWN_LEAST, baseline=baseline))
    others = sorted({row["status"] for row in rows} - {"execution_confirmed", "not_placed"})
    print(f"unknown: {len(rows)} orders; other ends: {others or 'none'}; grace {GRACE_SECONDS} s")
    return figures


if __name__ == "__main__":
    sys.exit(launch(["run"], wired(PRODUCT, json.loads(os.environ[WIRES_SETTING]))))
