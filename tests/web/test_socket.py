"""The socket: who gets it, what it brings and what it refuses. Real server, Postgres and Redis."""

import asyncio
import json
from collections.abc import Callable

import pytest
from channels_redis.pubsub import RedisPubSubLoopLayer
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from redis import Redis
from websockets.exceptions import ConnectionClosed, InvalidStatus

from proposals import services as proposals
from proposals.models import Proposal
from tests.web import seeding
from tests.web.conftest import Desk, wait_for
from tradingbot.core import clock
from tradingbot.core.announce import announce
from tradingbot.operations import consumers

Opener = Callable[..., Desk]


def close_code(desk: Desk) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        desk.read_to_the_end()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_the_anonymous_are_closed_with_4401(open_socket: Opener) -> None:
    assert close_code(open_socket(None)) == 4401


@pytest.mark.parametrize(
    "panels", ["nonsense", "", "shell,decision.nonsense", ",".join(f"proposals:all:{n}" for n in range(30))]
)
def test_unknown_panels_are_closed_with_4404(signed_in: Client, open_socket: Opener, panels: str) -> None:
    assert close_code(open_socket(signed_in, panels)) == 4404


def test_another_origin_is_refused(signed_in: Client, open_socket: Opener) -> None:
    with pytest.raises(InvalidStatus):
        open_socket(signed_in, origin="http://elsewhere.example")


def test_first_patch_brings_every_panel(signed_in: Client, open_socket: Opener) -> None:
    desk = open_socket(signed_in, "shell,badge:pending,queue")

    content = desk.next_patch()

    for element in ("panel-shell", "panel-badge-pending", "panel-queue"):
        assert f'<section id="{element}"' in content


def test_committed_decision_patches_the_panels_that_show_it(
    signed_in: Client, open_socket: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 3600.0)
    row = seeding.proposal(clock.now())
    desk = open_socket(signed_in, "shell,queue,badge:pending")
    desk.next_patch()

    proposals.reject_proposal(
        proposal_id=row.pk, version=1, digest=row.digest, actor="bob", reason="no", now=clock.now()
    )
    content = desk.next_patch()

    assert "Nothing waits" in content
    assert 'id="panel-shell"' not in content


def test_announcement_of_another_row_leaves_a_keyed_panel_clean(
    signed_in: Client, open_socket: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 3600.0)
    mine, other = seeding.proposal(clock.now()), seeding.proposal(clock.now())
    desk = open_socket(signed_in, f"proposal.rules:{mine.pk},badge:pending")
    desk.next_patch()

    proposals.reject_proposal(
        proposal_id=other.pk, version=1, digest=other.digest, actor="bob", reason="no", now=clock.now()
    )

    assert "panel-proposal.rules" not in desk.next_patch()


def test_rolled_back_change_is_not_announced(
    signed_in: Client, open_socket: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 3600.0)
    row = seeding.proposal(clock.now())
    desk = open_socket(signed_in, "badge:pending")
    desk.next_patch()

    with transaction.atomic():
        proposals.reject_proposal(
            proposal_id=row.pk, version=1, digest=row.digest, actor="bob", reason="no", now=clock.now()
        )
        transaction.set_rollback(True)

    assert all("content" not in desk.next_frame() for _ in range(3))


def test_lost_announcement_is_made_good_by_the_refresh(
    signed_in: Client, open_socket: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 0.2)
    row = seeding.proposal(clock.now())
    desk = open_socket(signed_in, "badge:pending")
    desk.next_patch()

    Proposal.objects.filter(pk=row.pk).update(status="expired")

    assert "waiting" not in desk.next_patch()


def test_panel_that_did_not_change_is_not_sent_again(signed_in: Client, open_socket: Opener) -> None:
    desk = open_socket(signed_in, "badge:pending")
    desk.next_patch()

    announce("proposal", "x")

    assert all("content" not in desk.next_frame() for _ in range(3))


def test_beats_come_without_a_gap_with_the_servers_time(signed_in: Client, open_socket: Opener) -> None:
    desk = open_socket(signed_in)

    frames = [desk.next_frame() for _ in range(4)]

    assert [frame["seq"] for frame in frames] == [1, 2, 3, 4]
    assert all(frame["at"].endswith("+00:00") for frame in frames)


def test_burst_is_sent_as_few_patches(signed_in: Client, open_socket: Opener) -> None:
    desk = open_socket(signed_in, "queue,badge:pending")
    desk.next_patch()
    began = clock.monotonic_seconds()

    for number in range(40):
        seeding.quote("BTCUSDT", f"{64000 + number}.1", f"{64000 + number}.9", clock.now())
        announce("quote", "BTCUSDT")
    seeding.proposal(clock.now())
    announce("proposal", "x")
    while "for at most" not in desk.next_patch():
        pass

    gaps = (clock.monotonic_seconds() - began) / consumers.PATCH_GAP_SECONDS
    assert sum("content" in frame for frame in desk.frames) <= 2 + gaps


def test_page_is_patched_while_the_announcements_cannot_be_joined(
    signed_in: Client, open_socket: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hung(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(RedisPubSubLoopLayer, "group_add", hung)
    monkeypatch.setattr(consumers, "JOIN_SECONDS", 0.1)
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 0.3)
    row = seeding.proposal(clock.now())
    desk = open_socket(signed_in, "badge:pending")
    assert "waiting" in desk.next_patch()

    Proposal.objects.filter(pk=row.pk).update(status="expired")

    assert "waiting" not in desk.next_patch()


def test_ended_session_closes_with_4401(
    signed_in: Client, open_socket: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "SESSION_CHECK_SECONDS", 0.2)
    desk = open_socket(signed_in)
    desk.next_patch()

    signed_in.logout()

    assert close_code(desk) == 4401


def test_deactivated_operator_is_closed_with_4401(
    signed_in: Client, open_socket: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "SESSION_CHECK_SECONDS", 0.2)
    desk = open_socket(signed_in)
    desk.next_patch()

    User.objects.update(is_active=False)

    assert close_code(desk) == 4401


def test_right_that_was_taken_away_is_gone_from_an_open_page(
    signed_in: Client, open_socket: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "SESSION_CHECK_SECONDS", 0.2)
    monkeypatch.setattr(consumers, "REFRESH_SECONDS", 0.2)
    row = seeding.proposal(clock.now())
    desk = open_socket(signed_in, f"decision:{row.pk}")
    assert "You may look, not decide" not in desk.next_patch()

    User.objects.get().groups.clear()

    wait_for(lambda: "You may look, not decide" in desk.next_patch())


def test_command_sent_by_the_socket_does_nothing(signed_in: Client, open_socket: Opener) -> None:
    row = seeding.proposal(clock.now())
    desk = open_socket(signed_in, f"decision:{row.pk}")
    desk.next_patch()

    desk.connection.send(
        json.dumps({"type": "approve", "id": str(row.pk), "version": 1, "digest": row.digest})
    )
    desk.next_frame()

    row.refresh_from_db()
    assert row.status == "pending_approval"


def test_too_long_a_message_closes_the_socket(signed_in: Client, open_socket: Opener) -> None:
    desk = open_socket(signed_in)

    desk.connection.send("x" * 5000)

    assert close_code(desk) == 1009


def test_panel_that_cannot_be_rendered_closes_the_socket(
    signed_in: Client, open_socket: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_socket(signed_in, "badge:pending")
    desk.next_patch()
    monkeypatch.setattr(consumers.panels, "render", lambda *_, **__: 1 / 0)

    announce("proposal", "x")

    assert close_code(desk) == 1011


def test_socket_is_gone_from_the_group_when_the_page_closes(
    signed_in: Client, open_socket: Opener, redis_server: Redis
) -> None:
    def listeners() -> int:
        groups = [channel for channel in redis_server.pubsub_channels() if b"desk" in channel]
        return sum(count for _, count in redis_server.pubsub_numsub(*groups)) if groups else 0

    before = listeners()
    desk = open_socket(signed_in)
    desk.next_patch()
    wait_for(lambda: listeners() > before)

    desk.connection.close()

    wait_for(lambda: listeners() <= before)
