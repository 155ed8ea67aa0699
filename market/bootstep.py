"""The streams inside a Celery worker: a thread with its own event loop (reference/stack.md §5.4).

Not a task: an endless task ignores SIGTERM and is delivered again while it still runs. It hangs on the worker
blueprint, so a lost broker does not stop it.
"""

import asyncio
import contextlib
import logging
import threading
from typing import Any

import uvloop
from celery import bootsteps
from celery.worker import state

from market import services

logger = logging.getLogger(__name__)
STOP_SECONDS = 10
EXIT_CODE_CRASHED = 70


class StreamSupervisor(bootsteps.StartStopStep):
    """Starts the streams with the worker and stops them before its pool drains."""

    requires = {"celery.worker.components:Pool"}

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        super().__init__(parent, **kwargs)

    def start(self, parent: Any) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:
        """Ask the streams to end and wait: sessions are closed and the lease is given back."""
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # closed: the streams just ended by themselves
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            logger.error("streams did not stop in time", extra={"seconds": STOP_SECONDS})

    terminate = stop

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main())
        except Exception:
            # Silent death would leave a worker that looks alive: end it, so that its supervisor restarts it.
            logger.exception("streams crashed; the worker ends")
            state.should_stop = EXIT_CODE_CRASHED

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await services.run_streams(self._stop)
