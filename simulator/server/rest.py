"""REST under /api/v3: signature over the exact bytes, weights, faults, errors as JSON."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from simulator.api.desk import Call
from simulator.api.endpoints import GONE, REST, REST_PREFIX, Endpoint
from simulator.api.params import Params
from simulator.api.security import account_of_key, check_signed, rest_payload
from simulator.api.time_units import answer_in_microseconds, wants_microseconds
from simulator.engine.errors import ExchangeError
from simulator.faults import NO_MISHAPS, Fault
from simulator.server.venue import Venue


class RestApi:
    """Answers every request under /api."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request: faults before, endpoint, commit, faults after."""
        try:
            body = (await request.read()).decode()
        except web.HTTPRequestEntityTooLarge:
            return _json({"code": -1000, "msg": "The request body is too large."}, 413)
        except UnicodeDecodeError:
            return _json({"code": -1100, "msg": "Illegal characters found in a parameter."}, 400)
        name = request.path.removeprefix(REST_PREFIX)
        endpoint = REST.get((request.method, name)) if request.path.startswith(REST_PREFIX) else None
        if name in GONE:
            return _json({"code": -1000, "msg": "Gone: listenKeys ended on 2026-02-20."}, 410)
        if endpoint is None:
            return _json({"code": -1000, "msg": f"No such endpoint: {request.method} {request.path}"}, 404)
        return await self._answer(request, endpoint, body)

    async def _answer(self, request: web.Request, endpoint: Endpoint, body: str) -> web.StreamResponse:
        # The raw path keeps the percent-encoding that the client signed.
        query = request.raw_path.partition("?")[2]
        faults, now_ms = self._venue.desk.faults, self._venue.now_ms()
        mishaps = NO_MISHAPS
        if faults.has_been_armed:
            symbol = dict(parse_qsl(f"{body}&{query}")).get("symbol", "")
            mishaps = faults.mishaps(request.method, request.path, symbol, now_ms)
        if mishaps.delay_before_ms:
            await asyncio.sleep(mishaps.delay_before_ms / 1000)
        if mishaps.answer_before is not None:
            return _fault_answer(mishaps.answer_before)
        answer, status, headers = self._execute(request, endpoint, query, body)
        if mishaps.delay_after_ms:
            await asyncio.sleep(mishaps.delay_after_ms / 1000)
        if mishaps.answer_after is not None:
            return _fault_answer(mishaps.answer_after)
        if mishaps.drop_answer:
            if request.transport is not None:
                request.transport.abort()
            # aiohttp notices the closed connection and sends nothing.
            return web.Response()
        return _json(answer, status, headers)

    def _execute(
        self, request: web.Request, endpoint: Endpoint, query: str, body: str
    ) -> tuple[Any, int, dict[str, str]]:
        venue, address = self._venue, request.remote or ""
        now_ms = venue.now_ms()
        call: Call | None = None
        headers: dict[str, str] = {}
        try:
            microseconds = wants_microseconds(request.headers.get("X-MBX-TIME-UNIT"))
            params = Params.from_request(query, body)
            call = Call(params, request.method, request.path, now_ms)
            weight = endpoint.cost(params)
            venue.desk.limiter.charge(address, weight, now_ms)
            if endpoint.signed:
                account = account_of_key(venue.exchange, request.headers.get("X-MBX-APIKEY"))
                check_signed(account, params, rest_payload(query, body), now_ms)
                call.signed_by = account
            endpoint.check_names(call)
            bound = call
            answer = venue.execute(lambda: endpoint.handler(venue.desk, bound))
            if endpoint.free_on_success:
                venue.desk.limiter.refund(address, weight, now_ms)
            if microseconds:
                answer = answer_in_microseconds(answer)
            status = 200
        except ExchangeError as error:
            answer, status = error.body(), error.status
            if error.retry_after_s is not None:
                headers["Retry-After"] = str(error.retry_after_s)
        headers["X-MBX-USED-WEIGHT-1M"] = str(venue.desk.limiter.used_weight(address, now_ms))
        if call is not None and call.signed_by is not None:
            short, day = venue.desk.limiter.order_counts(call.account.account_id, now_ms)
            headers["X-MBX-ORDER-COUNT-10S"] = str(short)
            headers["X-MBX-ORDER-COUNT-1D"] = str(day)
        return answer, status, headers


def error_response(error: ExchangeError) -> web.Response:
    """A refusal on its own, of a request that reached no endpoint."""
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else None
    return _json(error.body(), error.status, headers)


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json"
    )


def _fault_answer(fault: Fault) -> web.Response:
    headers = {"Retry-After": str(fault.retry_after_s)} if fault.status in (418, 429) else None
    return _json({"code": fault.code, "msg": fault.msg}, fault.status, headers)
