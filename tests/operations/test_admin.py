"""The back office: its pages open, the ground floor is only read, groups hold what is written down."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from tests.conftest import NOW
from tradingbot.core import alerts, audit, heartbeats
from tradingbot.operations.roles import ROLES

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.mark.parametrize("model", [m._meta.label_lower for m in admin.site._registry])
def test_every_list_opens(root: Client, model: str) -> None:
    app, name = model.split(".")

    assert root.get(reverse(f"admin:{app}_{name}_changelist")).status_code == 200


@pytest.mark.parametrize("name", ["auditrecord", "alert", "heartbeat", "lease"])
def test_the_ground_floor_is_only_read(root: Client, name: str) -> None:
    assert root.get(reverse(f"admin:core_{name}_add")).status_code == 403


def test_rows_of_the_ground_floor_open(root: Client) -> None:
    link = audit.record(action="test.done", subject="test:1", actor="alice", now=NOW)
    alert = alerts.raise_alert(kind="test", severity="info", title="a test", now=NOW)
    heartbeats.beat("queue:test", now=NOW)

    for name, key in (("auditrecord", link.pk), ("alert", alert), ("heartbeat", "queue:test")):
        page = root.get(reverse(f"admin:core_{name}_change", args=[key]), follow=True)
        assert page.status_code == 200


@pytest.mark.parametrize("role", sorted(ROLES))
def test_each_role_holds_its_permissions(role: str) -> None:
    held = Group.objects.get(name=role).permissions.values_list("content_type__app_label", "codename")

    assert {f"{app}.{codename}" for app, codename in held} == set(ROLES[role])
