"""The admin pages of risk through Django's client."""

from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from risk import selectors
from risk.models import Kill, LimitsRequest, RiskLimits, TradingControl
from tests.risk.passing import LIMITS
from tradingbot.core import audit
from tradingbot.core.models import Alert

pytestmark = pytest.mark.django_db
ADD = reverse("admin:risk_risklimits_add")
CONTROL = reverse("admin:risk_tradingcontrol_change", args=[settings.TRADING_ENVIRONMENT])


def sign_in(username: str, *groups: str, superuser: bool = False) -> Client:
    user = User.objects.create_user(username, password="fake-password", is_staff=True, is_superuser=superuser)
    for name in groups:
        user.groups.add(Group.objects.get_or_create(name=name)[0])
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def rita() -> Client:
    """A risk manager, with the permissions that the migration gave the group."""
    return sign_in("rita", "risk_manager")


def limits_data(**changes: str) -> dict[str, str]:
    form = {name: str(getattr(LIMITS, name)) for name in LIMITS.__slots__ if name != "version"}
    return form | {"allowed_symbols": "BTCUSDT, ethusdt", "reason": "a test"} | changes


# --- limits ----------------------------------------------------------------------------------------------
def test_adding_limits_starts_from_the_version_in_force(rita: Client, limits: RiskLimits) -> None:
    page = rita.get(ADD)

    assert page.status_code == 200
    html = page.content.decode()
    assert 'name="approval_threshold_quote" value="50"' in html
    assert 'name="fee_rate" value="0.001"' in html
    assert 'value="BTCUSDT, ETHUSDT"' in html
    assert "0 to 1000." in html


def test_posting_limits_brings_the_next_version_into_force(rita: Client, limits: RiskLimits) -> None:
    answer = rita.post(ADD, limits_data(approval_threshold_quote="0"))

    assert answer.status_code == 302
    current = selectors.limits_history()[0]
    assert (current.version, current.created_by, current.reason) == (8, "rita", "a test")
    assert current.approval_threshold_quote == 0
    assert current.allowed_symbols == ["BTCUSDT", "ETHUSDT"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("order_notional_max_quote", "1e3", "plain decimal number"),
        ("order_notional_max_quote", "1,000", "plain decimal number"),
        ("order_notional_max_quote", "NaN", "plain decimal number"),
        ("order_notional_max_quote", "٥٠", "plain decimal number"),
        ("order_notional_max_quote", "", "required"),
        ("order_notional_max_quote", "20000", "ceiling"),
        ("open_positions_max", "2.5", "whole number"),
        ("open_positions_max", "9" * 30, "whole number"),
        ("spread_max_bps", "-1", "from 0 to 1000"),
        ("allowed_symbols", "BTC-USDT", "is not a symbol"),
        ("reason", "", "required"),
    ],
)
def test_a_wrong_value_is_told_beside_its_field_and_changes_nothing(
    rita: Client, limits: RiskLimits, name: str, text: str, words: str
) -> None:
    page = rita.post(ADD, limits_data(**{name: text}))

    assert page.status_code == 200
    assert words in str(page.context["adminform"].form.errors[name])
    assert selectors.limits_history().count() == 1


def test_versions_are_listed_and_cannot_be_changed_or_deleted(rita: Client, limits: RiskLimits) -> None:
    one = reverse("admin:risk_risklimits_change", args=[limits.pk])

    assert (
        "person decides from"
        in rita.get(reverse("admin:risk_risklimits_changelist")).content.decode().lower()
    )
    assert rita.get(one).status_code == 200
    assert rita.post(one, limits_data()).status_code == 403
    assert rita.post(reverse("admin:risk_risklimits_delete", args=[limits.pk])).status_code == 403


def test_an_operator_may_look_at_limits_and_not_add(limits: RiskLimits) -> None:
    olga = sign_in("olga", "operator")

    assert olga.get(reverse("admin:risk_risklimits_changelist")).status_code == 200
    assert olga.get(ADD).status_code == 403
    assert olga.post(ADD, limits_data()).status_code == 403


# --- the switch ------------------------------------------------------------------------------------------
def switch(client: Client, status: str, reason: str = "", *, version: int) -> Any:
    return client.post(CONTROL, {"status": status, "reason": reason, "version": version}, follow=True)


def test_the_switch_shows_state_and_why_nothing_is_ordered(rita: Client, control: TradingControl) -> None:
    TradingControl.objects.filter(pk=control.pk).update(status="HALTED")

    html = rita.get(CONTROL).content.decode()

    assert "nothing new is opened: the trading control is HALTED" in html


def test_arming_from_the_admin_names_the_person(rita: Client, control: TradingControl) -> None:
    TradingControl.objects.filter(pk=control.pk).update(status="HALTED")

    answer = switch(rita, "ACTIVE", "tour of the README", version=control.version)

    assert answer.status_code == 200
    row = selectors.control()
    assert row is not None
    assert (row.status, row.changed_by, row.reason) == ("ACTIVE", "rita", "tour of the README")
    assert audit.history(f"control:{row.pk}")[-1]["actor"] == "rita"


def test_arming_without_a_reason_is_told_beside_the_field(rita: Client, control: TradingControl) -> None:
    TradingControl.objects.filter(pk=control.pk).update(status="HALTED")

    page = switch(rita, "ACTIVE", version=control.version)

    assert "Say why" in str(page.context["adminform"].form.errors["reason"])
    assert selectors.trading_state() == "HALTED"


def test_halting_from_the_admin_needs_no_reason_and_no_fresh_page(
    rita: Client, control: TradingControl
) -> None:
    switch(rita, "HALTED", version=control.version - 1)

    assert selectors.trading_state() == "HALTED"


def test_admin_header_offers_the_halt_to_whoever_may() -> None:
    assert "Halt trading" in sign_in("olga", "operator").get(reverse("admin:index")).content.decode()
    assert "Halt trading" not in sign_in("vera").get(reverse("admin:index")).content.decode()


def test_halt_with_a_scope_from_the_admin_shows_what_it_touches(
    rita: Client, control: TradingControl
) -> None:
    assert "0 open entries for up to 0" in rita.get(CONTROL).content.decode()

    rita.post(CONTROL, {"status": "HALTED", "scope": "flatten", "reason": "enough", "version": 3})

    kill = Kill.objects.get()
    assert (kill.scope, kill.actor, selectors.trading_state()) == ("flatten", "rita", "REDUCING")


def test_arming_from_an_old_page_is_refused_with_words(rita: Client, control: TradingControl) -> None:
    TradingControl.objects.filter(pk=control.pk).update(status="HALTED", changed_by="olga", version=9)

    page = switch(rita, "ACTIVE", "go", version=control.version)

    assert "The trading control was set to HALTED by olga meanwhile" in page.content.decode()
    assert "was changed successfully" not in page.content.decode()
    assert selectors.trading_state() == "HALTED"


def test_an_operator_may_not_arm(control: TradingControl) -> None:
    olga = sign_in("olga", "operator")

    assert olga.get(CONTROL).status_code == 200
    assert switch(olga, "REDUCING", "please", version=control.version).status_code == 403


def test_switches_of_other_environments_are_not_offered(rita: Client, control: TradingControl) -> None:
    live = reverse("admin:risk_tradingcontrol_change", args=["live"])

    assert rita.get(live).status_code == 302


def test_the_switch_is_neither_added_nor_deleted(control: TradingControl) -> None:
    root = sign_in("root", superuser=True)

    assert root.get(reverse("admin:risk_tradingcontrol_add")).status_code == 403
    assert root.post(reverse("admin:risk_tradingcontrol_delete", args=[control.pk])).status_code == 403


def test_assessments_are_only_read() -> None:
    root = sign_in("root", superuser=True)

    assert root.get(reverse("admin:risk_assessment_changelist")).status_code == 200
    assert root.get(reverse("admin:risk_assessment_add")).status_code == 403


# --- looser limits ---------------------------------------------------------------------------------------
REQUESTS = reverse("admin:risk_limitsrequest_changelist")


def ask(client: Client, **changes: str) -> LimitsRequest:
    """Save looser limits, which becomes a request."""
    answer = client.post(ADD, limits_data(**({"open_positions_max": "6"} | changes)))
    row = LimitsRequest.objects.latest("pk")
    assert answer.url == reverse("admin:risk_limitsrequest_change", args=[row.pk])
    return row


def reply(client: Client, row: LimitsRequest, word: str) -> Any:
    address = reverse("admin:risk_limitsrequest_change", args=[row.pk])
    return client.post(address, {"answer": word}, follow=True)


def test_looser_limits_wait_and_say_which_are_looser(rita: Client, limits: RiskLimits) -> None:
    row = ask(rita, spread_max_bps="20")

    assert selectors.current_limits().version == 7
    html = rita.get(reverse("admin:risk_limitsrequest_change", args=[row.pk])).content.decode()
    assert "open_positions_max: 5 → 6 (looser)" in html
    assert "spread_max_bps: 25 → 20 (tighter or equal)" in html
    assert "Not in force yet: open_positions_max would be looser" in html
    assert "asks for looser limits" in Alert.objects.get(kind="limits_request").title


def test_tightening_in_the_same_form_is_told_to_wait_as_well(rita: Client, limits: RiskLimits) -> None:
    """Saved by itself it would be in force at once: nobody may believe that it is."""
    row = ask(rita, spread_max_bps="20", daily_loss_max_pct="1")

    html = rita.get(reverse("admin:risk_limitsrequest_change", args=[row.pk])).content.decode()

    assert "Until then the rest (daily_loss_max_pct, spread_max_bps) is not in force either: " in html
    assert selectors.current_limits().daily_loss_max_pct == LIMITS.daily_loss_max_pct


def test_second_risk_manager_brings_them_into_force(rita: Client, limits: RiskLimits) -> None:
    row = ask(rita)

    reply(sign_in("sam", "risk_manager"), row, "confirm")

    current = selectors.limits_history()[0]
    assert (current.version, current.created_by, current.open_positions_max) == (8, "rita", 6)
    payload = audit.history(f"limits:{limits.environment}")[-1]["payload"]
    assert (payload["loosened"], payload["confirmed_by"]) == (["open_positions_max"], "sam")
    assert Alert.objects.get(kind="limits_request").resolved_at is not None


def test_who_asked_cannot_confirm_and_may_withdraw(rita: Client, limits: RiskLimits) -> None:
    row = ask(rita)

    assert "another risk manager has to confirm" in reply(rita, row, "confirm").content.decode()
    assert selectors.current_limits().version == 7
    reply(rita, row, "decline")
    row.refresh_from_db()
    assert (row.status, row.answered_by) == ("declined", "rita")


@pytest.mark.parametrize("roles", [(), ("viewer",), ("operator",)])
def test_without_the_role_nobody_confirms(rita: Client, limits: RiskLimits, roles: tuple[str, ...]) -> None:
    row = ask(rita)

    assert reply(sign_in("olga", *roles), row, "confirm").status_code == 403
    assert selectors.current_limits().version == 7


@pytest.mark.parametrize("lost", ["the role", "the account's activity"])
def test_request_of_somebody_who_may_not_set_limits_any_more_is_not_confirmed(
    rita: Client, limits: RiskLimits, lost: str
) -> None:
    row = ask(rita)
    asker = User.objects.get(username="rita")
    if lost == "the role":
        asker.groups.clear()
    else:
        User.objects.filter(pk=asker.pk).update(is_active=False)

    sam = sign_in("sam", "risk_manager")
    page = reply(sam, row, "confirm")

    assert "by rita, who may not set limits any more" in page.content.decode()
    assert selectors.current_limits().version == 7
    reply(sam, row, "decline")
    row.refresh_from_db()
    assert row.status == "declined"


def test_request_against_limits_no_longer_in_force_is_refused(rita: Client, limits: RiskLimits) -> None:
    row = ask(rita)
    rita.post(ADD, limits_data(open_positions_max="1"))

    page = reply(sign_in("sam", "risk_manager"), row, "confirm")

    assert "The limits changed since" in page.content.decode()
    assert selectors.limits_history()[0].open_positions_max == 1


def test_answered_request_is_not_answered_again(rita: Client, limits: RiskLimits) -> None:
    row = ask(rita)
    sam = sign_in("sam", "risk_manager")
    reply(sam, row, "decline")

    assert reply(sam, row, "confirm").status_code == 403
    assert selectors.current_limits().version == 7


def test_ceiling_of_the_settings_is_passed_by_nobody(rita: Client, limits: RiskLimits) -> None:
    page = rita.post(ADD, limits_data(order_notional_max_quote="10000.01"))

    assert "ceiling" in str(page.context["adminform"].form.errors["order_notional_max_quote"])
    assert not LimitsRequest.objects.exists()


def test_ceiling_lowered_meanwhile_stops_the_confirmation(
    rita: Client, limits: RiskLimits, settings: Any
) -> None:
    row = ask(rita, order_notional_max_quote="9000")
    settings.RISK_CEILINGS = settings.RISK_CEILINGS | {"order_notional_max_quote": Decimal(500)}

    page = reply(sign_in("sam", "risk_manager"), row, "confirm")

    assert "may not pass the ceiling of the settings, 500" in page.content.decode()
    assert selectors.current_limits().version == 7


def test_looser_limits_without_a_reason_are_not_even_asked_for(rita: Client, limits: RiskLimits) -> None:
    page = rita.post(ADD, limits_data(open_positions_max="6", reason=""))

    assert "required" in str(page.context["adminform"].form.errors["reason"])
    assert not LimitsRequest.objects.exists()


def test_list_of_requests_opens_for_whoever_may_look(rita: Client, limits: RiskLimits) -> None:
    ask(rita)

    assert sign_in("vera", "viewer").get(REQUESTS).status_code == 200
