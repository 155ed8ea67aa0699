"""The approval card over HTTP: fresh or refused, two people, less of it, the gate then and now."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse
from django.test import Client

from execution.models import Account
from proposals import rules, selectors, services
from proposals.contracts import SHOWN_SECONDS_MAX, DecisionRefused
from proposals.models import Proposal
from risk.models import RiskLimits
from tests.web import seeding
from tradingbot.core import clock

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("still_clock")]
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture(autouse=True)
def orders_go_out(settings: Any) -> None:
    settings.TRADING_ENABLED = True


@pytest.fixture
def row() -> Proposal:
    """A proposal of 64.21 USDT that one person must approve, on an armed and reconciled desk."""
    now = clock.now()
    seeding.instruments(now)
    seeding.arm(now)
    seeding.books(now)
    seeding.reconciliation(now)
    Account.objects.update(clock_offset_ms=3, clock_measured_at=now)
    return small(seeding.proposal(now, quantity=Decimal("0.0010"), notional_quote=Decimal("64.20634"),
                                  fee_quote=Decimal("0.06420634")))  # fmt: skip


def small(row: Proposal, **fields: Any) -> Proposal:
    """The seeded row with its own true digest."""
    Proposal.objects.filter(pk=row.pk).update(**fields)
    row.refresh_from_db()
    row.digest = rules.digest_of(selectors.order_of(row), row.limits_version or 0, row.expires_at)
    row.save(update_fields=["digest"])
    return row


def signed_in(name: str, *roles: str) -> Client:
    client = Client()
    client.force_login(seeding.person(name, *(roles or ("operator",))))
    return client


def form(row: Proposal, actor: str, age_seconds: float = 0, **more: Any) -> dict[str, Any]:
    shown_at = clock.now() - timedelta(seconds=age_seconds)
    token = services.shown_token(proposal=row, actor=actor, now=shown_at)
    return {"version": row.version, "digest": row.digest, "shown": token} | more


def send(client: Client, row: Proposal, command: str, fields: dict[str, Any]) -> HttpResponse:
    return client.post(f"/approvals/{row.pk}/{command}/", fields, **HTMX)


def said(answer: HttpResponse) -> str:
    return str(json.loads(answer.headers["HX-Trigger"])["desk:say"]["text"])


def test_card_carries_the_token_with_which_it_is_approved(row: Proposal) -> None:
    ana = signed_in("ana")
    page = ana.get(f"/approvals/{row.pk}/").content.decode()
    token = page.split('name="shown" value="')[1].split('"')[0]

    answer = send(ana, row, "approve", {"version": row.version, "digest": row.digest, "shown": token})

    assert answer.status_code == 200
    assert said(answer).startswith("Approved.")


@pytest.mark.parametrize("command", ["approve", "reduce", "reject"])
def test_old_page_is_refused_with_409_and_the_fresh_card(row: Proposal, command: str) -> None:
    ana = signed_in("ana")

    answer = send(ana, row, command, form(row, "ana", SHOWN_SECONDS_MAX + 1, share=50, choice="too large"))

    row.refresh_from_db()
    assert answer.status_code == 409
    assert "older than" in said(answer)
    assert f'id="panel-decision-{row.pk}"' in answer.content.decode()
    assert 'name="shown"' in answer.content.decode()
    assert (row.status, row.version) == ("pending_approval", 1)


@pytest.mark.parametrize("command", ["approve", "reduce", "reject"])
def test_token_that_another_person_was_shown_is_refused(row: Proposal, command: str) -> None:
    answer = send(signed_in("ana"), row, command, form(row, "bob", share=50, choice="too large"))

    row.refresh_from_db()
    assert answer.status_code == 409
    assert (row.status, row.version) == ("pending_approval", 1)


@pytest.mark.parametrize("command", ["approve", "reduce", "reject"])
def test_digest_that_is_not_the_order_s_is_refused(row: Proposal, command: str) -> None:
    fields = form(row, "ana", share=50, choice="too large", digest="0" * 64)

    answer = send(signed_in("ana"), row, command, fields)

    row.refresh_from_db()
    assert answer.status_code == 409
    assert "changed since the page was shown" in said(answer)
    assert row.status == "pending_approval"


def test_card_carries_what_it_is_rejected_with(row: Proposal) -> None:
    ana = signed_in("ana")
    page = ana.get(f"/approvals/{row.pk}/").content.decode()
    shown = page.split('<form id="reject-form"')[1].split("</form>")[0]
    fields = dict(re.findall(r'name="(\w+)" value="([^"]+)"', shown))

    answer = send(ana, row, "reject", fields)

    row.refresh_from_db()
    assert answer.status_code == 200
    assert (row.status, row.decision_reason) == ("rejected", "bad moment")  # the last of the list


def test_plain_form_that_came_too_late_gives_back_what_was_typed(row: Proposal) -> None:
    ana = signed_in("ana")
    late = form(row, "ana", SHOWN_SECONDS_MAX + 1, choice="bad moment", note='before the "news" <b>')

    page = ana.post(f"/approvals/{row.pk}/reject/", late).content.decode()

    assert 'name="note" type="text" value="before the &quot;news&quot; &lt;b&gt;"' in page
    assert 'value="bad moment" checked' in page
    assert page.count(" checked> ") == 2  # one reason, and the share of the form beside it


def test_two_people_approve_and_the_first_orders_nothing(row: Proposal) -> None:
    small(row, approvals_required=2)
    ana, bob = signed_in("ana"), signed_in("bob")

    first = send(ana, row, "approve", form(row, "ana"))
    again = send(ana, row, "approve", form(row, "ana"))
    page = bob.get(f"/approvals/{row.pk}/").content.decode()
    second = send(bob, row, "approve", form(row, "bob"))

    assert (first.status_code, again.status_code, second.status_code) == (200, 409, 200)
    assert "Nothing is ordered before somebody else approves" in said(first)
    assert "You approved this already" in said(again)
    assert "1 of 2 approvals" in page
    assert "ana approved." in page
    assert "Approved by ana and bob at" in second.content.decode()


LOST: dict[str, Callable[[User], object]] = {
    "the role": lambda user: user.groups.clear(),
    "the account's activity": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    "the account": lambda user: user.delete(),
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_vote_of_somebody_who_may_not_approve_any_more_does_not_count(
    row: Proposal, lost: Callable[[User], object]
) -> None:
    small(row, approvals_required=2)
    send(signed_in("ana"), row, "approve", form(row, "ana"))

    lost(User.objects.get(username="ana"))
    bob = signed_in("bob")
    page = bob.get(f"/approvals/{row.pk}/").content.decode()
    second = send(bob, row, "approve", form(row, "bob"))

    row.refresh_from_db()
    assert "0 of 2 approvals" in page
    assert "Nothing is ordered before somebody else approves" in said(second)
    assert row.status == "pending_approval"


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_approved_order_is_not_claimed_when_an_approver_may_not_approve_any_more(
    row: Proposal, lost: Callable[[User], object]
) -> None:
    small(row, approvals_required=2)
    for name in ("ana", "bob"):
        send(signed_in(name), row, "approve", form(row, name))

    lost(User.objects.get(username="ana"))

    with pytest.raises(DecisionRefused, match="Too few different people who may"), transaction.atomic():
        services.claim_for_execution(
            proposal_id=row.pk, digest=row.digest, now=clock.now(), actor="execution"
        )


def test_queue_says_which_proposal_takes_two_people(row: Proposal) -> None:
    ana = signed_in("ana")
    assert "2 must approve" not in ana.get("/approvals/").content.decode()

    small(row, approvals_required=2)

    assert "2 must approve" in ana.get("/approvals/").content.decode()


def test_late_approver_is_told_who_was_first_and_when(row: Proposal) -> None:
    seen = form(row, "bob", 300)
    send(signed_in("ana"), row, "approve", form(row, "ana"))

    answer = send(signed_in("bob"), row, "approve", seen)

    assert answer.status_code == 409
    assert said(answer).startswith("Approved by ana at ")
    assert "UTC" in said(answer)


def test_less_of_it_is_shown_before_it_can_be_approved(row: Proposal) -> None:
    ana = signed_in("ana")

    answer = send(ana, row, "reduce", form(row, "ana", share=50))

    before = form(row, "ana")
    row.refresh_from_db()
    assert answer.status_code == 200
    assert "not approved yet" in said(answer)
    assert "Buys 0.0005 BTC for at most 32.11 USDT" in answer.content.decode()
    assert "ana took it down from 0.001 BTC for at most 64.20634 USDT" in answer.content.decode()
    assert (row.status, row.version) == ("pending_approval", 2)
    assert send(ana, row, "approve", before).status_code == 409
    assert send(ana, row, "approve", form(row, "ana")).status_code == 200


@pytest.mark.parametrize("share", ["100", "125", "0", "-5", "50.5", "fifty", "", "٥٠"])
def test_share_that_is_not_offered_is_refused(row: Proposal, share: str) -> None:
    answer = send(signed_in("ana"), row, "reduce", form(row, "ana", share=share))

    row.refresh_from_db()
    assert answer.status_code == 422
    assert row.version == 1


def test_smaller_order_that_the_gate_denies_is_refused_with_its_reason(row: Proposal) -> None:
    Account.objects.update(clock_offset_ms=None)

    answer = send(signed_in("ana"), row, "reduce", form(row, "ana", share=25))

    assert answer.status_code == 409
    assert "the gate refuses the smaller order: the offset of our clock" in said(answer)


def test_rules_then_and_now_stand_side_by_side(row: Proposal) -> None:
    page = signed_in("ana").get(f"/approvals/{row.pk}/").content.decode()

    assert "what the gate would have said to the order at" in page
    assert page.count('data-label="Now"') == page.count('data-label="Then"') > 30
    held_then = page.split("trading control <")[1].split("</tr>")[0]
    assert "hold" in held_then.lower()
    assert "pass" in held_then.split('data-label="Now"')[1].lower()


def test_limits_tightened_since_show_as_a_denial_of_now(row: Proposal) -> None:
    limits = RiskLimits.objects.filter(environment=seeding.ENVIRONMENT).latest()
    limits.pk, limits.version, limits.order_notional_max_quote = None, limits.version + 1, Decimal(50)
    limits.save(force_insert=True)

    page = signed_in("ana").get(f"/approvals/{row.pk}/").content.decode()

    rule = page.split("order notional <")[1].split("</tr>")[0]
    assert "deny" in rule.split('data-label="Now"')[1].lower()
    assert f"under limits version {limits.version}: what the gate would have said" in page


def test_price_since_the_proposal_is_that_of_now(row: Proposal) -> None:
    seeding.quote("BTCUSDT", "64300.1", "64300.9", clock.now())

    page = signed_in("ana").get(f"/panels/?keys=decision:{row.pk}").content.decode()

    assert "+0.15" in page


@pytest.mark.parametrize("roles", [("viewer",), ("risk_manager",)])
def test_who_may_only_look_is_told_so_and_has_no_button(row: Proposal, roles: tuple[str, ...]) -> None:
    page = signed_in("vera", *roles).get(f"/approvals/{row.pk}/").content.decode()

    assert "You may look, not decide" in page
    assert 'id="reduce-form"' not in page
    assert page.count("data-refused disabled") >= 2
