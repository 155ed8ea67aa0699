"""Two people, or a person and a worker, at one row at the same instant: one outcome, a 409 for the other, no fault."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client

from execution.contracts import OrderStatus
from execution.models import Divergence, Order
from execution.services.saga import conclude_absent
from proposals import services as proposals
from proposals.models import Proposal
from risk.contracts import KillStatus
from risk.models import Kill
from tests.proposals.races import two_hands
from tests.web import seeding
from tradingbot.core import clock
from tradingbot.core.transitions import StaleState

pytestmark = pytest.mark.django_db(transaction=True)
HTMX = {"HTTP_HX_REQUEST": "true"}
ROUNDS = 8
Both = Callable[[Callable[[], Any], Callable[[], Any]], tuple[Any, Any]]


@pytest.fixture
def desk() -> seeding.Desk:
    return seeding.desk(clock.now())


@pytest.fixture
def people(desk: seeding.Desk) -> tuple[Client, Client]:
    """Two signed-in operators."""
    clients = Client(), Client()
    for client, name in zip(clients, ("ana", "bob"), strict=True):
        client.force_login(seeding.person(name, "operator"))
    return clients


@pytest.fixture
def both() -> Iterator[Both]:
    with two_hands() as hands:
        yield hands


def press(client: Client, path: str, form: dict[str, Any]) -> Callable[[], int]:
    def pressed() -> int:
        answer: HttpResponse = client.post(path, form, **HTMX)
        return answer.status_code

    return pressed


def answer(client: Client, row: Proposal, verb: str, name: str) -> Callable[[], int]:
    token = proposals.shown_token(proposal=row, actor=name, now=clock.now())
    form = {"version": row.version, "digest": row.digest, "shown": token, "choice": "price moved"}
    return press(client, f"/approvals/{row.pk}/{verb}/", form)


@pytest.mark.parametrize("verbs", [("approve", "approve"), ("approve", "reject"), ("reject", "reject")])
def test_of_two_answers_to_a_proposal_one_counts_and_the_other_is_a_conflict(
    people: tuple[Client, Client], both: Both, verbs: tuple[str, str]
) -> None:
    (ana, bob), (one, other) = people, verbs
    for _ in range(ROUNDS):
        row = seeding.proposal(clock.now())

        outcomes = both(answer(ana, row, one, "ana"), answer(bob, row, other, "bob"))

        assert sorted(outcomes) == [200, 409]


def watch(client: Client, order: Order) -> Callable[[], int]:
    form = {"version": order.version, "answer": "keep_watching", "reason": "looked it up"}
    return press(client, f"/orders/{order.pk}/review/answer/", form)


def waiting_order() -> Order:
    now = clock.now()
    row = seeding.unknown_order(seeding.proposal(now, status="auto_approved", claimed_at=now), now)
    Order.objects.filter(pk=row.pk).update(status=OrderStatus.MANUAL_REVIEW)
    row.refresh_from_db()
    return row


def test_of_two_answers_to_a_review_one_counts_and_the_other_is_a_conflict(
    people: tuple[Client, Client], both: Both
) -> None:
    ana, bob = people
    for _ in range(ROUNDS):
        order = waiting_order()

        assert sorted(both(watch(ana, order), watch(bob, order))) == [200, 409]


def test_answer_to_a_review_that_a_worker_ends_is_a_conflict_or_comes_first(
    people: tuple[Client, Client], both: Both
) -> None:
    def worker(order: Order) -> str:
        try:
            with transaction.atomic():
                conclude_absent(order=order, now=clock.now(), actor="saga", reason="never placed")
        except StaleState:
            return "late"
        return "first"

    for _ in range(ROUNDS):
        order = waiting_order()
        seen = Order.objects.get(pk=order.pk)

        outcomes = both(watch(people[0], order), lambda row=seen: worker(row))

        assert outcomes in {(200, "late"), (409, "first")}


def test_of_two_decisions_on_a_divergence_one_counts_and_the_other_is_a_conflict(
    people: tuple[Client, Client], desk: seeding.Desk, both: Both
) -> None:
    now = clock.now()
    for number in range(ROUNDS):
        row = Divergence.objects.create(
            environment=seeding.ENVIRONMENT, kind="balance", subject=f"balance:{number}", first_run=desk.run,
            last_run=desk.run, first_seen_at=now, last_seen_at=now, likely_cause="a test",
        )  # fmt: skip
        form = {"version": row.version, "decision": "ignore", "reason": "known"}
        path = f"/reconciliation/divergences/{row.pk}/settle/"

        assert sorted(both(press(people[0], path, form), press(people[1], path, form))) == [200, 409]


def test_two_halts_at_once_are_both_taken_and_done(people: tuple[Client, Client], both: Both) -> None:
    outcomes = both(press(people[0], "/halt/", {}), press(people[1], "/halt/", {}))

    assert outcomes == (200, 200)
    assert {kill.status for kill in Kill.objects.all()} == {KillStatus.DONE}
