"""Review and divergence pages over HTTP: what they show, who may decide, and what is refused."""

import csv
import io
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from execution import selectors
from execution.contracts import OrderStatus
from execution.models import Divergence, OperatorRequest, Order, Probe, ReconciliationRun
from execution.rules import reporting
from tests.web import seeding
from tradingbot.core import clock, spreadsheets

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("still_clock")]
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def desk(client: Client) -> seeding.Desk:
    found = seeding.desk(clock.now())
    client.force_login(seeding.person("ana", "operator"))
    return found


def said(answer: HttpResponse) -> str:
    return str(json.loads(answer.headers["HX-Trigger"])["desk:say"]["text"])


def answer(client: Client, order: Order, kind: str, **changes: object) -> HttpResponse:
    form = {"version": order.version, "answer": kind, "reason": "looked it up"} | changes
    return client.post(f"/orders/{order.pk}/review/answer/", form, **HTMX)


def decide(client: Client, divergence: Divergence, decision: str, **changes: object) -> HttpResponse:
    form = {"version": divergence.version, "decision": decision, "reason": "known"} | changes
    return client.post(f"/reconciliation/divergences/{divergence.pk}/settle/", form, **HTMX)


def divergence(run: ReconciliationRun, **values: Any) -> Divergence:
    now = clock.now()
    stated: dict[str, Any] = {
        "environment": seeding.ENVIRONMENT, "kind": "balance", "subject": f"balance:{Divergence.objects.count()}",
        "first_run": run, "last_run": run, "first_seen_at": now, "last_seen_at": now, "likely_cause": "a test",
    }  # fmt: skip
    return Divergence.objects.create(**(stated | values))


# --- the review page ------------------------------------------------------------------------------------


def test_review_shows_every_question_with_its_raw_answer_and_the_exposure(
    client: Client, desk: seeding.Desk
) -> None:
    Probe.objects.create(
        order=desk.unknown, method="GET order", answer="absent", raw={"code": -2013, "msg": "<b>no</b>"},
        at=clock.now(),
    )  # fmt: skip
    Order.objects.filter(pk=desk.unknown.pk).update(reserved_quote="963.5")

    text = client.get(f"/orders/{desk.unknown.pk}/review/").content.decode()

    assert "read timed out" in text
    assert "{&quot;code&quot;: -2013, &quot;msg&quot;: &quot;&lt;b&gt;no&lt;/b&gt;&quot;}" in text
    assert "963.50 USDT" in text
    assert "Confirm filled" in text and "Confirm absent" in text and "Keep watching" in text


def test_review_of_what_was_settled_before_any_question_waits_for_none(
    client: Client, desk: seeding.Desk
) -> None:
    text = client.get(f"/orders/{desk.order.pk}/review/").content.decode()

    assert "It is settled" in text
    assert "None: it was settled before the first." in text


def test_absence_is_off_until_its_instant(client: Client, desk: seeding.Desk) -> None:
    old = client.get(f"/orders/{desk.unknown.pk}/review/").content.decode()
    assert "data-refused-until" not in old

    fresh = seeding.order(
        seeding.proposal(clock.now()), clock.now(), status=OrderStatus.UNKNOWN, signed_at=clock.now()
    )
    text = client.get(f"/orders/{fresh.pk}/review/").content.decode()

    assert "data-refused-until" in text


@pytest.mark.parametrize("place", ["overview", "order", "alerts"])
def test_review_is_linked_from_where_an_operator_looks(
    client: Client, desk: seeding.Desk, place: str
) -> None:
    page = {"overview": "/", "order": f"/orders/{desk.unknown.pk}/", "alerts": "/alerts/"}[place]

    assert f"/orders/{desk.unknown.pk}/review/" in client.get(page).content.decode()


def test_answer_is_taken_as_a_row_for_a_worker(client: Client, desk: seeding.Desk) -> None:
    reply = answer(client, desk.unknown, "confirm_filled", trade_ids="28457, 28458")

    request = OperatorRequest.objects.get()
    assert (reply.status_code, request.trade_ids, request.actor) == (200, [28457, 28458], "ana")
    page = client.get(f"/orders/{desk.unknown.pk}/review/").content.decode()
    assert "ana answered “confirm filled”" in page
    assert "Confirm absent" not in page


def test_second_answer_gets_a_409_with_who_and_when(client: Client, desk: seeding.Desk) -> None:
    answer(client, desk.unknown, "confirm_absent")
    client.force_login(seeding.person("bob", "operator"))

    reply = answer(client, desk.unknown, "keep_watching")

    assert reply.status_code == 409
    assert "ana asked to confirm it absent at" in said(reply)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reason": ""}, "say why"),
        ({"reason": "x" * 301}, "say why"),
        ({"version": ""}, "Reload it"),
        ({"answer": "nonsense"}, "Reload it"),
        ({"trade_ids": "1; DROP"}, "whole numbers"),
        ({"trade_ids": "9" * 30}, "whole numbers"),
    ],
)
def test_malformed_answer_is_refused_whole(
    client: Client, desk: seeding.Desk, changes: dict[str, object], sentence: str
) -> None:
    reply = answer(client, desk.unknown, "confirm_filled", **({"trade_ids": "1"} | changes))

    assert reply.status_code == 422
    assert sentence in said(reply)
    assert not OperatorRequest.objects.exists()


def test_viewer_may_look_and_not_decide(client: Client, desk: seeding.Desk) -> None:
    client.force_login(seeding.person("vera", "viewer"))

    text = client.get(f"/orders/{desk.unknown.pk}/review/").content.decode()
    reply = answer(client, desk.unknown, "keep_watching")

    assert "may look, and not decide" in text and "Keep watching" not in text
    assert reply.status_code == 409
    assert "Ask for the role operator" in said(reply)


def test_settled_order_shows_who_settled_it_and_offers_nothing(client: Client, desk: seeding.Desk) -> None:
    text = client.get(f"/orders/{desk.order.pk}/review/").content.decode()

    assert "It is settled" in text
    assert "Confirm absent" not in text


@pytest.mark.parametrize("page", ["/orders/{}/review/", "/orders/{}/review/answer/"])
def test_unknown_order_is_404(client: Client, desk: seeding.Desk, page: str) -> None:
    address = page.format(seeding.missing_id())

    reply = client.post(address) if "answer" in page else client.get(address)

    assert reply.status_code == 404


# --- the divergence pages -------------------------------------------------------------------------------


def test_divergence_shows_both_records_its_cause_and_what_may_be_done(
    client: Client, desk: seeding.Desk
) -> None:
    found = Divergence.objects.get(closed_at=None)

    text = client.get(f"/reconciliation/divergences/{found.pk}/").content.decode()

    cells = re.findall(r'<td class="hash">([^<]*)</td>', text)
    assert cells == ["9026.94", "9036.94"]  # the exchange's first
    assert "A withdrawal that the account stream did not report." in text
    assert "Book it as a movement from outside" in text and "Ignore it" in text
    assert "every symbol" in text


def test_decision_closes_it_and_the_second_is_told_whose_it_was(client: Client, desk: seeding.Desk) -> None:
    found = Divergence.objects.get(closed_at=None)
    assert decide(client, found, "adopt").status_code == 200
    client.force_login(seeding.person("bob", "operator"))

    reply = decide(client, found, "ignore")

    assert reply.status_code == 409
    assert "adopted by ana at" in said(reply)
    text = client.get(f"/reconciliation/divergences/{found.pk}/").content.decode()
    assert "by ana: known" in text


@pytest.mark.parametrize(
    ("decision", "changes"), [("ignore", {"reason": ""}), ("nonsense", {}), ("ignore", {"version": "no"})]
)
def test_malformed_decision_is_refused(
    client: Client, desk: seeding.Desk, decision: str, changes: dict[str, object]
) -> None:
    found = Divergence.objects.get(closed_at=None)

    assert decide(client, found, decision, **changes).status_code == 422


def test_viewer_settles_nothing(client: Client, desk: seeding.Desk) -> None:
    client.force_login(seeding.person("vera", "viewer"))
    found = Divergence.objects.get(closed_at=None)

    assert decide(client, found, "ignore").status_code == 409
    assert Divergence.objects.filter(closed_at=None).exists()


@pytest.mark.parametrize("kind", sorted(reporting.WHAT_TO_DO))
def test_each_kind_has_a_page_that_says_what_to_do(client: Client, desk: seeding.Desk, kind: str) -> None:
    row = divergence(desk.run, kind=kind, symbol="BTCUSDT", theirs={"status": "NEW"})

    text = client.get(f"/reconciliation/divergences/{row.pk}/").content.decode()

    assert reporting.WHAT_TO_DO[kind].split(":")[0].split("'")[0] in text


def test_file_holds_every_divergence_and_no_formula(client: Client, desk: seeding.Desk) -> None:
    divergence(desk.run, likely_cause="=HYPERLINK(1)", resolution="@SUM(A1)", subject="+1", amount="-0.5")

    reply = client.get("/reconciliation/divergences.csv")

    assert reply.headers["Content-Disposition"].startswith('attachment; filename="divergences-simulator-')
    rows = list(csv.reader(io.StringIO(reply.content.decode())))
    assert len(rows) == 3
    newest = dict(zip(rows[0], rows[1], strict=True))
    assert (newest["likely cause"], newest["resolution"], newest["about"]) == (
        "'=HYPERLINK(1)", "'@SUM(A1)", "'+1",
    )  # fmt: skip
    assert newest["amount"] == "-0.5"


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@x", "\tx", "\r=1"])
def test_cell_that_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    assert spreadsheets.safe_cell(text) == f"'{text}"


# --- the figures ----------------------------------------------------------------------------------------


def runs_every_minute(hours: float, *, pause_at: float = -1) -> None:
    now = clock.now()
    minutes = range(int(hours * 60) + 1)
    ReconciliationRun.objects.bulk_create(
        ReconciliationRun(
            environment=seeding.ENVIRONMENT, trigger="poll", status="clean",
            started_at=now - timedelta(minutes=m, seconds=1), finished_at=now - timedelta(minutes=m),
        )
        for m in reversed(minutes)
        if not 0 <= m - pause_at * 60 < 10
    )  # fmt: skip


def test_two_days_of_clean_comparisons_reach_the_goal() -> None:
    runs_every_minute(48.1)

    figures = selectors.divergence_figures(clock.now())

    assert figures.met
    assert (figures.opened, figures.agreed_hours) == (0, 48)


def test_pause_without_comparisons_starts_the_hours_again() -> None:
    runs_every_minute(48.1, pause_at=10)

    figures = selectors.divergence_figures(clock.now())

    assert not figures.met
    assert 9.8 <= figures.agreed_hours <= 10
    assert figures.longest_gap is not None
    assert figures.longest_gap > timedelta(minutes=9)


def test_closed_divergence_starts_the_hours_again_and_a_posted_one_does_not() -> None:
    runs_every_minute(48.1)
    run, now = ReconciliationRun.objects.latest("id"), clock.now()
    at = {"first_seen_at": now - timedelta(hours=5), "closed_at": now - timedelta(hours=4)}
    divergence(run, kind="fill", outcome="posted", **at)
    divergence(run, outcome="gone", first_seen_at=at["closed_at"], closed_at=at["closed_at"])
    assert selectors.divergence_figures(now).met

    divergence(run, outcome="ignored", **at)

    figures = selectors.divergence_figures(now)
    assert (figures.opened, figures.posted, figures.agreed_hours) == (1, 1, 4)


def test_open_divergence_is_no_agreement_at_all() -> None:
    runs_every_minute(2)
    divergence(ReconciliationRun.objects.latest("id"))

    figures = selectors.divergence_figures(clock.now())

    assert (figures.open_now, figures.agreed_hours) == (1, 0)
