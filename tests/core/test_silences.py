"""Silences: with an end, of something named, and never of what must be heard."""

from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import NOW
from tradingbot.core import audit, silences
from tradingbot.core.models import Alert, AlertSilence

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def silence(**changes: Any) -> AlertSilence:
    values = {"kind": "divergence", "lasts": HOUR, "reason": "known", "actor": "ana", "now": NOW}
    return silences.add_silence(**values | changes)


def alert(**changes: Any) -> Alert:
    return Alert(**{"kind": "divergence", "severity": "high", "subject": "divergence:7"} | changes)


def silenced(row: Alert, now: Any = NOW) -> Any:
    return silences.silenced_until(row, silences.running_silences(now))


@pytest.mark.parametrize(
    ("given", "other"),
    [
        ({"kind": "divergence"}, {"kind": "execution_unknown"}),
        ({"kind": "divergence", "severity": "high"}, {"severity": "critical"}),
        ({"kind": "", "subject": "divergence:7"}, {"subject": "divergence:8"}),
    ],
)
def test_it_covers_what_it_names_and_nothing_else(given: dict[str, str], other: dict[str, str]) -> None:
    silence(**given)

    assert silenced(alert()) == NOW + HOUR
    assert silenced(alert(**other)) is None


def test_it_ends_by_itself() -> None:
    silence()

    assert silenced(alert(), NOW + HOUR - timedelta(seconds=1)) is not None
    assert silenced(alert(), NOW + HOUR) is None


def test_of_two_the_longer_counts() -> None:
    silence()
    silence(lasts=2 * HOUR)

    assert silenced(alert()) == NOW + 2 * HOUR


@pytest.mark.parametrize("kind", sorted(silences.NEVER_SILENCED | {"kill", "kill_flatten"}))
def test_what_must_be_heard_is_silenced_neither_by_kind_nor_by_subject(kind: str) -> None:
    with pytest.raises(silences.SilenceRefused, match="always told"):
        silence(kind=kind)
    silence(kind="", subject="control:simulator")

    assert silenced(alert(kind=kind, subject="control:simulator", severity="critical")) is None


@pytest.mark.parametrize("severity", ["", "critical"])
def test_halt_by_itself_is_silenced_neither_by_kind_nor_by_subject(severity: str) -> None:
    with pytest.raises(silences.SilenceRefused, match="always told"):
        silence(kind="autonomy", severity=severity)
    silence(kind="", subject="autonomy:simulator")

    assert silenced(alert(kind="autonomy", subject="autonomy:simulator", severity="critical")) is None


def test_level_lowered_by_itself_can_be_silenced() -> None:
    silence(kind="autonomy", severity="high")

    assert silenced(alert(kind="autonomy", severity="high")) == NOW + HOUR


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "", "subject": ""}, "nothing silences all"),
        ({"reason": "  "}, "Say why"),
        ({"lasts": timedelta(0)}, "ends after at most"),
        ({"lasts": timedelta(days=7, seconds=1)}, "ends after at most"),
        ({"severity": "terrible"}, "no severity"),
    ],
)
def test_a_silence_without_object_reason_or_end_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(silences.SilenceRefused, match=words):
        silence(**changes)

    assert not AlertSilence.objects.exists()


def test_it_can_be_ended_early_and_both_are_audited() -> None:
    row = silence()

    assert silences.end_silence(silence_id=row.pk, actor="bob", now=NOW + timedelta(minutes=1))
    assert not silences.end_silence(silence_id=row.pk, actor="bob", now=NOW + timedelta(minutes=2))

    assert silenced(alert(), NOW + timedelta(minutes=1)) is None
    assert [(link["action"], link["actor"]) for link in audit.history(f"alert_silence:{row.pk}")] == [
        ("alert_silence.added", "ana"),
        ("alert_silence.ended", "bob"),
    ]
