"""The desk as a real server, with a socket client and a browser for it."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import uvicorn
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect
from websockets.sync.client import ClientConnection, connect

from market.selectors import feeds
from risk import panels as risk_panels
from risk import selectors as risk_selectors
from risk.rules import permission
from tests.web import seeding
from tradingbot.core import clock

DEADLINE_SECONDS = 60
WIDE, NARROW = (1440, 900), (360, 800)
in_both_sizes = pytest.mark.parametrize(
    "browser_context", [WIDE, NARROW], indirect=True, ids=["desktop", "phone"]
)


class Server:
    """uvicorn in a thread, on a port of its own."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            "tradingbot.asgi:application", lifespan="off", log_level="warning", ws="websockets-sansio",
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def start(self) -> None:
        self._thread.start()
        wait_for(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(DEADLINE_SECONDS)
        self._socket.close()


def wait_for(condition: Callable[[], Any]) -> Any:
    """The first true answer of `condition`; fails after the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not so within {DEADLINE_SECONDS} s")


@pytest.fixture
def server(transactional_db: None, redis_server: Any) -> Iterator[Server]:
    """A web server on the test's database, with real Redis between the processes' halves."""
    seeding.starting_rows(clock.now())
    running = Server()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes, feeds and cards grow old within seconds: here they do not, however slow the machine is."""
    began = clock.now()
    monkeypatch.setattr(clock, "now", lambda: began)


@pytest.fixture
def fresh_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser takes its time: streams and health that are well when a test begins stay so until it ends."""
    for module in (risk_selectors, risk_panels, permission):
        monkeypatch.setattr(module, "AUTONOMY_SEEN_WITHIN", timedelta(minutes=5))
    for kind in feeds.STALE_AFTER_SECONDS:
        monkeypatch.setitem(feeds.STALE_AFTER_SECONDS, kind, 300.0)


@pytest.fixture
def signed_in(server: Server) -> Client:
    """A session of an operator."""
    client = Client()
    client.force_login(seeding.operator())
    return client


class Desk:
    """A socket client that keeps what came."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []

    def next_frame(self) -> dict[str, Any]:
        self.frames.append(json.loads(self.connection.recv(timeout=DEADLINE_SECONDS)))
        return self.frames[-1]

    def read_to_the_end(self) -> None:
        """Raises ConnectionClosed."""
        while True:
            self.next_frame()

    def next_patch(self) -> str:
        while "content" not in (frame := self.next_frame()):
            pass
        return str(frame["content"])


@pytest.fixture
def open_socket(server: Server) -> Iterator[Callable[..., Desk]]:
    """Opens sockets as a page would: cookie and origin, no token."""
    opened = ExitStack()

    def opener(client: Client | None, panels: str = "shell", origin: str = "") -> Desk:
        headers = {}
        if client:
            headers["Cookie"] = f"sessionid={client.cookies[settings.SESSION_COOKIE_NAME].value}"
        connection = connect(
            f"ws://127.0.0.1:{server.port}/ws/desk/?panels={panels}",
            additional_headers=headers,
            origin=origin or server.url,  # type: ignore[arg-type]
        )
        return Desk(opened.enter_context(connection))

    with opened:
        yield opener


class Watched:
    """A page with everything that must not happen on it."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server
        self.faults: list[str] = []
        page.on(
            "console", lambda line: self._note(f"console: {line.text}", line.type in {"error", "warning"})
        )
        page.on("pageerror", lambda error: self._note(f"error: {error}", True))
        page.on(
            "request", lambda request: self._note(f"off-host: {request.url}", self._is_foreign(request.url))
        )
        page.add_init_script(
            "addEventListener('securitypolicyviolation', "
            "e => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI))"
        )

    def _is_foreign(self, url: str) -> bool:
        return not url.startswith((self.server.url, self.server.url.replace("http", "ws"), "data:"))

    def _note(self, text: str, is_fault: bool) -> None:
        if is_fault:
            self.faults.append(text)

    def open(self, path: str) -> Page:
        self.page.goto(self.server.url + path)
        return self.page


def open_live(watched: Watched, path: str) -> Page:
    """Open a page and wait for its socket; `window.neverReloaded` is gone after a reload."""
    page = watched.open(path)
    expect(page.locator("#link")).to_contain_text("live")
    page.evaluate("window.neverReloaded = true")
    return page


@pytest.fixture
def browser_context(
    request: pytest.FixtureRequest, chromium: Browser, server: Server
) -> Iterator[BrowserContext]:
    """A browser window; wide, unless the test asks for another size."""
    expect.set_options(timeout=DEADLINE_SECONDS * 1000)
    width, height = getattr(request, "param", WIDE)
    context = chromium.new_context(viewport={"width": width, "height": height}, has_touch=width < 700)
    context.set_default_timeout(DEADLINE_SECONDS * 1000)
    yield context
    context.close()


@pytest.fixture
def watched(browser_context: BrowserContext, server: Server) -> Iterator[Watched]:
    """A page of a signed-in operator; console errors, policy violations and foreign requests fail the test."""
    client = Client()
    client.force_login(seeding.operator("ana"))
    browser_context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": server.url}]
    )
    page = Watched(browser_context.new_page(), server)
    yield page
    assert page.faults == []
