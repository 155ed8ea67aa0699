"""Signs of life, kept in Postgres."""

from datetime import timedelta

import pytest

from tests.conftest import NOW
from tradingbot.core import heartbeats
from tradingbot.core.models import Heartbeat

pytestmark = pytest.mark.django_db


def test_a_part_that_never_worked_has_no_age() -> None:
    assert heartbeats.age_seconds("queue:test", now=NOW) is None


def test_the_age_counts_from_the_last_sign() -> None:
    heartbeats.beat("queue:test", now=NOW)
    heartbeats.beat("queue:test", now=NOW + timedelta(seconds=5), done=3)

    assert heartbeats.age_seconds("queue:test", now=NOW + timedelta(seconds=12)) == 7
    assert Heartbeat.objects.get(part="queue:test").detail == {"done": 3}
