"""After a commit: tell the browsers what changed and nudge the workers that take the next step.

Both are doorbells, at most once and allowed to fail: pages re-fetch, sweeps find every row. So a bounded
queue and one daemon thread do the talking: a hung Redis never holds up the trading path.
"""

import asyncio
import logging
import os
import queue
import threading
from dataclasses import dataclass
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)
GROUP = "desk"
QUEUE_LENGTH_MAX = 2000
PUBLISH_TIMEOUT_SECONDS = 2.0
BATCH_MAX = 100


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    row_id: str
    tasks: tuple[str, ...]


def announce(topic: str, row_id: Any, *, event: str = "") -> None:
    """On commit, mark `topic` (and the row) dirty for open pages and ring the tasks subscribed to it.

    Subscriptions are `settings.NUDGES`: `topic` or `topic.event` -> task names.
    """
    names = (*settings.NUDGES.get(topic, ()), *settings.NUDGES.get(f"{topic}.{event}", ()))
    message = _Message(topic=topic, row_id=str(row_id), tasks=tuple(dict.fromkeys(names)))
    transaction.on_commit(lambda: _publisher().put(message), robust=True)


class _Publisher:
    """One thread with its own event loop, so that the channel layer keeps its connection."""

    def __init__(self) -> None:
        self._queue: queue.Queue[_Message] = queue.Queue(maxsize=QUEUE_LENGTH_MAX)
        self._thread = threading.Thread(target=self._run, name="announce", daemon=True)
        self._thread.start()

    def put(self, message: _Message) -> None:
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            logger.warning("announcement dropped, the queue is full", extra={"topic": message.topic})

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            while True:
                batch = self._waiting()
                self._ring(batch)
                for message in dict.fromkeys(batch):
                    try:
                        runner.run(asyncio.wait_for(self._send(message), PUBLISH_TIMEOUT_SECONDS))
                    except Exception as error:  # noqa: BLE001 - a doorbell: record it and go on
                        logger.warning("announcement not delivered", extra={"error": type(error).__name__})

    def _waiting(self) -> list[_Message]:
        """The next message and those already behind it: one commit often announces several rows."""
        batch = [self._queue.get()]
        while len(batch) < BATCH_MAX:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    @staticmethod
    def _ring(batch: list[_Message]) -> None:
        """Ring each task once, however many rows ask for it: it finds them all."""
        for name in dict.fromkeys(name for message in batch for name in message.tasks):
            try:
                current_app.send_task(name, expires=30, ignore_result=True, retry=False)
            except Exception as error:  # noqa: BLE001 - a doorbell: the sweep finds the row
                logger.warning("task not nudged", extra={"task": name, "error": type(error).__name__})

    @staticmethod
    async def _send(message: _Message) -> None:
        from channels.layers import get_channel_layer

        layer = get_channel_layer()
        await layer.group_send(
            GROUP, {"type": "desk.dirty", "topic": message.topic, "row_id": message.row_id}
        )


_instances: dict[int, _Publisher] = {}
_instances_lock = threading.Lock()


def _publisher() -> _Publisher:
    """The publisher of this process; a forked child makes its own."""
    pid = os.getpid()
    with _instances_lock:
        if pid not in _instances:
            _instances[pid] = _Publisher()
        return _instances[pid]
