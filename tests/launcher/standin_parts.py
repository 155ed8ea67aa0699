"""The stand-ins themselves, without an import of the product: `python -m tests.launcher.standin_parts worker`.

The environment says which of them misbehaves.
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Answers(BaseHTTPRequestHandler):
    """Just enough of a web server's readiness page and of a simulator's accounts."""

    accounts: Path

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/readyz":
            status = int(os.environ.get("STANDIN_READY", "200"))
            self._answer(status, {"missing": [] if status == 200 else ["no heartbeat of worker trading"]})
        elif path == "/api/v3/account":
            known = self.accounts.exists() and self.accounts.read_text() == self.headers["X-MBX-APIKEY"]
            self._answer(*((200, {}) if known else (401, {"code": -2015})))
        else:
            self._answer(200, {"serverTime": 1, "symbols": [{"symbol": "BTCUSDT"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.accounts.write_text("fake-key")
        self._answer(200, {"apiKey": "fake-key", "secretKey": "fake-secret"})

    def _answer(self, status: int, body: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


def serve(port: str, data: str) -> None:
    Answers.accounts = Path(data) / "accounts"
    ThreadingHTTPServer(("127.0.0.1", int(port)), Answers).serve_forever()


def migrate() -> None:
    if os.environ.get("STANDIN_MIGRATE") == "fails":
        sys.exit("settings: SYMBOLS='?' names no symbol.")
    if os.environ.get("STANDIN_MIGRATE") == "hangs":
        idle()


def worker() -> None:
    behaviour = os.environ.get("STANDIN_WORKER")
    if behaviour == "falls":
        print("no broker", flush=True)
        sys.exit(3)
    if behaviour == "falls silently":
        sys.exit(3)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "falls when told" and Path(os.environ["STANDIN_FILE"]).exists():
        sys.exit(3)
    idle()


def idle() -> None:
    while True:
        time.sleep(60)


if __name__ == "__main__":
    {"serve": serve, "migrate": migrate, "worker": worker, "idle": idle}[sys.argv[1]](*sys.argv[2:])
