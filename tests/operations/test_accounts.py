"""Accounts and roles in the back office: whatever changes who may do what is a link of the audit log."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse

from tradingbot.core import audit
from tradingbot.core.models import AuditRecord

pytestmark = pytest.mark.django_db
PASSWORD = "an-obviously-fake-passphrase-1"


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def ana() -> User:
    joined = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return User.objects.create_user("ana", password=PASSWORD, date_joined=joined)


def save(root: Client, user: User, **changes: Any) -> None:
    page = reverse("admin:auth_user_change", args=[user.pk])
    day, time = f"{user.date_joined:%Y-%m-%d %H:%M:%S}".split()
    joined = {
        f"{which}date_joined_{n}": part for which in ("", "initial-") for n, part in enumerate((day, time))
    }
    fields = {"username": user.username, "is_active": "on", **joined} | changes
    answer = root.post(page, {name: value for name, value in fields.items() if value is not None})
    assert answer.status_code == 302, answer.content.decode()


def last_of(subject: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(AuditRecord.objects.filter(subject=subject).latest("pk").body)
    return found


def test_role_that_somebody_was_given_is_on_record(root: Client, ana: User) -> None:
    operator = Group.objects.get(name="operator")

    save(root, ana, groups=[operator.pk])

    link = last_of(f"account:{ana.pk}")
    assert (link["action"], link["actor"]) == ("account.changed", "root")
    assert link["payload"] == {
        "name": "ana", "active": True, "staff": False, "superuser": False, "roles": ["operator"],
        "permissions": [], "fields": ["Groups"],
    }  # fmt: skip


def test_deactivated_account_is_on_record(root: Client, ana: User) -> None:
    save(root, ana, is_active=None)

    assert last_of(f"account:{ana.pk}")["payload"]["active"] is False


def test_new_account_is_on_record(root: Client) -> None:
    fields = {"username": "bob", "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}

    root.post(reverse("admin:auth_user_add"), fields)

    bob = User.objects.get(username="bob")
    assert last_of(f"account:{bob.pk}")["action"] == "account.added"


def test_new_password_is_on_record_and_the_password_is_not(root: Client, ana: User) -> None:
    fields = {"password1": PASSWORD + "2", "password2": PASSWORD + "2", "usable_password": "true"}

    root.post(reverse("admin:auth_user_password_change", args=[ana.pk]), fields)

    ana.refresh_from_db()
    assert ana.check_password(PASSWORD + "2")
    link = last_of(f"account:{ana.pk}")
    assert (link["action"], link["payload"]["fields"]) == ("account.changed", ["password"])
    assert PASSWORD not in repr(link) and ana.password not in repr(link)


def test_deleted_account_is_on_record_with_what_it_could_do(root: Client, ana: User) -> None:
    ana.groups.add(Group.objects.get(name="risk_manager"))

    root.post(reverse("admin:auth_user_delete", args=[ana.pk]), {"post": "yes"})

    assert not User.objects.filter(username="ana").exists()
    link = last_of(f"account:{ana.pk}")
    assert (link["action"], link["payload"]["name"], link["payload"]["roles"]) == (
        "account.deleted", "ana", ["risk_manager"],
    )  # fmt: skip


def test_right_added_to_a_role_is_on_record(root: Client) -> None:
    viewer = Group.objects.get(name="viewer")
    decide = Permission.objects.get(codename="decide_proposal")

    page = reverse("admin:auth_group_change", args=[viewer.pk])
    root.post(page, {"name": "viewer", "permissions": [decide.pk]})

    link = last_of(f"role:{viewer.pk}")
    assert (link["action"], link["payload"]["permissions"]) == ("role.changed", ["proposals.decide_proposal"])


def test_change_that_cannot_be_put_on_record_is_not_made(
    root: Client, ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise DatabaseError("the audit log is full")

    monkeypatch.setattr(audit, "record", fail)
    fields = {"password1": PASSWORD + "2", "password2": PASSWORD + "2", "usable_password": "true"}

    for path, sent in (
        (reverse("admin:auth_user_password_change", args=[ana.pk]), fields),
        (reverse("admin:auth_user_delete", args=[ana.pk]), {"post": "yes"}),
    ):
        with pytest.raises(DatabaseError, match="full"):
            root.post(path, sent)

    ana.refresh_from_db()
    assert ana.check_password(PASSWORD)


@pytest.mark.parametrize("model", ["user", "group"])
def test_several_at_once_cannot_be_deleted(root: Client, ana: User, model: str) -> None:
    page = root.get(reverse(f"admin:auth_{model}_changelist"))

    assert "delete_selected" not in page.content.decode()
