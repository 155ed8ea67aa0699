"""Market streams: /ws/<stream>, /ws, /stream?streams=a/b and their control messages (binance.md §6)."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from simulator.api.time_units import event_in_microseconds
from simulator.clock import monotonic_seconds
from simulator.faults import MARKET_MESSAGES, Fault, FaultBook, FaultKind
from simulator.server.sockets import Connection

STREAMS_PER_CONNECTION_MAX = 1_024
INBOUND_PER_SECOND_MAX = 5
REQUEST_ID = re.compile(r"^[a-zA-Z0-9-_]{1,36}$")


class Subscriber:
    """A connection to market streams: what it listens to and whether messages are wrapped."""

    def __init__(self, connection: Connection, combined: bool) -> None:
        self.connection = connection
        self.combined = combined
        self.streams: set[str] = set()
        self._second = 0
        self._inbound = 0

    def too_fast(self) -> bool:
        """Count an inbound message; True from the sixth in a second."""
        second = int(monotonic_seconds())
        if second != self._second:
            self._second, self._inbound = second, 0
        self._inbound += 1
        return self._inbound > INBOUND_PER_SECOND_MAX


class MarketStreams:
    """Subscriptions by stream name. `on_first` is called with a stream's name before its first listener."""

    def __init__(self, faults: FaultBook, now_ms: Callable[[], int]) -> None:
        self._faults = faults
        self._now_ms = now_ms
        self._listeners: dict[str, set[Subscriber]] = defaultdict(set)
        self.on_first: Callable[[str], None] = lambda stream: None

    # --- subscriptions ----------------------------------------------------------------------------------

    def open(self, connection: Connection, streams: list[str], combined: bool) -> Subscriber:
        subscriber = Subscriber(connection, combined)
        connection.on_close.append(lambda: self._unsubscribe(subscriber, list(subscriber.streams)))
        connection.on_control_frame = partial(self._count_inbound, subscriber)
        self._subscribe(subscriber, streams)
        return subscriber

    @staticmethod
    def _count_inbound(subscriber: Subscriber) -> bool:
        """Count an inbound frame, pings and pongs as well; too many end the connection, with True."""
        if subscriber.too_fast():
            subscriber.connection.close_soon(1008, "Too many requests")
            return True
        return False

    def receive(self, subscriber: Subscriber, text: str) -> None:
        """A control message: SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY, GET_PROPERTY."""
        if self._count_inbound(subscriber):
            return
        subscriber.connection.send(msgspec.json.encode(self._control(subscriber, text)))

    def _control(self, subscriber: Subscriber, text: str) -> dict[str, Any]:
        try:
            message = json.loads(text)
        except ValueError as error:
            return {"error": {"code": 3, "msg": f"Invalid JSON: {error}"}}
        if not isinstance(message, dict):
            return {"error": {"code": 2, "msg": "Invalid request: request must be an object"}}
        request_id = message.get("id")
        if not _is_request_id(request_id):
            return {"error": {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}}
        try:
            result = self._command(subscriber, message.get("method"), message.get("params"))
        except ValueError as error:
            return {"error": {"code": 2, "msg": f"Invalid request: {error}"}, "id": request_id}
        return {"result": result, "id": request_id}

    def _command(self, subscriber: Subscriber, method: Any, params: Any) -> Any:
        if method == "LIST_SUBSCRIPTIONS":
            return sorted(subscriber.streams)
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            # Not printable: control characters and halves of surrogate pairs, which cannot be sent back.
            if not isinstance(params, list) or not all(
                isinstance(name, str) and name.isprintable() for name in params
            ):
                raise ValueError("params must be a list of stream names")
            (self._subscribe if method == "SUBSCRIBE" else self._unsubscribe)(subscriber, params)
            return None
        if method == "GET_PROPERTY" and params == ["combined"]:
            return subscriber.combined
        if method == "SET_PROPERTY" and isinstance(params, list) and params[:1] == ["combined"]:
            if len(params) != 2 or not isinstance(params[1], bool):
                raise ValueError("property combined must be a boolean")
            subscriber.combined = params[1]
            return None
        raise ValueError("unknown variant, expected one of SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS")

    def _subscribe(self, subscriber: Subscriber, streams: list[str]) -> None:
        """Unknown names are taken without a word, as the exchange does; they stay silent."""
        if len(subscriber.streams | set(streams)) > STREAMS_PER_CONNECTION_MAX:
            raise ValueError(f"at most {STREAMS_PER_CONNECTION_MAX} streams a connection")
        for name in streams:
            if name not in self._listeners:
                self.on_first(name)
            subscriber.streams.add(name)
            self._listeners[name].add(subscriber)

    def _unsubscribe(self, subscriber: Subscriber, streams: list[str]) -> None:
        for name in streams:
            subscriber.streams.discard(name)
            listeners = self._listeners.get(name)
            if listeners:
                listeners.discard(subscriber)
                if not listeners:
                    del self._listeners[name]

    # --- messages ---------------------------------------------------------------------------------------

    @property
    def has_listeners(self) -> bool:
        return bool(self._listeners)

    def wanted(self, stream: str) -> bool:
        """Whether somebody listens to a stream."""
        return stream in self._listeners

    def send(self, stream: str, render: Any, *arguments: Any) -> None:
        """Send what `render(*arguments)` gives to everybody who listens to `stream`, as the faults leave it."""
        listeners = self._listeners.get(stream)
        if not listeners:
            return
        event = render(*arguments)
        times, cut = self._mishaps(stream) if self._faults.any_armed(MARKET_MESSAGES) else (1, False)
        frames: dict[tuple[bool, bool], bytes] = {}
        for subscriber in listeners:
            form = (subscriber.combined, subscriber.connection.microseconds)
            if form not in frames:
                frames[form] = _frame(stream, event, *form, cut)
        for _ in range(times):
            for subscriber in listeners:
                form = (subscriber.combined, subscriber.connection.microseconds)
                subscriber.connection.send(frames[form])

    def _mishaps(self, stream: str) -> tuple[int, bool]:
        """How often a message is sent, and whether only half of it."""
        now_ms, symbol = self._now_ms(), stream.partition("@")[0].upper()

        def take(kind: FaultKind) -> Fault | None:
            return self._faults.take(kind, "WS", stream, now_ms, None, symbol)

        if take(FaultKind.MUTE_MARKET) is not None:
            return 0, False
        twin = take(FaultKind.DUPLICATE_MARKET)
        return twin.times if twin else 1, take(FaultKind.TRUNCATE_MARKET) is not None


def _frame(stream: str, event: Any, combined: bool, microseconds: bool, cut: bool) -> bytes:
    """A message as it is sent to those who want it in this form."""
    message = msgspec.json.encode(event_in_microseconds(event) if microseconds else event)
    if combined:
        message = b'{"stream":"%b","data":%b}' % (stream.encode(), message)
    return message[: len(message) // 2] if cut else message


def _is_request_id(value: Any) -> bool:
    if isinstance(value, str):
        return bool(REQUEST_ID.match(value))
    return value is None or (isinstance(value, int) and not isinstance(value, bool))
