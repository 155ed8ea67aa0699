"""The model behind any OpenAI-compatible URL: one request, one answer, one hard deadline.

The SDK's own time-out counts per read, so a server that drips bytes could hold a worker for ever: the whole
call runs on a loop in a thread of its own, is waited for until its deadline and then cancelled. Loop and
client are kept from call to call (a new TLS context costs 35 ms). The SDK is imported at the first call: it
takes a second and 57 MB (reference/stack.md §1.1), which only the advisor's worker should pay.
"""

import asyncio
import os
import re
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from proposals.contracts import BODY_BYTES_MAX, AdvisorUnavailable, Answer, ModelApi
from proposals.rules import api_of, clean_text
from tradingbot import env
from tradingbot.core import clock, logs

if TYPE_CHECKING:
    import openai

NO_KEY = "no-key"  # what local servers and the rehearsal model are sent
CONNECT_SECONDS_MAX = 5.0
DETAIL_LENGTH_MAX = 300
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_KEY = re.compile(r"[!-~]+")
_TRANSIENT_STATUSES = {408, 409, 425, 429}
_loops: dict[int, asyncio.AbstractEventLoop] = {}
_loops_lock = threading.Lock()


def ask(request: dict[str, Any], *, base_url: str, timeout_seconds: float) -> Answer:
    """Send `request` (the body of a Chat Completions or a Responses call) once; what is answered with 2xx comes back.

    Raises AdvisorUnavailable: TIMEOUT, CONNECTION (nobody was reached), BROKEN_OFF (the connection was lost
    later), HTTP_429, HTTP_5xx and the like (`transient`), or AUTH, QUOTA, NOT_FOUND, BAD_REQUEST, HTTP_xxx
    (asking again does not help). No header and no key is in it.
    """
    client = _client(base_url, _key(), os.getpid())
    call = _ask(client, request, timeout_seconds)
    outcome = asyncio.run_coroutine_threadsafe(call, _loop(os.getpid()))
    try:
        return outcome.result(timeout=timeout_seconds)
    except TimeoutError as error:
        outcome.cancel()
        raise AdvisorUnavailable(
            "TIMEOUT", f"no complete answer within {timeout_seconds:.0f} s", transient=True
        ) from error


def _loop(pid: int) -> asyncio.AbstractEventLoop:
    """The loop of this process; a forked child makes its own."""
    with _loops_lock:
        if pid not in _loops:
            _loops[pid] = asyncio.new_event_loop()
            threading.Thread(target=_loops[pid].run_forever, name="advisor", daemon=True).start()
        return _loops[pid]


@lru_cache(maxsize=4)
def _client(base_url: str, key: str, pid: int) -> "openai.AsyncOpenAI":
    """The client for one address and key; used on this process's loop only."""
    import httpx2
    import openai

    # A redirect could carry the prompt to another host; a proxy has no business between two local programs.
    http = httpx2.AsyncClient(follow_redirects=False, trust_env=urlsplit(base_url).hostname not in _LOOPBACK)
    return openai.AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, http_client=http)


def _key() -> str:
    try:
        key = env.secret("OPENAI_API_KEY", NO_KEY)
    except env.SettingError as error:
        raise AdvisorUnavailable("AUTH", str(error)) from error
    if not _KEY.fullmatch(key):
        # Sent, it would come back in an error of the HTTP library, in a form that no redaction knows.
        raise AdvisorUnavailable(
            "AUTH", "OPENAI_API_KEY is no key: it must be one line of plain ASCII without blanks"
        )
    if key != NO_KEY:
        logs.register_secret(key)
    return key


async def _ask(client: "openai.AsyncOpenAI", request: dict[str, Any], timeout_seconds: float) -> Answer:
    import httpx2
    import openai

    started = clock.monotonic_seconds()
    try:
        body, truncated, request_id = await _exchange(client, request, timeout_seconds)
    except openai.APITimeoutError as error:
        raise TimeoutError from error
    except openai.APIStatusError as error:
        raise _refused(error) from error
    except (openai.APIConnectionError, httpx2.HTTPError) as error:
        cause = error.__cause__ or error
        # Once the request was under way, the server may have worked on it and charge for it.
        code = "CONNECTION" if isinstance(cause, httpx2.ConnectError | httpx2.ProxyError) else "BROKEN_OFF"
        raise AdvisorUnavailable(code, _words(f"{type(cause).__name__}: {cause}"), transient=True) from error
    except openai.OpenAIError as error:
        raise AdvisorUnavailable("SDK", _words(f"{type(error).__name__}: {error}")) from error
    return Answer(
        body=body,
        truncated=truncated,
        request_id=clean_text(request_id, 80),
        latency_ms=int((clock.monotonic_seconds() - started) * 1000),
    )


async def _exchange(
    client: "openai.AsyncOpenAI", request: dict[str, Any], timeout_seconds: float
) -> tuple[str, bool, str]:
    """The raw body (at most BODY_BYTES_MAX of it), whether it was longer, and the server's request id.

    A server may echo what it was sent: the key is taken out here, before anything is read, cut or kept of it.
    """
    import httpx2

    timeout = httpx2.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS_MAX, timeout_seconds))
    received = bytearray()
    create = (
        client.responses.with_streaming_response.create
        if api_of(request) is ModelApi.RESPONSES
        else client.chat.completions.with_streaming_response.create
    )
    sending: Any = create(**request, timeout=timeout)
    async with sending as response:
        async for chunk in response.iter_bytes():
            received += chunk
            if len(received) > BODY_BYTES_MAX:
                break
        request_id = response.headers.get("x-request-id", "")
    text = bytes(received[:BODY_BYTES_MAX]).decode("utf-8", errors="replace")
    return logs.without_secrets(text), len(received) > BODY_BYTES_MAX, logs.without_secrets(request_id)


def _refused(error: "openai.APIStatusError") -> AdvisorUnavailable:
    status, words = error.status_code, _words(_message(error))
    detail = f"HTTP {status}: {words}" if words else f"HTTP {status}"
    if status == 429 and error.code == "insufficient_quota":
        return AdvisorUnavailable("QUOTA", detail)
    if status in _TRANSIENT_STATUSES or status >= 500:
        return AdvisorUnavailable(
            f"HTTP_{status}", detail, transient=True, retry_after_seconds=_retry_after_seconds(error)
        )
    code = {400: "BAD_REQUEST", 401: "AUTH", 403: "AUTH", 404: "NOT_FOUND", 422: "BAD_REQUEST"}
    return AdvisorUnavailable(code.get(status, f"HTTP_{status}"), detail)


def _message(error: "openai.APIStatusError") -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return error.response.text if error.response.is_closed else ""


def _retry_after_seconds(error: "openai.APIStatusError") -> float | None:
    stated = error.response.headers.get("retry-after", "")
    return float(stated) if stated.isascii() and stated.isdigit() and len(stated) <= 6 else None


def _words(text: str) -> str:
    return clean_text(logs.redact(text), DETAIL_LENGTH_MAX)
