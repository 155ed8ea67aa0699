"""The ORM for the event loop: one thread with one kept connection, one transaction at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from django.db import Error, connections

T = TypeVar("T")


class DatabaseThread:
    """Runs synchronous units of work off the loop.

    The connection is kept between units, since a new one costs more than most units; a failed unit drops it,
    so that the next begins with a fresh one.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, unit: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """The unit's result; its exceptions come through."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(_unit, unit, *args, **kwargs))

    async def close(self) -> None:
        """Close the connection and end the thread, after the units that are under way."""
        await self.run(connections.close_all)
        self._executor.shutdown(wait=False)


def _unit(unit: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    try:
        return unit(*args, **kwargs)
    except Error:
        connections.close_all()
        raise
