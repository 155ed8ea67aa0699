"""The socket of a page: it brings fresh panels and a beat, and takes nothing."""

import asyncio
import contextlib
import json
import logging
import math
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from redis import RedisError

from tradingbot.core import clock, panels
from tradingbot.core.announce import GROUP
from tradingbot.operations.renderings import Renderings

logger = logging.getLogger(__name__)
_renderings = Renderings()

PATCH_GAP_SECONDS = 0.25  # at most four patches a second for one socket
GATHER_SECONDS = 0.03  # what one commit announces arrives within this
BEAT_SECONDS = 1.0
# Announcements may be lost and carry no promise: everything is looked at again this often.
REFRESH_SECONDS = 5.0
SESSION_CHECK_SECONDS = 15.0
JOIN_SECONDS = 1.0  # a hung Redis holds up neither patches nor beats for longer
INCOMING_LENGTH_MAX = 4096

# Close codes. htmx's hx-ws tries again after 1011 and 1012, never after 44xx.
SIGNED_OUT = 4401
NO_SUCH_PANEL = 4404
TOO_LONG = 1009
FAILED = 1011


class DeskConsumer(AsyncWebsocketConsumer):
    """One open page. Panels are rendered for its own user, and sent only when they differ from the last sent.

    Frames are JSON: `seq` (gapless), `at` (server time) and, in a patch, `content` (HTML for hx-swap-oob).
    """

    _task: asyncio.Task[None] | None = None
    _joined = _gone = False

    async def connect(self) -> None:
        """Accept always, so that a refusal reaches the page as a close code and not as an endless retry."""
        await self.accept()
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.close(SIGNED_OUT)
            return
        query = parse_qs(self.scope["query_string"].decode("ascii", "replace"))
        try:
            self._keys = panels.parse_keys(query.get("panels", [""])[0])
        except panels.UnknownPanel:
            await self.close(NO_SUCH_PANEL)
            return
        self._user = user
        self._session_key = self.scope["session"].session_key
        self._sent: dict[str, bytes] = {}
        self._sequence = 0
        self._dirty: dict[str, float] = {}  # since when, by the loop's time
        self._woken = asyncio.Event()
        self._task = asyncio.create_task(self._serve())

    async def disconnect(self, code: int) -> None:
        """Stop serving. Redis' client may swallow the cancellation (market.adapters.quote_cache): hence the flag."""
        self._gone = True
        if self._task:
            self._task.cancel()
        if self._joined:
            await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Commands are POSTs: whatever comes this way is ignored."""
        if len(text_data or bytes_data or "") > INCOMING_LENGTH_MAX:
            await self.close(TOO_LONG)

    async def desk_dirty(self, event: dict[str, Any]) -> None:
        """Something was committed: note which of our panels it may have changed."""
        now = asyncio.get_running_loop().time()
        for key in self._keys:
            found, argument = panels.find(key)
            if found.is_dirtied_by(argument, topic=event["topic"], row_id=event["row_id"]):
                self._dirty[key] = now
        if self._dirty:
            self._woken.set()

    async def _serve(self) -> None:
        try:
            await self._serve_until_signed_out()
            if not self._gone:
                await self.close(SIGNED_OUT)
        except asyncio.CancelledError:
            raise
        except Exception:  # no page may look alive while it cannot be rendered
            logger.exception("socket of a page failed")
            await self.close(FAILED)

    async def _serve_until_signed_out(self) -> None:
        loop = asyncio.get_running_loop()
        patched_at = beat_at = loop.time()
        checked_at = loop.time()
        refreshed_at = -math.inf  # join at once; then everything is looked at, so that nothing falls between
        while not self._gone:
            if loop.time() - refreshed_at >= REFRESH_SECONDS:
                refreshed_at = loop.time()
                await self._join()
                self._dirty.update(dict.fromkeys(self._keys, refreshed_at))
                self._woken.set()
            await self._wait(beat_at + BEAT_SECONDS - loop.time())
            if self._woken.is_set():
                await asyncio.sleep(max(GATHER_SECONDS, patched_at + PATCH_GAP_SECONDS - loop.time()))
                self._woken.clear()
                patched_at = loop.time()
                if await self._patch():
                    beat_at = loop.time()
            if loop.time() - beat_at >= BEAT_SECONDS:
                await self._send_frame()
                beat_at = loop.time()
            if loop.time() - checked_at >= SESSION_CHECK_SECONDS:
                checked_at = loop.time()
                user = await database_sync_to_async(self._signed_in_user)()
                if user is None:
                    return
                self._user = user  # whose rights are read anew: a user object keeps those it once read

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.01)):
                await self._woken.wait()

    async def _join(self) -> None:
        """Join the announcements; while Redis is away the refresh alone keeps the page true."""
        if self._joined:
            return
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await self.channel_layer.group_add(GROUP, self.channel_name)
            self._joined = True
        except (OSError, TimeoutError, RedisError) as error:
            logger.warning("announcements are not heard", extra={"error": type(error).__name__})

    async def _patch(self) -> bool:
        """Render what is dirty and send what differs from the last sent; whether anything was sent."""
        dirty, self._dirty = self._dirty, {}
        wanted = [key for key in self._keys if key in dirty]
        rendered = await asyncio.gather(
            *(_renderings.of(key, self._user, dirty_at=dirty[key]) for key in wanted)
        )
        changed = []
        for key, found in zip(wanted, rendered, strict=True):
            if found is None:
                continue  # its row is gone; the page keeps what it showed
            html, digest = found
            if self._sent.get(key) != digest:
                self._sent[key] = digest
                changed.append(html)
        if changed:
            await self._send_frame("".join(changed))
        return bool(changed)

    async def _send_frame(self, content: str = "") -> None:
        self._sequence += 1
        frame = {"seq": self._sequence, "at": clock.now().isoformat(timespec="milliseconds")}
        if content:
            frame["content"] = content
        await self.send(json.dumps(frame))

    def _signed_in_user(self) -> Any | None:
        """Read the session again: None when it is gone, its user inactive or the password changed."""
        request = HttpRequest()
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(self._session_key)
        user = get_user(request)
        return user if user.is_authenticated and user.is_active else None
