"""What the exchange sends becomes contracts, or is refused whole."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from market import rules
from market.contracts import AccountFrame, Candle, Interval, MalformedFrame
from market.rules import BookTicker, ControlReply, Kline, ServerShutdown
from tests.conftest import NOW
from tests.market.builders import START, kline_frame, milliseconds, row, ticker_frame, walk

CANDLE = walk(1)[0]


def encoded(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame).encode()


def test_a_closed_kline_becomes_the_candle_it_was_made_of() -> None:
    assert rules.parse_stream_frame(encoded(kline_frame(CANDLE))) == Kline("BTCUSDT", CANDLE)


def test_an_open_kline_carries_no_candle() -> None:
    assert rules.parse_stream_frame(encoded(kline_frame(CANDLE, closed=False))) == Kline("BTCUSDT", None)


def test_a_kline_row_becomes_the_candle_it_was_made_of() -> None:
    assert rules.parse_kline_row(row(CANDLE), symbol="BTCUSDT", interval=Interval.M1, closed=True) == CANDLE


def test_a_book_ticker_becomes_a_quote() -> None:
    ticker = rules.parse_stream_frame(encoded(ticker_frame()))
    assert isinstance(ticker, BookTicker)

    quote = rules.quote_from_ticker(ticker, received_at=NOW)

    assert (quote.symbol, quote.bid, quote.ask) == ("BTCUSDT", Decimal("50000.00"), Decimal("50000.10"))
    assert (quote.bid_quantity, quote.ask_quantity, quote.received_at) == (
        Decimal("1.5"),
        Decimal("2.25"),
        NOW,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"c": "NaN"},
        {"o": "-1"},
        {"l": "0"},
        {"h": "1.00"},
        {"v": "-0.1"},
        {"o": "1e5"},
        {"o": 50000.0},
        {"o": None},
        {"n": -1},
        {"n": 2.5},
        {"t": milliseconds(START) + 1},
        {"T": milliseconds(START)},
        {"t": 10**18, "T": 10**18 + 59_999},
        {"s": "ETHUSDT"},
        {"i": "5m"},
        {"x": "true"},
    ],
    ids=str,
)
def test_a_kline_with_an_impossible_field_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedFrame):
        rules.parse_stream_frame(encoded(kline_frame(CANDLE, **changes)))


@pytest.mark.parametrize(
    "changes",
    [{"b": "NaN"}, {"b": "0"}, {"a": "-1"}, {"b": "50000.20"}, {"B": "-1"}, {"b": "Infinity"}, {"a": ""}],
    ids=str,
)
def test_a_book_ticker_with_an_impossible_book_is_refused(changes: dict[str, str]) -> None:
    ticker = rules.parse_stream_frame(encoded(ticker_frame(**changes)))
    assert isinstance(ticker, BookTicker)

    with pytest.raises(MalformedFrame):
        rules.quote_from_ticker(ticker, received_at=NOW)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"null",
        b"[]",
        b'{"stream":"btcusdt@bookTicker"',
        b'{"stream":"btcusdt@depth","data":{}}',
        b'{"stream":"btcusdt@bookTicker","data":[]}',
        b'{"stream":7,"data":{}}',
        b'{"e":"24hrTicker"}',
        b"[" * 100_000,
        b'{"stream":"btcusdt@bookTicker","data":' + b"[" * 100_000,
        b'{"stream":"\xff@bookTicker","data":{}}',
    ],
    ids=lambda frame: repr(frame[:40]),
)
def test_a_frame_of_another_shape_is_refused(frame: bytes) -> None:
    with pytest.raises(MalformedFrame):
        rules.parse_stream_frame(frame)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_malformed_frame(frame: bytes) -> None:
    for parse in (rules.parse_stream_frame, lambda f: rules.parse_reply(f, received_at=NOW)):
        try:
            parse(frame)
        except MalformedFrame:
            continue


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just("btcusdt@kline_1m"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("eEskxtTbBaAqvnohlc"), inner),
    max_leaves=12,
)


@given(st.sampled_from(["btcusdt@kline_1m", "btcusdt@bookTicker", "", "x"]), JSON)
@example("btcusdt@kline_1m", {"k": {"x": True}})
def test_no_json_raises_anything_but_malformed_frame(stream: str, data: Any) -> None:
    try:
        message = rules.parse_stream_frame(encoded({"stream": stream, "data": data}))
        if isinstance(message, BookTicker):
            rules.quote_from_ticker(message, received_at=NOW)
    except MalformedFrame:
        return


FIELDS = st.sampled_from(["t", "T", "o", "h", "l", "c", "v", "q", "n"])
VALUES = st.one_of(
    st.decimals(allow_nan=True, allow_infinity=True).map(str), st.integers(), st.text(max_size=12), st.none()
)


@given(st.dictionaries(FIELDS, VALUES, min_size=1))
def test_every_candle_that_gets_through_is_sane(changes: dict[str, Any]) -> None:
    try:
        message = rules.parse_stream_frame(encoded(kline_frame(CANDLE, **changes)))
    except MalformedFrame:
        return
    assert isinstance(message, Kline) and message.candle is not None
    candle: Candle = message.candle
    assert 0 < candle.low <= min(candle.open, candle.close)
    assert candle.high >= max(candle.open, candle.close)
    assert candle.close_time - candle.open_time == timedelta(milliseconds=59_999)
    assert all(n.is_finite() and n >= 0 for n in (candle.volume, candle.quote_volume))


@pytest.mark.parametrize(
    ("frame", "reply"),
    [
        (b'{"result":null,"id":3}', ControlReply(3)),
        (b'{"result":["btcusdt@kline_1m"],"id":3}', ControlReply(3, names=("btcusdt@kline_1m",))),
        (b'{"code":2,"msg":"Invalid request"}', ControlReply(None, "code 2: Invalid request")),
        (b'{"error":{"code":2,"msg":"no"},"id":"a"}', ControlReply("a", "{'code': 2, 'msg': 'no'}")),
    ],
)
def test_the_answer_to_a_control_message_is_told_from_data(frame: bytes, reply: ControlReply) -> None:
    assert rules.parse_stream_frame(frame) == reply


@pytest.mark.parametrize(
    "frame",
    [
        b'{"e":"serverShutdown","E":1}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
    ],
)
def test_a_shutdown_notice_of_a_market_stream_is_understood(frame: bytes) -> None:
    assert rules.parse_stream_frame(frame) == ServerShutdown()


def test_an_account_event_is_kept_whole() -> None:
    event = {"e": "executionReport", "E": milliseconds(START), "s": "BTCUSDT", "new": {"deep": [1, None]}}

    frame = rules.parse_reply(encoded({"subscriptionId": 0, "event": event}), received_at=NOW)

    assert frame == AccountFrame("executionReport", START, NOW, event)


def test_a_shutdown_notice_of_the_ws_api_is_understood() -> None:
    frame = encoded({"event": {"e": "serverShutdown", "E": 1}})

    assert rules.parse_reply(frame, received_at=NOW) == ServerShutdown()


def test_a_refused_request_carries_code_and_text() -> None:
    reply = rules.parse_reply(
        encoded({"id": "subscribe", "status": 401, "error": {"code": -2015, "msg": "Invalid API-key"}}),
        received_at=NOW,
    )

    assert reply == rules.Reply("subscribe", 401, "code -2015: Invalid API-key")


@pytest.mark.parametrize(
    "event",
    [None, [], {}, {"e": "x"}, {"e": "x", "E": "1"}, {"e": "x" * 33, "E": 1}, {"e": "x", "E": 1, "c": "a\0"}],
    ids=repr,
)
def test_an_account_event_without_type_or_time_or_with_a_nul_is_refused(event: Any) -> None:
    with pytest.raises(MalformedFrame):
        rules.parse_reply(encoded({"subscriptionId": 0, "event": event}), received_at=NOW)
