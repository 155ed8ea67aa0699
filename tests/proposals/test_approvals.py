"""The gate's verdict, a person's answer, the claim: one outcome each, and the other side is told why."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from proposals import rules, selectors, services
from proposals.contracts import DecisionRefused
from proposals.models import Proposal
from tests.proposals.conftest import PASS, judge, order
from tests.proposals.races import race
from tradingbot.core.audit import history
from tradingbot.core.models import Alert

Make = Callable[..., Proposal]
DENY = {
    "name": "spread",
    "verdict": "deny",
    "observed": "9",
    "limit": "5",
    "unit": "bps",
    "reason": "Too wide.",
}


def approve(proposal: Proposal, now: datetime, **changes: Any) -> Proposal:
    """By somebody who may."""
    arguments = {"version": proposal.version, "digest": proposal.digest, "actor": "operator1", "now": now}
    arguments |= changes
    User.objects.get_or_create(username=arguments["actor"], defaults={"is_superuser": True})
    return services.approve_proposal(proposal_id=proposal.pk, **arguments)


def reject(proposal: Proposal, now: datetime, **changes: Any) -> Proposal:
    arguments = {"version": proposal.version, "digest": proposal.digest, "actor": "operator2", "now": now}
    arguments |= {"reason": "too early"}
    return services.reject_proposal(proposal_id=proposal.pk, **(arguments | changes))


def claim(proposal: Proposal, now: datetime, **changes: Any) -> Proposal:
    arguments = {"digest": proposal.digest, "actor": "execution", "now": now}
    with transaction.atomic():
        return services.claim_for_execution(proposal_id=proposal.pk, **(arguments | changes))


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(DecisionRefused) as caught:
        call()
    return caught.value.code


def stored(proposal: Proposal) -> Proposal:
    return Proposal.objects.get(pk=proposal.pk)


# --- verdict ---------------------------------------------------------------------------------------------
def test_passed_below_the_threshold_is_auto_approved_for_a_short_time(proposed: Make, now: datetime) -> None:
    proposal = stored(judge(proposed(), now, needs_person=False))

    assert (proposal.status, proposal.limits_version) == ("auto_approved", 3)
    assert proposal.expires_at == now + timedelta(seconds=60)
    assert proposal.decided_by == ""
    assert selectors.approved_unclaimed(10, now) == [proposal.pk]


def test_passed_above_the_threshold_waits_for_a_person_with_an_alert(proposed: Make, now: datetime) -> None:
    proposal = stored(judge(proposed(), now))

    assert proposal.status == "pending_approval"
    assert proposal.expires_at == now + timedelta(seconds=300)
    assert selectors.order_of(proposal) == order()
    assert proposal.verdict == PASS
    assert [p.pk for p in selectors.pending(now)] == [proposal.pk]
    alert = Alert.objects.get(kind="approval_waiting")
    assert (alert.severity, alert.subject) == ("high", f"proposal:{proposal.pk}")
    assert alert.title == "BUY 0.0025 BTCUSDT waits for approval"


def test_alert_of_a_waiting_proposal_shows_its_cost_as_the_card_does(proposed: Make, now: datetime) -> None:
    stored(judge(proposed(), now, order=order(notional_quote=Decimal("64.2063401"))))

    assert "At most 64.21 USDT." in Alert.objects.get(kind="approval_waiting").detail


def test_digest_of_the_stored_row_is_the_digest_that_was_shown(proposed: Make, now: datetime) -> None:
    finer_than_the_column = order(fee_quote=Decimal("0.05000000000000000001"))

    proposal = stored(judge(proposed(), now, order=finer_than_the_column))

    assert proposal.fee_quote == Decimal("0.0500000000000001")
    assert proposal.digest == rules.digest_of(selectors.order_of(proposal), 3, proposal.expires_at)


def test_denied_is_rejected_with_every_reason_and_an_alert(proposed: Make, now: datetime) -> None:
    second = DENY | {"name": "stop", "reason": "No stop."}

    proposal = stored(judge(proposed(), now, verdict=[*PASS, DENY, second]))

    assert (proposal.status, proposal.refusal) == ("risk_rejected", "Too wide.; No stop.")
    assert len(proposal.verdict) == 3
    assert Alert.objects.get(kind="risk_refusal").dedupe_key == "risk_refusal:BTCUSDT:spread,stop"


def test_same_refusal_again_is_counted_on_one_alert(proposed: Make, now: datetime) -> None:
    for _ in range(3):
        judge(proposed(), now, verdict=[DENY])

    assert Alert.objects.get(kind="risk_refusal").count == 3


def test_no_order_is_rejected(proposed: Make, now: datetime) -> None:
    assert stored(judge(proposed(), now, order=None)).status == "risk_rejected"


@pytest.mark.parametrize("needs_person", [True, False])
def test_what_passed_waits_no_longer_than_the_model_said(
    proposed: Make, now: datetime, needs_person: bool
) -> None:
    """`valid_for_seconds` is how long it may wait; the gate gave every proposal the time of the limits anew."""
    valid_until = now + timedelta(seconds=30)

    proposal = stored(judge(proposed(expires_at=valid_until), now, needs_person=needs_person))

    assert proposal.expires_at == valid_until
    assert proposal.digest == rules.digest_of(selectors.order_of(proposal), 3, valid_until)


def test_verdict_after_the_models_validity_expires_the_proposal(proposed: Make, now: datetime) -> None:
    proposal = proposed()

    assert judge(proposal, proposal.expires_at).status == "expired"


def test_second_verdict_is_refused(pending: Proposal, now: datetime) -> None:
    assert code_of(lambda: judge(pending, now)) == "ALREADY_ASSESSED"


@pytest.mark.parametrize(
    "changes",
    [
        {"symbol": "ETHUSDT"},
        {"side": "SELL"},
        {"order_type": "MARKET"},
        {"time_in_force": "IOC"},
        {"quantity": Decimal("0.00251")},
        {"price": Decimal("20000.01")},
        {"price": None},
        {"stop_price": Decimal("19799.99")},
        {"target_price": None},
        {"reference_price": Decimal("19999.96")},
        {"worst_price": Decimal("20000.01")},
        {"notional_quote": Decimal("50.01")},
        {"fee_quote": Decimal("0.06")},
    ],
)
def test_digest_changes_with_every_field_of_the_order(now: datetime, changes: dict[str, Any]) -> None:
    assert rules.digest_of(order(**changes), 3, now) != rules.digest_of(order(), 3, now)


def test_digest_changes_with_limits_and_expiry_and_not_with_spelling(now: datetime) -> None:
    digest = rules.digest_of(order(), 3, now)

    assert rules.digest_of(order(), 4, now) != digest
    assert rules.digest_of(order(), 3, now + timedelta(microseconds=1)) != digest
    assert rules.digest_of(order(quantity=Decimal("0.0025")), 3, now) == digest


# --- approve and reject ----------------------------------------------------------------------------------
def test_approve_keeps_expiry_and_names_the_person(pending: Proposal, now: datetime) -> None:
    expires_at = pending.expires_at

    approve(pending, now + timedelta(seconds=299))

    row = stored(pending)
    assert (row.status, row.decided_by, row.expires_at) == ("approved", "operator1", expires_at)
    assert Alert.objects.get(kind="approval_waiting").resolved_at is not None
    assert history(f"proposal:{row.pk}")[-1]["payload"]["digest"] == row.digest


def test_approve_after_expiry_is_refused_even_before_the_sweep(pending: Proposal) -> None:
    assert code_of(lambda: approve(pending, pending.expires_at)) == "EXPIRED"
    assert stored(pending).status == "pending_approval"


@pytest.mark.parametrize("changes", [{"version": 1}, {"digest": "0" * 64}, {"digest": ""}])
def test_approve_from_a_stale_page_is_refused(
    pending: Proposal, now: datetime, changes: dict[str, Any]
) -> None:
    assert code_of(lambda: approve(pending, now, **changes)) == "STALE_PAGE"
    assert stored(pending).status == "pending_approval"


def test_second_answer_is_told_who_and_when(pending: Proposal, now: datetime) -> None:
    approve(pending, now)

    with pytest.raises(DecisionRefused, match=r"Approved by operator1 at 12:00:00 UTC\.") as caught:
        reject(pending, now)
    assert caught.value.code == "ALREADY_DECIDED"


def test_reject_keeps_the_reason(pending: Proposal, now: datetime) -> None:
    reject(pending, now, reason=" too \x00close to the news ")

    row = stored(pending)
    assert (row.status, row.decision_reason) == ("rejected", "too close to the news")
    assert code_of(lambda: approve(row, now)) == "ALREADY_DECIDED"


def test_reject_without_reason_is_refused(pending: Proposal, now: datetime) -> None:
    assert code_of(lambda: reject(pending, now, reason=" \n")) == "REASON_MISSING"
    assert stored(pending).status == "pending_approval"


def test_reject_from_a_stale_page_is_refused(pending: Proposal, now: datetime) -> None:
    assert code_of(lambda: reject(pending, now, version=1)) == "STALE_PAGE"
    assert code_of(lambda: reject(pending, now, digest="0" * 64)) == "STALE_PAGE"
    assert stored(pending).status == "pending_approval"


def test_approve_of_what_does_not_wait_is_refused(proposed: Make, now: datetime) -> None:
    assert code_of(lambda: approve(proposed(), now)) == "NOT_PENDING"
    assert code_of(lambda: approve(judge(proposed(), now, needs_person=False), now)) == "NOT_PENDING"


def test_proposal_of_another_environment_is_not_found(pending: Proposal, now: datetime) -> None:
    Proposal.objects.update(environment="live")

    with pytest.raises(Proposal.DoesNotExist):
        approve(pending, now)


# --- expiry and halt -------------------------------------------------------------------------------------
def test_sweep_expires_what_is_past_its_time_and_only_that(proposed: Make, now: datetime) -> None:
    waiting = judge(proposed(), now)
    auto = judge(proposed(), now, needs_person=False)
    approved = approve(judge(proposed(), now), now)
    unseen = proposed(expires_at=now + timedelta(seconds=120))
    claimed = claim(judge(proposed(), now, needs_person=False), now)
    fresh = judge(proposed(), now, approval_ttl_seconds=600)

    assert services.expire_overdue(now=now + timedelta(seconds=300)) == 4

    assert {stored(p).status for p in (waiting, auto, approved, unseen)} == {"expired"}
    assert (stored(claimed).status, stored(fresh).status) == ("auto_approved", "pending_approval")
    open_alerts = Alert.objects.filter(kind="approval_waiting", resolved_at=None)
    assert [a.subject for a in open_alerts] == [f"proposal:{fresh.pk}"]


def test_sweep_twice_expires_once(pending: Proposal, now: datetime) -> None:
    later = now + timedelta(hours=1)

    assert [services.expire_overdue(now=later), services.expire_overdue(now=later)] == [1, 0]


def test_halt_ends_everything_not_yet_claimed_with_its_reason(proposed: Make, now: datetime) -> None:
    waiting = judge(proposed(), now)
    auto = judge(proposed(), now, needs_person=False)
    approved = approve(judge(proposed(), now), now)
    claimed = claim(judge(proposed(), now, needs_person=False), now)

    assert services.cancel_pending(actor="operator1", reason="halted", now=now) == 3

    assert {stored(p).status for p in (waiting, auto, approved)} == {"expired"}
    assert stored(claimed).status == "auto_approved"
    with pytest.raises(DecisionRefused, match=r"\(halted\)"):
        approve(stored(waiting), now)


def test_halted_proposal_says_who_ended_it_and_when_not_when_it_would_have_expired(
    pending: Proposal, now: datetime
) -> None:
    services.cancel_pending(actor="operator1", reason="trading halted: news", now=now)

    ended = stored(pending)
    assert (ended.decided_by, ended.decided_at) == ("operator1", now)
    assert ended.expires_at > now
    with pytest.raises(DecisionRefused, match=f"cancelled by operator1 at {now:%H:%M:%S} UTC"):
        approve(ended, now)


# --- claim -----------------------------------------------------------------------------------------------
def test_claim_takes_an_approved_proposal_once(pending: Proposal, now: datetime) -> None:
    approve(pending, now)

    claim(pending, now)

    assert stored(pending).claimed_at == now
    assert history(f"proposal:{pending.pk}")[-1]["action"] == "proposal.claimed"
    assert code_of(lambda: claim(pending, now)) == "ALREADY_CLAIMED"
    assert selectors.approved_unclaimed(10, now) == []


def test_claim_after_expiry_is_refused(proposed: Make, now: datetime) -> None:
    proposal = judge(proposed(), now, needs_person=False)

    assert code_of(lambda: claim(proposal, proposal.expires_at)) == "EXPIRED"
    services.expire_overdue(now=proposal.expires_at)
    assert code_of(lambda: claim(proposal, now)) == "EXPIRED"


def test_claim_of_what_nobody_approved_is_refused(pending: Proposal, now: datetime) -> None:
    assert code_of(lambda: claim(pending, now)) == "NOT_APPROVED"


def test_claim_with_another_digest_is_refused(proposed: Make, now: datetime) -> None:
    proposal = judge(proposed(), now, needs_person=False)

    assert code_of(lambda: claim(proposal, now, digest="0" * 64)) == "DIGEST_MISMATCH"


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": Decimal("0.0026")},
        {"price": Decimal("20001")},
        {"stop_price": Decimal("1")},
        {"side": "SELL"},
        {"symbol": "ETHUSDT"},
        {"limits_version": 4},
        {"worst_price": None},
        {"order_type": ""},
    ],
)
def test_claim_of_a_row_changed_behind_our_back_is_refused(
    proposed: Make, now: datetime, changes: dict[str, Any]
) -> None:
    proposal = judge(proposed(), now, needs_person=False)
    Proposal.objects.filter(pk=proposal.pk).update(**changes)

    assert code_of(lambda: claim(proposal, now)) == "DIGEST_MISMATCH"


@pytest.mark.django_db(transaction=True)
def test_claim_outside_a_transaction_is_a_mistake(pending: Proposal, now: datetime) -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        services.claim_for_execution(proposal_id=pending.pk, digest=pending.digest, actor="x", now=now)


# --- races on Postgres -----------------------------------------------------------------------------------
ROUNDS = 10


@pytest.mark.django_db(transaction=True)
def test_approve_and_reject_race_to_one_outcome(proposed: Make, now: datetime) -> None:
    for _ in range(ROUNDS):
        proposal = judge(proposed(), now)

        outcomes = race([lambda p=proposal: approve(p, now), lambda p=proposal: reject(p, now)])

        won = [o for o in outcomes if isinstance(o, Proposal)]
        assert len(won) == 1
        assert stored(proposal).status == won[0].status


@pytest.mark.django_db(transaction=True)
def test_racing_claims_of_one_proposal_take_it_once(proposed: Make, now: datetime) -> None:
    for _ in range(ROUNDS):
        proposal = judge(proposed(), now, needs_person=False)

        outcomes = race([lambda p=proposal: claim(p, now)] * 4)

        assert sum(isinstance(o, Proposal) for o in outcomes) == 1
        assert {o.code for o in outcomes if isinstance(o, DecisionRefused)} == {"ALREADY_CLAIMED"}
