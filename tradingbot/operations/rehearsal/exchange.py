"""The simulator's engine behind the bot's port, with the wire's faults in between."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings

from execution import rules
from execution.contracts import (
    Answer,
    Balance,
    FillReport,
    NotSent,
    OrderReport,
    OrderRequest,
    OutcomeUnknown,
    QueryFailed,
    Source,
)
from execution.rules import lists
from simulator.api import endpoints
from simulator.api.account_events import account_event
from simulator.api.desk import Call
from simulator.api.params import Params
from simulator.api.security import check_timestamp
from simulator.engine.errors import ExchangeError
from simulator.server.venue import Venue, VenueSettings
from tradingbot.core.audit import canonical_json, sha256_hex
from tradingbot.core.clock import to_milliseconds
from tradingbot.operations.rehearsal.faults import EVENT_FAULTS, PLACE_FAULTS, Faults

HISTORY_MINUTES = 400
PLACE_CHANCE = 0.25
QUERY_CHANCE = 0.05
EVENT_CHANCE = 0.25
SPOILT_CHANCE = 0.15
LAG_CHANCE = 0.10
LAG_MS_MAX = 30_000
DELAY_MS_MAX = 45_000
ORDER_DOES_NOT_EXIST = -2013
PLACING = {
    "order": endpoints.PLACE_ORDER,
    **{f"orderList/{kind.lower()}": endpoint for kind, endpoint in endpoints.PLACE_LIST.items()},
}
CANCELLING = {"order": endpoints.CANCEL_ORDER, "orderList": endpoints.CANCEL_LIST}
API_KEY = "REHEARSAL" + "0" * 55


class RehearsedExchange:
    """One account on an exchange in this process; implements `execution.contracts.ExchangeGateway`."""

    def __init__(
        self, *, seed: int, replay: Path | None, faults: Faults, now: Callable[[], datetime]
    ) -> None:
        self._now = now
        self.faults = faults
        self._queue: list[tuple[int, int, dict[str, Any]]] = []
        self._serial = itertools.count()
        self._hidden_until_ms: dict[str, int] = {}
        self._started_at = now()
        wanted = VenueSettings(seed=seed, replay=(replay,) if replay else (), history_minutes=HISTORY_MINUTES)
        self.venue = Venue(wanted, now_ms=self.now_ms, monotonic=self._seconds)
        self.venue.user_streams.publish = self._hear  # type: ignore[method-assign]
        self._account = self.venue.execute(
            lambda: self.venue.exchange.open_account(API_KEY, "x" * 64, self.now_ms())
        )
        self.venue.exchange.deposit(self._account.account_id, "USDT", Decimal(10_000), self.now_ms())
        self.venue.exchange.take_events()

    def now_ms(self) -> int:
        """The exchange's clock: the rehearsal's own."""
        return to_milliseconds(self._now())

    def _seconds(self) -> float:
        return (self._now() - self._started_at).total_seconds()

    @property
    def symbols(self) -> list[str]:
        """What is traded here."""
        return sorted(set(self.venue.exchange.instruments) & set(settings.SYMBOLS))

    def run_market(self) -> None:
        """Let the market catch up with the clock."""
        while not self.venue.run_market(10_000):
            pass

    def spoil_fills(self) -> None:
        """At times an order fills in part only, or the pending legs of a list are rejected at their turn."""
        engine = self.venue.exchange.faults
        if self.faults.hits("partial fill", SPOILT_CHANCE):
            engine.arm({"kind": "partial_fill", "count": 1, "fraction": 0.5, "seconds": 60})
        if self.faults.hits("pending legs rejected", SPOILT_CHANCE):
            engine.arm({"kind": "reject_pending", "count": 1})

    def spoil_no_more(self) -> None:
        """Let the engine fill as it should."""
        self.venue.exchange.faults.disarm_all()

    def move_money(self, asset: str, amount: Decimal) -> None:
        """A deposit, or with a negative amount a withdrawal, that the bot did not make."""
        self.venue.execute(
            lambda: self.venue.exchange.deposit(self._account.account_id, asset, amount, self.now_ms())
        )

    def foreign_order(self, symbol: str, quote_amount: str) -> None:
        """Somebody buys by hand on the bot's account."""
        self._call(
            endpoints.PLACE_ORDER,
            "POST",
            "order",
            symbol=symbol,
            side="BUY",
            type="MARKET",
            quoteOrderQty=quote_amount,
            newClientOrderId=f"by-hand-{next(self._serial)}",
        )

    # --- user events ------------------------------------------------------------------------------------

    def _hear(self, event: Any, now_ms: int) -> None:
        """Put an event on its way to the bot: at once, late, twice or never."""
        body = account_event(event)
        fault = self.faults.one_of(EVENT_FAULTS, EVENT_CHANCE)
        if fault == "dropped":
            return
        due = now_ms + (self.faults.rng.randrange(DELAY_MS_MAX) if fault == "delayed" else 0)
        for _ in range(2 if fault == "duplicated" else 1):
            heapq.heappush(self._queue, (due, next(self._serial), body))

    def due_events(self) -> list[dict[str, Any]]:
        """Events that arrive by now, in order of arrival."""
        arrived = []
        while self._queue and self._queue[0][0] <= self.now_ms():
            arrived.append(heapq.heappop(self._queue)[2])
        return arrived

    @property
    def events_on_their_way(self) -> int:
        """How many events have not arrived yet."""
        return len(self._queue)

    # --- the port ---------------------------------------------------------------------------------------

    def place_order(self, request: OrderRequest) -> Answer:
        """As the wire would have it: refused, executed and answered, or executed with the answer lost."""
        payload = self._send(PLACING[request.endpoint], "POST", request, PLACE_FAULTS, PLACE_CHANCE)
        return Answer(
            reports=lists.reports_of_placing(payload),
            request_sha256=sha256_hex(canonical_json(request.parameters)),
            response_sha256=sha256_hex(canonical_json(payload)),
        )

    def cancel(self, request: OrderRequest) -> Sequence[OrderReport]:
        """As the wire would have it, too."""
        payload = self._send(CANCELLING[request.endpoint], "DELETE", request, PLACE_FAULTS, PLACE_CHANCE)
        return lists.reports_of_cancel(payload)

    def _send(
        self,
        endpoint: endpoints.Endpoint,
        method: str,
        request: OrderRequest,
        kinds: tuple[str, ...],
        chance: float,
    ) -> Any:
        self.faults.crash("before send", 0.03)
        fault = self.faults.one_of(kinds, chance)
        if fault == "refused_connection":
            raise NotSent("no connection to the exchange: rehearsed")
        if fault == "lost_before":
            raise OutcomeUnknown("no answer: rehearsed, the request was lost")
        parameters = {
            **request.parameters,
            "timestamp": str(request.timestamp_ms),
            "recvWindow": str(request.recv_window_ms),
        }
        try:
            check_timestamp(parameters["timestamp"], Params(parameters), self.now_ms())
            payload = self._call(endpoint, method, request.endpoint, **parameters)
        except ExchangeError as error:
            raise rules.classify_refusal(error.status, error.code, error.message) from error
        if method == "POST" and self.faults.hits("not found lag", LAG_CHANCE):
            until = self.now_ms() + self.faults.rng.randrange(LAG_MS_MAX)
            for name, value in request.parameters.items():
                if name.endswith("lientOrderId"):
                    self._hidden_until_ms[value] = until
        self.faults.crash("after send", 0.03)
        if fault in {"lost_after", "late_answer"}:
            raise OutcomeUnknown("no answer: rehearsed, the answer was lost")
        if fault == "server_error_after":
            raise rules.classify_refusal(504, -1007, "Timeout waiting for response from backend server.")
        return payload

    def find_order(self, *, symbol: str, client_order_id: str) -> OrderReport | None:
        """The order with our id; None for -2013, which lags at times."""
        self._fail_at_times()
        if self._hidden_until_ms.get(client_order_id, 0) > self.now_ms():
            return None
        try:
            payload = self._call(
                endpoints.QUERY_ORDER, "GET", "order", symbol=symbol, origClientOrderId=client_order_id
            )
        except ExchangeError as error:
            if error.code == ORDER_DOES_NOT_EXIST:
                return None
            raise QueryFailed(error.message) from error
        return rules.report_of_rest(payload, Source.POLL)

    def find_list(self, *, list_client_order_id: str) -> Sequence[OrderReport] | None:
        """The legs of our list; None for -2013, which lags at times."""
        self._fail_at_times()
        if self._hidden_until_ms.get(list_client_order_id, 0) > self.now_ms():
            return None
        try:
            payload = self._call(
                endpoints.QUERY_LIST, "GET", "orderList", origClientOrderId=list_client_order_id
            )
        except ExchangeError as error:
            if error.code == ORDER_DOES_NOT_EXIST:
                return None
            raise QueryFailed(error.message) from error
        return lists.reports_of_list(payload, Source.POLL)

    def open_lists(self) -> Sequence[OrderReport]:
        """The legs of all open order lists."""
        rows = self._query(endpoints.OPEN_LISTS, "openOrderList")
        shown = [
            row for row in rows if self._hidden_until_ms.get(row["listClientOrderId"], 0) <= self.now_ms()
        ]
        return [report for row in shown for report in lists.reports_of_list(row, Source.POLL)]

    def open_orders(self, *, symbol: str) -> Sequence[OrderReport]:
        """Open orders of a symbol."""
        return self._reports(self._query(endpoints.OPEN_ORDERS, "openOrders", symbol=symbol))

    def orders_since(self, *, symbol: str, since: datetime) -> Sequence[OrderReport]:
        """Orders of a symbol created since `since`; a day's window at a time, as the exchange answers."""
        rows: dict[int, dict[str, Any]] = {}
        start = to_milliseconds(since)
        while start < self.now_ms():
            window = {"startTime": str(start), "endTime": str(start + 23 * 3_600_000)}
            found = self._query(endpoints.ALL_ORDERS, "allOrders", symbol=symbol, limit="1000", **window)
            rows.update({row["orderId"]: row for row in found})
            start += 23 * 3_600_000
        return self._reports(list(rows.values()))

    def trades(
        self, *, symbol: str, from_trade_id: int | None, since: datetime | None
    ) -> Sequence[tuple[int, FillReport]]:
        """(exchange order id, trade), all pages."""
        parameters = {"symbol": symbol, "limit": "1000"}
        if from_trade_id is not None:
            parameters["fromId"] = str(from_trade_id)
        elif since is not None:
            parameters["startTime"] = str(to_milliseconds(since))
        found: list[tuple[int, FillReport]] = []
        while True:
            rows = self._query(endpoints.MY_TRADES, "myTrades", **parameters)
            found += [rules.trade_of_rest(row) for row in rows]
            if len(rows) < 1000:
                return found
            parameters.pop("startTime", None)
            parameters["fromId"] = str(found[-1][1].trade_id + 1)

    def balances(self) -> Sequence[Balance]:
        """All balances that are not zero."""
        return rules.balances_of_rest(self._query(endpoints.ACCOUNT, "account", omitZeroBalances="true"))

    def test_order(self, *, parameters: dict[str, str]) -> None:
        """Let the exchange judge a plain order."""
        try:
            self._call(endpoints.CHECK_ORDER, "POST", "order/test", **parameters)
        except ExchangeError as error:
            raise QueryFailed(f"{error.code}: {error.message}") from error

    def cancel_foreign_order(self, *, symbol: str, exchange_order_id: int) -> OrderReport:
        """Cancel an order that the bot did not place."""
        try:
            payload = self._call(
                endpoints.CANCEL_ORDER, "DELETE", "order", symbol=symbol, orderId=str(exchange_order_id)
            )
        except ExchangeError as error:
            raise rules.classify_refusal(error.status, error.code, error.message) from error
        return rules.report_of_rest(payload, Source.REST)

    def measure_clock_offset_ms(self) -> int:
        """One clock serves both sides."""
        self._fail_at_times()
        return 0

    def _reports(self, rows: list[dict[str, Any]]) -> list[OrderReport]:
        shown = [row for row in rows if self._hidden_until_ms.get(row["clientOrderId"], 0) <= self.now_ms()]
        return [rules.report_of_rest(row, Source.POLL) for row in shown]

    def _fail_at_times(self) -> None:
        self.faults.crash("during a query", 0.002)
        if self.faults.hits("failed query", QUERY_CHANCE):
            raise QueryFailed("rehearsed: HTTP 503")

    def _query(self, endpoint: endpoints.Endpoint, path: str, **parameters: str) -> Any:
        self._fail_at_times()
        try:
            return self._call(endpoint, "GET", path, **parameters)
        except ExchangeError as error:
            raise QueryFailed(f"{error.code}: {error.message}") from error

    def _call(self, endpoint: endpoints.Endpoint, method: str, path: str, **parameters: str) -> Any:
        call = Call(
            params=Params(parameters),
            method=method,
            path=f"/api/v3/{path}",
            now_ms=self.now_ms(),
            signed_by=self._account,
        )
        return self.venue.execute(lambda: endpoint.handler(self.venue.desk, call))

    def public(self, endpoint: endpoints.Endpoint, **parameters: str) -> Any:
        """A public request, which never fails here."""
        return self._call(endpoint, "GET", "public", **parameters)
