"""While the database is away: 503 with a sentence for people, nothing decided, and all well again afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import DataError, OperationalError, connection
from django.test import Client, RequestFactory
from django.urls import reverse

from proposals.contracts import ProposalStatus
from proposals.models import Proposal
from tests.web import seeding
from tests.web.test_commands import HTMX, approval, said
from tradingbot.core import clock, outage

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def database_away() -> Iterator[None]:
    """Nobody listens where the database was."""
    place = {name: connection.settings_dict[name] for name in ("HOST", "PORT")}
    connection.close()
    connection.settings_dict.update(HOST="127.0.0.1", PORT="1")
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(place)


@pytest.fixture
def desk() -> seeding.Desk:
    return seeding.desk(clock.now())


@pytest.fixture
def people(desk: seeding.Desk) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(desk.operator)
    return client


@pytest.mark.parametrize("path", ["/", "/orders/", "/approvals/", "/positions/"])
def test_page_says_that_the_database_is_away_and_comes_back_by_itself(people: Client, path: str) -> None:
    with database_away():
        answer = people.get(path)

    text = answer.content.decode()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "does not answer" in text and f'href="{path}"' in text and 'http-equiv="refresh"' in text
    assert people.get(path).status_code == 200


@pytest.mark.parametrize("htmx", [True, False])
def test_approval_decides_nothing_and_says_so(people: Client, desk: seeding.Desk, htmx: bool) -> None:
    fields = approval(desk.pending)
    with database_away():
        answer = people.post(
            reverse("approve_proposal", args=[desk.pending.pk]), fields, **(HTMX if htmx else {})
        )

    assert answer.status_code == 503
    if htmx:
        assert said(answer) == {"text": outage.SENTENCE, "level": "alert"}
        assert (answer.content, answer.headers["HX-Reswap"]) == (b"", "none")
    else:
        assert "http-equiv" not in answer.content.decode()  # a command is not given again by itself
    assert Proposal.objects.get(pk=desk.pending.pk).status == ProposalStatus.PENDING_APPROVAL


def test_a_fault_that_is_no_outage_stays_a_fault() -> None:
    class Deadlock(Exception):
        sqlstate = "40P01"

    found = OperationalError("deadlock detected")
    found.__cause__ = Deadlock()

    assert not outage.is_outage(found)
    assert not outage.is_outage(DataError("too long"))
    try:
        raise found
    except OperationalError:
        assert outage.server_error(RequestFactory().get("/")).status_code == 500
