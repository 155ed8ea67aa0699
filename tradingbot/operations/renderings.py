"""Render a panel once for all open pages of one person that want it at the same time.

Twenty pages with a hundred cards each cost the web server twenty renderings of a hundred cards for every change
otherwise. A rendering serves whoever asked for it before it began: it then shows all that they were told of.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

from channels.db import database_sync_to_async

from tradingbot.core import panels

KEPT_SECONDS = 5.0


@dataclass(slots=True)
class Rendering:
    """One rendering: begun or still in the queue of the database's thread."""

    task: "asyncio.Task[tuple[str, bytes] | None]"
    asked_at: float
    has_begun: bool = False


class Renderings:
    """The newest rendering of each panel for each person, of one event loop after the other."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, int], Rendering] = {}

    async def of(self, key: str, user: Any, *, dirty_at: float) -> tuple[str, bytes] | None:
        """HTML and its digest as of a moment after `dirty_at` (the loop's time); None when its row is gone."""
        loop = asyncio.get_running_loop()
        found = self._newest.get((key, user.pk))
        if found is None or not self._serves(found, loop, dirty_at):
            found = self._begin(loop, key, user)
        return await asyncio.shield(found.task)  # a page that leaves does not end it for the others

    @staticmethod
    def _serves(found: Rendering, loop: asyncio.AbstractEventLoop, dirty_at: float) -> bool:
        if found.task.get_loop() is not loop or (found.task.done() and found.task.exception() is not None):
            return False
        return not found.has_begun or found.asked_at >= dirty_at

    def _begin(self, loop: asyncio.AbstractEventLoop, key: str, user: Any) -> Rendering:
        now = loop.time()
        self._newest = {k: r for k, r in self._newest.items() if now - r.asked_at < KEPT_SECONDS}

        def render() -> tuple[str, bytes] | None:
            rendering.has_begun = True
            try:
                html = panels.render(key, user=user, out_of_band=True)
            except panels.UnknownPanel:
                return None
            return html, hashlib.blake2b(html.encode(), digest_size=16).digest()

        async def run() -> tuple[str, bytes] | None:
            return await database_sync_to_async(render)()

        rendering = Rendering(loop.create_task(run()), now)
        self._newest[key, user.pk] = rendering
        return rendering
