"""Execution's pure rules: ids, classes of failure, the fold, positions, the saga's conclusion."""

import itertools
import random
import re
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution import rules
from execution.contracts import (
    TERMINAL,
    ExchangeRejected,
    ExchangeStatus,
    OrderReport,
    OutcomeUnknown,
    Source,
)

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
PROPOSAL = UUID("8c2f1c0e-52d4-4f9c-9f61-2b8a0f6f7d11")
D = Decimal


def test_client_order_id_is_the_same_each_time_and_allowed_by_binance() -> None:
    first = rules.client_order_id("simulator", PROPOSAL)

    assert first == rules.client_order_id("simulator", PROPOSAL)
    assert re.fullmatch(r"[a-zA-Z0-9-_]{1,36}", first)
    assert len(first) <= 34  # room for the suffix of a leg


def test_client_order_id_differs_by_environment_and_proposal() -> None:
    ids = {
        rules.client_order_id(environment, UUID(int=n))
        for environment in ("simulator", "testnet", "demo", "live")
        for n in range(20)
    }

    assert len(ids) == 80


# Every row of reference/binance.md §4 that answers a place request.
DEFINITE = [
    (400, -1013, "Filter failure: LOT_SIZE"),
    (400, -1014, "Unsupported order combination."),
    (400, -1020, "This operation is not supported."),
    (400, -1100, "Illegal characters found in parameter 'newClientOrderId'"),
    (400, -1106, "Parameter 'timeInForce' sent when not required."),
    (400, -1111, "Precision is over the maximum defined for this asset."),
    (400, -1121, "Invalid symbol."),
    (400, -1128, "Combination of optional parameters invalid."),
    (400, -1139, "Ticker type was not supported."),
    (400, -1145, "Invalid cancelRestrictions"),
    (400, -1158, "x"),
    (400, -1168, "x"),
    (400, -1196, "x"),
    (400, -1199, "x"),
    (400, -1210, "x"),
    (400, -1211, "x"),
    (400, -1220, "x"),
    (400, -1225, "x"),
    (400, -2010, "Account has insufficient balance for requested action."),
    (400, -2010, "Order would immediately match and take."),
    (400, -2010, "Filter failure: MAX_NUM_ALGO_ORDERS"),
    (400, -2010, "Market is closed."),
    (400, -1021, "Timestamp for this request is outside of the recvWindow."),
    (400, -1022, "Signature for this request is not valid."),
    (401, -2014, "API-key format invalid."),
    (401, -2015, "Invalid API-key, IP, or permissions for action."),
    (401, -1002, "You are not authorized to execute this request."),
    (429, -1003, "Too many requests."),
    (418, -1003, "Way too many requests; IP banned."),
    (429, -1015, "Too many new orders."),
    (429, -1034, "Too many connections."),
]
UNKNOWN = [
    (400, -2010, "Duplicate order sent."),
    (500, -1000, "An unknown error occurred while processing the request."),
    (503, -1008, "Server is currently overloaded with other requests."),
    (504, -1007, "Timeout waiting for response from backend server."),
    (400, -1007, "Timeout waiting for response from backend server."),
    (500, -1006, "An unexpected response was received from the message bus."),
    (400, -1001, "Internal error; unable to process your request."),
    (503, -1016, "This service is no longer available."),
    (502, 0, "<html>Bad Gateway</html>"),
    (503, -1013, "a definite code with a server error is still a server error"),
    (403, 0, "<html>WAF</html>"),
    (408, -1013, "request timeout"),
    (400, -9999, "a code that nobody has documented"),
    (400, None, "no code at all"),
]


@pytest.mark.parametrize(("status", "code", "message"), DEFINITE)
def test_listed_refusal_is_definite(status: int, code: int, message: str) -> None:
    assert isinstance(rules.classify_refusal(status, code, message), ExchangeRejected)


@pytest.mark.parametrize(("status", "code", "message"), UNKNOWN)
def test_anything_else_leaves_the_outcome_unknown(status: int, code: int | None, message: str) -> None:
    assert isinstance(rules.classify_refusal(status, code, message), OutcomeUnknown)


@given(st.integers(100, 599), st.integers(-9999, 0) | st.none(), st.text(max_size=60))
def test_a_server_error_is_never_taken_as_a_refusal(status: int, code: int | None, message: str) -> None:
    outcome = rules.classify_refusal(status, code, message)

    assert isinstance(outcome, ExchangeRejected | OutcomeUnknown)
    if status >= 500:
        assert isinstance(outcome, OutcomeUnknown)


def report(status: ExchangeStatus, executed: str, quote: str) -> OrderReport:
    return OrderReport(
        symbol="BTCUSDT",
        client_order_id="tbs-x",
        exchange_order_id=1,
        status=status,
        side="BUY",
        order_type="LIMIT",
        quantity=D(10),
        price=D(100),
        executed_quantity=D(executed),
        cumulative_quote=D(quote),
        at=AT,
        source=Source.STREAM,
        event_key=f"1:{status}:{executed}",
        fills=(),
        raw={},
    )


LIFE = [
    report(ExchangeStatus.NEW, "0", "0"),
    report(ExchangeStatus.PARTIALLY_FILLED, "3", "300"),
    report(ExchangeStatus.PARTIALLY_FILLED, "7", "700"),
    report(ExchangeStatus.CANCELED, "7", "700"),
    report(ExchangeStatus.PARTIALLY_FILLED, "3", "300"),
]
EMPTY = rules.FoldedState(ExchangeStatus.NONE, D(0), D(0))


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(LIFE)))))
def test_fold_comes_to_one_state_in_any_order_and_with_repeats(order: tuple[int, ...]) -> None:
    state = EMPTY
    for index in (*order, *order):
        state = rules.fold(state, LIFE[index])

    assert state == rules.FoldedState(ExchangeStatus.CANCELED, D(7), D(700))
    assert state.is_terminal


@given(
    st.lists(st.tuples(st.sampled_from(list(ExchangeStatus)[1:]), st.integers(0, 10)), max_size=8),
    st.randoms(),
)
def test_fold_does_not_depend_on_arrival(steps: list[tuple[ExchangeStatus, int]], rng: random.Random) -> None:
    reports = [report(status, str(n), str(n * 100)) for status, n in steps]
    shuffled = reports[:]
    rng.shuffle(shuffled)

    def run(sequence: list[OrderReport]) -> rules.FoldedState:
        state = EMPTY
        for one in sequence:
            state = rules.fold(state, one)
        return state

    assert run(reports) == run(shuffled)
    assert run(reports).is_terminal == any(r.status in TERMINAL for r in reports)


def test_remaining_share_is_zero_once_terminal() -> None:
    assert rules.remaining_share(D(10), rules.FoldedState(ExchangeStatus.CANCELED, D(7), D(700))) == 0
    assert rules.remaining_share(D(10), rules.FoldedState(ExchangeStatus.PARTIALLY_FILLED, D(7), D(0))) == D(
        "0.3"
    )


def test_absence_is_proof_only_after_the_instant_the_grace_and_three_answers() -> None:
    assert not rules.may_conclude_absent(
        absent_answers_after_instant=2, seconds_since_instant=999, grace_seconds=60
    )
    assert not rules.may_conclude_absent(
        absent_answers_after_instant=9, seconds_since_instant=59, grace_seconds=60
    )
    assert rules.may_conclude_absent(
        absent_answers_after_instant=3, seconds_since_instant=60, grace_seconds=60
    )


def test_conclusive_instant_lies_after_the_exchanges_own_fence() -> None:
    assert rules.conclusive_instant_ms(timestamp_ms=1_000_000, recv_window_ms=3000) > 1_003_000


EXECUTION_REPORT = {
    "e": "executionReport", "E": 1, "s": "BTCUSDT", "c": "cancel-1", "S": "BUY", "o": "LIMIT", "f": "GTC",
    "q": "1.00000000", "p": "100.00", "P": "0", "F": "0", "g": -1, "C": "tbs-ours", "x": "CANCELED",
    "X": "CANCELED", "r": "NONE", "i": 77, "l": "0", "z": "0.40000000", "L": "0", "n": "0", "N": None,
    "T": 1772452800123, "t": -1, "I": 9, "w": False, "m": False, "M": False, "O": 1, "Z": "40.00", "Y": "0",
    "Q": "0", "V": "EXPIRE_MAKER",
}  # fmt: skip


def test_cancel_event_is_matched_by_the_orders_own_id() -> None:
    parsed = rules.report_of_event(EXECUTION_REPORT)

    assert parsed.client_order_id == "tbs-ours"
    assert parsed.executed_quantity == D("0.4")
    assert parsed.at == datetime(2026, 3, 2, 12, 0, 0, 123000, tzinfo=UTC)


@pytest.mark.parametrize("missing", ["s", "i", "X", "z", "T", "q", "C"])
def test_event_without_a_needed_field_is_refused(missing: str) -> None:
    event = {k: v for k, v in EXECUTION_REPORT.items() if k != missing}

    with pytest.raises(rules.MalformedReport):
        rules.report_of_event(event)


@given(
    st.dictionaries(st.sampled_from(list(EXECUTION_REPORT)), st.none() | st.text(max_size=5) | st.integers())
)
def test_mangled_event_is_refused_and_nothing_else_is_raised(changes: dict[str, object]) -> None:
    try:
        rules.report_of_event({**EXECUTION_REPORT, **changes})
    except rules.MalformedReport:
        return
