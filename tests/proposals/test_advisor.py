"""The adapter against a real server on the wire: every failure has its code, none takes for ever."""

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from proposals.adapters import advisor
from proposals.contracts import BODY_BYTES_MAX, AdvisorUnavailable, Answer
from tests.proposals.conftest import KEY
from tests.proposals.model_server import (
    Server,
    cuts_body,
    drips,
    fails,
    hangs,
    hangs_up,
    says,
)

REQUEST: dict[str, Any] = {"model": "stand-in", "messages": [{"role": "user", "content": "{}"}]}


def ask(server: Server, timeout_seconds: float = 10) -> Answer:
    return advisor.ask(REQUEST, base_url=server.url, timeout_seconds=timeout_seconds)


def refused(server: Server, timeout_seconds: float = 10) -> AdvisorUnavailable:
    with pytest.raises(AdvisorUnavailable) as caught:
        ask(server, timeout_seconds)
    return caught.value


def test_answer_comes_back_as_it_was_sent(model_server: Server) -> None:
    model_server.scripts = [says("hello")]

    answer = ask(model_server)

    assert '"content": "hello"' in answer.body
    assert (answer.truncated, answer.request_id) == (False, "req-42")
    assert model_server.requests[0]["path"] == "/v1/chat/completions"
    assert model_server.requests[0]["body"] == REQUEST


@pytest.mark.parametrize(
    ("script", "code", "transient"),
    [
        (fails(500), "HTTP_500", True),
        (fails(502), "HTTP_502", True),
        (fails(408), "HTTP_408", True),
        (fails(409), "HTTP_409", True),
        (fails(429), "HTTP_429", True),
        (fails(429, {"message": "pay", "code": "insufficient_quota"}), "QUOTA", False),
        (fails(400), "BAD_REQUEST", False),
        (fails(422), "BAD_REQUEST", False),
        (fails(401), "AUTH", False),
        (fails(403), "AUTH", False),
        (fails(404), "NOT_FOUND", False),
        (fails(418), "HTTP_418", False),
        (fails(307, location="http://127.0.0.1:9/"), "HTTP_307", False),
        (hangs_up, "BROKEN_OFF", True),
        (cuts_body, "BROKEN_OFF", True),
    ],
)
def test_failure_has_its_code_and_is_sent_once(
    model_server: Server, script: Any, code: str, transient: bool
) -> None:
    model_server.scripts = [script]

    error = refused(model_server)

    assert (error.code, error.transient) == (code, transient)
    assert len(model_server.requests) == 1


def test_words_of_the_server_are_kept(model_server: Server) -> None:
    model_server.scripts = [fails(400, {"message": "model 'x' \u202edoes not exist"})]

    assert refused(model_server).detail == "HTTP 400: model 'x' does not exist"


def test_error_page_is_kept_short_and_plain(model_server: Server) -> None:
    model_server.scripts = [lambda h: h.send(502, b"<html>\x1b[31m" + b"x" * 9000, content_type="text/html")]

    detail = refused(model_server).detail

    assert detail.startswith("HTTP 502: <html>[31mxxx")
    assert len(detail) <= 320


def test_retry_after_is_told(model_server: Server) -> None:
    model_server.scripts = [fails(429, retry_after="7")]

    assert refused(model_server).retry_after_seconds == 7


@pytest.mark.parametrize("script", [hangs, drips])
def test_deadline_holds_for_the_whole_call(model_server: Server, script: Any) -> None:
    model_server.scripts = [script]

    assert refused(model_server, timeout_seconds=1).code == "TIMEOUT"


def test_call_that_ignores_its_deadline_is_left_behind(
    model_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    async def stuck(*_: Any) -> None:
        released.wait(30)  # as a name look-up that does not return

    monkeypatch.setattr(advisor, "_ask", stuck)

    error = refused(model_server, timeout_seconds=0.1)

    released.set()
    assert error.code == "TIMEOUT"


def test_nobody_listening_is_a_connection_failure() -> None:
    with pytest.raises(AdvisorUnavailable) as caught:
        advisor.ask(REQUEST, base_url="http://127.0.0.1:9/v1", timeout_seconds=5)

    assert (caught.value.code, caught.value.transient) == ("CONNECTION", True)


def test_endless_body_is_cut_at_the_cap(model_server: Server) -> None:
    model_server.scripts = [lambda handler: handler.send(200, b"x" * (3 * BODY_BYTES_MAX))]

    answer = ask(model_server)

    assert answer.truncated
    assert len(answer.body) == BODY_BYTES_MAX


def test_key_is_in_no_error_and_no_log(model_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    model_server.scripts = [fails(401, {"message": f"Incorrect API key provided: {KEY}"})]

    error = refused(model_server)

    from tradingbot.core.logs import RedactingFormatter

    lines = [RedactingFormatter().format(record) for record in caplog.records]
    assert "[redacted]" in error.detail
    assert KEY not in str(error)
    assert KEY not in "\n".join(lines)


def test_unreadable_key_file_is_said_and_nothing_is_sent(
    model_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_FILE", "/nowhere/key")

    error = refused(model_server)

    assert error.code == "AUTH"
    assert "OPENAI_API_KEY_FILE" in error.detail
    assert model_server.requests == []


@pytest.mark.parametrize(
    "content",
    [b"sk-fake-first\nsk-fake-second", "“sk-fake-first”".encode(), b"sk-fake-first\xff", b"sk-fake-first x"],
)
def test_key_file_that_holds_no_key_is_said_without_what_it_holds(
    model_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    """Of two lines the HTTP library's error quoted both, escaped, so that no redaction knew them."""
    (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "key"))
    model_server.scripts = [says("hello")]

    error = refused(model_server)

    assert error.code == "AUTH"
    assert "OPENAI_API_KEY" in error.detail
    assert "sk-fake" not in str(error)
    assert model_server.requests == []


def test_without_a_key_a_placeholder_is_sent(model_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    model_server.scripts = [says("hello")]

    ask(model_server)

    assert model_server.requests[0]["headers"]["authorization"] == "Bearer no-key"


def test_sdk_is_not_imported_before_the_first_call() -> None:
    program = (
        "import django, sys; django.setup(); import proposals.tasks, proposals.admin; "
        "sys.exit('openai' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
