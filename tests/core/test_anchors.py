"""Anchors: once a day, whole, never changed; a chain that was forged as a whole does not hold against them."""

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.conftest import NOW
from tests.core.test_audit import execute, tamper, write
from tests.proposals.races import race
from tradingbot.core import anchors, audit
from tradingbot.core.models import Alert, AuditHead
from tradingbot.operations import services

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.AUDIT_ANCHORS_DIR = tmp_path / "audit-anchors"
    return settings.AUDIT_ANCHORS_DIR


def day(folder: Path, number: int) -> Path | None:
    """One more link, and the anchor of that day."""
    write(number)
    return anchors.write_anchor(folder=folder, now=NOW + timedelta(days=number))


def verified() -> str:
    out = StringIO()
    call_command("audit_verify", stdout=out)
    return out.getvalue()


def broken() -> str:
    with pytest.raises(CommandError) as refused:
        call_command("audit_verify")
    return str(refused.value)


def forge_from(sequence: int) -> None:
    """Rewrite a link and every hash after it, so that the chain itself verifies."""
    tamper(
        f"""
        UPDATE core_auditrecord SET actor = 'mallory', body = replace(body, 'alice', 'mallory')
            WHERE sequence = {sequence};
        DO $$ DECLARE link record; last bytea := decode(repeat('00', 32), 'hex');
        BEGIN
            FOR link IN SELECT * FROM core_auditrecord ORDER BY sequence LOOP
                UPDATE core_auditrecord SET previous_hash = last,
                    hash = sha256(last || convert_to(body, 'UTF8')) WHERE id = link.id
                    RETURNING hash INTO last;
            END LOOP;
            UPDATE core_audithead SET hash = last;
        END $$;
        """
    )
    assert audit.first_broken_link() is None


def test_it_holds_head_count_and_time_and_is_for_reading_only(folder: Path) -> None:
    write(1)

    path = day(folder, 2)

    head = AuditHead.objects.get()
    assert path == folder / "2026-03-04.json"
    assert json.loads(path.read_text()) == {
        "at": "2026-03-04T12:00:00+00:00", "sequence": 2, "links": 2, "hash": bytes(head.hash).hex(),
        "previous": "",
    }  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o400


def test_a_day_is_anchored_once_and_what_is_there_stays(folder: Path) -> None:
    path = day(folder, 1)
    assert path is not None
    before = path.read_bytes()

    assert day(folder, 1) is None

    assert path.read_bytes() == before
    assert [found.name for found in folder.iterdir()] == [path.name]


def test_of_many_at_once_one_writes(folder: Path) -> None:
    write()

    outcomes = race([lambda: anchors.write_anchor(folder=folder, now=NOW)] * 4)

    assert sorted(map(str, outcomes)) == sorted([str(folder / "2026-03-02.json"), "None", "None", "None"])


def test_an_empty_log_is_not_anchored(folder: Path) -> None:
    assert anchors.write_anchor(folder=folder, now=NOW) is None


def test_an_untouched_chain_holds_and_says_how_far_it_is_anchored(folder: Path) -> None:
    for number in (1, 2, 3):
        day(folder, number)

    assert "3 links, 3 anchors, the last of 2026-03-05" in verified()


def test_without_anchors_the_chain_still_verifies_and_says_so(folder: Path) -> None:
    write()

    assert "no anchor yet" in verified()


def test_links_that_are_written_meanwhile_do_not_look_like_a_break(folder: Path) -> None:
    """Before each question that the verification asks, somebody does something that is audited."""
    write(0)

    def asks(execute: Any, *question: Any) -> Any:
        race([write])
        return execute(*question)

    with connection.execute_wrapper(asks):
        said = verified()

    assert said.startswith("audit chain holds: ")


def test_a_chain_forged_as_a_whole_is_named_by_its_first_wrong_anchor(folder: Path) -> None:
    for number in (1, 2, 3):
        day(folder, number)

    forge_from(2)

    assert "link 2 is not the one of anchor 2026-03-04.json" in broken()


def test_a_chain_cut_short_with_its_head_is_noticed(folder: Path) -> None:
    for number in (1, 2, 3):
        day(folder, number)

    tamper("DELETE FROM core_auditrecord WHERE sequence = 3")
    execute(
        "UPDATE core_audithead SET sequence = 2, hash = (SELECT hash FROM core_auditrecord WHERE sequence = 2)"
    )

    assert "link 3 is missing" in broken()


def test_a_missing_or_changed_or_unreadable_anchor_is_named(folder: Path) -> None:
    paths = [day(folder, number) for number in (1, 2, 3)]
    middle = paths[1]
    assert middle is not None
    text = middle.read_bytes()

    middle.unlink()
    assert "anchor 2026-03-05.json does not follow 2026-03-03.json" in broken()
    middle.write_bytes(text.replace(b'"links":2', b'"links":7'))
    assert "anchor 2026-03-05.json does not follow 2026-03-04.json" in broken()
    middle.write_bytes(text[:20])
    assert "anchor 2026-03-04.json cannot be read" in broken()


def test_clock_that_jumped_ahead_and_came_back_breaks_no_anchor(folder: Path) -> None:
    for number in (2, 40, 3, 1, 4):
        assert day(folder, number)

    assert "5 links, 5 anchors, the last of 2026-03-06" in verified()


def test_anchor_missing_after_the_clock_had_jumped_is_named(folder: Path) -> None:
    paths = [day(folder, number) for number in (1, 40, 2)]
    ahead = paths[1]
    assert ahead is not None

    ahead.unlink()

    assert "anchor 2026-03-04.json does not follow 2026-03-03.json" in broken()


def test_anchor_that_cannot_be_read_holds_up_no_other(folder: Path) -> None:
    first = day(folder, 1)
    assert first is not None
    first.chmod(0o600)
    first.write_text("[]")

    assert day(folder, 2)


def test_anchor_that_is_no_file_is_told_in_a_sentence(folder: Path) -> None:
    anchor = day(folder, 1)
    assert anchor is not None
    anchor.unlink()
    anchor.mkdir()

    assert f"anchor {anchor.name} cannot be read: IsADirectoryError" in broken()


def test_a_folder_that_refuses_the_anchor_is_an_alert_until_it_takes_one(folder: Path, settings: Any) -> None:
    write()
    settings.AUDIT_ANCHORS_DIR = Path("/proc/nowhere")

    services.anchor_audit(now=NOW)
    assert Alert.objects.get(kind="audit_anchor_failed").resolved_at is None
    settings.AUDIT_ANCHORS_DIR = folder
    services.anchor_audit(now=NOW + timedelta(minutes=10))

    assert Alert.objects.get(kind="audit_anchor_failed").resolved_at is not None
    assert len(list(folder.iterdir())) == 1
