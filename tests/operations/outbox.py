"""Alerts, channels and a mail server for tests of delivery."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from tests.conftest import NOW
from tests.operations.push_service import Sink
from tradingbot.core import alerts
from tradingbot.core.models import Alert, AlertChannel
from tradingbot.operations import channels

SECRET = "xoxb-obviously-fake-token"


def raise_one(seconds: float = 0, **changes: Any) -> Alert:
    values = {"kind": "divergence", "severity": "high", "title": "Books differ", "detail": "BTC: 0.1 against 0.2",
              "subject": "divergence:7", "now": NOW + timedelta(seconds=seconds)}  # fmt: skip
    return Alert.objects.get(pk=alerts.raise_alert(**values | changes))


def channel(sink: Sink, name: str = "webhook", path: str = SECRET, **changes: Any) -> AlertChannel:
    row = AlertChannel(name=name, **changes)
    channels.save_channel(channel=row, address=f"json://127.0.0.1:{sink.port}/{path}", actor="rita", now=NOW)
    return row


class _Mail(socketserver.StreamRequestHandler):
    """Enough of RFC 5321 to take a mail."""

    def handle(self) -> None:
        lines: list[str] = []
        self._say("220 sink")
        while word := self.rfile.readline().decode("utf-8", "replace").strip():
            verb = word.split()[0].upper()
            if verb == "EHLO":
                self._say("250-sink\r\n250 AUTH PLAIN LOGIN")
            elif verb == "AUTH":
                self._say("235 fine")
            elif verb == "DATA":
                self._say("354 go on")
                while (line := self.rfile.readline().decode("utf-8", "replace").rstrip("\r\n")) != ".":
                    lines.append(line)
                self.server.mails.append("\n".join(lines))  # type: ignore[attr-defined]
                self._say("250 taken")
            elif verb == "QUIT":
                self._say("221 bye")
                break
            else:
                self._say("250 fine")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail)
    server.mails = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], server.mails  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
