"""A real server on loopback that speaks the OpenAI wire, each answer scripted by the test."""

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[["Handler"], None]


def completion(content: str | None, *, finish: str = "stop", refusal: str | None = None) -> dict[str, Any]:
    """The body of a Chat Completions answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stand-in-7",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content, "refusal": refusal},
            }
        ],
        "usage": {"prompt_tokens": 1200, "completion_tokens": 90, "total_tokens": 1290},
    }


def response(
    content: str | None, *, status: str = "completed", reason: str | None = None, refusal: str | None = None
) -> dict[str, Any]:
    """The body of a Responses answer, thoughts of the model first."""
    part = {"type": "refusal", "refusal": refusal} if refusal else {"type": "output_text", "text": content}
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": "stand-in-7",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": [part]},
        ],
        "usage": {"input_tokens": 1200, "output_tokens": 90, "total_tokens": 1290},
    }


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the next script; the last one serves all further requests."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_POST(self) -> None:
        self.raw = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append(
            {"path": self.path, "headers": dict(self.headers), "body": json.loads(self.raw)}
        )
        scripts = self.server.scripts
        script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        try:
            script(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send(self, status: int, body: bytes, **headers: str) -> None:
        """A whole response."""
        self.send_response(status)
        for name, value in {"content-type": "application/json", "x-request-id": "req-42", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """`url` is the base URL for the client; `requests` what was received."""

    daemon_threads = True
    block_on_close = False  # a script may still wait for its test's end

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scripts: list[Script] = []
        self.requests: list[dict[str, Any]] = []
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


def says(content: str | None, **kind: Any) -> Script:
    """Answers with a completion, or with a response where that was asked for."""

    def script(handler: Handler) -> None:
        shape = response if "input" in json.loads(handler.raw) else completion
        handler.send(200, json.dumps(shape(content, **kind)).encode())

    return script


def echoes(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Script:
    """Answers with what `answer` makes of the JSON object in the user message."""

    def script(handler: Handler) -> None:
        body = json.loads(handler.raw)
        text = (body.get("messages") or body["input"])[-1]["content"]
        data = json.loads(text[text.index("{") :])
        says(json.dumps(answer(data)))(handler)

    return script


def fails(status: int, error: dict[str, Any] | None = None, **headers: str) -> Script:
    """Answers with an HTTP error as OpenAI words it."""
    body = json.dumps({"error": error or {"message": f"scripted {status}"}}).encode()
    return lambda handler: handler.send(status, body, **headers)


def hangs(handler: Handler) -> None:
    """Never answers."""
    handler.server.closing.wait(30)
    handler.close_connection = True


def drips(handler: Handler) -> None:
    """Sends a byte every 0.1 s, so that no single read ever times out."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "100000")
    handler.end_headers()
    while not handler.server.closing.wait(0.1):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def hangs_up(handler: Handler) -> None:
    """Closes the connection without a word."""
    handler.close_connection = True


def cuts_body(handler: Handler) -> None:
    """Promises more than it sends."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True
