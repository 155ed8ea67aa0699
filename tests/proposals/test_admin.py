"""The admin: strategies change with an audit record, decisions and proposals are only read."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse

from proposals.admin import StrategyForm
from proposals.models import AdvisorBreaker, Decision, Proposal, Strategy
from tradingbot.core.audit import history

FIELDS: dict[str, Any] = {
    "name": "trend",
    "enabled": "on",
    "symbols": '["BTCUSDT"]',
    "interval": "5m",
    "model": "",
    "api": "chat_completions",
    "prompt_version": "v1",
    "decisions_per_hour_max": "60",
    "min_seconds_between": "20",
    "requests_per_hour_max": "12",
}


@pytest.fixture
def boss(db: None) -> Client:
    """A browser signed in as a superuser."""
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def test_added_strategy_is_stored_with_an_audit_record(boss: Client) -> None:
    boss.post(reverse("admin:proposals_strategy_add"), FIELDS)

    strategy = Strategy.objects.get(name="trend")
    assert strategy.symbols == ["BTCUSDT"]
    (link,) = history(f"strategy:{strategy.pk}")
    assert (link["action"], link["actor"], link["payload"]["before"]) == ("strategy.saved", "boss", None)
    assert link["payload"]["after"]["interval"] == "5m"


def test_changed_strategy_leaves_before_and_after(boss: Client, strategy: Strategy) -> None:
    boss.post(reverse("admin:proposals_strategy_change", args=[strategy.pk]), FIELDS)

    payload = history(f"strategy:{strategy.pk}")[-1]["payload"]
    assert (payload["before"]["name"], payload["after"]["name"]) == ("under test", "trend")


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        ("[]", "This field is required"),
        ('"BTCUSDT"', "Give a list"),
        ('{"BTCUSDT": 1}', "Give a list"),
        ('["btcusdt"]', "capital letters"),
        ("[5]", "capital letters"),
        ('["BTCUSDT", "BTCUSDT"]', "named twice"),
        ('["DOGEUSDT"]', "SYMBOLS"),
        ('["<b>"]', "capital letters"),
        ("BTCUSDT", "valid JSON"),
    ],
)
@pytest.mark.django_db
def test_bad_symbols_are_refused_with_what_to_do(symbols: str, words: str) -> None:
    form = StrategyForm(FIELDS | {"symbols": symbols})

    assert words in str(form.errors["symbols"])


@pytest.mark.parametrize("version", ["v99", "../v1", "v1/.."])
@pytest.mark.django_db
def test_prompt_version_without_files_is_refused(version: str) -> None:
    assert "no prompt version" in str(StrategyForm(FIELDS | {"prompt_version": version}).errors)


@pytest.mark.parametrize("model", [Decision, Proposal, AdvisorBreaker])
@pytest.mark.django_db
def test_record_is_read_only(model: type, rf: RequestFactory) -> None:
    request = rf.get("/")
    request.user = User.objects.create_superuser("boss")
    registered = admin.site._registry[model]

    assert registered.has_view_permission(request)
    assert not registered.has_add_permission(request)
    assert not registered.has_change_permission(request)
    assert not registered.has_delete_permission(request)


def test_record_pages_open(boss: Client, pending: Proposal) -> None:
    for name, key in (("decision", pending.decision_id), ("proposal", pending.pk)):
        assert boss.get(reverse(f"admin:proposals_{name}_changelist")).status_code == 200
        assert boss.get(reverse(f"admin:proposals_{name}_change", args=[key])).status_code == 200
