"""The WS API at /ws-api/v3: the same endpoints as REST by method name, and user-data subscriptions."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import msgspec

from simulator.api.desk import Call
from simulator.api.endpoints import WS_API, Endpoint
from simulator.api.limits import order_limits_json, weight_limit_json
from simulator.api.parameter_names import MANAGING, WS_ALWAYS
from simulator.api.params import Params
from simulator.api.security import account_of_key
from simulator.api.time_units import answer_in_microseconds
from simulator.engine.contracts import ListKind
from simulator.engine.errors import ExchangeError
from simulator.faults import Mishaps
from simulator.server.sockets import Connection
from simulator.server.venue import Venue

PATH = "/ws-api/v3"
REQUEST_ID = re.compile(r"^[a-zA-Z0-9-_]{1,36}$")
CONNECT_WEIGHT = 2
COUNTING = {"order.place", "order.cancelReplace", *(f"orderList.place.{kind.lower()}" for kind in ListKind)}
"""Methods that add to the unfilled-order count show it."""
SUBSCRIBE_WEIGHT = 2
DECODER = json.JSONDecoder(parse_float=str)
"""Numbers stay as they were written: they are part of what is signed."""


class WsApi:
    """Answers requests of WS API connections. Requests of a connection are answered in order, except that
    a delayed one (fault) does not hold up the next."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, connection: Connection, text: str, return_limits: bool) -> None:
        """One frame. Faults that wait run as a task of their own."""
        request = _parse(text)
        if isinstance(request, ExchangeError):
            self._reply(connection, _error(None, request, self._venue.now_ms()))
            return
        path = f"{PATH}/{request['method']}"
        symbol = str(request["params"].get("symbol", ""))
        mishaps = self._venue.desk.faults.mishaps("WS", path, symbol, self._venue.now_ms())
        if not mishaps.delay_before_ms and not mishaps.delay_after_ms:
            self._reply(connection, self._answer(connection, request, return_limits, mishaps))
            return
        task = asyncio.create_task(self._answer_late(connection, request, return_limits, mishaps))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_late(
        self, connection: Connection, request: dict[str, Any], return_limits: bool, mishaps: Mishaps
    ) -> None:
        await asyncio.sleep(mishaps.delay_before_ms / 1000)
        reply = self._answer(connection, request, return_limits, mishaps)
        await asyncio.sleep(mishaps.delay_after_ms / 1000)
        self._reply(connection, reply)

    @staticmethod
    def _reply(connection: Connection, reply: dict[str, Any] | None) -> None:
        if reply is None:
            connection.abort()
        elif connection.microseconds:
            connection.send(msgspec.json.encode(answer_in_microseconds(reply)))
        else:
            connection.send(msgspec.json.encode(reply))

    def _answer(
        self, connection: Connection, request: dict[str, Any], return_limits: bool, mishaps: Mishaps
    ) -> dict[str, Any] | None:
        """The reply frame; None when a fault cuts the connection instead."""
        venue = self._venue
        now_ms = venue.now_ms()
        path = f"{PATH}/{request['method']}"
        values = request["params"]
        if "returnRateLimits" in values:
            return_limits = values["returnRateLimits"] in (True, "true")
        fault = mishaps.answer_before
        reply: dict[str, Any] = {"id": request["id"], "status": 200}
        if fault is None:
            try:
                reply["result"] = self._execute(
                    connection, request["method"], path, values, return_limits, now_ms
                )
            except ExchangeError as error:
                reply = _error(request["id"], error, now_ms)
            fault = mishaps.answer_after
        if fault is not None:
            retry_after_s = fault.retry_after_s if fault.status in (418, 429) else None
            told = ExchangeError(fault.code, fault.msg, fault.status, retry_after_s)
            reply = _error(request["id"], told, now_ms)
        if mishaps.drop_answer:
            return None
        if return_limits:
            used = venue.desk.limiter.used_weight(connection.address, now_ms)
            reply["rateLimits"] = weight_limit_json(used)
            if request["method"].removeprefix("v3/") in COUNTING and reply["status"] == 200:
                reply["rateLimits"] = self._order_limits(connection, values, now_ms) + reply["rateLimits"]
        return reply

    def _order_limits(
        self, connection: Connection, values: dict[str, Any], now_ms: int
    ) -> list[dict[str, Any]]:
        """The unfilled orders of the account that has just placed one."""
        session = self._venue.sessions.account(connection)
        if session is None or "apiKey" in values:
            session = account_of_key(self._venue.exchange, values["apiKey"])
        account_id = session.account_id
        return order_limits_json(self._venue.desk.limiter.order_counts(account_id, now_ms))

    def _execute(
        self,
        connection: Connection,
        method: str,
        path: str,
        values: dict[str, Any],
        return_limits: bool,
        now_ms: int,
    ) -> Any:
        params = Params.from_json(values)
        name = method.removeprefix("v3/")
        endpoint = WS_API.get(name)
        if endpoint is not None:
            return self._call_endpoint(connection, endpoint, Call(params, "WS", path, now_ms))
        self._venue.desk.limiter.charge(connection.address, SUBSCRIBE_WEIGHT, now_ms)
        return self._manage(connection, name, params, return_limits, now_ms)

    def _manage(
        self, connection: Connection, name: str, params: Params, return_limits: bool, now_ms: int
    ) -> Any:
        """Sessions and user-data subscriptions."""
        streams, sessions = self._venue.user_streams, self._venue.sessions
        params.check_known(MANAGING.get(name, frozenset(params.names())) | WS_ALWAYS)

        def status() -> dict[str, Any]:
            subscribed = bool(streams.subscriptions(connection))
            return sessions.status(connection, return_limits, subscribed, now_ms)

        match name:
            case "userDataStream.subscribe.signature":
                account = sessions.authenticate(connection, params, now_ms)
                return {"subscriptionId": streams.subscribe(connection, account.account_id)}
            case "userDataStream.subscribe":
                account = sessions.require(connection)
                return {"subscriptionId": streams.subscribe(connection, account.account_id)}
            case "userDataStream.unsubscribe":
                streams.unsubscribe(connection, params.integer("subscriptionId"), now_ms)
                return {}
            case "session.logon":
                sessions.logon(connection, params, now_ms)
                return status()
            case "session.status":
                return status()
            case "session.logout":
                sessions.logout(connection)
                streams.unsubscribe(connection, None, now_ms)
                return status()
            case "session.subscriptions":
                return [{"subscriptionId": number} for number in streams.subscriptions(connection)]
        raise ExchangeError(
            -1100, "Illegal characters found in parameter 'method'; legal range is a known method."
        )

    def _call_endpoint(self, connection: Connection, endpoint: Endpoint, call: Call) -> Any:
        limiter = self._venue.desk.limiter
        weight = endpoint.cost(call.params)
        limiter.charge(connection.address, weight, call.now_ms)
        if endpoint.signed:
            call.signed_by = self._venue.sessions.authenticate(connection, call.params, call.now_ms)
        endpoint.check_names(call)
        result = self._venue.execute(lambda: endpoint.handler(self._venue.desk, call))
        if endpoint.free_on_success:
            limiter.refund(connection.address, weight, call.now_ms)
        return result


def _parse(text: str) -> dict[str, Any] | ExchangeError:
    """The request with `id`, `method` and `params`, or what is wrong with the frame."""
    try:
        frame = DECODER.decode(text)
    except ValueError:
        return ExchangeError(-1135, "Invalid JSON Request")
    if not isinstance(frame, dict):
        return ExchangeError(-1135, "Invalid JSON Request")
    request_id = frame.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str | None):
        return ExchangeError(-1135, "Invalid JSON Request: id must be a number, a string or null.")
    if isinstance(request_id, str) and not REQUEST_ID.match(request_id):
        return ExchangeError(
            -1100, "Illegal characters found in parameter 'id'; legal range is '^[a-zA-Z0-9-_]{1,36}$'."
        )
    params = frame.get("params") or {}
    if not isinstance(frame.get("method"), str) or not isinstance(params, dict):
        return ExchangeError(-1135, "Invalid JSON Request: method must be a string and params an object.")
    return {"id": request_id, "method": frame["method"], "params": params}


def _error(request_id: Any, error: ExchangeError, now_ms: int) -> dict[str, Any]:
    body = error.body()
    if error.retry_after_s is not None:
        body["data"] = {"serverTime": now_ms, "retryAfter": now_ms + error.retry_after_s * 1000}
    return {"id": request_id, "status": error.status, "error": body}
