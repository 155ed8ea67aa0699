"""The OpenAI wire protocol (models, chat completions, responses) over HTTP, and faults for rehearsing a bad model."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from simulator.clock import system_now_ms
from simulator.model.rule import decide

MODEL_ID = "rehearsal"
BODY_BYTES_MAX = 4 << 20
CHARACTERS_PER_TOKEN = 4
LOOPBACK = frozenset({"127.0.0.1", "::1"})
FAULT_KINDS = ("slow", "status", "malformed", "refusal", "cut")
PROSE = "I think the market looks interesting today, but let me describe it in prose instead of JSON."
REFUSAL = "I'm sorry, I cannot help with that request."


class BadRequestError(Exception):
    """A request that OpenAI would refuse; shown in its error shape."""

    def __init__(
        self, status: int, message: str, kind: str = "invalid_request_error", code: str | None = None
    ):
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": None, "code": code}}


@dataclass(slots=True)
class ModelFault:
    """slow: wait `ms` first; status: answer with `status`; malformed: prose instead of JSON; refusal: the
    refusal field; cut: half of the JSON with finish_reason length."""

    kind: str
    count: int = 1
    ms: int = 0
    status: int = 500
    fired_at_ms: list[int] = field(default_factory=list)


class ModelServer:
    """State of one stand-in: its armed faults and a count of answers."""

    def __init__(self) -> None:
        self._faults: list[ModelFault] = []
        self._answers = 0

    async def models(self, request: web.Request) -> web.Response:
        try:
            _authorize(request)
        except BadRequestError as error:
            return _json(error.body, error.status)
        entry = {"id": MODEL_ID, "object": "model", "created": 1_700_000_000, "owned_by": "simulator"}
        return _json({"object": "list", "data": [entry]})

    async def chat_completions(self, request: web.Request) -> web.Response:
        return await self._serve(request, self._completion)

    async def responses(self, request: web.Request) -> web.Response:
        return await self._serve(request, self._response)

    async def _serve(
        self, request: web.Request, shape: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> web.Response:
        try:
            _authorize(request)
            body = _body(await request.read())
            slow = self._take("slow")
            if slow is not None:
                await asyncio.sleep(slow.ms / 1000)
                if request.transport is None:  # gave up: other faults are for those who still wait
                    return _json({}, 499)
            status = self._take("status")
            if status is not None:
                kind = "rate_limit_exceeded" if status.status == 429 else "server_error"
                raise BadRequestError(status.status, f"fault: status {status.status}", kind, kind)
            return _json(shape(body))
        except BadRequestError as error:
            return _json(error.body, error.status)

    async def arm(self, request: web.Request) -> web.Response:
        """POST /sim/faults: {"kind", "count", "ms", "status"}."""
        if request.remote not in LOOPBACK:
            return _json({"error": "the control paths answer on loopback only"}, 403)
        try:
            fault = msgspec.json.decode(await request.read(), type=ModelFault)
        except msgspec.DecodeError as error:
            return _json({"error": str(error)}, 400)
        if fault.kind not in FAULT_KINDS or fault.count < 1 or not 0 <= fault.ms <= 600_000:
            return _json(
                {"error": f"kind must be one of {', '.join(FAULT_KINDS)}, count >= 1, 0 <= ms <= 600000"}, 400
            )
        if not 400 <= fault.status <= 599:
            return _json({"error": "status must be 400 to 599"}, 400)
        fault.fired_at_ms = []
        self._faults.append(fault)
        return _json(asdict(fault))

    async def faults(self, request: web.Request) -> web.Response:
        """GET /sim/faults: what is armed, what has fired, and how many answers were given."""
        if request.remote not in LOOPBACK:
            return _json({"error": "the control paths answer on loopback only"}, 403)
        return _json({"answers": self._answers, "faults": [asdict(fault) for fault in self._faults]})

    def _take(self, kind: str) -> ModelFault | None:
        for fault in self._faults:
            if fault.kind == kind and fault.count > 0:
                fault.count -= 1
                fault.fired_at_ms.append(system_now_ms())
                return fault
        return None

    def _say(self, prompts: list[str]) -> tuple[str | None, str | None, bool]:
        """(text, refusal, whether it is whole) after the faults that are armed."""
        content = json.dumps(decide(_snapshot(prompts[-1])), ensure_ascii=False)
        self._answers += 1
        if self._take("malformed") is not None:
            return PROSE, None, True
        if self._take("refusal") is not None:
            return None, REFUSAL, True
        if self._take("cut") is not None:
            return content[: len(content) // 2], None, False
        return content, None, True

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        prompts = _texts(body, "messages")
        content, refusal, is_whole = self._say(prompts)
        prompt_tokens = _tokens("".join(prompts))
        completion_tokens = _tokens(content or refusal or "")
        message = {"role": "assistant", "content": content, "refusal": refusal}
        finish = "stop" if is_whole else "length"
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": system_now_ms() // 1000,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
            "system_fingerprint": "rehearsal-rule-1",
        }

    def _response(self, body: dict[str, Any]) -> dict[str, Any]:
        prompts = _texts(body, "input")
        content, refusal, is_whole = self._say(prompts)
        input_tokens, output_tokens = _tokens("".join(prompts)), _tokens(content or refusal or "")
        status = "completed" if is_whole else "incomplete"
        part: dict[str, Any] = (
            {"type": "refusal", "refusal": refusal}
            if refusal
            else {"type": "output_text", "text": content, "annotations": []}
        )
        message = {
            "type": "message", "id": f"msg_{uuid.uuid4().hex}", "role": "assistant", "status": status,
            "content": [part],
        }  # fmt: skip
        return {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": system_now_ms() // 1000,
            "status": status,
            "error": None,
            "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
            "model": body["model"],
            "output": [message],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": input_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": input_tokens + output_tokens,
            },
        }


def make_model_app() -> web.Application:
    """The stand-in as an aiohttp application."""
    server = ModelServer()
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    for prefix in ("/v1", ""):
        app.router.add_get(f"{prefix}/models", server.models)
        app.router.add_post(f"{prefix}/chat/completions", server.chat_completions)
        app.router.add_post(f"{prefix}/responses", server.responses)
    app.router.add_post("/sim/faults", server.arm)
    app.router.add_get("/sim/faults", server.faults)
    return app


def _authorize(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise BadRequestError(
            401, "You didn't provide an API key in an Authorization header (Bearer).", code="invalid_api_key"
        )


def _body(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        raise BadRequestError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        raise BadRequestError(400, "you must provide a model parameter")
    if body.get("stream"):
        raise BadRequestError(400, "This stand-in does not stream; send stream false.")
    return body


def _texts(body: dict[str, Any], key: str) -> list[str]:
    """Texts of all messages in `key`, the last user message last."""
    messages = body.get(key)
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadRequestError(400, f"{key} must be a list of objects")
    texts = [(message.get("role"), _content(message.get("content"))) for message in messages]
    last_user = max((index for index, (role, _) in enumerate(texts) if role == "user"), default=None)
    if last_user is None:
        raise BadRequestError(400, f"{key} must contain a user message")
    user = texts.pop(last_user)
    return [text for _, text in texts] + [user[1]]


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def _snapshot(prompt: str) -> dict[str, Any]:
    """The JSON object in a prompt: the first `{` that begins a whole one, up to its end."""
    decoder = json.JSONDecoder()
    start = prompt.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(prompt, start)
        except ValueError:
            start = prompt.find("{", start + 1)
            continue
        if isinstance(value, dict) and "snapshot_id" in value:
            return value
        break
    raise BadRequestError(400, "The last user message holds no snapshot: a JSON object with snapshot_id.")


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        headers={"x-request-id": f"req_{uuid.uuid4().hex}"},
    )
