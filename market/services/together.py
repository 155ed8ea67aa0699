"""Run coroutines that belong together: the first to end or fail ends them all."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until_first_ends(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run all until one returns or raises; cancel the others, wait for them, and raise the first failure."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [t for t in tasks if t.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # What ended by itself tells the reason; failures of the others while they were cancelled come after it.
    for task in [*ended, *tasks]:
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise failure
