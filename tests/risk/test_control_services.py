"""The switch and the limits: who, why, and never beyond the ceilings."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, transaction
from pytest_django.fixtures import DjangoCaptureOnCommitCallbacks

from proposals.contracts import ProposalStatus
from proposals.models import Proposal
from risk import selectors, services
from risk.contracts import ControlRefused, KillStatus, LimitsMissing, TradingState
from risk.models import Kill, RiskLimits, TradingControl
from risk.rules.limits import LIMIT_NAMES
from tests.conftest import NOW
from tests.risk.passing import PORTFOLIO
from tradingbot.core import audit
from tradingbot.core.environments import Environment
from tradingbot.core.models import Alert, AuditRecord

pytestmark = pytest.mark.django_db
CONTROL = f"control:{settings.TRADING_ENVIRONMENT}"


def state() -> str:
    return TradingControl.objects.get(pk=settings.TRADING_ENVIRONMENT).status


def values(**changes: Any) -> dict[str, Any]:
    current = selectors.limits_history()[0]
    return {name: getattr(current, name) for name in LIMIT_NAMES} | changes


def save(reason: str = "because", confirmed_by: str = "sam", **changes: Any) -> RiskLimits:
    return services.save_limits(
        values=values(**changes), actor="rita", confirmed_by=confirmed_by, reason=reason, now=NOW
    )


# --- the switch ------------------------------------------------------------------------------------------
def test_installation_starts_halted_in_every_environment() -> None:
    assert set(TradingControl.objects.values_list("status", flat=True)) == {TradingState.HALTED}


def test_arming_moves_the_switch_and_says_who_and_why(control: TradingControl) -> None:
    services.halt(actor="olga", reason="drill", now=NOW)

    services.set_trading_state(state=TradingState.ACTIVE, actor="rita", reason="drill over", now=NOW)

    row = selectors.control()
    assert row is not None
    assert (row.status, row.changed_by, row.reason, row.changed_at) == ("ACTIVE", "rita", "drill over", NOW)
    assert [link["action"] for link in audit.history(CONTROL)][-2:] == ["control.HALTED", "control.ACTIVE"]
    assert Alert.objects.get(kind="trading_control", resolved_at=None).title.startswith("Trading is armed")


@pytest.mark.parametrize("target", [TradingState.ACTIVE, TradingState.REDUCING])
def test_arming_without_a_reason_is_refused(control: TradingControl, target: TradingState) -> None:
    services.halt(actor="olga", reason="drill", now=NOW)

    with pytest.raises(ControlRefused, match="reason"):
        services.set_trading_state(state=target, actor="rita", reason="  ", now=NOW)

    assert state() == TradingState.HALTED


def test_arming_live_is_refused_without_a_passed_stage(settings: Any, control: TradingControl) -> None:
    settings.TRADING_ENVIRONMENT = Environment.LIVE

    with pytest.raises(ControlRefused, match="no passed stage gate is on record"):
        services.set_trading_state(state=TradingState.ACTIVE, actor="rita", reason="go", now=NOW)


def test_a_switch_that_somebody_else_moved_is_not_moved_on_an_old_sight(control: TradingControl) -> None:
    services.halt(actor="olga", reason="alarm", now=NOW)

    with pytest.raises(ControlRefused, match="set to HALTED by olga"):
        services.set_trading_state(
            state=TradingState.ACTIVE, actor="rita", reason="go", now=NOW, version=control.version
        )

    assert state() == TradingState.HALTED


def test_setting_the_present_state_is_refused(control: TradingControl) -> None:
    with pytest.raises(ControlRefused, match="already"):
        services.set_trading_state(state=TradingState.ACTIVE, actor="rita", reason="go", now=NOW)


def test_halt_cancels_what_waits(
    propose: Callable[..., Proposal],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    proposal = propose()
    services.assess_proposal(proposal_id=proposal.pk, portfolio=PORTFOLIO, now=NOW)

    with django_capture_on_commit_callbacks(execute=True):
        services.halt(actor="olga", reason="alarm", now=NOW)

    proposal.refresh_from_db()
    assert proposal.status == ProposalStatus.EXPIRED
    assert "alarm" in proposal.decision_reason


def test_halting_twice_changes_the_switch_once(control: TradingControl) -> None:
    services.halt(actor="olga", reason="alarm", now=NOW)
    services.halt(actor="otto", reason="alarm too", now=NOW)

    row = selectors.control()
    assert row is not None
    assert (row.changed_by, row.version) == ("olga", control.version + 1)


@pytest.mark.django_db(transaction=True)
def test_halt_stands_when_the_cancelling_fails(
    control: TradingControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proposals import services as proposals_services

    def fail(**_: Any) -> int:
        raise RuntimeError("a lock was not to be had")

    monkeypatch.setattr(proposals_services, "cancel_pending", fail)

    services.halt(actor="olga", reason="alarm", now=NOW)

    assert state() == TradingState.HALTED


@pytest.mark.django_db(transaction=True)
def test_halt_whose_cancelling_fails_is_left_under_way_for_a_worker(
    control: TradingControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proposals import services as proposals_services

    def fail(**_: Any) -> int:
        raise OperationalError("canceling statement due to lock timeout")

    monkeypatch.setattr(proposals_services, "cancel_pending", fail)

    services.halt(actor="olga", reason="alarm", now=NOW)

    assert Kill.objects.get().status == KillStatus.UNDER_WAY


@pytest.mark.django_db(transaction=True)
def test_halt_ends_all_that_waits_however_many(
    propose: Callable[..., Proposal], monkeypatch: pytest.MonkeyPatch
) -> None:
    from proposals.services import approvals

    monkeypatch.setattr(approvals, "CANCEL_BATCH", 1)
    for _ in range(3):
        services.assess_proposal(proposal_id=propose().pk, portfolio=PORTFOLIO, now=NOW)

    services.halt(actor="olga", reason="alarm", now=NOW)

    assert {row.status for row in Proposal.objects.all()} == {ProposalStatus.EXPIRED}
    assert Kill.objects.get().status == KillStatus.DONE


@pytest.mark.django_db(transaction=True)
def test_halt_that_a_worker_carried_out_first_is_done_and_no_fault(
    control: TradingControl, caplog: pytest.LogCaptureFixture
) -> None:
    """The row of the kill is committed: a trading worker may end it before the page that wrote it does."""

    def worker() -> None:
        services.end_kill(kill=Kill.objects.get(), status=KillStatus.DONE, detail="by a worker", now=NOW)

    with transaction.atomic():
        transaction.on_commit(worker)
        services.halt(actor="olga", reason="alarm", now=NOW)

    kill = Kill.objects.get()
    assert (kill.status, kill.detail, state()) == (KillStatus.DONE, "by a worker", TradingState.HALTED)
    assert caplog.records == []


def test_halt_without_a_switch_on_record_says_what_to_do() -> None:
    TradingControl.objects.all().delete()

    with pytest.raises(ControlRefused, match="migrations"):
        services.halt(actor="olga", reason="alarm", now=NOW)


# --- whether trading is armed ----------------------------------------------------------------------------
def test_armed_when_everything_says_yes(limits: RiskLimits, control: TradingControl) -> None:
    assert selectors.trading_armed(NOW) == (True, [])


def test_every_reason_against_trading_is_named(
    settings: Any, control: TradingControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    from market import selectors as market_selectors

    monkeypatch.setattr(market_selectors, "stale_feeds", lambda now: ("market: not connected",))
    settings.TRADING_ENABLED = False
    settings.TRADING_ENVIRONMENT = Environment.LIVE
    RiskLimits.objects.all().delete()

    armed, reasons = selectors.trading_armed(NOW)

    assert not armed
    assert reasons == [
        "the setting TRADING_ENABLED is not true",
        "no passed stage gate is on record for live",
        "the trading control is HALTED",
        "no risk limits are on record",
        "the watch over the parts' health has not looked lately",
        "stream market: not connected",
    ]


def test_a_missing_switch_is_no_permission(limits: RiskLimits, control: TradingControl) -> None:
    TradingControl.objects.all().delete()

    assert selectors.trading_armed(NOW) == (False, ["the trading control cannot be read"])


# --- limits ----------------------------------------------------------------------------------------------
def test_saved_limits_are_the_next_version_in_force(limits: RiskLimits) -> None:
    row = save(approval_threshold_quote=Decimal("75"))

    assert row.version == 8
    assert selectors.current_limits().version == 8
    assert selectors.current_limits().approval_threshold_quote == Decimal("75")
    assert selectors.limits_history().count() == 2


def test_a_change_of_limits_leaves_before_and_after(limits: RiskLimits) -> None:
    save(approval_threshold_quote=Decimal("75"), open_positions_max=3)

    payload = audit.history(f"limits:{limits.environment}")[-1]["payload"]
    assert payload["before"] == {"approval_threshold_quote": "50", "open_positions_max": 5}
    assert payload["after"] == {"approval_threshold_quote": "75", "open_positions_max": 3}
    assert payload["loosened"] == ["approval_threshold_quote"]
    assert "limits changed" in Alert.objects.get(kind="limits_changed").title


def test_limits_without_a_reason_are_refused(limits: RiskLimits) -> None:
    with pytest.raises(ControlRefused, match="reason"):
        save(reason=" ", open_positions_max=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order_notional_max_quote", Decimal("10000.01")),
        ("approval_threshold_quote", Decimal("1001")),
        ("gross_exposure_max_pct", Decimal("101")),
        ("daily_loss_max_pct", Decimal("20.1")),
        ("fee_rate", Decimal("-0.001")),
        ("spread_max_bps", Decimal("NaN")),
        ("price_collar_pct", Decimal("Infinity")),
        ("price_drift_max_pct", "0.5"),
        ("risk_per_trade_max_pct", 0.5),
        ("open_orders_max", True),
        ("open_positions_max", Decimal(3)),
        ("reward_to_risk_min", Decimal("0.12345678901234567")),
        ("auto_ttl_seconds", 0),
        ("allowed_symbols", "BTCUSDT"),
        ("allowed_symbols", ["btcusdt"]),
        ("allowed_symbols", ["BTCUSDT", "BTCUSDT"]),
        ("shoe_size", Decimal(43)),
    ],
)
def test_a_senseless_limit_is_refused_whole_and_named(limits: RiskLimits, name: str, value: Any) -> None:
    with pytest.raises(ControlRefused) as refused:
        save(**{name: value})

    assert list(refused.value.errors) == [name]
    assert selectors.current_limits().version == 7


def test_a_missing_limit_is_refused(limits: RiskLimits) -> None:
    some = values()
    del some["fee_rate"]

    with pytest.raises(ControlRefused, match="fee_rate is missing"):
        services.save_limits(values=some, actor="rita", reason="because", now=NOW)


def test_limits_that_are_not_on_record_raise() -> None:
    RiskLimits.objects.all().delete()

    with pytest.raises(LimitsMissing):
        selectors.current_limits()


def test_ceiling_lowered_below_the_limits_in_force_counts_at_once(limits: RiskLimits, settings: Any) -> None:
    settings.RISK_CEILINGS = settings.RISK_CEILINGS | {"order_notional_max_quote": Decimal(100)}

    in_force = selectors.current_limits()

    assert (in_force.order_notional_max_quote, in_force.gross_exposure_max_pct) == (100, 30)


def test_refused_changes_leave_no_audit_row(limits: RiskLimits) -> None:
    before = AuditRecord.objects.count()

    with pytest.raises(ControlRefused):
        save(open_positions_max=-1)

    assert AuditRecord.objects.count() == before
