"""Approval click to order accepted by the exchange, and to the acknowledgement on our books."""

import hashlib
import hmac
import re
import time
from typing import Any
from urllib.parse import urlencode

import requests

from benchmarks.figures import SAMPLES_MIN, CouldNotMeasure, Figure, figure
from benchmarks.stack import Inside, Stack, temporary_folder

PORT = 9910
SAMPLES = 120
ATTEMPTS_MAX = 200
SECONDS_MAX = 300
ARMED_SECONDS_MAX = 60
QUOTE_AMOUNT = "25"
CLOCK_STEP = "the exchange's stamp is whole milliseconds, cut off: up to 1 ms early; ours are microseconds"


class Desk:
    """A signed-in operator, as a browser with htmx would speak."""

    def __init__(self, stack: Stack) -> None:
        self._url = stack.url
        self._session = requests.Session()
        self._session.trust_env = False
        page = self._session.get(f"{self._url}/login/", timeout=10)
        form = {"csrfmiddlewaretoken": _hidden(page.text, "csrfmiddlewaretoken"), "username": "operator"}
        answer = self._session.post(
            f"{self._url}/login/",
            data={**form, "password": stack.password},
            timeout=10,
            allow_redirects=False,
        )
        if answer.status_code != 302:
            raise CouldNotMeasure(f"the operator cannot sign in: {answer.status_code}")

    def open(self, path: str) -> str:
        """A page's HTML."""
        answer = self._session.get(f"{self._url}{path}", timeout=10)
        answer.raise_for_status()
        return answer.text

    def approve(self, proposal_id: str) -> tuple[int, int]:
        """Open the page, then press the button: microseconds just before the POST and after its answer."""
        page = self.open(f"/approvals/{proposal_id}/")
        form = page[page.index('id="approve-form"') :]
        data = {name: _hidden(form, name) for name in ("version", "digest", "shown")}
        token = re.search(r'"X-CSRFToken": "([^"]+)"', page)
        assert token is not None
        headers = {"X-CSRFToken": token[1], "HX-Request": "true", "Referer": f"{self._url}/approvals/"}
        address = f"{self._url}/approvals/{proposal_id}/approve/"
        clicked = time.time_ns() // 1000
        answer = self._session.post(address, data=data, headers=headers, timeout=10)
        answered = time.time_ns() // 1000
        if answer.status_code != 200:
            raise CouldNotMeasure(f"an approval was refused ({answer.status_code}): {answer.text[:200]}")
        return clicked, answered


def _hidden(html: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', html)
    if found is None:
        raise CouldNotMeasure(f"the page has no field {name}")
    return found[1]


def measure() -> list[Figure]:
    """Proposals of our own, approved one after the other over HTTP while the market runs at its own pace."""
    with (
        temporary_folder() as folder,
        # Protected, each entry would leave a stop, and a symbol takes five.
        Stack(folder / "data", PORT, SPEED="1", PROTECT_ON_EXCHANGE="false") as stack,
        Inside(stack) as inside,
    ):
        inside.call("silence_strategies")
        inside.call("arm", threshold_quote="0")
        symbols = stack.symbols()
        _wait_until_approvable(inside, symbols[0])
        rows = _approve_many(inside, Desk(stack), symbols)
        accepted = {row["clientOrderId"]: row for row in stack.ask_simulator("/sim/orders")["orders"]}
        alone = _order_directly(stack, symbols[0])
    for row in rows:
        row["accepted"] = int(accepted[row["client_order_id"]]["time"]) * 1000
    return _figures(rows, alone)


def _wait_until_approvable(inside: Inside, symbol: str) -> None:
    """Streams, quotes, clock and first reconciliation take their time after `ready`."""
    deadline = time.monotonic() + ARMED_SECONDS_MAX
    while True:
        first = _propose(inside, symbol)
        if first["status"] == "pending_approval":
            return
        if time.monotonic() > deadline:
            raise CouldNotMeasure(f"nothing can be approved: {first['status']} {first['why']}")
        time.sleep(1)


def _propose(inside: Inside, symbol: str) -> dict[str, Any]:
    made: dict[str, Any] = inside.call("propose", symbol=symbol, quote_amount=QUOTE_AMOUNT, wait_seconds=10)
    return made


def _approve_many(inside: Inside, desk: Desk, symbols: list[str]) -> list[dict[str, Any]]:
    """Stamps of each approval. symbols[0] has one proposal waiting already, which blocks its repetition."""
    rows: list[dict[str, Any]] = []
    refused: list[str] = []
    deadline = time.monotonic() + SECONDS_MAX
    for turn in range(ATTEMPTS_MAX):
        if len(rows) >= SAMPLES or time.monotonic() > deadline:
            break
        made = _propose(inside, symbols[1:][turn % (len(symbols) - 1)])
        if made["status"] != "pending_approval":
            refused.append(made["why"] or made["status"])
            continue
        clicked, answered = desk.approve(made["id"])
        fate = inside.call("fate", proposal_id=made["id"], wait_seconds=15)
        if not fate.get("acknowledged"):
            refused.append(f"{fate['status']}: {fate['why']}")
            continue
        rows.append({**fate, "clicked": clicked, "answered": answered})
    print(f"approval: {len(rows)} approved and accepted, {len(refused)} not {refused[:2]}; {CLOCK_STEP}")
    return rows


def _order_directly(stack: Stack, symbol: str) -> list[float]:
    """Milliseconds from request to answer of the same kind of order, sent straight to the exchange."""
    with requests.Session() as session:
        session.trust_env = False
        opened = session.post(
            f"{stack.simulator_url}/sim/accounts", json={"balances": {"USDT": "100000"}}, timeout=10
        ).json()
        session.headers["X-MBX-APIKEY"] = opened["apiKey"]
        took = []
        for _ in range(SAMPLES_MIN):
            order = {"symbol": symbol, "side": "BUY", "type": "MARKET", "quoteOrderQty": QUOTE_AMOUNT}
            query = urlencode({**order, "timestamp": time.time_ns() // 1_000_000, "recvWindow": 3000})
            signature = hmac.new(opened["secretKey"].encode(), query.encode(), hashlib.sha256).hexdigest()
            began = time.perf_counter()
            answer = session.post(
                f"{stack.simulator_url}/api/v3/order", data=f"{query}&signature={signature}", timeout=10
            )
            took.append((time.perf_counter() - began) * 1000)
            if not answer.ok:
                raise CouldNotMeasure(f"the exchange refused an order of the baseline: {answer.text}")
            time.sleep(0.12)  # below the exchange's limit of orders in ten seconds
    return took


def _figures(rows: list[dict[str, Any]], alone: list[float]) -> list[Figure]:
    def took(start: str, end: str) -> list[float]:
        return [(row[end] - row[start]) / 1000 for row in rows]

    return [
        figure(
            "approval click -> order accepted by the exchange",
            took("clicked", "accepted"),
            baseline=("the same order straight by signed HTTP", alone),
        ),
        figure("  click -> view begins (its `now`)", took("clicked", "decided")),
        figure("  -> worker begins the claim (commit, doorbell)", took("decided", "claimed")),
        figure("  -> send begins (gate, intent committed)", took("claimed", "sent")),
        figure("  -> accepted (submitted committed, request)", took("sent", "accepted")),
        figure("approval click -> acknowledged on our books", took("clicked", "acknowledged")),
        # The answer follows the commit, so it bounds the decision from above, by the rendering of its panels.
        figure("approval click -> decision committed and answered", took("clicked", "answered")),
    ]
