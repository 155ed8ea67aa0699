"""Who is told of alerts, as a webhook of this process: slow at times, away at times, and it keeps what came."""

import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

from tradingbot.operations.rehearsal.processes.wire import HOST

BODY_BYTES_MAX = 1_000_000
ANSWER_SECONDS = (0.0, 0.6)  # a worker that is killed meanwhile never sees the answer
AWAY_CHANCE = 0.05
ALERT = re.compile(r"#alert-(\d+)")


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_POST(self) -> None:
        """One message: taken before it is answered, unless nobody is there."""
        inbox = self.server.inbox
        length = min(int(self.headers.get("Content-Length", "0")), BODY_BYTES_MAX)
        status = inbox.take(self.path.strip("/"), json.loads(self.rfile.read(length)))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: a line for each message would hide the report."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    inbox: "Inbox"

    def handle_error(self, *_: Any) -> None:
        """A worker that was killed while it told leaves a broken connection; that is the point."""


class Inbox:
    """Takes messages of alerts on a port of its own; `came` counts them by channel and alert."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(f"inbox:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
        self._server = _Server((HOST, 0), _Handler)
        self._server.inbox = self
        self._lock = threading.Lock()
        self.came: Counter[tuple[str, int]] = Counter()
        self.under_way = threading.Event()
        threading.Thread(target=self._server.serve_forever, name="inbox", daemon=True).start()

    def address_of(self, channel: str) -> str:
        """The address of a channel, as Apprise writes it."""
        return f"json://{HOST}:{self._server.server_port}/{channel}"

    def take(self, channel: str, body: dict[str, Any]) -> int:
        """Keep one message and answer late, or be away; the HTTP status."""
        with self._lock:
            is_away, seconds = self._dice.random() < AWAY_CHANCE, self._dice.uniform(*ANSWER_SECONDS)
            about = ALERT.search(str(body.get("message", "")))
            if about and not is_away:
                self.came[channel, int(about[1])] += 1
        self.under_way.set()
        time.sleep(seconds)
        return 503 if is_away else 200

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
