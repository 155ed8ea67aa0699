"""Role x state x action, generated from the tables and driven through the pages: one table says who may.

The expectation is computed, never written down: the permission of the deed in the role's list, and an edge of
the literal transition table from the row's state.
"""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from execution.contracts import REVIEWABLE, DivergenceKind, OrderStatus
from execution.models import Divergence, OperatorRequest, ReconciliationRequest, ReconciliationRun
from proposals import services
from proposals.contracts import TRANSITIONS, ProposalStatus
from proposals.models import DecisionRequest, Proposal, Strategy
from risk import selectors as risk
from risk import services as risk_services
from risk.contracts import KillScope, LimitsRequestStatus, TradingState
from risk.models import LimitsRequest, RiskLimits, TradingControl
from risk.rules.limits import LIMIT_NAMES
from tests.web import seeding
from tradingbot.core import clock
from tradingbot.core.decimals import plain
from tradingbot.core.models import Alert, AlertChannel, AlertSilence
from tradingbot.core.permissions import PERMISSIONS, Deed
from tradingbot.operations.roles import ROLES

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("still_clock")]
WHO = ("nobody", *ROLES, "admin")
HTMX = {"HTTP_HX_REQUEST": "true"}
ENVIRONMENT = settings.TRADING_ENVIRONMENT
S = ProposalStatus


def allowed(role: str, deed: Deed) -> bool:
    """What the one table says."""
    return role == "admin" or PERMISSIONS[deed] in ROLES.get(role, ())


def sign_in(role: str, name: str = "") -> Client:
    roles = (role,) if role in ROLES else ()
    user = seeding.person(name or role, *roles, is_staff=True, is_superuser=role == "admin")
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(autouse=True)
def desk(settings: Any) -> None:
    """Armed, reconciled and fresh, so that nothing but role and state stands in the way."""
    settings.TRADING_ENABLED = True
    now = clock.now()
    seeding.starting_rows(now)
    seeding.instruments(now)
    seeding.books(now)
    seeding.reconciliation(now)
    seeding.arm(now)


def test_roles_and_deeds_of_the_tables_are_all_in_the_matrix() -> None:
    driven = {
        *PROPOSAL_DEEDS.values(),
        *ORDER_DEEDS.values(),
        Deed.RESOLVE,
        Deed.SETTLE,
        Deed.COMPARE,
        *ALERT_DEEDS.values(),
        Deed.ASK,
        Deed.HALT,
        Deed.OPERATE,
        Deed.SWITCH,
        Deed.SET_LIMITS,
        Deed.CONFIRM_LIMITS,
        Deed.SET_CHANNELS,
    }

    assert driven == set(PERMISSIONS) == set(Deed)
    assert set(ROLES) == {"viewer", "operator", "risk_manager"}


# --- proposals -------------------------------------------------------------------------------------------
PROPOSAL_DEEDS = {
    "approve": Deed.APPROVE,
    "vote": Deed.APPROVE,
    "reduce": Deed.REDUCE,
    "reject": Deed.REJECT,
}
DECIDED = {S.APPROVED, S.REJECTED}


def proposal_in(status: S, *, people: int) -> Proposal:
    now = clock.now()
    decided = {"decided_at": now, "decided_by": "somebody"} if status in DECIDED else {}
    if status == S.SHADOW:
        decided = {"shadow": True, "digest": ""}
    row = seeding.proposal(
        now, status=status, approvals_required=people, quantity="0.0010", notional_quote="64.20634",
        fee_quote="0.06420634", **decided,
    )  # fmt: skip
    row.refresh_from_db()
    return row


def can(action: str, status: S) -> bool:
    """Whether the table of transitions lets a person do `action` to a proposal in `status`."""
    return (S.REJECTED if action == "reject" else S.APPROVED) in TRANSITIONS[status]


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("action", PROPOSAL_DEEDS)
def test_proposal_cells(role: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The gate's word on a smaller order is another test's matter.
    monkeypatch.setattr("risk.services.reduce_proposal", reduced_without_the_gate)
    client = sign_in(role)
    for status in S:
        row = proposal_in(status, people=2 if action == "vote" else 1)
        token = services.shown_token(proposal=row, actor=role, now=clock.now())
        fields = {"version": row.version, "digest": row.digest or seeding.DIGEST, "shown": token, "share": 50,
                  "choice": "too large"}  # fmt: skip
        path = reverse(f"{'approve' if action == 'vote' else action}_proposal", args=[row.pk])

        answer = client.post(path, fields, **HTMX)

        may, legal = allowed(role, PROPOSAL_DEEDS[action]), can(action, status)
        expected = (
            403 if not may else 200 if legal else 409,
            after(action, status) if may and legal else status,
        )
        row.refresh_from_db()
        assert (role, action, status, answer.status_code, row.status) == (role, action, status, *expected)
        assert row.votes.count() == (may and legal and action in ("approve", "vote"))


def after(action: str, status: S) -> str:
    return {"approve": S.APPROVED, "vote": status, "reduce": status, "reject": S.REJECTED}[action]


def reduced_without_the_gate(*, proposal_id: Any, version: int, digest: str, now: Any, **_: Any) -> None:
    from django.db import transaction

    with transaction.atomic():
        services.pending_as_shown(proposal_id, version, digest, now, done="changed")


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("enabled", [True, False])
def test_ask_cells(role: str, enabled: bool) -> None:
    strategy = Strategy.objects.create(name="matrix", symbols=["BTCUSDT"], enabled=enabled)

    answer = sign_in(role).post(reverse("ask_advisor"), {"what": f"{strategy.pk}:BTCUSDT"}, **HTMX)

    may = allowed(role, Deed.ASK)
    assert answer.status_code == (403 if not may else 200 if enabled else 409)
    assert DecisionRequest.objects.count() == (may and enabled)


# --- orders and positions --------------------------------------------------------------------------------
ORDER_DEEDS = {"cancel": Deed.OPERATE, "replace": Deed.REPLACE}


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("action", ORDER_DEEDS)
def test_order_cells(role: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The gate's word on the new price is another test's matter.
    monkeypatch.setattr("execution.services.replacing._check_beforehand", lambda *_: None)
    client, now = sign_in(role), clock.now()
    for number, status in enumerate(OrderStatus):
        there = {"exchange_order_id": number + 1, "exchange_status": "NEW"}
        row = seeding.order(seeding.proposal(now, status="approved"), now, status=status,
                            **(there if status == OrderStatus.CONFIRMED else {}))  # fmt: skip
        fields = {"version": row.version, "reason": "matrix", "price": "64200.00"}

        answer = client.post(reverse(f"{action}_order", args=[row.pk]), fields, **HTMX)

        may, legal = allowed(role, ORDER_DEEDS[action]), status == OrderStatus.CONFIRMED
        expected = 403 if not may else 200 if legal else 409
        assert (role, action, status, answer.status_code) == (role, action, status, expected)
        assert row.requests.count() == (may and legal)


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("state", TradingState)
def test_close_cells(role: str, state: TradingState) -> None:
    client, now = sign_in(role), clock.now()
    seeding.filled_order(seeding.proposal(now, status="approved"), now)
    TradingControl.objects.filter(pk=ENVIRONMENT).update(status=state)

    answer = client.post(
        reverse("close_position", args=["BTCUSDT"]), {"quantity": "0.0150", "reason": "matrix"}, **HTMX
    )

    may, legal = allowed(role, Deed.OPERATE), state is not TradingState.HALTED
    assert (role, state, answer.status_code) == (role, state, 403 if not may else 200 if legal else 409)
    assert OperatorRequest.objects.count() == (may and legal)


# --- the books -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", WHO)
def test_review_cells(role: str) -> None:
    client, now = sign_in(role), clock.now()
    for number, status in enumerate(OrderStatus):
        row = seeding.order(seeding.proposal(now, status="approved"), now, status=status,
                            exchange_order_id=number + 1)  # fmt: skip
        fields = {"version": row.version, "reason": "matrix", "answer": "keep_watching"}

        answer = client.post(reverse("answer_review", args=[row.pk]), fields, **HTMX)

        acts = allowed(role, Deed.RESOLVE) and status in REVIEWABLE
        row.refresh_from_db()
        assert (role, status, answer.status_code) == (role, status, 200 if acts else 409)
        assert (row.watch_until is not None) == acts


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_divergence_cells(role: str, closed: bool) -> None:
    client, now = sign_in(role), clock.now()
    run = ReconciliationRun.objects.latest("pk")
    row = Divergence.objects.create(
        environment=ENVIRONMENT, kind=DivergenceKind.BALANCE, subject="matrix", ours={"total": "2"},
        theirs={"total": "1"}, amount=-1, amount_asset="USDT", likely_cause="a withdrawal", first_run=run,
        last_run=run, first_seen_at=now, last_seen_at=now, closed_at=now if closed else None,
    )  # fmt: skip
    fields = {"version": row.version, "reason": "matrix", "decision": "adopt"}

    answer = client.post(reverse("settle_divergence", args=[row.pk]), fields, **HTMX)

    acts = allowed(role, Deed.SETTLE) and not closed
    row.refresh_from_db()
    assert (role, answer.status_code) == (role, 200 if acts else 409)
    assert (row.closed_by == role) == acts


@pytest.mark.parametrize("role", WHO)
def test_compare_cells(role: str) -> None:
    client = sign_in(role)

    answer = client.post(reverse("reconcile_now"), **HTMX)
    page = client.get(reverse("reconciliation")).content.decode()

    may = allowed(role, Deed.COMPARE)
    assert (role, answer.status_code) == (role, 200 if may else 403)
    assert ReconciliationRequest.objects.count() == may
    assert ("takes the role operator" in page) == (not may)


# --- the switch ------------------------------------------------------------------------------------------
CONTROL_ACTIONS = ("halt", *KillScope, *TradingState)


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("action", CONTROL_ACTIONS)
def test_control_cells(role: str, action: str) -> None:
    client = sign_in(role)
    for state in TradingState:
        TradingControl.objects.filter(pk=ENVIRONMENT).update(status=state, version=1)
        if action == "halt" or action in KillScope:
            answer = client.post(reverse("halt"), {} if action == "halt" else {"scope": action}, **HTMX)
            flatten = action == KillScope.FLATTEN
            may = allowed(role, Deed.HALT) and (not flatten or allowed(role, Deed.OPERATE))
            target = TradingState.REDUCING if flatten else TradingState.HALTED
            # A halted desk sells nothing; any other state may be left for a stricter one.
            legal = not flatten or state is not TradingState.HALTED
        else:
            path = reverse("admin:risk_tradingcontrol_change", args=[ENVIRONMENT])
            answer = client.post(path, {"status": action, "reason": "matrix", "version": 1})
            may, target = allowed(role, Deed.SWITCH), TradingState(action)
            # Halting twice is halted; any other state is entered only from another one.
            legal = target in TradingControl.TRANSITIONS[state] or target is TradingState.HALTED

        expected = target if may and legal else state
        assert (role, action, state, risk.trading_state()) == (role, action, state, expected)
        assert (answer.status_code == 403) == (not may)


# --- limits ----------------------------------------------------------------------------------------------
def limits_form(**changes: str) -> dict[str, str]:
    row = risk.limits_history()[0]
    values = {name: getattr(row, name) for name in LIMIT_NAMES}
    texts = {name: plain(v) if hasattr(v, "quantize") else str(v) for name, v in values.items()}
    return texts | {"allowed_symbols": ", ".join(row.allowed_symbols), "reason": "matrix"} | changes


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("direction", ["tighter", "looser"])
@pytest.mark.parametrize("state", TradingState)
def test_limits_cells(role: str, direction: str, state: TradingState) -> None:
    TradingControl.objects.filter(pk=ENVIRONMENT).update(status=state)
    client = sign_in(role)

    answer = client.post(
        reverse("admin:risk_risklimits_add"),
        limits_form(open_positions_max="4" if direction == "tighter" else "6"),
    )

    may = allowed(role, Deed.SET_LIMITS)
    assert (answer.status_code == 403) == (not may)
    assert RiskLimits.objects.filter(environment=ENVIRONMENT).count() == 1 + (may and direction == "tighter")
    assert LimitsRequest.objects.count() == (may and direction == "looser")


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("answer", ["confirm", "decline"])
@pytest.mark.parametrize("own", [False, True], ids=["another's", "own"])
def test_limits_request_cells(role: str, answer: str, own: bool) -> None:
    client = sign_in(role)
    sign_in("risk_manager", name="rita")
    waiting, confirmed, declined = LimitsRequestStatus
    for status in LimitsRequestStatus:
        row = request_by(role if own else "rita", status)
        before = RiskLimits.objects.count()

        client.post(reverse("admin:risk_limitsrequest_change", args=[row.pk]), {"answer": answer})

        row.refresh_from_db()
        acts = allowed(role, Deed.CONFIRM_LIMITS) and status == waiting and not (own and answer == "confirm")
        wanted = (confirmed if answer == "confirm" else declined) if acts else status
        in_force = RiskLimits.objects.count() - before
        assert (role, answer, status, row.status, in_force) == (
            role, answer, status, wanted, int(acts and answer == "confirm"),
        )  # fmt: skip


def request_by(actor: str, status: LimitsRequestStatus) -> LimitsRequest:
    row = risk.limits_history()[0]
    values = {name: getattr(row, name) for name in LIMIT_NAMES}
    values["open_positions_max"] += 1
    found = risk_services.request_limits(values=values, actor=actor, reason="matrix", now=clock.now())
    LimitsRequest.objects.filter(pk=found.pk).update(status=status)
    return found


# --- alerts ----------------------------------------------------------------------------------------------
ALERT_DEEDS = {
    "acknowledge": Deed.ACKNOWLEDGE,
    "silence": Deed.SILENCE,
    "end silence": Deed.SILENCE,
    "test": Deed.TEST_CHANNEL,
}


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("action", ALERT_DEEDS)
def test_alert_cells(role: str, action: str) -> None:
    client, now = sign_in(role), clock.now()
    row = seeding.alert(now, kind="divergence", acknowledged_at=None)
    channel = AlertChannel.objects.create(
        name="c", secret_name="c", created_at=now, created_by="rita"
    )  # fmt: skip
    silence = AlertSilence.objects.create(
        kind="x", starts_at=now, ends_at=now + timedelta(hours=1), reason="r", created_by="rita"
    )
    path, fields, done = {
        "acknowledge": (reverse("acknowledge_alert", args=[row.pk]), {},
                        lambda: Alert.objects.get(pk=row.pk).acknowledged_at is not None),
        "silence": (reverse("silence_alert", args=[row.pk]),
                    {f"{row.pk}-covers": "kind", f"{row.pk}-hours": "1", f"{row.pk}-reason": "known"},
                    lambda: AlertSilence.objects.count() == 2),
        "end silence": (reverse("end_silence", args=[silence.pk]), {},
                        lambda: AlertSilence.objects.get(pk=silence.pk).ends_at <= clock.now()),
        "test": (reverse("test_channel", args=[channel.pk]), {}, lambda: channel.deliveries.exists()),
    }[action]  # fmt: skip

    answer = client.post(path, fields, **HTMX)

    may = allowed(role, ALERT_DEEDS[action])
    assert (role, action, answer.status_code, done()) == (role, action, 200 if may else 403, may)


@pytest.mark.parametrize("role", WHO)
def test_channel_cells(role: str, tmp_path: Any, settings: Any) -> None:
    settings.ALERT_SECRETS_DIR = tmp_path
    client = sign_in(role)
    fields = {"name": "mail", "address": "json://127.0.0.1:1/x", "severity_min": "high", "enabled": "on"}

    answer = client.post(reverse("admin:core_alertchannel_add"), fields)

    may = allowed(role, Deed.SET_CHANNELS)
    assert (answer.status_code, AlertChannel.objects.count()) == ((302, 1) if may else (403, 0))
