"""The fault book and the event pipe by themselves: nothing here has a socket or a clock."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from simulator.api.desk import Call, Desk
from simulator.api.endpoints import REST
from simulator.api.limits import BAN_SECONDS_MAX, IGNORED_MAX, Limiter
from simulator.api.params import Params
from simulator.engine.errors import ExchangeError
from simulator.faults import EventPipe, FaultBook, FaultKind, Phase
from tests.simulator.market_builder import account, flat_exchange, move


def test_fault_strikes_only_its_symbol_and_path() -> None:
    book = FaultBook()
    book.arm({"kind": "status", "path": "/api/v3/order", "symbol": "BTCUSDT", "method": "POST"})

    assert book.mishaps("POST", "/api/v3/order", "ETHUSDT", 0).answer_before is None
    assert book.mishaps("GET", "/api/v3/order", "BTCUSDT", 0).answer_before is None
    assert book.mishaps("POST", "/api/v3/order/test", "BTCUSDT", 0).answer_before is not None
    assert book.mishaps("POST", "/api/v3/order", "BTCUSDT", 0).answer_before is None


def test_probability_draws_are_the_same_for_the_same_seed() -> None:
    def draws(seed: int) -> list[bool]:
        book = FaultBook()
        book.arm({"kind": "drop_answer", "count": 1000, "probability": 0.3, "seed": seed})
        return [book.mishaps("GET", "/", "", 0).drop_answer for _ in range(200)]

    assert draws(7) == draws(7) != draws(8)
    assert 30 < sum(draws(7)) < 90


def test_late_unknown_answer_waits_and_tells_nothing_of_the_execution() -> None:
    book = FaultBook()
    book.arm(
        {
            "kind": "status",
            "phase": "after",
            "status": 504,
            "code": -1007,
            "ms": 10_000,
            "ms_max": 12_000,
            "seed": 1,
        }
    )

    mishaps = book.mishaps("POST", "/api/v3/order", "", 0)

    assert mishaps.answer_after is not None and mishaps.answer_after.code == -1007
    assert 10_000 <= mishaps.delay_after_ms <= 12_000


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "status", "probability": 0},
        {"kind": "down", "mode": "explode"},
        {"kind": "partial_fill", "fraction": 1},
        {"kind": "delay_ms", "ms": -1},
        {"kind": "nonsense"},
    ],
)
def test_fault_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        FaultBook().arm(values)


def pipe_of(**values: Any) -> EventPipe[str]:
    book = FaultBook()
    book.arm(values)
    return EventPipe(book)


def test_duplicated_event_comes_twice() -> None:
    pipe = pipe_of(kind="duplicate_user_events", path="executionReport")

    assert pipe.push(1, "outboundAccountPosition", "", "a", 0) == ["a"]
    assert pipe.push(1, "executionReport", "", "b", 0) == ["b", "b"]


def test_reordered_event_comes_after_the_next_of_its_account() -> None:
    pipe = pipe_of(kind="reorder_user_events")

    assert pipe.push(1, "x", "", "first", 0) == []
    assert pipe.push(2, "x", "", "of another", 0) == ["of another"]
    assert pipe.push(1, "x", "", "second", 0) == ["second", "first"]


def test_delayed_event_is_due_at_its_time() -> None:
    pipe = pipe_of(kind="delay_user_events", ms=500)

    assert pipe.push(1, "x", "", "late", 1_000) == []
    assert pipe.push(1, "x", "", "on time", 1_000) == ["on time"]
    assert pipe.next_due_ms == 1_500
    assert (pipe.due(1_499), pipe.due(1_500)) == ([], ["late"])


def test_whole_exchange_can_be_rehearsed_without_sockets_under_stepped_time() -> None:
    def rehearse() -> list[Any]:
        exchange = flat_exchange()
        desk = Desk(exchange, Limiter(), exchange.faults)
        owner = exchange.ledger.accounts[account(exchange, USDT="100000")]
        exchange.faults.arm({"kind": "drop_answer", "count": 99, "probability": 0.5, "seed": 3})
        exchange.faults.arm({"kind": "partial_fill", "count": 99, "fraction": 0.5, "seconds": 10, "seed": 4})
        seen: list[Any] = []
        for step in range(20):
            now_ms = 1_000 * step
            params = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
            params |= {"quantity": "0.01", "price": str(19_990 - step), "newClientOrderId": f"id{step}"}
            mishaps = exchange.faults.mishaps("POST", "/api/v3/order", "BTCUSDT", now_ms)
            answer = REST[("POST", "order")].handler(
                desk, Call(Params(params), "POST", "/api/v3/order", now_ms, owner)
            )
            seen.append(None if mishaps.drop_answer else answer["status"])
            move(exchange, str(19_995 - step), "0.02", now_ms=now_ms)
            exchange.audit()
        return [*seen, exchange.ledger.balance(owner.account_id, "USDT").free]

    first = rehearse()

    assert first == rehearse()
    assert None in first and "NEW" in first
    assert isinstance(first[-1], Decimal)


def test_who_goes_on_after_429_is_banned_ever_longer() -> None:
    limiter = Limiter()
    limiter.hold_everybody(10**12)

    def refused(now_ms: int) -> ExchangeError:
        with pytest.raises(ExchangeError) as caught:
            limiter.charge("1.2.3.4", 1, now_ms)
        return caught.value

    bans = []
    now_ms = 0
    for _ in range(14):
        answers = [refused(now_ms).status for _ in range(IGNORED_MAX)]
        assert answers == [429] * IGNORED_MAX
        ban = refused(now_ms)
        assert ban.status == 418
        assert refused(now_ms + 1).status == 418
        bans.append(ban.retry_after_s)
        now_ms += bans[-1] * 1000  # type: ignore[operator]

    assert bans[:3] == [120, 240, 480]
    assert bans[-1] == BAN_SECONDS_MAX


def test_listing_tells_when_a_fault_fired() -> None:
    book = FaultBook()
    fault = book.arm({"kind": "delay_ms", "ms": 5})
    book.take(FaultKind.DELAY_MS, "GET", "/x", 42, Phase.BEFORE)

    listed = book.listing()[0]

    assert (listed["fault_id"], listed["armed"]) == (fault.fault_id, False)
    assert listed["firings"] == [{"time": 42, "method": "GET", "path": "/x"}]
