"""A model that trades at every question, over HTTP: the stand-in's rule, told that there is always a reason."""

import json
import threading
from copy import deepcopy
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from simulator.model.rule import decide
from tradingbot.operations.rehearsal.processes.wire import HOST

BODY_BYTES_MAX = 4_000_000
# A position worth less than this is what fees left over; it is not sold but added to.
POSITION_MIN_QUOTE = Decimal(15)
EMA_9, EMA_21 = "ema_9_1m", "ema_21_1m"


def always_trade(snapshot: dict[str, Any]) -> dict[str, Any]:
    """The rule's decision had the trend just turned: SELL what is held, BUY when nothing is."""
    told = deepcopy(snapshot)
    facts = {fact["id"]: fact for fact in told["facts"]}
    position = told["position"]
    if EMA_9 in facts and EMA_21 in facts:
        sells = position is not None and (
            Decimal(position["quantity"]) * Decimal(facts["close_1m"]["value"]) >= POSITION_MIN_QUOTE
        )
        told["position"] = position if sells else None
        facts[EMA_9]["value"], facts[EMA_21]["value"] = ("1", "2") if sells else ("2", "1")
    answer = decide(told)
    real = {fact["id"]: fact["value"] for fact in snapshot["facts"]}
    answer["facts"] = [{"id": fact["id"], "value": real[fact["id"]]} for fact in answer["facts"]]
    return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The list of models, for whoever asks whether somebody is there."""
        self._answer({"object": "list", "data": [{"id": "rehearsal-1", "object": "model"}]})

    def do_POST(self) -> None:
        """One chat completion."""
        length = min(int(self.headers.get("Content-Length", "0")), BODY_BYTES_MAX)
        body = json.loads(self.rfile.read(length))
        text = body["messages"][-1]["content"]
        content = json.dumps(always_trade(json.loads(text[text.index("{") : text.rindex("}") + 1])))
        message = {"role": "assistant", "content": content, "refusal": None}
        self._answer(
            {
                "id": "rehearsal",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )

    def _answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing: a line for each question would hide the report."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """An advisor that was killed while it asked leaves a broken connection; that is the point."""


class EagerModel:
    """The model on a port of its own, in threads of this process."""

    def __init__(self) -> None:
        self._server = _Server((HOST, 0), _Handler)
        self.url = f"http://{HOST}:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, name="model", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
