"""The gate at work on Postgres: advice moves the proposal on, the binding run refuses or lets through."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import Error, connection, connections, transaction

from market import selectors as market_selectors
from proposals import selectors as proposals_selectors
from proposals import services as proposals_services
from proposals.contracts import DecisionRefused, ProposalStatus
from proposals.models import Proposal
from risk import rules, services
from risk.contracts import NotAssessable, NotAuthorised, TradingState
from risk.models import Assessment, RiskLimits, TradingControl
from tests.conftest import NOW
from tests.proposals.races import two_hands
from tests.risk.passing import PORTFOLIO, QUOTE
from tradingbot.core.audit import canonical_json, sha256_hex

Propose = Callable[..., Proposal]
pytestmark = pytest.mark.django_db


def assess(proposal: Proposal, **changes: Any) -> Proposal:
    services.assess_proposal(proposal_id=proposal.pk, portfolio=replace(PORTFOLIO, **changes), now=NOW)
    proposal.refresh_from_db()
    return proposal


def authorise(proposal: Proposal, **changes: Any) -> None:
    """As claimed; what waited for people was approved by as many as it took."""
    if proposal.status == ProposalStatus.PENDING_APPROVAL:
        proposal.status = ProposalStatus.APPROVED
    order = proposals_selectors.order_of(proposal).model_copy(update=changes)
    services.authorise_order(proposal=proposal, order=order, portfolio=PORTFOLIO, now=NOW)


# --- advice ----------------------------------------------------------------------------------------------
def test_a_sound_proposal_at_the_threshold_waits_for_a_person(propose: Propose) -> None:
    proposal = assess(propose())

    assert proposal.status == ProposalStatus.PENDING_APPROVAL
    assert (proposal.quantity, proposal.price) == (Decimal("0.008"), Decimal(25000))
    assert proposal.limits_version == 7


def test_a_sound_proposal_below_the_threshold_is_approved_by_rule(propose: Propose) -> None:
    assert assess(propose(answer={"quote_amount": "49"})).status == ProposalStatus.AUTO_APPROVED


def test_while_halted_even_a_small_proposal_waits_for_a_person(
    propose: Propose, control: TradingControl
) -> None:
    TradingControl.objects.filter(pk=control.pk).update(status=TradingState.HALTED)

    proposal = assess(propose(answer={"quote_amount": "49"}))

    assert proposal.status == ProposalStatus.PENDING_APPROVAL


def test_a_denied_proposal_is_rejected_with_the_reason(propose: Propose) -> None:
    proposal = assess(propose(), reconciled=False, reconciliation_note="the last one was degraded")

    assert proposal.status == ProposalStatus.RISK_REJECTED
    assert "the last one was degraded" in proposal.refusal


@pytest.mark.parametrize(
    "answer",
    [
        {"quote_amount": None},
        {"quote_amount": "1e3"},
        {"quote_amount": 200},
        {"order_type": None},
        {"limit_price": "NaN"},
        {"quote_amount": "999999999999", "limit_price": "0.00000001"},
    ],
)
def test_an_answer_that_cannot_be_read_is_rejected(propose: Propose, answer: dict[str, Any]) -> None:
    assert assess(propose(answer=answer)).status == ProposalStatus.RISK_REJECTED


def test_without_limits_everything_is_rejected(propose: Propose) -> None:
    proposal = propose()
    RiskLimits.objects.all().delete()

    assert assess(proposal).status == ProposalStatus.RISK_REJECTED
    assert "no limits are on record" in proposal.refusal


def test_without_a_quote_it_is_rejected(propose: Propose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market_selectors, "latest_quote", lambda symbol: None)

    assert assess(propose()).status == ProposalStatus.RISK_REJECTED


def test_a_symbol_whose_filters_were_never_read_is_rejected(propose: Propose) -> None:
    assert assess(propose(symbol="ETHUSDT")).status == ProposalStatus.RISK_REJECTED


def test_assessment_keeps_every_rule_and_what_was_seen(propose: Propose) -> None:
    proposal = assess(propose())

    kept = Assessment.objects.get(proposal=proposal)
    assert len(kept.results) == len(rules.RULES)
    assert kept.inputs["portfolio"]["free_quote"] == "9000"
    assert kept.inputs["quote"]["bid"] == "24999.5"
    assert kept.inputs_sha256 == sha256_hex(canonical_json(kept.inputs))
    assert (kept.binding, kept.passed) == (False, True)


def test_a_proposal_is_judged_once(propose: Propose) -> None:
    proposal = assess(propose())

    with pytest.raises(NotAssessable):
        assess(proposal)


# --- binding ---------------------------------------------------------------------------------------------
def test_an_approved_order_is_authorised(propose: Propose) -> None:
    proposal = assess(propose())

    authorise(proposal)

    assert Assessment.objects.get(proposal=proposal, binding=True).passed


def test_a_halt_after_the_approval_refuses_the_order(propose: Propose) -> None:
    proposal = assess(propose())
    services.halt(actor="alice", reason="test", now=NOW)

    with pytest.raises(NotAuthorised, match="HALTED"):
        authorise(proposal)


def test_a_moved_price_refuses_the_order(propose: Propose, monkeypatch: pytest.MonkeyPatch) -> None:
    proposal = assess(propose())
    moved = replace(QUOTE, bid=Decimal("25200"), ask=Decimal("25201"))
    monkeypatch.setattr(market_selectors, "latest_quote", lambda symbol: moved)

    with pytest.raises(NotAuthorised, match="price_drift_guard"):
        authorise(proposal)


def test_an_order_other_than_the_approved_one_is_refused(propose: Propose) -> None:
    proposal = assess(propose())

    with pytest.raises(NotAuthorised, match="order_matches_approval"):
        authorise(proposal, quantity=Decimal("0.0081"))


def test_tightened_limits_refuse_what_was_approved_under_looser_ones(
    propose: Propose, limits: RiskLimits
) -> None:
    proposal = assess(propose())
    limits.pk, limits.version, limits.order_notional_max_quote = None, 8, Decimal(100)
    limits.save()

    with pytest.raises(NotAuthorised, match="order_notional"):
        authorise(proposal)


@pytest.mark.parametrize(
    ("amount", "threshold"), [("49", "approval_threshold_quote"), ("200", "two_person_threshold_quote")]
)
def test_tightened_threshold_refuses_what_too_few_people_approved(
    propose: Propose, limits: RiskLimits, amount: str, threshold: str
) -> None:
    proposal = assess(propose(answer={"quote_amount": amount}))
    limits.pk, limits.version = None, 8
    setattr(limits, threshold, proposal.notional_quote)
    limits.save()

    with pytest.raises(NotAuthorised, match="order_matches_approval"):
        authorise(proposal)


def test_a_refusal_caught_inside_the_claim_leaves_its_assessment(propose: Propose) -> None:
    proposal = assess(propose())
    with transaction.atomic():
        services.halt(actor="alice", reason="test", now=NOW)
        with pytest.raises(NotAuthorised) as refused:
            authorise(proposal)

    assert [r.name for r in refused.value.verdict.denied] == ["trading_control"]
    assert not Assessment.objects.get(proposal=proposal, binding=True).passed


# --- races -----------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_a_halt_waits_for_a_claim_under_way_and_refuses_the_next(propose: Propose) -> None:
    proposal = assess(propose())
    halted = threading.Event()

    def halt() -> None:
        services.halt(actor="alice", reason="race", now=NOW)
        halted.set()
        connections.close_all()

    with transaction.atomic():
        authorise(proposal)
        halting = threading.Thread(target=halt)
        halting.start()
        _wait_for_a_lock()
        halted_during_claim = halted.is_set()
    halting.join(timeout=10)

    assert not halted_during_claim
    assert halted.is_set()
    with pytest.raises(NotAuthorised), transaction.atomic():
        authorise(proposal)


def _wait_for_a_lock() -> None:
    """Until another session waits for a lock of ours."""
    event = threading.Event()
    for _ in range(200):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        event.wait(0.02)
    raise AssertionError("nobody waited for the lock")


@pytest.mark.django_db(transaction=True)
def test_kill_racing_a_claim_ends_in_an_order_under_way_or_in_none(propose: Propose, settings: Any) -> None:
    """A hundred rounds of the whole halt against the whole claim: the switch's row puts them in an order."""
    settings.TRADING_ENABLED = True
    seen: Counter[str] = Counter()
    with two_hands() as race:
        for _ in range(100):
            proposal = assess(propose(answer={"quote_amount": "49"}))
            assert proposal.status == ProposalStatus.AUTO_APPROVED

            claimed, _halted = race(
                lambda p=proposal: claim(p),
                lambda: services.halt(actor="alice", reason="race", now=NOW),
            )

            proposal.refresh_from_db()
            ordered = claimed == TradingState.ACTIVE
            assert ordered or isinstance(claimed, NotAuthorised | DecisionRefused), claimed
            assert (proposal.claimed_at is not None) == ordered
            assert (proposal.status == ProposalStatus.EXPIRED) == (not ordered)
            with pytest.raises((NotAuthorised, DecisionRefused)):
                claim(proposal)
            seen["ordered" if ordered else "stopped"] += 1
            services.set_trading_state(state=TradingState.ACTIVE, actor="rita", reason="again", now=NOW)
    assert sum(seen.values()) == 100


def claim(proposal: Proposal) -> str:
    """What execution does in one transaction; the switch as the claim saw it."""
    with transaction.atomic():
        authorise(proposal)
        proposals_services.claim_for_execution(
            proposal_id=proposal.pk, digest=proposal.digest, now=NOW, actor="execution"
        )
        return TradingControl.objects.get(pk=settings.TRADING_ENVIRONMENT).status


# --- the record ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change", ["UPDATE risk_assessment SET passed = false", "DELETE FROM risk_assessment"]
)
def test_the_database_keeps_judgements_as_they_were(propose: Propose, change: str) -> None:
    assess(propose())

    with pytest.raises(Error, match="append-only"), connection.cursor() as cursor:
        cursor.execute(change)


def test_the_database_keeps_versions_of_limits_as_they_were(limits: RiskLimits) -> None:
    with pytest.raises(Error, match="append-only"):
        RiskLimits.objects.update(order_notional_max_quote=Decimal(1))
