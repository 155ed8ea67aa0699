"""Commands of the pages: POST only, with CSRF, refused with a sentence and the fresh card."""

import json

import pytest
from django.http import HttpResponse
from django.test import Client

import execution.services
import proposals.services
from execution.models import ReconciliationRequest
from proposals.contracts import DecisionRefused
from proposals.models import Proposal
from risk.contracts import ControlRefused
from risk.models import TradingControl
from tests.web import seeding
from tradingbot.core import clock
from tradingbot.core.models import Alert, AuditRecord

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("still_clock")]
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def desk(client: Client) -> seeding.Desk:
    found = seeding.desk(clock.now())
    client.force_login(found.operator)
    return found


def approval(of: Proposal, actor: str = "operator", **changes: object) -> dict[str, object]:
    token = proposals.services.shown_token(proposal=of, actor=actor, now=clock.now())
    return {"version": of.version, "digest": of.digest, "shown": token} | changes


def said(answer: HttpResponse) -> dict[str, str]:
    return json.loads(answer.headers["HX-Trigger"])["desk:say"]


def commands(desk: seeding.Desk) -> list[str]:
    return [
        f"/approvals/{desk.pending.pk}/approve/",
        f"/approvals/{desk.pending.pk}/reject/",
        f"/approvals/{desk.pending.pk}/reduce/",
        "/halt/",
        f"/alerts/{desk.critical.pk}/acknowledge/",
        "/reconciliation/run/",
    ]


@pytest.mark.parametrize("number", range(6))
def test_command_by_get_is_not_allowed(client: Client, desk: seeding.Desk, number: int) -> None:
    assert client.get(commands(desk)[number]).status_code == 405


@pytest.mark.parametrize("number", range(6))
def test_command_without_the_token_is_refused_with_a_sentence(desk: seeding.Desk, number: int) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(desk.operator)

    answer = strict.post(commands(desk)[number])

    assert answer.status_code == 403
    assert "so nothing was done" in answer.content.decode()


@pytest.mark.parametrize("number", range(6))
def test_command_of_the_anonymous_leads_to_the_login(desk: seeding.Desk, number: int) -> None:
    answer = Client().post(commands(desk)[number])

    assert answer.status_code == 302
    assert answer.url.startswith("/login/")


def test_approval_hands_over_what_was_shown(
    client: Client, desk: seeding.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(
        execution.services, "approve_proposal", lambda **values: given.update(values) or desk.refused
    )

    answer = client.post(f"/approvals/{desk.pending.pk}/approve/", approval(desk.pending), **HTMX)

    assert answer.status_code == 200
    assert given["digest"] == desk.pending.digest
    assert (given["version"], given["actor"], given["proposal_id"]) == (1, "operator", desk.pending.pk)


def test_plain_form_approval_leads_back_to_the_proposal(
    client: Client, desk: seeding.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution.services, "approve_proposal", lambda **values: desk.refused)

    answer = client.post(f"/approvals/{desk.pending.pk}/approve/", approval(desk.pending), follow=True)

    assert answer.redirect_chain == [(f"/approvals/{desk.pending.pk}/", 302)]
    assert "Approved. The gate judges it once more" in answer.content.decode()


def refuse(**values: object) -> None:
    raise DecisionRefused("ALREADY_DECIDED", "Approved by bob at 09:14:03 UTC. Nothing was changed.")


@pytest.mark.parametrize("service", ["approve", "reject"])
def test_refused_decision_answers_409_with_the_sentence_and_the_fresh_card(
    client: Client, desk: seeding.Desk, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    monkeypatch.setattr(execution.services, "approve_proposal", refuse)
    monkeypatch.setattr(proposals.services, "reject_proposal", refuse)
    form = approval(desk.pending, choice="too large")

    answer = client.post(f"/approvals/{desk.pending.pk}/{service}/", form, **HTMX)

    assert answer.status_code == 409
    assert said(answer) == {"text": "Approved by bob at 09:14:03 UTC. Nothing was changed.", "level": "alert"}
    assert f'id="panel-decision-{desk.pending.pk}"' in answer.content.decode()


def test_refused_decision_of_a_plain_form_is_a_page_with_the_card(
    client: Client, desk: seeding.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution.services, "approve_proposal", refuse)

    answer = client.post(f"/approvals/{desk.pending.pk}/approve/", approval(desk.pending))

    assert answer.status_code == 409
    assert "Approved by bob at 09:14:03 UTC." in answer.content.decode()
    assert "for at most 963.10 USDT" in answer.content.decode()


@pytest.mark.parametrize(
    "form", [{}, {"version": 1}, {"version": "x", "digest": "d" * 64}, {"version": 1, "digest": "zz"}]
)
def test_approval_that_does_not_say_what_was_shown_is_refused(
    client: Client, desk: seeding.Desk, form: dict[str, object]
) -> None:
    answer = client.post(f"/approvals/{desk.pending.pk}/approve/", form, **HTMX)

    assert answer.status_code == 422
    assert "Not approved" in said(answer)["text"]


@pytest.mark.parametrize("reason", [{}, {"choice": "nonsense"}, {"choice": "too large", "note": "x" * 241}])
def test_rejection_without_a_reason_of_the_list_is_refused(
    client: Client, desk: seeding.Desk, reason: dict[str, object]
) -> None:
    form = approval(desk.pending, **reason)

    answer = client.post(f"/approvals/{desk.pending.pk}/reject/", form, **HTMX)

    assert answer.status_code == 422
    assert "choose one of the reasons" in said(answer)["text"]


@pytest.mark.parametrize("missing", ["version", "digest", "shown"])
def test_rejection_that_does_not_say_what_was_shown_is_refused(
    client: Client, desk: seeding.Desk, missing: str
) -> None:
    form = approval(desk.pending, choice="too large")
    del form[missing]

    answer = client.post(f"/approvals/{desk.pending.pk}/reject/", form, **HTMX)

    desk.pending.refresh_from_db()
    assert answer.status_code == 422
    assert "does not say which version and digest was shown" in said(answer)["text"]
    assert desk.pending.status == "pending_approval"


def test_rejection_is_recorded_with_reason_and_note(client: Client, desk: seeding.Desk) -> None:
    form = approval(desk.pending, choice="too large", note="after the  news")

    answer = client.post(f"/approvals/{desk.pending.pk}/reject/", form, **HTMX)

    desk.pending.refresh_from_db()
    assert answer.status_code == 200
    assert (desk.pending.status, desk.pending.decided_by) == ("rejected", "operator")
    assert desk.pending.decision_reason == "too large: after the news"


@pytest.mark.parametrize("command", ["approve", "reject"])
def test_decision_on_a_missing_proposal_is_404(client: Client, desk: seeding.Desk, command: str) -> None:
    answer = client.post(f"/approvals/{seeding.missing_id()}/{command}/", {"version": 1})

    assert answer.status_code == 404


def test_halt_works_from_any_page_and_leads_back_to_it(client: Client, desk: seeding.Desk) -> None:
    answer = client.post("/halt/", HTTP_REFERER="http://testserver/orders/?page=1")

    assert TradingControl.objects.get(pk=seeding.ENVIRONMENT).status == "HALTED"
    assert answer.url == "/orders/?page=1"


def test_halt_does_not_lead_to_another_site(client: Client, desk: seeding.Desk) -> None:
    answer = client.post("/halt/", HTTP_REFERER="https://elsewhere.example/orders/")

    assert answer.url == "/"


@pytest.mark.parametrize("path", ["//elsewhere.example/login/", "///elsewhere.example/"])
def test_halt_from_an_address_that_reads_as_another_site_does_not_lead_there(
    client: Client, desk: seeding.Desk, path: str
) -> None:
    """The page "not found" of such an address is ours and can halt like any other."""
    answer = client.post("/halt/", HTTP_REFERER=f"http://testserver{path}")

    assert answer.url == "/"


def test_halt_that_cannot_be_done_says_so(
    client: Client, desk: seeding.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_control(**values: object) -> None:
        raise ControlRefused("there is no trading control on record")

    monkeypatch.setattr("risk.services.halt", no_control)

    answer = client.post("/halt/", **HTMX)

    assert answer.status_code == 409
    assert said(answer)["text"] == "Not halted: there is no trading control on record"


def test_acknowledging_marks_the_alert_as_seen(client: Client, desk: seeding.Desk) -> None:
    client.post(f"/alerts/{desk.critical.pk}/acknowledge/", **HTMX)

    assert Alert.objects.get(pk=desk.critical.pk).acknowledged_by == "operator"


def test_acknowledging_twice_is_a_conflict(client: Client, desk: seeding.Desk) -> None:
    client.post(f"/alerts/{desk.critical.pk}/acknowledge/", **HTMX)

    answer = client.post(f"/alerts/{desk.critical.pk}/acknowledge/", **HTMX)

    assert answer.status_code == 409


def test_reconciliation_is_asked_for_as_a_row(client: Client, desk: seeding.Desk) -> None:
    client.post("/reconciliation/run/", **HTMX)

    assert ReconciliationRequest.objects.get().trigger == "by operator"


def test_halt_posted_from_its_own_address_goes_to_a_page_that_exists(client: Client) -> None:
    """A client that sent /halt/ as its referrer was sent back there, and got a 405."""
    desk = seeding.desk(clock.now())
    client.force_login(desk.operator)

    answer = client.post("/halt/", headers={"Referer": "http://testserver/halt/"}, follow=True)

    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["n" * 150, "𐐨" * 150])
@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_who_has_the_longest_name_an_account_may_have_acts_like_anybody(
    client: Client, desk: seeding.Desk, number: int, name: str
) -> None:
    person = seeding.operator(name)
    client.force_login(person)
    fields = approval(desk.pending, actor=person.username, choice="bad moment")

    answer = client.post(commands(desk)[number], fields, **HTMX)

    assert answer.status_code == 200
    assert AuditRecord.objects.filter(actor=person.username).exists()
