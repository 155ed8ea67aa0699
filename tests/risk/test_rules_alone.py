"""For each rule inputs are generated that it alone blocks; a rule without such an entry fails here."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk import rules
from risk.contracts import AutonomyLevel, GateInput, Holding, RuleVerdict, TradingState
from tests.risk.passing import (
    AUTONOMY,
    BUY,
    FILTERS,
    LIMITS,
    PORTFOLIO,
    QUOTE,
    RANGE,
    SELL,
    binding,
    order_of,
)

Inputs = st.SearchStrategy[GateInput]


def amounts(least: str, most: str, places: int = 2) -> st.SearchStrategy[Decimal]:
    return st.decimals(Decimal(least), Decimal(most), places=places)


def with_limits(gate: GateInput = BUY, **changes: Any) -> GateInput:
    return replace(gate, limits=replace(LIMITS, **changes))


def with_portfolio(gate: GateInput = BUY, **changes: Any) -> GateInput:
    return replace(gate, portfolio=replace(gate.portfolio, **changes))


def with_filters(**changes: Any) -> GateInput:
    return replace(BUY, filters=replace(FILTERS, **changes))


def holding(quantity: Decimal) -> dict[str, Holding]:
    return {"BTCUSDT": Holding("BTCUSDT", quantity, Decimal(1), Decimal(1))}


def ago(least_seconds: float, most_seconds: float) -> st.SearchStrategy[Any]:
    return st.floats(least_seconds, most_seconds).map(lambda s: BUY.now - timedelta(seconds=s))


WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
# What each rule, and no other, blocks. Both sound orders buy at most 200 in quote of an equity of 10000.
ALONE: dict[str, Inputs] = {
    "trading_control": st.one_of(
        st.sampled_from([TradingState.HALTED, TradingState.REDUCING]).map(
            lambda state: replace(BUY, trading_state=state)
        ),
        st.sampled_from([False, None, "true", 1]).map(lambda on: replace(BUY, trading_enabled=on)),
    ),
    "stage": st.sampled_from([False, None, 1, "yes"]).map(lambda stage: replace(BUY, stage_allows=stage)),
    "autonomy": st.one_of(
        st.sampled_from([AutonomyLevel.EXITS, AutonomyLevel.HALTED]).map(
            lambda level: replace(BUY, autonomy=replace(AUTONOMY, level=level))
        ),
        st.sampled_from([AutonomyLevel.APPROVAL, AutonomyLevel.EXITS]).map(
            lambda level: replace(
                with_limits(binding(BUY), approval_threshold_quote=Decimal(201)),
                approvals=0,
                autonomy=replace(AUTONOMY, level=level),
            )
        ),
        ago(30.001, 1e9).map(lambda at: replace(BUY, autonomy=replace(AUTONOMY, seen_at=at))),
        st.just(replace(BUY, autonomy=None)),
    ),
    "symbol_allowed": st.lists(WORDS.filter(lambda w: w != "BTCUSDT"), max_size=3).map(
        lambda symbols: with_limits(allowed_symbols=tuple(symbols))
    ),
    "symbol_trading": WORDS.filter(lambda w: w != "TRADING").map(lambda status: with_filters(status=status)),
    "action_sane": amounts("0.00001", "0.00999", 5).map(
        lambda held: with_portfolio(binding(SELL), holdings=holding(held))
    ),
    "data_fresh": st.lists(WORDS, min_size=1, max_size=3).map(
        lambda stale: replace(BUY, feeds_stale=tuple(stale))
    ),
    "quote_age": st.one_of(ago(5.001, 1e9), ago(-1e9, -5.001)).map(
        lambda at: replace(BUY, quote=replace(QUOTE, received_at=at))
    ),
    "clock_offset": st.one_of(st.integers(501), st.integers(max_value=-501), st.none()).map(
        lambda ms: with_portfolio(clock_offset_ms=ms)
    ),
    "reconciliation_healthy": st.sampled_from([False, None, 1]).map(lambda ok: with_portfolio(reconciled=ok)),
    "symbol_blocked": WORDS.map(lambda why: with_portfolio(blocked_symbols={"BTCUSDT": why})),
    "spread": amounts("0", "0.39").map(lambda most: with_limits(spread_max_bps=most)),
    "volatility_halt": st.one_of(
        amounts("25651", "1000000").map(lambda high: replace(BUY, recent_range=replace(RANGE, high=high))),
        amounts("0.01", "24349").map(lambda low: replace(BUY, recent_range=replace(RANGE, low=low))),
        ago(150.001, 1e9).map(lambda at: replace(BUY, recent_range=replace(RANGE, received_at=at))),
        st.just(replace(BUY, recent_range=None)),
    ),
    "price_collar": amounts("25125.51", "26000").map(
        lambda limit: with_limits(replace(BUY, limit_price=limit), reward_to_risk_min=Decimal(0))
    ),
    "price_drift_guard": st.one_of(amounts("25125.70", "90000"), amounts("1", "24875")).map(
        lambda before: replace(binding(BUY), approved_order=order_of(reference_price=before))
    ),
    "order_matches_approval": st.one_of(
        amounts("0.001", "0.00799", 5).map(lambda quantity: binding(BUY, quantity=quantity)),
        st.just(replace(binding(BUY), approvals=0)),
        amounts("0", "200").map(lambda most: with_limits(binding(BUY), two_person_threshold_quote=most)),
    ),
    "filters": amounts("0.00801", "9000", 5).map(lambda least: with_filters(quantity_min=least)),
    "min_notional": amounts("0.01", "199.99").map(lambda most: with_filters(notional_max=most)),
    "min_notional_at_stop": amounts("192.1", "200").map(lambda least: with_filters(notional_min=least)),
    "order_notional": amounts("0", "199.99").map(lambda most: with_limits(order_notional_max_quote=most)),
    "symbol_exposure": amounts("0", "4.5").map(lambda most: with_limits(symbol_exposure_max_pct=most)),
    "gross_exposure": amounts("0", "10.4").map(lambda most: with_limits(gross_exposure_max_pct=most)),
    "open_positions": st.integers(0, 1).map(lambda most: with_limits(open_positions_max=most)),
    "open_orders": st.one_of(
        st.integers(0, 1).map(lambda most: with_limits(open_orders_max=most)),
        st.integers(10).map(lambda n: with_portfolio(open_order_count=n)),
    ),
    "unresolved_orders": st.integers(2).map(lambda n: with_portfolio(unresolved_order_count=n)),
    "daily_loss": amounts("-100000", "-210").map(lambda won: with_portfolio(realised_today_quote=won)),
    "drawdown": st.one_of(
        amounts("10416.67", "1000000000").map(lambda peak: with_portfolio(equity_peak_quote=peak)),
        st.sampled_from([None, Decimal("NaN"), Decimal("Infinity"), Decimal(-1), Decimal("1e400")]).map(
            lambda peak: with_portfolio(equity_peak_quote=peak)
        ),
    ),
    "loss_streak": st.tuples(st.integers(3), ago(0, 3599)).map(
        lambda seen: with_portfolio(loss_streak=seen[0], last_loss_at=seen[1])
    ),
    "cool_down": ago(-60, 899).map(lambda at: with_portfolio(last_loss_by_symbol={"BTCUSDT": at})),
    "stop_present": st.just(replace(BUY, stop_price=None)),
    "stop_side": amounts("24999.50", "24999.99").map(lambda stop: replace(BUY, stop_price=stop)),
    "risk_per_trade": amounts("0", "0.04").map(lambda most: with_limits(risk_per_trade_max_pct=most)),
    "reward_to_risk": amounts("2.7", "20").map(lambda least: with_limits(reward_to_risk_min=least)),
    "confidence": st.one_of(st.integers(0, 49), st.integers(101), st.integers(max_value=-1), st.none()).map(
        lambda pct: replace(BUY, confidence_pct=pct)
    ),
    "balance": amounts("0", "300.19").map(lambda free: with_portfolio(free_quote=free)),
    "orders_per_minute": st.integers(20).map(lambda sent: with_portfolio(orders_last_minute=sent)),
    "orders_per_hour": st.integers(300).map(lambda sent: with_portfolio(orders_last_hour=sent)),
    "repeated_idea": st.integers(1, 5).map(
        lambda n: with_portfolio(pending_by_symbol={"BTCUSDT": ["BUY"] * n, "ETHUSDT": ["BUY"]})
    ),
}


def test_table_names_every_rule_once_and_no_other() -> None:
    assert list(ALONE) == [rule.name for rule in rules.RULES]


@pytest.mark.parametrize("name", [rule.name for rule in rules.RULES])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_there_are_inputs_that_only_this_rule_blocks(name: str, data: st.DataObject) -> None:
    gate = data.draw(ALONE[name])

    results = rules.evaluate(gate).results

    assert [r.name for r in results if r.verdict is not RuleVerdict.PASS] == [name]


HOSTILE = st.sampled_from(
    [None, *map(Decimal, ("NaN", "sNaN", "Infinity", "-Infinity", "1e30", "-1", "0")), 10**50, -(10**50), -1]
)
PARTS = {"limits": LIMITS, "portfolio": PORTFOLIO, "filters": FILTERS, "quote": QUOTE, "recent_range": RANGE}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("sound", [BUY, SELL, binding(BUY)], ids=["buy", "sell", "binding"])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_number_of_any_part_raises(part: str, sound: GateInput, data: st.DataObject) -> None:
    of = PARTS[part]
    name = data.draw(st.sampled_from(sorted(of.__dataclass_fields__)))

    verdict = rules.evaluate(replace(sound, **{part: replace(of, **{name: data.draw(HOSTILE)})}))

    assert len(verdict.results) == len(rules.RULES)
    assert all(result.reason for result in verdict.results)
