"""Announcements are doorbells: after the commit, and a dead or hung Redis never holds the caller up."""

import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.db import connection, transaction
from django.test import override_settings

from tradingbot.core import announce as announce_module
from tradingbot.core.announce import _Message, _Publisher, announce


class Recorder:
    def __init__(self) -> None:
        self.messages: list[_Message] = []

    def put(self, message: _Message) -> None:
        self.messages.append(message)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setattr(announce_module, "_publisher", lambda: found)
    return found


@pytest.mark.django_db(transaction=True)
def test_nothing_is_told_before_the_commit(recorder: Recorder) -> None:
    with transaction.atomic():
        announce("proposal", 7, event="approved")
        assert recorder.messages == []

    assert [(m.topic, m.row_id) for m in recorder.messages] == [("proposal", "7")]


@pytest.mark.django_db(transaction=True)
def test_a_rollback_tells_nothing(recorder: Recorder) -> None:
    with transaction.atomic():
        announce("proposal", 7)
        transaction.set_rollback(True)

    assert recorder.messages == []


@pytest.mark.django_db(transaction=True)
def test_tasks_of_topic_and_event_are_rung_once_each(recorder: Recorder, settings: Any) -> None:
    settings.NUDGES = {"order": ("a.task", "b.task"), "order.filled": ("b.task", "c.task")}

    announce("order", 1, event="filled")

    assert recorder.messages[0].tasks == ("a.task", "b.task", "c.task")


@pytest.fixture
def hung_redis() -> Iterator[str]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["dead", "hung"])
def test_the_callers_commit_does_not_wait_for_redis(
    kind: str, hung_redis: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = hung_redis if kind == "hung" else "redis://127.0.0.1:9698/0"
    layers = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [{"address": url}]},
        }
    }
    publisher = _Publisher()
    monkeypatch.setattr(announce_module, "_publisher", lambda: publisher)
    monkeypatch.setattr(announce_module, "PUBLISH_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(_Publisher, "_ring", staticmethod(lambda message: None))

    with override_settings(CHANNEL_LAYERS=layers):
        for number in range(3):
            with transaction.atomic():
                announce("order", number)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        _drain(publisher)

    assert publisher._thread.is_alive()


def _drain(publisher: _Publisher) -> None:
    """Until the thread has taken everything; it goes on whatever became of each message."""
    waiting = threading.Event()
    for _ in range(500):
        if publisher._queue.empty():
            return
        waiting.wait(0.02)
    raise AssertionError("the publisher got stuck")


def test_a_full_queue_drops_and_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = _Publisher()
    monkeypatch.setattr(publisher, "_queue", queue.Queue(maxsize=1))

    for _ in range(3):
        publisher.put(_Message(topic="x", row_id="1", tasks=()))

    assert publisher._queue.qsize() == 1


@pytest.mark.django_db(transaction=True)
def test_a_listener_hears_of_the_row(redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    publisher = _Publisher()
    monkeypatch.setattr(announce_module, "_publisher", lambda: publisher)

    async def listen() -> Any:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(announce_module.GROUP, channel)
        publisher.put(_Message(topic="order", row_id="7", tasks=()))
        return await asyncio.wait_for(layer.receive(channel), 5)

    heard = asyncio.new_event_loop().run_until_complete(listen())

    assert (heard["type"], heard["topic"], heard["row_id"]) == ("desk.dirty", "order", "7")


def test_rows_announced_together_ring_their_task_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One closed candle announced 12 rows, and the advisor was rung 12 times."""
    rung: list[str] = []
    monkeypatch.setattr(announce_module.current_app, "send_task", lambda name, **_: rung.append(name))

    _Publisher._ring([_Message("candle", str(row), ("proposals.tasks.advise_due",)) for row in range(12)])

    assert rung == ["proposals.tasks.advise_due"]
