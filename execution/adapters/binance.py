"""The signed side of the exchange, on python-binance's REST client. One request per call, never a retry."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import requests
from binance.exceptions import BinanceAPIException, BinanceRequestException
from django.conf import settings
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from execution import rules
from execution.adapters.rate_budget import BudgetedClient
from execution.contracts import (
    Answer,
    Balance,
    ExchangeRejected,
    FillReport,
    NotSent,
    OrderReport,
    OrderRequest,
    OutcomeUnknown,
    QueryFailed,
    Source,
)
from execution.rules import lists
from tradingbot import env
from tradingbot.core.audit import canonical_json, sha256_hex
from tradingbot.core.clock import now, to_milliseconds
from tradingbot.core.logs import register_secret

ORDER_DOES_NOT_EXIST = -2013
CANCEL_REFUSED = frozenset({-2011, -2013, -2039})  # unknown or ended order, or the two ids do not match
PAGE_LENGTH_MAX = 1000
PAGES_MAX = 100
WINDOW = timedelta(hours=23)  # allOrders answers at most 24 h between startTime and endTime
NEVER_SENT = (NewConnectionError, NameResolutionError, ConnectTimeoutError)


class SignedClient(BudgetedClient):
    """python-binance with our own timestamp: it would overwrite the one that was fixed at the claim."""

    fixed_timestamp_ms: int | None = None

    def _generate_signature(self, data: dict[str, Any], uri_encode: bool = True) -> str:
        if self.fixed_timestamp_ms is not None:
            data["timestamp"] = self.fixed_timestamp_ms
        return super()._generate_signature(data, uri_encode)


def was_never_sent(error: requests.exceptions.RequestException) -> bool:
    """Whether the connection itself failed (refused, DNS, connect time-out): no byte of the request left."""
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", cause), NEVER_SENT)


class BinanceGateway:
    """`execution.contracts.ExchangeGateway` for the environment of the settings."""

    def __init__(self) -> None:
        key, secret = env.secret(settings.EXCHANGE_API_KEY), env.secret(settings.EXCHANGE_API_SECRET)
        register_secret(key)
        register_secret(secret)
        self._client = SignedClient(key, secret)
        self._client.REQUEST_RECVWINDOW = settings.RECV_WINDOW_MS

    def place_order(self, request: OrderRequest) -> Answer:
        """Send once with the committed timestamp. Raises NotSent, ExchangeRejected or OutcomeUnknown."""
        return self._answered(lists.reports_of_placing, "post", request)

    def cancel(self, request: OrderRequest) -> Answer:
        """Cancel once. Raises NotSent, ExchangeRejected (-2011: it is not open) or OutcomeUnknown."""
        return self._answered(lists.reports_of_cancel, "delete", request)

    def _answered(
        self, read: Callable[[Any], tuple[OrderReport, ...]], method: str, request: OrderRequest
    ) -> Answer:
        payload = self._send_once(method, request)
        return Answer(
            reports=self._understood(read, payload),
            request_sha256=request_sha256(request),
            response_sha256=sha256_hex(canonical_json(payload)),
        )

    def _send_once(self, method: str, request: OrderRequest) -> Any:
        self._client.fixed_timestamp_ms = request.timestamp_ms
        self._client.REQUEST_RECVWINDOW = request.recv_window_ms
        try:
            return self._client._request_api(method, request.endpoint, True, data=dict(request.parameters))
        except BinanceAPIException as error:
            raise rules.classify_refusal(error.status_code, error.code, error.message) from error
        except BinanceRequestException as error:
            raise OutcomeUnknown(f"the answer could not be read: {type(error).__name__}") from error
        except requests.exceptions.RequestException as error:
            if was_never_sent(error):
                raise NotSent(f"no connection to the exchange: {type(error).__name__}") from error
            raise OutcomeUnknown(f"no answer: {type(error).__name__}") from error
        finally:
            self._client.fixed_timestamp_ms = None
            self._client.REQUEST_RECVWINDOW = settings.RECV_WINDOW_MS

    @staticmethod
    def _understood(parse: Callable[[Any], tuple[OrderReport, ...]], payload: Any) -> tuple[OrderReport, ...]:
        try:
            return parse(payload)
        except rules.MalformedReport as error:
            raise OutcomeUnknown(f"the answer could not be read: {type(error).__name__}") from error

    def find_order(self, *, symbol: str, client_order_id: str) -> OrderReport | None:
        """The order with our id; None only for the exchange's own -2013."""

        def ask() -> Any:
            try:
                return self._client.get_order(symbol=symbol, origClientOrderId=client_order_id)
            except BinanceAPIException as error:
                if error.code == ORDER_DOES_NOT_EXIST:
                    return None
                raise

        payload = self._query(ask)
        return None if payload is None else self._parse(rules.report_of_rest, payload, Source.POLL)

    def find_list(self, *, list_client_order_id: str) -> Sequence[OrderReport] | None:
        """The legs of our list, as far as the list tells of them; None only for the exchange's own -2013."""

        def ask() -> Any:
            try:
                return self._client._get("orderList", True, data={"origClientOrderId": list_client_order_id})
            except BinanceAPIException as error:
                if error.code == ORDER_DOES_NOT_EXIST:
                    return None
                raise

        payload = self._query(ask)
        return None if payload is None else self._parse(lists.reports_of_list, payload, Source.POLL)

    def open_lists(self) -> Sequence[OrderReport]:
        """The legs of all open order lists, as far as the lists tell of them."""
        rows = self._query(lambda: self._client._get("openOrderList", True, data={}))
        return [report for row in rows for report in self._parse(lists.reports_of_list, row, Source.POLL)]

    def open_orders(self, *, symbol: str) -> Sequence[OrderReport]:
        """Open orders of a symbol."""
        rows = self._query(lambda: self._client.get_open_orders(symbol=symbol))
        return [self._parse(rules.report_of_rest, row, Source.POLL) for row in rows]

    def orders_since(self, *, symbol: str, since: datetime) -> Sequence[OrderReport]:
        """All orders of a symbol created since `since`, in windows that the exchange answers.

        A full page is gone on from by order id, not by time: many orders may share a millisecond.
        """
        found: dict[int, OrderReport] = {}
        start, end = since, now() + timedelta(minutes=1)
        while start < end:
            rows = self._page_of_orders(
                found,
                symbol,
                startTime=to_milliseconds(start),
                endTime=to_milliseconds(min(start + WINDOW, end)),
            )
            if rows == PAGE_LENGTH_MAX:
                self._orders_after(found, symbol)
                break  # ids lead past the window, up to now
            start += WINDOW
        return list(found.values())

    def _orders_after(self, found: dict[int, OrderReport], symbol: str) -> None:
        for _ in range(PAGES_MAX):
            if self._page_of_orders(found, symbol, orderId=max(found) + 1) < PAGE_LENGTH_MAX:
                return
        raise QueryFailed(f"more than {PAGES_MAX} pages of orders of {symbol}")

    def _page_of_orders(self, found: dict[int, OrderReport], symbol: str, **span: int) -> int:
        rows = self._query(partial(self._client.get_all_orders, symbol=symbol, limit=PAGE_LENGTH_MAX, **span))
        for row in rows:
            report = self._parse(rules.report_of_rest, row, Source.POLL)
            found[report.exchange_order_id] = report
        return len(rows)

    def trades(
        self, *, symbol: str, from_trade_id: int | None, since: datetime | None
    ) -> Sequence[tuple[int, FillReport]]:
        """(exchange order id, trade) in ascending trade id: from an id on, else of the window after `since`."""
        found: list[tuple[int, FillReport]] = []
        parameters: dict[str, Any] = {"symbol": symbol, "limit": PAGE_LENGTH_MAX}
        if from_trade_id is not None:
            parameters["fromId"] = from_trade_id
        elif since is not None:
            parameters["startTime"] = to_milliseconds(since)
        for _ in range(PAGES_MAX):
            rows = self._query(partial(self._client.get_my_trades, **parameters))
            found += [self._parse(rules.trade_of_rest, row) for row in rows]
            if len(rows) < PAGE_LENGTH_MAX:
                return found
            parameters.pop("startTime", None)
            parameters["fromId"] = found[-1][1].trade_id + 1
        raise QueryFailed(f"more than {PAGES_MAX} pages of trades of {symbol}")

    def balances(self) -> Sequence[Balance]:
        """All balances that are not zero."""
        return self._parse(
            rules.balances_of_rest, self._query(lambda: self._client.get_account(omitZeroBalances="true"))
        )

    def test_order(self, *, parameters: dict[str, str]) -> None:
        """Let the exchange test a plain order; nothing is placed. Raises ExchangeRejected or QueryFailed."""
        try:
            self._client.create_test_order(**parameters)
        except BinanceAPIException as error:
            refusal = rules.classify_refusal(error.status_code, error.code, error.message)
            if isinstance(refusal, ExchangeRejected):
                raise refusal from error
            raise QueryFailed(str(refusal)) from error
        except (BinanceRequestException, requests.exceptions.RequestException) as error:
            raise QueryFailed(f"no usable answer: {type(error).__name__}") from error

    def cancel_foreign_order(self, *, symbol: str, exchange_order_id: int) -> OrderReport:
        """Cancel by the exchange's id, once. Raises NotSent, ExchangeRejected or OutcomeUnknown."""
        try:
            payload = self._client.cancel_order(symbol=symbol, orderId=exchange_order_id)
            return rules.report_of_rest(payload, Source.REST)
        except BinanceAPIException as error:
            if error.code in CANCEL_REFUSED:
                raise ExchangeRejected(error.code, error.message[:200]) from error
            raise rules.classify_refusal(error.status_code, error.code, error.message) from error
        except (BinanceRequestException, rules.MalformedReport) as error:
            raise OutcomeUnknown(f"the answer could not be read: {type(error).__name__}") from error
        except requests.exceptions.RequestException as error:
            if was_never_sent(error):
                raise NotSent(f"no connection to the exchange: {type(error).__name__}") from error
            raise OutcomeUnknown(f"no answer: {type(error).__name__}") from error

    def measure_clock_offset_ms(self) -> int:
        """Server time minus ours at the middle of the round trip; also corrects this client's queries."""
        before_ms = to_milliseconds(now())
        started = time.monotonic()
        payload = self._query(self._client.get_server_time)
        half_trip_ms = int((time.monotonic() - started) * 500)
        offset_ms = int(payload["serverTime"]) - before_ms - half_trip_ms
        self._client.timestamp_offset = offset_ms
        return offset_ms

    def set_clock_offset_ms(self, offset_ms: int) -> None:
        """Correct the timestamps of queries by an offset that was measured elsewhere."""
        self._client.timestamp_offset = offset_ms

    @staticmethod
    def _query(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except BinanceAPIException as error:
            raise QueryFailed(f"HTTP {error.status_code}, code {error.code}: {error.message:.200}") from error
        except (BinanceRequestException, requests.exceptions.RequestException) as error:
            raise QueryFailed(f"no usable answer: {type(error).__name__}") from error

    @staticmethod
    def _parse(parse: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return parse(*arguments)
        except rules.MalformedReport as error:
            raise QueryFailed(f"unreadable answer: {error}") from error


def request_sha256(request: OrderRequest) -> str:
    """Hash of the canonical request: its parameters and its time, without key and signature."""
    return sha256_hex(
        canonical_json(
            {
                **request.parameters,
                "timestamp": request.timestamp_ms,
                "recvWindow": request.recv_window_ms,
            }
        )
    )


_of_thread = threading.local()


def gateway() -> BinanceGateway:
    """This thread's gateway: a requests session must not be shared between threads."""
    if not hasattr(_of_thread, "gateway"):
        _of_thread.gateway = BinanceGateway()
    return _of_thread.gateway
