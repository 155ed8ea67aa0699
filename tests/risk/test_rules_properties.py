"""The gate over generated inputs: nothing raises, stricter never lets more through, rounding never favours us."""

from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proposals.contracts import Side
from risk import rules
from risk.contracts import GateInput, Limits, Portfolio, RuleVerdict
from risk.rules.limits import BOUNDS
from tests.risk.passing import BUY, FILTERS, LIMITS, PORTFOLIO, QUOTE, SELL, binding, market_order

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.decimals(),
    st.sampled_from([Decimal("1e999999"), Decimal("-1e-999999"), Decimal("sNaN"), 10**5000]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)
SOUND = [BUY, SELL, market_order(BUY), market_order(SELL), binding(BUY), binding(market_order(SELL))]


@st.composite
def broken(draw: st.DrawFn, sound: Any) -> Any:
    """A frozen dataclass with some of its fields replaced by junk."""
    names = [field.name for field in fields(sound)]
    chosen = draw(st.sets(st.sampled_from(names), min_size=1, max_size=4))
    return replace(sound, **{name: draw(JUNK) for name in sorted(chosen)})


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_input_raises_and_none_loses_a_rule(data: st.DataObject) -> None:
    gate = data.draw(st.sampled_from(SOUND))
    parts: dict[str, Any] = {"limits": LIMITS, "portfolio": PORTFOLIO, "filters": FILTERS, "quote": QUOTE}
    for name, part in parts.items():
        if data.draw(st.booleans()):
            gate = replace(gate, **{name: data.draw(broken(part))})
    if data.draw(st.booleans()):
        gate = data.draw(broken(gate))

    verdict = rules.evaluate(gate)

    assert [r.name for r in verdict.results] == [rule.name for rule in rules.RULES]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([field.name for field in fields(Portfolio)]), st.sampled_from(SOUND))
def test_a_portfolio_with_an_unknown_field_never_lets_more_through(name: str, gate: GateInput) -> None:
    unread = {"quote_asset", "reconciliation_note"}

    verdict = rules.evaluate(replace(gate, portfolio=replace(PORTFOLIO, **{name: None})))

    relevant = name not in unread and not _concerns_entries_only(name, gate)
    assert bool(verdict.denied) or not relevant


def _concerns_entries_only(name: str, gate: GateInput) -> bool:
    """Fields that a run of this kind has no use for."""
    exits = gate.action == Side.SELL
    unused = {"pending_by_symbol"} if gate.binding else set()
    if exits:
        return name in unused | {
            "free_quote",
            "equity_quote",
            "reserved_quote",
            "open_order_count",
            "unresolved_order_count",
            "realised_today_quote",
            "unrealised_quote",
            "carried_gain_quote",
            "equity_peak_quote",
            "loss_streak",
            "last_loss_at",
            "last_loss_by_symbol",
        }
    return name in unused | {"free_base", "reserved_base"}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(BOUNDS)), st.data())
def test_tightening_a_limit_never_turns_a_denial_into_a_pass(name: str, data: st.DataObject) -> None:
    bounds = BOUNDS[name]
    one, other = sorted(data.draw(st.lists(_within(name), min_size=2, max_size=2)))
    loose, tight = (other, one) if bounds.looser == "up" else (one, other)
    gate = data.draw(st.sampled_from([binding(BUY), binding(SELL), BUY]))

    before = _denied(replace(gate, limits=replace(LIMITS, **{name: loose})))
    after = _denied(replace(gate, limits=replace(LIMITS, **{name: tight})))

    assert before <= after


def _within(name: str) -> st.SearchStrategy[Any]:
    bounds = BOUNDS[name]
    if bounds.whole:
        return st.integers(int(bounds.least), int(bounds.most))
    return st.decimals(Decimal(bounds.least), Decimal(bounds.most), places=3)


def _denied(gate: GateInput) -> set[str]:
    return {r.name for r in rules.evaluate(gate).results if r.verdict is RuleVerdict.DENY}


SIZE_RULES = {"order_notional", "symbol_exposure", "gross_exposure", "risk_per_trade", "balance"}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.decimals(Decimal("10"), Decimal("20000"), places=2), min_size=2, max_size=2))
def test_a_bigger_order_never_turns_a_size_denial_into_a_pass(amounts: list[Decimal]) -> None:
    small, big = sorted(amounts)

    before = _denied(replace(BUY, quote_amount=small)) & SIZE_RULES
    after = _denied(replace(BUY, quote_amount=big)) & SIZE_RULES

    assert before <= after


PRICES = st.decimals(Decimal("0.00000001"), Decimal("100000"), places=8)
STEPS = st.sampled_from([Decimal(s) for s in ("0", "0.00000001", "0.00001", "0.01", "0.3", "1", "7")])


@settings(max_examples=300, deadline=None)
@given(
    amount=st.decimals(Decimal("0.01"), Decimal("1000000"), places=8),
    price=PRICES,
    tick=STEPS,
    step=STEPS,
    is_market=st.booleans(),
)
def test_an_entry_never_costs_more_than_proposed(
    amount: Decimal, price: Decimal, tick: Decimal, step: Decimal, is_market: bool
) -> None:
    gate = replace(
        market_order(BUY) if is_market else replace(BUY, limit_price=price),
        quote_amount=amount,
        quote=replace(QUOTE, bid=price, ask=price),
        filters=replace(FILTERS, price_tick=tick, quantity_step=step),
    )

    order = rules.evaluate(gate).order

    if order is not None:
        assert order.quantity * order.worst_price <= amount
        assert order.price is None or order.price <= price
        assert order.notional_quote >= order.quantity * order.worst_price
        assert order.fee_quote >= order.notional_quote * LIMITS.fee_rate


@settings(max_examples=200, deadline=None)
@given(
    held=st.decimals(Decimal("0.00000001"), Decimal("1000"), places=8),
    free=st.decimals(Decimal("0"), Decimal("1000"), places=8),
    share=st.integers(1, 100),
    step=STEPS,
    price=PRICES,
)
def test_an_exit_never_sells_more_or_cheaper_than_proposed(
    held: Decimal, free: Decimal, share: int, step: Decimal, price: Decimal
) -> None:
    holding = replace(PORTFOLIO.holdings["BTCUSDT"], quantity=held)
    gate = replace(
        SELL,
        position_share_pct=share,
        limit_price=price,
        filters=replace(FILTERS, quantity_step=step),
        portfolio=replace(PORTFOLIO, holdings={"BTCUSDT": holding}, free_base={"BTCUSDT": free}),
    )

    order = rules.evaluate(gate).order

    if order is not None:
        assert order.quantity <= min(held * share / 100, free)
        assert order.price is not None
        assert order.price >= price


def test_limits_and_their_bounds_name_the_same_fields() -> None:
    assert set(BOUNDS) == {field.name for field in fields(Limits)} - {"version", "allowed_symbols"}
