"""Genuine messages, damaged: what still parses is sane, and everything else is refused in one way only."""

import json
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from market import rules
from market.contracts import AccountFrame, Candle, Interval, MalformedFrame, Quote
from market.rules import AggTrade, BookTicker, Kline
from tests.conftest import NOW
from tests.market.builders import kline_frame, listing, row, ticker_frame, trade_frame, trade_row, walk

CANDLE = walk(1)[0]
GENUINE = [
    json.dumps(frame).encode() for frame in (kline_frame(CANDLE), ticker_frame(), trade_frame(trade_row(7)))
]
# What broken programs put where a number should be.
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["NaN", "-0", "0", "1e400", "Infinity", "1_000", "٣", " 1", "+1", "0x10", "1" * 400, ""]),
    st.lists(st.integers(), max_size=2),
)


def assert_sane(candle: Candle) -> None:
    assert 0 < candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
    assert candle.high.is_finite() and candle.volume.is_finite() and candle.volume >= 0
    assert candle.trade_count >= 0 and candle.close_time > candle.open_time


def assert_storable(trade: AggTrade) -> None:
    assert Decimal(trade.price) > 0 and Decimal(trade.quantity) > 0 and trade.aggregate_id >= 0
    assert not set("\t\n\r\\") & set(f"{trade.symbol}{trade.price}{trade.quantity}")
    assert 0 < trade.traded_ms < 4_102_444_800_000


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A genuine frame with bytes changed, cut out, doubled or cut off."""
    frame = bytearray(draw(st.sampled_from(GENUINE)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(frame) - 1)))
        kind = draw(st.sampled_from(("change", "cut out", "double", "cut off")))
        if kind == "change":
            frame[at : at + 1] = draw(st.binary(min_size=1, max_size=3))
        elif kind == "cut out":
            del frame[at : at + draw(st.integers(1, 20))]
        elif kind == "double":
            frame[at:at] = frame[at : at + 15]
        else:
            del frame[at:]
    return bytes(frame)


@settings(deadline=None)
@given(damaged())
def test_a_damaged_frame_is_sane_or_refused(frame: bytes) -> None:
    try:
        message = rules.parse_stream_frame(frame)
        if isinstance(message, BookTicker):
            quote = rules.quote_from_ticker(message, received_at=NOW)
            assert 0 < quote.bid <= quote.ask
        elif isinstance(message, AggTrade):
            assert_storable(message)
        elif isinstance(message, Kline) and message.candle is not None:
            assert_sane(message.candle)
    except MalformedFrame:
        pass


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("apqTmfls"), ODD, max_size=3))
def test_a_trade_with_odd_fields_is_storable_or_refused(changes: dict[str, Any]) -> None:
    frame = trade_frame(trade_row(7))
    try:
        message = rules.parse_stream_frame(json.dumps(frame | {"data": frame["data"] | changes}).encode())
        rules.parse_trade_row(trade_row(7) | changes, symbol="BTCUSDT")
    except MalformedFrame:
        return
    assert isinstance(message, AggTrade)
    assert_storable(message)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("tTsifLocuhlvnxqVQB"), ODD, max_size=3))
def test_a_kline_with_odd_fields_is_sane_or_refused(changes: dict[str, Any]) -> None:
    frame = json.dumps(kline_frame(CANDLE, **changes)).encode()
    try:
        message = rules.parse_stream_frame(frame)
    except MalformedFrame:
        return
    assert isinstance(message, Kline)
    if message.candle is not None:
        assert_sane(message.candle)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), ODD), max_size=3), st.integers(0, 12))
def test_a_kline_row_with_odd_fields_is_sane_or_refused(changes: list[tuple[int, Any]], length: int) -> None:
    fields = row(CANDLE)
    for position, value in changes:
        fields[position] = value
    try:
        candle = rules.parse_kline_row(
            fields[: length or 12], symbol="BTCUSDT", interval=Interval.M1, closed=True
        )
    except MalformedFrame:
        return
    assert_sane(candle)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["symbol", "bidPrice", "bidQty", "askPrice", "askQty"]), ODD))
def test_a_book_row_with_odd_fields_is_sane_or_refused(changes: dict[str, Any]) -> None:
    genuine = {"symbol": "BTCUSDT", "bidPrice": "1", "bidQty": "1", "askPrice": "2", "askQty": "1"}
    try:
        quote = rules.parse_book_row(genuine | changes, received_at=NOW)
    except MalformedFrame:
        return
    assert isinstance(quote, Quote) and 0 < quote.bid <= quote.ask and quote.ask.is_finite()


@settings(deadline=None)
@given(ODD)
def test_an_odd_account_event_is_kept_whole_or_refused(event: Any) -> None:
    for frame in ({"event": event}, {"event": {"e": event, "E": 1}}, {"event": {"e": "x", "E": event}}):
        try:
            message = rules.parse_reply(json.dumps(frame).encode(), received_at=NOW)
        except MalformedFrame:
            continue
        if isinstance(message, AccountFrame):
            assert message.payload["e"] == message.event_type


@settings(deadline=None)
@given(st.sampled_from(["filters", "status", "orderTypes", "baseAsset", "symbol"]), ODD)
def test_an_odd_listing_is_read_or_refused(name: str, value: Any) -> None:
    try:
        filters = rules.parse_filters(listing() | {name: value})
    except MalformedFrame:
        return
    assert filters.symbol and filters.price_tick.is_finite()
