"""Where the desk's script does not run, a form still posts: each one carries its token."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

from execution.models import Divergence, Order
from tests.web import seeding
from tradingbot.core import clock

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("still_clock")]


class Forms(HTMLParser):
    """The ids of the forms of a page that post, and of those that carry the token."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.posting: set[str] = set()
        self.carrying: set[str] = set()
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        found = dict(attrs)
        if tag == "form" and found.get("method") == "post":
            self._open = found.get("id") or found["action"]
            self.posting.add(self._open)
        elif tag == "input" and found.get("name") == "csrfmiddlewaretoken" and found.get("value"):
            self.carrying.add(found.get("form") or self._open)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = ""


@pytest.fixture
def pages() -> dict[str, str]:
    """Pages with the forms that they are named for."""
    now = clock.now()
    desk = seeding.desk(now)
    limit = seeding.order(
        seeding.proposal(now, status="approved", claimed_at=now), now, exchange_order_id=99,
        exchange_status="NEW", acknowledged_at=now,
    )  # fmt: skip
    Order.objects.filter(pk=limit.pk).update(price="64000", status="execution_confirmed")
    foreign = Divergence.objects.create(
        environment=seeding.ENVIRONMENT, kind="foreign_order", subject="order:9", symbol="BTCUSDT",
        first_run=desk.run, last_run=desk.run, first_seen_at=now, last_seen_at=now, likely_cause="a test",
    )  # fmt: skip
    return {
        "kill-flatten": "/control/",
        "filled-form": f"/orders/{desk.unknown.pk}/review/",
        "cancel-form": f"/orders/{limit.pk}/",
        "close-form-BTCUSDT": "/positions/",
        "settle-ignore": f"/reconciliation/divergences/{foreign.pk}/",
        "approve-form": f"/approvals/{desk.pending.pk}/",
        "ask-form": "/advisor/",
        "run-form": "/reconciliation/",
        "acknowledge-form": "/alerts/",
    }


@pytest.mark.parametrize(
    "name",
    ["kill-flatten", "filled-form", "cancel-form", "close-form-BTCUSDT", "settle-ignore", "approve-form",
     "ask-form", "run-form", "acknowledge-form"],
)  # fmt: skip
def test_every_form_of_the_page_carries_its_token(pages: dict[str, str], name: str) -> None:
    client = Client()
    client.force_login(seeding.person("ana", "operator", "risk_manager"))

    forms = Forms(client.get(pages[name]).content.decode())

    assert name in forms.posting
    assert forms.posting - forms.carrying == set()


def test_page_of_a_refusal_can_be_answered(pages: dict[str, str]) -> None:
    """Its forms came without their tokens, so that the fresh card could not be decided on without the script."""
    person = seeding.person("ana", "operator")
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    card = client.get(pages["approve-form"]).content.decode()
    sent = {
        "csrfmiddlewaretoken": re.findall(
            r'name="csrfmiddlewaretoken" value="(\w+)" form="reject-form"', card
        )
    }

    refused = client.post(f"{pages['approve-form']}reject/", sent)

    assert refused.status_code == 422
    forms = Forms(refused.content.decode())
    assert forms.posting - forms.carrying == set()
    assert {"approve-form", "reject-form", "reduce-form"} <= forms.posting
    ids = re.findall(r' id="([\w-]+)"', refused.content.decode())
    assert len(ids) == len(set(ids))  # what stands on every page anyway was on it twice
