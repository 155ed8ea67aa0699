"""The pure side of order lists: what is sent, what would be refused, what is told, folded in any order."""

import random
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution import rules
from execution.contracts import ExchangeRejected, ExchangeStatus, ListKind, OrderReport, Plan, Role, Source
from execution.rules import lists
from market.contracts import SymbolFilters

D = Decimal
BASE = "tbs-" + "a" * 26
FILTERS = SymbolFilters(
    symbol="BTCUSDT", base_asset="BTC", quote_asset="USDT", status="TRADING", price_tick=D("0.01"),
    price_min=D("0.01"), price_max=D("1000000"), quantity_step=D("0.00001"), quantity_min=D("0.00001"),
    quantity_max=D(9000), market_quantity_step=D(0), market_quantity_min=D(0), market_quantity_max=D(100),
    notional_min=D(5), notional_min_applies_to_market=True, notional_max=D(9000000),
    notional_max_applies_to_market=False, bid_multiplier_up=D(2), bid_multiplier_down=D("0.5"),
    ask_multiplier_up=D(2), ask_multiplier_down=D("0.5"), open_orders_max=200, algo_orders_max=5,
    position_max=D(0), order_types=("LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT"),
    oco_allowed=True, oto_allowed=True, opo_allowed=True, stp_modes=(),
)  # fmt: skip
NONE_OPEN = {"open_orders": 0, "open_stops": 0, "open_lists": 0}


def entry(filters: SymbolFilters | None = FILTERS, **changes: Any) -> Plan:
    wanted = {
        "base_id": BASE, "symbol": "BTCUSDT", "side": "BUY", "order_type": "LIMIT", "time_in_force": "IOC",
        "quantity": D("0.00123"), "price": D("50000"), "stop_price": D("49000"), "target_price": D("53000"),
        "fee_rate": D("0.001"), **changes,
    }  # fmt: skip
    return lists.plan_entry(filters=filters, **wanted)  # type: ignore[arg-type]


def test_entry_takes_stop_and_target_along_and_sells_exactly_what_was_bought() -> None:
    plan = entry()

    assert (plan.endpoint, plan.list_kind) == ("orderList/opoco", ListKind.OPOCO)
    assert "pendingQuantity" not in plan.parameters
    assert plan.parameters["workingClientOrderId"] == BASE
    assert plan.parameters["pendingBelowStopPrice"] == "49000"
    assert plan.parameters["pendingBelowType"] == "STOP_LOSS"
    assert plan.parameters["pendingAbovePrice"] == "53000"
    assert [leg.role for leg in plan.legs] == [Role.ORDER, Role.STOP, Role.TARGET]


def test_without_opo_the_pending_quantity_is_what_is_left_after_the_fee_rounded_down() -> None:
    plan = entry(replace(FILTERS, opo_allowed=False))

    assert plan.list_kind is ListKind.OTOCO
    assert plan.parameters["pendingQuantity"] == "0.00122"


@pytest.mark.parametrize(("opo", "kind"), [(True, ListKind.OPO), (False, ListKind.OTO)])
def test_a_stop_alone_goes_as_a_pair_of_orders(opo: bool, kind: ListKind) -> None:
    plan = entry(replace(FILTERS, opo_allowed=opo), target_price=None)

    assert plan.list_kind is kind
    assert plan.parameters["pendingType"] == "STOP_LOSS"
    assert plan.parameters["pendingStopPrice"] == "49000"
    assert len(plan.legs) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"order_type": "MARKET", "price": None},
        {"side": "SELL", "stop_price": None},
        {"stop_price": None},
        {"filters": None},
        {"filters": replace(FILTERS, oto_allowed=False)},
    ],
)
def test_what_cannot_lead_a_list_goes_alone(changes: dict[str, Any]) -> None:
    plan = entry(**changes)

    assert (plan.endpoint, plan.list_kind, len(plan.legs)) == ("order", ListKind.NONE, 1)
    assert plan.parameters["newClientOrderId"] == BASE


def test_a_symbol_without_market_stops_gets_a_limit_below_the_trigger() -> None:
    plan = entry(replace(FILTERS, order_types=("LIMIT", "MARKET", "LIMIT_MAKER", "STOP_LOSS_LIMIT")))

    assert plan.parameters["pendingBelowType"] == "STOP_LOSS_LIMIT"
    assert D(plan.parameters["pendingBelowPrice"]) < D("49000")
    assert plan.parameters["pendingBelowTimeInForce"] == "GTC"


def test_protection_of_what_is_held_is_an_oco_or_a_stop_alone() -> None:
    held = {"base_id": BASE + "p01", "symbol": "BTCUSDT", "quantity": D("0.001"), "stop_price": D(49000)}

    pair = lists.plan_protection(**held, target_price=D(53000), filters=FILTERS)
    alone = lists.plan_protection(**held, target_price=None, filters=FILTERS)

    assert (pair.endpoint, pair.parameters["side"], pair.parameters["quantity"]) == (
        "orderList/oco", "SELL", "0.001",
    )  # fmt: skip
    assert pair.parameters["aboveType"] == "LIMIT_MAKER"
    assert pair.parameters["belowStopPrice"] == "49000"
    assert alone.parameters["type"] == "STOP_LOSS"
    assert alone.parameters["stopPrice"] == "49000"


def test_every_id_of_every_request_is_its_own_and_allowed_by_binance() -> None:
    plans = [entry()] + [
        lists.plan_protection(
            base_id=lists.attempt_id(BASE, "p", n), symbol="BTCUSDT", quantity=D(1), stop_price=D(1),
            target_price=D(3), filters=FILTERS,
        )
        for n in (1, 2, 35, 36, lists.ATTEMPTS_MAX)
    ]  # fmt: skip
    ids = [leg.client_order_id for plan in plans for leg in plan.legs] + [
        plan.list_client_order_id for plan in plans
    ]

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9-_]{1,36}", name) for name in ids)


@pytest.mark.parametrize("number", [0, lists.ATTEMPTS_MAX + 1])
def test_attempts_beyond_the_range_of_ids_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        lists.attempt_id(BASE, "p", number)


@pytest.mark.parametrize(
    ("changes", "counts", "word"),
    [
        ({"quantity": D("0.0001")}, {}, "too little"),
        ({"stop_price": D("49000.001")}, {}, "tick"),
        ({"target_price": D("100000.01")}, {}, "too far"),
        ({"quantity": D("0.000001")}, {}, "less than the exchange's minimum"),
        ({"quantity": D(200)}, {}, "at market"),
        ({}, {"open_stops": 5}, "5 stops"),
        ({}, {"open_orders": 198}, "200 open orders"),
        ({}, {"open_lists": 20}, "20 order lists"),
    ],
)
def test_a_leg_that_the_exchange_would_refuse_is_named_before_anything_is_sent(
    changes: dict[str, Any], counts: dict[str, int], word: str
) -> None:
    plan = entry(**changes)

    broken = lists.broken_legs(plan, FILTERS, D(50000), **{**NONE_OPEN, **counts})

    assert word in "; ".join(broken)


def test_a_list_within_all_filters_has_nothing_to_say() -> None:
    assert lists.broken_legs(entry(), FILTERS, D(50000), **NONE_OPEN) == []


def test_the_stop_needs_head_room_above_the_least_notional_at_its_own_price() -> None:
    plan = entry(quantity=D("0.00011"), stop_price=D("46000"))  # 0.00010 * 46000 = 4.6 after the fee

    assert "the stop leg is worth 4.6" in "; ".join(lists.broken_legs(plan, FILTERS, D(50000), **NONE_OPEN))


# What refuses a list: it is refused whole, so each is definite for every leg (binance.md §2.5, §4).
LIST_REFUSALS = [
    (-1013, "Filter failure: NOTIONAL"),
    (-1106, "Parameter 'pendingPrice' sent when not required."),
    (-1158, "Order type not supported in OCO."),
    (-1165, "A limit order in a buy OCO must be below."),
    (-1166, "A limit order in a sell OCO must be above."),
    (-1168, "At least one OCO order must be contingent."),
    (-1196, "x"),
    (-1199, "x"),
    (-2010, "The relationship of the prices for the orders is not correct."),
    (-2010, "Order would trigger immediately."),
    (-2010, "Filter failure: MAX_NUM_ALGO_ORDERS"),
    (-2010, "Filter failure: MAX_NUM_ORDER_LISTS"),
    (-2011, "Unknown order sent."),
]


@pytest.mark.parametrize(("code", "message"), LIST_REFUSALS)
def test_refusal_of_a_list_is_definite(code: int, message: str) -> None:
    assert isinstance(rules.classify_refusal(400, code, message), ExchangeRejected)


# --- what is told ---------------------------------------------------------------------------------------

PLACED = {
    "orderListId": 3, "contingencyType": "OTO", "listStatusType": "EXEC_STARTED",
    "listOrderStatus": "EXECUTING", "listClientOrderId": BASE + "l", "transactionTime": 1772452800000,
    "symbol": "BTCUSDT",
    "orders": [
        {"symbol": "BTCUSDT", "orderId": 7, "clientOrderId": BASE},
        {"symbol": "BTCUSDT", "orderId": 8, "clientOrderId": BASE + "s"},
    ],
}  # fmt: skip


def row(order_id: int, client_id: str, status: str, quantity: str, executed: str) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT", "orderId": order_id, "orderListId": 3, "clientOrderId": client_id,
        "transactTime": 1772452800000, "price": "0", "origQty": quantity, "executedQty": executed,
        "cummulativeQuoteQty": "0", "status": status, "type": "LIMIT", "side": "BUY", "timeInForce": "GTC",
    }  # fmt: skip


def test_answer_of_a_list_is_a_report_of_each_leg() -> None:
    told = {
        **PLACED,
        "orderReports": [row(7, BASE, "FILLED", "1", "1"), row(8, BASE + "s", "PENDING_NEW", "0", "0")],
    }

    reports = lists.reports_of_placing(told)

    assert [(r.client_order_id, r.status) for r in reports] == [(BASE, "FILLED"), (BASE + "s", "PENDING_NEW")]


def test_list_without_reports_proves_that_its_legs_exist() -> None:
    reports = lists.reports_of_list(PLACED, Source.POLL)

    assert [(r.client_order_id, r.exchange_order_id) for r in reports] == [(BASE, 7), (BASE + "s", 8)]
    assert {r.status for r in reports} == {ExchangeStatus.PENDING_NEW}


@pytest.mark.parametrize(
    "payload", [{**PLACED, "orders": None}, {"orderListId": 1, "contingencyType": "OCO"}, [], None]
)
def test_answer_that_names_no_order_is_unreadable_not_a_success(payload: Any) -> None:
    with pytest.raises(rules.MalformedReport):
        lists.reports_of_placing(payload)


def test_rejected_list_proves_nothing() -> None:
    event = {"L": "REJECT", "T": 1, "O": [{"s": "BTCUSDT", "i": 7, "c": BASE}]}

    assert lists.reports_of_list_event(event) == ()
    assert lists.reports_of_list({**PLACED, "listOrderStatus": "REJECT"}, Source.POLL) == ()


def test_cancel_answer_is_read_by_the_orders_own_ids() -> None:
    one = {**row(8, "cancel-1", "CANCELED", "1", "0.4"), "origClientOrderId": BASE + "s"}

    for payload in (one, {**PLACED, "orderReports": [one]}):
        (report,) = lists.reports_of_cancel(payload)
        assert (report.client_order_id, report.status) == (BASE + "s", ExchangeStatus.CANCELED)


def test_cancel_answer_without_the_orders_id_is_unreadable() -> None:
    with pytest.raises(rules.MalformedReport):
        lists.reports_of_cancel(row(8, "cancel-1", "CANCELED", "1", "0"))


@given(
    st.dictionaries(
        st.sampled_from(["L", "O", "T", "s"]),
        st.none() | st.text(max_size=4) | st.integers() | st.lists(st.integers(), max_size=2),
    )
)
def test_mangled_list_event_is_refused_and_nothing_else_is_raised(changes: dict[str, Any]) -> None:
    event = {"s": "BTCUSDT", "L": "EXECUTING", "T": 1, "O": [{"s": "BTCUSDT", "i": 7, "c": BASE}], **changes}
    try:
        lists.reports_of_list_event(event)
    except rules.MalformedReport:
        return


# --- the fold of a list ---------------------------------------------------------------------------------

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LEGS = ("working", "stop", "target")
# The whole life of an OPOCO whose stop is hit, as REST answer, stream and polling tell it, several times over.
LIFE: list[tuple[str, str, str]] = [
    ("working", "PENDING_NEW", "0"), ("stop", "PENDING_NEW", "0"), ("target", "PENDING_NEW", "0"),
    ("working", "NEW", "0"), ("working", "PARTIALLY_FILLED", "4"), ("working", "FILLED", "10"),
    ("stop", "NEW", "0"), ("target", "NEW", "0"), ("target", "EXPIRED", "0"),
    ("stop", "PARTIALLY_FILLED", "3"), ("stop", "FILLED", "10"),
]  # fmt: skip
PREFIX_END = st.integers(1, len(LIFE))


def told(leg: str, status: str, executed: str) -> OrderReport:
    return OrderReport(
        symbol="BTCUSDT", client_order_id=leg, exchange_order_id=LEGS.index(leg), status=ExchangeStatus(status),
        side="", order_type="", quantity=D(10), price=D(0), executed_quantity=D(executed),
        cumulative_quote=D(executed) * 100, at=AT, source=Source.STREAM, event_key="", fills=(), raw={},
    )  # fmt: skip


def run(reports: list[OrderReport]) -> dict[str, rules.FoldedState]:
    state = {leg: rules.FoldedState(ExchangeStatus.NONE, D(0), D(0)) for leg in LEGS}
    for one in reports:
        state[one.client_order_id] = rules.fold(state[one.client_order_id], one)
    return state


@given(PREFIX_END, st.lists(st.integers(0, len(LIFE) - 1), max_size=20), st.randoms())
def test_list_comes_to_one_state_however_its_reports_are_interleaved(
    end: int, repeats: list[int], rng: random.Random
) -> None:
    history = [told(*one) for one in LIFE[:end]]
    again = [history[i] for i in repeats if i < end]
    shuffled = history + again
    rng.shuffle(shuffled)

    assert run(shuffled) == run(history)


def test_whole_life_of_a_list_ends_with_the_stop_filled_and_the_target_expired() -> None:
    state = run([told(*one) for one in LIFE])

    assert [state[leg].status for leg in LEGS] == ["FILLED", "FILLED", "EXPIRED"]
