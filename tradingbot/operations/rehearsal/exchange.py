"""The simulator's engine behind the bot's port, with the line's faults in between."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from simulator.api.desk import Call
from simulator.api.params import Params
from simulator.engine.errors import ExchangeError
from simulator.server.venue import Venue, VenueSettings
from tradingbot.core.audit import canonical_json, sha256_hex
from tradingbot.core.clock import to_milliseconds
from tradingbot.operations.rehearsal.faults import Faults
from tradingbot.operations.rehearsal.knobs import Knobs, Moment
from tradingbot.operations.rehearsal.line import Line, NoAnswer, NoConnection, Request

HISTORY_MINUTES = 400
ORDER_DOES_NOT_EXIST = -2013
PLACING = {
    "order": endpoints.PLACE_ORDER,
    **{f"orderList/{kind.lower()}": endpoint for kind, endpoint in endpoints.PLACE_LIST.items()},
}
CANCELLING = {"order": endpoints.CANCEL_ORDER, "orderList": endpoints.CANCEL_LIST}
API_KEY = "REHEARSAL" + "0" * 55
DAY_WINDOW_MS = 23 * 3_600_000
PAGE_LENGTH_MAX = 1000


@dataclass(frozen=True, slots=True)
class Era:
    """What the exchange knew before a wipe."""

    orders: list[Any]
    trades: list[Any]
    lists: list[Any]


class RehearsedExchange:
    """One account on an exchange in this process; implements `execution.contracts.ExchangeGateway`.

    `now` is the bot's clock, `pass_time` lets seconds go by while a request is under way.
    """

    def __init__(
        self,
        *,
        seed: int,
        replay: Path | None,
        faults: Faults,
        now: Callable[[], datetime],
        pass_time: Callable[[float], None],
    ) -> None:
        self._now = now
        self.faults = faults
        self.past: list[Era] = []
        self._started_at = now()
        self._offset_ms = 0
        wanted = VenueSettings(seed=seed, replay=(replay,) if replay else (), history_minutes=HISTORY_MINUTES)
        self.venue = Venue(wanted, now_ms=self.clock_ms, monotonic=self._seconds)
        self._account = self.venue.execute(
            lambda: self.venue.exchange.open_account(API_KEY, "x" * 64, self.clock_ms())
        )
        self.venue.exchange.deposit(self._account.account_id, "USDT", Decimal(10_000), self.clock_ms())
        self.venue.exchange.take_events()
        self.knobs = Knobs(self.venue, faults, self.symbols)
        self.line = Line(self.venue, self._account, faults, self.knobs, self.clock_ms, pass_time)
        self._forget, self._publish = self.venue.reset, self.venue.user_streams.publish
        self.venue.reset = self._reset  # type: ignore[method-assign]
        self.venue.user_streams.publish = self._tell  # type: ignore[method-assign]

    def clock_ms(self) -> int:
        """The bot's clock; the exchange's own may be off."""
        return to_milliseconds(self._now())

    def _seconds(self) -> float:
        return (self._now() - self._started_at).total_seconds()

    @property
    def account_id(self) -> int:
        """The bot's account."""
        return self._account.account_id

    @property
    def symbols(self) -> list[str]:
        """What is traded here."""
        return sorted(set(self.venue.exchange.instruments) & set(settings.SYMBOLS))

    @property
    def is_reachable(self) -> bool:
        """Whether the bot can ask anything now."""
        return not (self.venue.is_down or self.line.is_held)

    def run_market(self) -> None:
        """Let the market, and requests that are still on their way, catch up with the clock."""
        self.line.run_late()
        while not self.venue.run_market(10_000):
            pass

    def calm_down(self) -> None:
        """No fault acts any more, and what they did to the exchange is over."""
        self.venue.desk.faults.disarm_all()
        self.venue.outage.until = 0.0
        self.venue.skew_ms = 0
        for symbol in self.venue.exchange.instruments:
            self.venue.exchange.set_status(symbol, "TRADING")
        self.line.calm()

    def _reset(self, grant: dict[str, Decimal]) -> None:
        """The wipe; what was there before is kept for the auditor."""
        records = self.venue.exchange.records
        self.past.append(
            Era(list(records.all_orders()), list(records.all_trades()), list(records.lists.values()))
        )
        self._forget(grant)

    def _tell(self, event: Any, now_ms: int) -> None:
        """An event on its way to the bot: at once, late, twice, after the next one, or never."""
        self.knobs.draw(Moment.EVENT)
        self._publish(event, now_ms)

    # --- the port ---------------------------------------------------------------------------------------

    def place_order(self, request: OrderRequest) -> Answer:
        """As the wire would have it: refused, executed and answered, or executed with the answer lost."""
        payload = self._send(PLACING[request.endpoint], "POST", request)
        return _answer(request, payload, lists.reports_of_placing(payload))

    def cancel(self, request: OrderRequest) -> Answer:
        """As the wire would have it, too."""
        payload = self._send(CANCELLING[request.endpoint], "DELETE", request)
        return _answer(request, payload, lists.reports_of_cancel(payload))

    def _send(self, endpoint: endpoints.Endpoint, method: str, request: OrderRequest) -> Any:
        self.faults.crash("before send", 0.03)
        parameters = {
            **request.parameters,
            "timestamp": str(request.timestamp_ms),
            "recvWindow": str(request.recv_window_ms),
        }
        with _as_of_a_send():
            payload = self.line.ask(Request(endpoint, method, request.endpoint, parameters))
        self.faults.crash("after send", 0.03)
        return payload

    def find_order(self, *, symbol: str, client_order_id: str) -> OrderReport | None:
        """The order with our id; None for -2013, which lags at times."""
        payload = self._find(
            endpoints.QUERY_ORDER, "order", {"symbol": symbol, "origClientOrderId": client_order_id}
        )
        return None if payload is None else rules.report_of_rest(payload, Source.POLL)

    def find_list(self, *, list_client_order_id: str) -> Sequence[OrderReport] | None:
        """The legs of our list; None for -2013, which lags at times."""
        payload = self._find(endpoints.QUERY_LIST, "orderList", {"origClientOrderId": list_client_order_id})
        return None if payload is None else lists.reports_of_list(payload, Source.POLL)

    def open_lists(self) -> Sequence[OrderReport]:
        """The legs of all open order lists."""
        rows = self._query(endpoints.OPEN_LISTS, "openOrderList", {})
        return [report for row in rows for report in lists.reports_of_list(row, Source.POLL)]

    def open_orders(self, *, symbol: str) -> Sequence[OrderReport]:
        """Open orders of a symbol."""
        return _reports(self._query(endpoints.OPEN_ORDERS, "openOrders", {"symbol": symbol}))

    def orders_since(self, *, symbol: str, since: datetime) -> Sequence[OrderReport]:
        """Orders of a symbol created since `since`; a day's window at a time, as the exchange answers.

        A full page is gone on from by order id, past the window and up to now, as the product's gateway does.
        """
        found: dict[int, dict[str, Any]] = {}
        start, end = to_milliseconds(since), self.clock_ms() + 60_000
        while start < end:
            window = {"startTime": str(start), "endTime": str(start + DAY_WINDOW_MS)}
            if self._page_of_orders(found, symbol, **window) == PAGE_LENGTH_MAX:
                while self._page_of_orders(found, symbol, orderId=str(max(found) + 1)) == PAGE_LENGTH_MAX:
                    pass
                break
            start += DAY_WINDOW_MS
        return _reports(list(found.values()))

    def _page_of_orders(self, found: dict[int, dict[str, Any]], symbol: str, **span: str) -> int:
        parameters = {"symbol": symbol, "limit": str(PAGE_LENGTH_MAX), **span}
        rows = self._query(endpoints.ALL_ORDERS, "allOrders", parameters)
        found.update({row["orderId"]: row for row in rows})
        return len(rows)

    def trades(
        self, *, symbol: str, from_trade_id: int | None, since: datetime | None
    ) -> Sequence[tuple[int, FillReport]]:
        """(exchange order id, trade), all pages."""
        parameters = {"symbol": symbol, "limit": str(PAGE_LENGTH_MAX)}
        if from_trade_id is not None:
            parameters["fromId"] = str(from_trade_id)
        elif since is not None:
            parameters["startTime"] = str(to_milliseconds(since))
        found: list[tuple[int, FillReport]] = []
        while True:
            rows = self._query(endpoints.MY_TRADES, "myTrades", parameters)
            found += [rules.trade_of_rest(row) for row in rows]
            if len(rows) < PAGE_LENGTH_MAX:
                return found
            parameters.pop("startTime", None)
            parameters["fromId"] = str(found[-1][1].trade_id + 1)

    def balances(self) -> Sequence[Balance]:
        """All balances that are not zero."""
        return rules.balances_of_rest(self._query(endpoints.ACCOUNT, "account", {"omitZeroBalances": "true"}))

    def test_order(self, *, parameters: dict[str, str]) -> None:
        """Let the exchange judge a plain order."""
        request = Request(endpoints.CHECK_ORDER, "POST", "order/test", parameters)
        try:
            with _as_of_a_send():
                self.line.ask(request)
        except (NotSent, OutcomeUnknown) as error:
            raise QueryFailed(str(error)) from error

    def cancel_foreign_order(self, *, symbol: str, exchange_order_id: int) -> OrderReport:
        """Cancel an order that the bot did not place."""
        parameters = {"symbol": symbol, "orderId": str(exchange_order_id)}
        with _as_of_a_send():
            payload = self.line.ask(Request(endpoints.CANCEL_ORDER, "DELETE", "order", parameters))
        return rules.report_of_rest(payload, Source.REST)

    def measure_clock_offset_ms(self) -> int:
        """The exchange's clock minus ours; it also corrects the times of queries."""
        answer = self._query(endpoints.TIME, "time", {}, signed=False)
        self._offset_ms = int(answer["serverTime"]) - self.clock_ms()
        return self._offset_ms

    def _find(self, endpoint: endpoints.Endpoint, path: str, parameters: dict[str, str]) -> Any:
        """None for -2013 only."""
        try:
            return self._ask(endpoint, path, parameters)
        except ExchangeError as error:
            if error.code == ORDER_DOES_NOT_EXIST:
                return None
            raise QueryFailed(f"{error.code}: {error.message}") from error

    def _query(
        self, endpoint: endpoints.Endpoint, path: str, parameters: dict[str, str], *, signed: bool = True
    ) -> Any:
        try:
            return self._ask(endpoint, path, parameters, signed=signed)
        except ExchangeError as error:
            raise QueryFailed(f"{error.code}: {error.message}") from error

    def _ask(
        self, endpoint: endpoints.Endpoint, path: str, parameters: dict[str, str], *, signed: bool = True
    ) -> Any:
        self.faults.crash("during a query", 0.002)
        if signed:
            timestamp = str(self.clock_ms() + self._offset_ms)
            parameters = {**parameters, "timestamp": timestamp, "recvWindow": str(settings.RECV_WINDOW_MS)}
        try:
            return self.line.ask(Request(endpoint, "GET", path, parameters))
        except (NoConnection, NoAnswer) as error:
            raise QueryFailed(f"rehearsed: {error}") from error

    def public(self, endpoint: endpoints.Endpoint, **parameters: str) -> Any:
        """What the market's workers would know from their streams; the streams have faults of their own."""
        call = Call(Params(parameters), "GET", "public", self.venue.now_ms())
        return self.venue.execute(lambda: endpoint.handler(self.venue.desk, call))


@contextmanager
def _as_of_a_send() -> Iterator[None]:
    """Translate what can happen to a request that must not be sent twice into the port's words."""
    try:
        yield
    except NoConnection as error:
        raise NotSent(f"rehearsed: {error}") from error
    except NoAnswer as error:
        raise OutcomeUnknown(f"rehearsed: {error}") from error
    except ExchangeError as error:
        raise rules.classify_refusal(error.status, error.code, error.message) from error


def _answer(request: OrderRequest, payload: Any, reports: tuple[OrderReport, ...]) -> Answer:
    return Answer(
        reports=reports,
        request_sha256=sha256_hex(canonical_json(request.parameters)),
        response_sha256=sha256_hex(canonical_json(payload)),
    )


def _reports(rows: list[dict[str, Any]]) -> list[OrderReport]:
    return [rules.report_of_rest(row, Source.POLL) for row in rows]
