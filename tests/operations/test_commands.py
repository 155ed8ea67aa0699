"""manage.py ensure_operator and audit_verify."""

from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

from tests.conftest import NOW
from tests.core.test_audit import tamper
from tradingbot.core import audit


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "operator_password"
    path.write_text("obviously-fake-1\n")
    monkeypatch.setenv("OPERATOR_PASSWORD_FILE", str(path))
    return path


# --- ensure_operator -------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_the_first_run_creates_a_superuser_with_the_password_of_the_file(password_file: Path) -> None:
    assert "created" in run("ensure_operator")

    user = User.objects.get(username="operator")
    assert user.is_superuser and user.is_staff and user.check_password("obviously-fake-1")


@pytest.mark.django_db
def test_a_second_run_changes_nothing(password_file: Path) -> None:
    run("ensure_operator")
    before = User.objects.get(username="operator").password

    assert "exists" in run("ensure_operator")

    assert User.objects.get(username="operator").password == before


@pytest.mark.django_db
def test_a_password_changed_in_the_admin_stays_and_is_told(password_file: Path) -> None:
    run("ensure_operator")
    user = User.objects.get(username="operator")
    user.set_password("another-fake-2")
    user.save()

    said = run("ensure_operator")

    assert "--reset" in said
    assert User.objects.get(username="operator").check_password("another-fake-2")


@pytest.mark.django_db
def test_reset_sets_the_password_again(password_file: Path) -> None:
    run("ensure_operator")
    password_file.write_text("another-fake-2")

    run("ensure_operator", "--reset")

    assert User.objects.get(username="operator").check_password("another-fake-2")


@pytest.mark.django_db
@pytest.mark.parametrize("content", [None, ""])
def test_without_a_password_it_says_which_setting(password_file: Path, content: str | None) -> None:
    if content is None:
        password_file.unlink()
    else:
        password_file.write_text(content)

    with pytest.raises(CommandError, match="OPERATOR_PASSWORD_FILE"):
        run("ensure_operator")

    assert not User.objects.exists()


# --- audit_verify ----------------------------------------------------------------------------------------
def write_links(count: int) -> None:
    for number in range(count):
        audit.record(action="test.done", subject=f"test:{number}", actor="alice", now=NOW)


@pytest.mark.django_db(transaction=True)
def test_an_intact_chain_holds() -> None:
    write_links(3)

    assert run("audit_verify") == "audit chain holds: 3 links, no anchor yet\n"


@pytest.mark.django_db(transaction=True)
def test_the_first_broken_link_is_named() -> None:
    write_links(3)
    tamper("UPDATE core_auditrecord SET body = replace(body, 'alice', 'mallory') WHERE sequence = 2")

    with pytest.raises(CommandError, match="broken at link 2"):
        run("audit_verify")


@pytest.mark.django_db(transaction=True)
def test_a_chain_cut_at_its_end_is_broken() -> None:
    write_links(3)
    tamper("DELETE FROM core_auditrecord WHERE sequence = 3")

    with pytest.raises(CommandError, match="broken at link 3"):
        run("audit_verify")


@pytest.mark.django_db(transaction=True)
def test_a_row_written_past_the_chain_breaks_it() -> None:
    write_links(1)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE core_auditrecord DISABLE TRIGGER core_audit_chain")
    write_links(1)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE core_auditrecord ENABLE TRIGGER core_audit_chain")

    with pytest.raises(CommandError, match="1 rows were written past it"):
        run("audit_verify")


@pytest.mark.django_db(transaction=True)
def test_a_link_forged_past_the_end_of_the_chain_is_named() -> None:
    write_links(3)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE core_auditrecord DISABLE TRIGGER USER")
        cursor.execute(
            "INSERT INTO core_auditrecord (at, actor, action, subject, body, sequence, previous_hash, hash) "
            "SELECT at, actor, action, subject, body, 4, hash, sha256(hash || convert_to(body, 'UTF8')) "
            "FROM core_auditrecord WHERE sequence = 3"
        )
        cursor.execute("ALTER TABLE core_auditrecord ENABLE TRIGGER USER")
        cursor.execute("ALTER TABLE core_auditrecord DISABLE TRIGGER core_audit_no_truncate")  # as it was

    with pytest.raises(CommandError, match="broken at link 4: it was written past the chain's end"):
        run("audit_verify")
