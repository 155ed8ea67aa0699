"""Every page over HTTP: who may see it, empty and full, and what it costs in queries."""

from datetime import datetime
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.web import seeding
from tradingbot.core import clock

pytestmark = pytest.mark.django_db
PAGES = [
    "/",
    "/more/",
    "/approvals/",
    "/proposals/",
    "/advisor/",
    "/scoreboard/",
    "/orders/",
    "/positions/",
    "/alerts/",
    "/control/",
    "/reconciliation/",
]
QUERIES_MAX = 60


@pytest.fixture
def full(client: Client) -> seeding.Desk:
    desk = seeding.desk(clock.now())
    client.force_login(desk.operator)
    return desk


def detail_pages(desk: seeding.Desk) -> list[str]:
    return [
        f"/approvals/{desk.pending.pk}/",
        f"/approvals/{desk.refused.pk}/",
        f"/approvals/{desk.order.intent.proposal_id}/",
        f"/orders/{desk.order.pk}/",
        f"/orders/{desk.unknown.pk}/",
        f"/reconciliation/{desk.run.pk}/",
        f"/orders/{desk.unknown.pk}/review/",
    ]


@pytest.mark.parametrize(
    "page", [*PAGES, f"/approvals/{uuid4()}/", f"/orders/{uuid4()}/", "/panels/?keys=shell"]
)
def test_page_sends_the_anonymous_to_the_login(client: Client, page: str) -> None:
    answer = client.get(page)

    assert answer.status_code == 302
    assert answer.url.startswith("/login/?next=")


@pytest.mark.parametrize("page", PAGES)
def test_page_is_complete_on_an_empty_database(client: Client, page: str) -> None:
    client.force_login(seeding.operator())

    answer = client.get(page)

    assert answer.status_code == 200
    assert b"</html>" in answer.content
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("page", PAGES)
def test_page_with_rows_stays_inside_its_queries(client: Client, full: seeding.Desk, page: str) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        answer = client.get(page)

    assert answer.status_code == 200
    assert len(queries) <= QUERIES_MAX


def test_queue_costs_the_same_for_one_and_for_thirty(client: Client) -> None:
    now = clock.now()
    client.force_login(seeding.operator())
    seeding.proposal(now)
    with CaptureQueriesContext(connection) as few:
        client.get("/approvals/")
    for _ in range(29):
        seeding.proposal(now)

    with CaptureQueriesContext(connection) as many:
        client.get("/approvals/")

    assert len(many) == len(few)


@pytest.mark.parametrize("number", range(7))
def test_detail_page_shows_its_row(client: Client, full: seeding.Desk, number: int) -> None:
    answer = client.get(detail_pages(full)[number])

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "page",
    [
        "/nowhere/", f"/approvals/{uuid4()}/", f"/orders/{uuid4()}/", "/reconciliation/999999999999999999999/",
        "/proposals/?status=nonsense", "/proposals/?page=0", "/orders/?page=x", "/panels/?keys=nonsense",
        "/panels/", "/panels/?keys=decision:nonsense", "/panels/?keys=reconciliation.run:99999999999999999999",
    ],
)  # fmt: skip
def test_unknown_address_gets_a_sentence(client: Client, page: str) -> None:
    client.force_login(seeding.operator())

    answer = client.get(page)

    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.content.decode()


def test_unknown_address_has_no_shell_for_the_anonymous(client: Client) -> None:
    answer = client.get("/nowhere/")

    assert answer.status_code == 404
    assert b"halt-form" not in answer.content


def test_proposal_says_first_what_it_does_in_money(client: Client, full: seeding.Desk) -> None:
    text = client.get(f"/approvals/{full.pending.pk}/").content.decode()

    assert "Buys 0.015 BTC for at most 963.10 USDT (fee at most 0.97)." in text
    assert "Hold to approve: 963.10 USDT" in text


def test_proposal_shows_the_worst_loss_with_both_fees(client: Client, full: seeding.Desk) -> None:
    text = client.get(f"/approvals/{full.pending.pk}/").content.decode()

    # 0.015 x (64206.34 - 63430.1) + 0.9630951 + 0.001 x 0.015 x 63430.1 = 13.5581...
    assert "13.56 USDT" in text


def test_proposal_lists_what_denies_and_holds_first(client: Client, full: seeding.Desk) -> None:
    text = client.get(f"/approvals/{full.refused.pk}/").content.decode()

    assert text.index(">trading control <") < text.index(">order notional <")
    assert "1 deny" in text


def test_approval_is_off_with_the_reason_while_trading_is_not_armed(client: Client) -> None:
    desk = seeding.desk(clock.now(), armed=False)
    client.force_login(desk.operator)

    text = client.get(f"/approvals/{desk.pending.pk}/").content.decode()

    assert "It cannot be approved now:" in text
    assert "The trading control is HALTED" in text
    assert 'data-refused disabled aria-describedby="approve-off"' in text


def test_approval_is_off_when_the_price_left_its_band(client: Client, full: seeding.Desk) -> None:
    seeding.quote("BTCUSDT", "65000.1", "65000.9", clock.now())

    text = client.get(f"/approvals/{full.pending.pk}/").content.decode()

    assert "The price moved beyond the 0.5 % that an approval allows" in text


def test_proposal_past_its_time_has_no_buttons(client: Client, full: seeding.Desk, now: datetime) -> None:
    late = seeding.proposal(now, expires_at=now)

    text = client.get(f"/approvals/{late.pk}/").content.decode()

    assert 'approve-form" method' not in text
    assert "Its time is up" in text


def test_order_timeline_names_every_step_in_order(client: Client, full: seeding.Desk) -> None:
    text = client.get(f"/orders/{full.order.pk}/").content.decode()
    steps = ["proposed", "validated", "approved", "claimed", "submitted", "ack", "fill", "filled"]

    places = [text.index(f'<span class="step">{step}</span>') for step in steps]

    assert places == sorted(places)
    assert "by operator" in text


def test_overview_says_how_fast_automatic_approvals_were_with_n(client: Client, full: seeding.Desk) -> None:
    text = client.get("/").content.decode()

    assert "n = 1." in text


def test_unknown_equity_is_a_dash_and_not_zero(client: Client) -> None:
    client.force_login(seeding.operator())

    text = client.get("/").content.decode()

    assert "no balance or price known yet" in text


def test_proposals_are_narrowed_to_an_outcome(client: Client, full: seeding.Desk) -> None:
    text = client.get("/proposals/?status=refused").content.decode()

    assert str(full.refused.pk) in text
    assert f"row-{full.pending.pk}" not in text


def test_every_page_names_the_environment_and_the_switch(client: Client, full: seeding.Desk) -> None:
    text = client.get("/positions/").content.decode()

    assert "SIMULATOR" in text
    assert "ACTIVE" in text
    assert "rehearsal model" in text


def test_panels_come_as_patches(client: Client, full: seeding.Desk) -> None:
    answer = client.get("/panels/?keys=shell,queue")

    assert answer.content.count(b'hx-swap-oob="outerMorph"') == 2


def test_login_leads_to_the_page_that_was_asked_for(client: Client) -> None:
    seeding.operator(password=seeding.PASSWORD)

    answer = client.post(
        "/login/", {"username": "operator", "password": seeding.PASSWORD, "next": "/alerts/"}
    )

    assert answer.url == "/alerts/"


def test_wrong_password_gets_a_sentence(client: Client) -> None:
    answer = client.post("/login/", {"username": "operator", "password": "wrong"})

    assert "Name and password do not match" in answer.content.decode()
