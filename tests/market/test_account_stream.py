"""The account's stream against a scripted exchange on a real socket: signed, in order, once."""

import hashlib
import hmac
import json

import pytest

from market import models, selectors
from tests.market.builders import START, milliseconds
from tests.market.scripted import RunningStreams, ScriptedExchange, eventually
from tests.market.test_streams import account_event, ended, numbers, sessions
from tradingbot.core import clock


def test_the_subscription_is_signed_with_the_exchanges_time(exchange: ScriptedExchange) -> None:
    exchange.clock_ahead_ms = 3_600_000
    running = RunningStreams()
    try:
        request = eventually(lambda: exchange.account_requests)[0]
    finally:
        running.stop()

    params = dict(request["params"])
    signature = params.pop("signature")
    text = "&".join(f"{k}={v}" for k, v in sorted(params.items()))
    expected = hmac.new(b"fake-secret-of-the-scripted-exchange", text.encode(), hashlib.sha256).hexdigest()
    assert request["method"] == "userDataStream.subscribe.signature"
    assert signature == expected
    assert abs(params["timestamp"] - clock.to_milliseconds(clock.now()) - 3_600_000) < 60_000


def test_account_events_are_stored_in_order_of_arrival_and_once(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.send_account(*(account_event(n) for n in (3, 1, 2, 1, 3, 4)))

    eventually(lambda: numbers() == [3, 1, 2, 4])


def test_after_a_reconnect_the_account_is_subscribed_again(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.send_account(account_event(1))
    eventually(lambda: numbers() == [1])

    exchange.close_account()
    eventually(lambda: sessions("account") == 2)
    exchange.send_account(account_event(1), account_event(2))

    eventually(lambda: numbers() == [1, 2])


def test_a_terminated_event_stream_is_a_gap_and_subscribed_again(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.send_account(account_event(1), {"e": "eventStreamTerminated", "E": milliseconds(START)})

    eventually(lambda: sessions("account") == 2)
    assert ended("account") == ["the exchange sent eventStreamTerminated"]
    exchange.send_account(account_event(2))
    eventually(lambda: numbers() == [1, 2])


def test_a_refused_subscription_says_why_and_leaves_the_market_alone(exchange: ScriptedExchange) -> None:
    exchange.refuse_account = True
    running = RunningStreams()
    try:
        eventually(lambda: sessions("market") == 1)
        eventually(lambda: any("code -2015" in reason for reason in ended("account")))
        eventually(lambda: not selectors.feed_health(clock.now())[0].stale, "the market is well")
        assert selectors.feed_health(clock.now())[1].stale
    finally:
        running.stop()


def test_malformed_account_events_are_refused_and_the_next_is_taken(
    exchange: ScriptedExchange, streams: RunningStreams
) -> None:
    exchange.send_account(
        b"nonsense",
        json.dumps({"event": {"e": "executionReport", "E": 1, "c": "\0"}}).encode(),
        account_event(1),
    )

    eventually(lambda: numbers() == [1])
    eventually(lambda: "2 frames refused" in models.FeedState.objects.get(stream="account").detail)
    assert sessions("account") == 1


def test_without_a_key_the_account_stream_names_the_setting(
    exchange: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BINANCE_SIMULATOR_API_KEY_FILE")
    running = RunningStreams()
    try:
        eventually(lambda: any("BINANCE_SIMULATOR_API_KEY" in s for s in selectors.stale_feeds(clock.now())))
    finally:
        running.stop()
