"""Cancel and close from the pages: offered to who may, taken as a row, refused with a sentence."""

import json

import pytest
from django.http import HttpResponse
from django.test import Client

from execution.contracts import RequestKind
from execution.models import OperatorRequest, Order, Position
from risk.models import TradingControl
from tests.web import seeding
from tradingbot.core import clock

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("still_clock")]
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def desk(client: Client) -> seeding.Desk:
    found = seeding.desk(clock.now())
    client.force_login(seeding.person("ana", "operator"))
    return found


@pytest.fixture
def resting(desk: seeding.Desk) -> Order:
    """An order that is open on the exchange."""
    now = clock.now()
    return seeding.order(
        seeding.proposal(now, status="approved", claimed_at=now), now, exchange_order_id=99,
        exchange_status="NEW", acknowledged_at=now,
    )  # fmt: skip


def said(answer: HttpResponse) -> str:
    return str(json.loads(answer.headers["HX-Trigger"])["desk:say"]["text"])


def cancel(client: Client, order: Order, **changes: object) -> HttpResponse:
    form = {"version": order.version, "reason": "changed my mind"} | changes
    return client.post(f"/orders/{order.pk}/cancel/", form, **HTMX)


def close(client: Client, **changes: object) -> HttpResponse:
    form = {"quantity": "0.015", "reason": "enough"} | changes
    return client.post("/positions/BTCUSDT/close/", form, **HTMX)


def test_open_order_offers_its_cancel_and_a_finished_one_does_not(
    client: Client, desk: seeding.Desk, resting: Order
) -> None:
    assert "Cancel on the exchange" in client.get(f"/orders/{resting.pk}/").content.decode()
    assert "Cancel on the exchange" not in client.get(f"/orders/{desk.order.pk}/").content.decode()


def test_cancel_is_taken_as_a_row_and_shown(client: Client, resting: Order) -> None:
    reply = cancel(client, resting)

    request = OperatorRequest.objects.get()
    assert (reply.status_code, request.kind, request.actor) == (200, RequestKind.CANCEL_OWN, "ana")
    assert "ana asked to cancel it" in client.get(f"/orders/{resting.pk}/").content.decode()


def test_second_cancel_is_refused_with_who_and_when(client: Client, resting: Order) -> None:
    cancel(client, resting)
    client.force_login(seeding.person("bob", "operator"))

    reply = cancel(client, resting)

    assert reply.status_code == 409
    assert "ana asked to cancel it at" in said(reply)


@pytest.mark.parametrize("changes", [{"reason": ""}, {"version": "x"}])
def test_malformed_cancel_is_refused(client: Client, resting: Order, changes: dict[str, object]) -> None:
    assert cancel(client, resting, **changes).status_code == 422


def test_viewer_neither_cancels_nor_closes(client: Client, resting: Order) -> None:
    client.force_login(seeding.person("vera", "viewer"))

    assert "Cancel on the exchange" not in client.get(f"/orders/{resting.pk}/").content.decode()
    assert "Sell all" not in client.get("/positions/").content.decode()
    assert cancel(client, resting).status_code == 403
    assert close(client).status_code == 403
    assert not OperatorRequest.objects.exists()


def test_close_names_what_it_sells_and_for_how_much(client: Client, desk: seeding.Desk) -> None:
    text = client.get("/positions/").content.decode()

    assert "Sells 0.015 BTC at market, about 963.07 USDT at the present bid" in text
    assert 'name="quantity" value="0.015"' in text


def test_close_is_off_with_the_reason_while_trading_is_not_armed(client: Client, desk: seeding.Desk) -> None:
    TradingControl.objects.update(status="HALTED")

    text = client.get("/positions/").content.decode()

    assert "It cannot be sold now:" in text
    assert 'data-refused disabled aria-describedby="close-off-BTCUSDT"' in text


def test_close_of_another_quantity_than_shown_is_refused(client: Client, desk: seeding.Desk) -> None:
    Position.objects.filter(symbol="BTCUSDT").update(quantity="0.02")

    reply = close(client)

    assert reply.status_code == 409
    assert not OperatorRequest.objects.exists()


@pytest.mark.parametrize(
    "changes", [{"reason": ""}, {"quantity": "1e5"}, {"quantity": "-1"}, {"quantity": ""}]
)
def test_malformed_close_is_refused(client: Client, desk: seeding.Desk, changes: dict[str, object]) -> None:
    assert close(client, **changes).status_code == 422


def test_close_is_taken_as_a_row_and_shown(client: Client, desk: seeding.Desk) -> None:
    reply = close(client)

    assert reply.status_code == 200, said(reply)
    assert OperatorRequest.objects.get().kind == RequestKind.CLOSE_POSITION
    text = client.get("/positions/").content.decode()
    assert "ana asked to close BTCUSDT" in text
    assert "Sell all" not in text


@pytest.mark.parametrize("page", ["/orders/{}/cancel/", "/positions/BTCUSDT/close/"])
def test_command_by_get_is_not_allowed(client: Client, resting: Order, page: str) -> None:
    assert client.get(page.format(resting.pk)).status_code == 405
