"""The hash chain: made and guarded by the database, verified from its rows."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.utils import Error

from tests.conftest import NOW
from tests.proposals.races import race
from tradingbot.core import audit
from tradingbot.core.models import AuditRecord

RIGHTS = (
    import_module("tradingbot.core.migrations.0004_audit_rights")
    .FORWARD.partition("REVOKE DELETE")[0]
    .replace(", TRUNCATE", "")
)
pytestmark = pytest.mark.django_db(transaction=True)


def write(number: int = 0, actor: str = "alice") -> AuditRecord:
    return audit.record(action="test.done", subject=f"test:{number}", actor=actor, now=NOW, number=number)


def execute(sql: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def tamper(sql: str) -> None:
    """As a superuser of the database who knows of the triggers."""
    with transaction.atomic():
        execute("GRANT UPDATE, DELETE ON core_auditrecord TO CURRENT_USER")
        execute("ALTER TABLE core_auditrecord DISABLE TRIGGER core_audit_guard")
        execute(sql)
        execute("ALTER TABLE core_auditrecord ENABLE TRIGGER core_audit_guard")
        execute(RIGHTS)


def test_links_are_numbered_and_chained_at_commit() -> None:
    with transaction.atomic():
        first, second = write(1), write(2)
        assert AuditRecord.objects.get(pk=first.pk).sequence is None

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.sequence, second.sequence) == (1, 2)
    assert bytes(second.previous_hash) == bytes(first.hash)
    assert audit.first_broken_link() is None


def test_a_rolled_back_change_leaves_no_gap() -> None:
    write(1)
    with transaction.atomic():
        write(2)
        transaction.set_rollback(True)
    write(3)

    assert list(AuditRecord.objects.order_by("id").values_list("sequence", flat=True)) == [1, 2]
    assert audit.first_broken_link() is None


CHANGES = [
    "UPDATE core_auditrecord SET actor = 'mallory'",
    "UPDATE core_auditrecord SET body = '{}'",
    "UPDATE core_auditrecord SET hash = NULL",
    "DELETE FROM core_auditrecord",
]


@pytest.mark.parametrize("sql", CHANGES)
def test_the_triggers_refuse_to_change_or_delete_whatever_the_rights(sql: str) -> None:
    write()

    with transaction.atomic():
        execute("GRANT UPDATE, DELETE ON core_auditrecord TO CURRENT_USER")
        with pytest.raises(Error, match="append-only"), transaction.atomic():
            execute(sql)
        transaction.set_rollback(True)

    assert audit.first_broken_link() is None


@pytest.mark.parametrize("sql", [change for change in CHANGES if "hash" not in change])
def test_the_rights_refuse_to_change_or_delete_whatever_the_triggers(sql: str) -> None:
    write()

    with transaction.atomic():
        execute("ALTER TABLE core_auditrecord DISABLE TRIGGER core_audit_guard")
        with pytest.raises(Error, match="permission denied"), transaction.atomic():
            execute(sql)
        transaction.set_rollback(True)

    assert audit.first_broken_link() is None


def test_the_chain_takes_links_with_these_rights_and_the_product_is_no_superuser() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = CURRENT_USER")
        assert cursor.fetchone() == (False,)

    write()

    assert AuditRecord.objects.get().sequence == 1


def test_the_database_refuses_to_truncate() -> None:
    write()
    with transaction.atomic():
        # The fixtures lift this one trigger for their own clean-up; the roll-back lifts it again.
        execute("ALTER TABLE core_auditrecord ENABLE TRIGGER core_audit_no_truncate")
        with pytest.raises(Error, match="append-only"), transaction.atomic():
            execute("TRUNCATE core_auditrecord")
        transaction.set_rollback(True)

    assert AuditRecord.objects.count() == 1


def test_the_database_refuses_a_link_with_a_hash_of_its_own() -> None:
    with pytest.raises(Error, match="made by the database"):
        AuditRecord.objects.create(
            at=NOW, actor="mallory", action="x", subject="x:1", body="{}", sequence=1, hash=bytes(32)
        )


@pytest.mark.parametrize(
    ("sql", "link", "words"),
    [
        (
            "UPDATE core_auditrecord SET body = replace(body, 'alice', 'mallory') WHERE sequence = 2",
            2,
            "body",
        ),
        ("UPDATE core_auditrecord SET actor = 'mallory' WHERE sequence = 2", 2, "columns"),
        ("UPDATE core_auditrecord SET at = at + interval '1 hour' WHERE sequence = 2", 2, "columns"),
        ("DELETE FROM core_auditrecord WHERE sequence = 2", 2, "missing"),
        ("DELETE FROM core_auditrecord WHERE sequence = 1", 1, "missing"),
        ("UPDATE core_auditrecord SET hash = sha256('forged') WHERE sequence = 3", 3, "hash"),
        (
            "UPDATE core_auditrecord SET body = '{}', hash = sha256(previous_hash || convert_to('{}', 'UTF8')) "
            "WHERE sequence = 2",
            2,
            "columns",
        ),
    ],
)
def test_verification_names_the_link_that_a_superuser_changed(sql: str, link: int, words: str) -> None:
    for number in range(3):
        write(number)

    tamper(sql)

    broken = audit.first_broken_link()
    assert broken is not None
    assert broken[0] == link
    assert words in broken[1]


def test_concurrent_writers_keep_one_unbroken_chain() -> None:
    def writer(number: int) -> Any:
        def run() -> None:
            for _ in range(10):
                with transaction.atomic():
                    write(number, actor=f"writer{number}")
                    write(number, actor=f"writer{number}")

        return run

    outcomes = race([writer(number) for number in range(4)])

    assert outcomes == [None] * 4
    assert AuditRecord.objects.filter(sequence__isnull=False).count() == 80
    assert audit.first_broken_link() is None


def test_history_tells_the_links_of_one_subject_in_order() -> None:
    write(1)
    write(2)
    audit.record(action="test.again", subject="test:1", actor="bob", now=NOW + timedelta(seconds=1))

    assert [(link["action"], link["actor"]) for link in audit.history("test:1")] == [
        ("test.done", "alice"),
        ("test.again", "bob"),
    ]


def test_canonical_json_is_one_text_per_value() -> None:
    one = audit.canonical_json({"b": Decimal("1.50"), "a": NOW})
    other = audit.canonical_json({"a": NOW, "b": Decimal("1.5")})

    assert one == other == '{"a":"2026-03-02T12:00:00+00:00","b":"1.5"}'


def test_canonical_json_writes_one_instant_in_one_way() -> None:
    in_berlin = datetime(2026, 3, 2, 13, 0, tzinfo=timezone(timedelta(hours=1)))

    assert audit.canonical_json(in_berlin) == audit.canonical_json(in_berlin.astimezone(UTC))
