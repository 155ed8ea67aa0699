"""One WebSocket connection: its ends, its limits, its signs of life."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from market.adapters import stream_client
from market.adapters.stream_client import Backoff, Patience, SocketEnded, StreamSocket, connect

Behaviour = Callable[[web.WebSocketResponse], Awaitable[None]]
PATIENT = Patience()


@asynccontextmanager
async def served(behaviour: Behaviour, **options: Any) -> AsyncIterator[str]:
    """The URL of a server that treats each connection by `behaviour`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(**options)
        await socket.prepare(request)
        await behaviour(socket)
        return socket

    app = web.Application()
    app.add_routes([web.get("/", handle)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def until_closed(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass


async def drain(socket: StreamSocket) -> tuple[list[bytes], SocketEnded]:
    """All frames until the connection is over, and why it is."""
    frames: list[bytes] = []
    async with asyncio.timeout(30):
        while True:
            try:
                frames += await socket.receive()
            except SocketEnded as ended:
                await socket.close()
                return frames, ended


async def end_of(socket: StreamSocket) -> SocketEnded:
    """Why the connection ended."""
    return (await drain(socket))[1]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def test_messages_come_in_order_and_the_close_code_is_the_reason() -> None:
    async def behaviour(socket: web.WebSocketResponse) -> None:
        for number in range(3):
            await socket.send_str(str(number))
        await socket.close(code=1008)

    async def test() -> None:
        async with served(behaviour) as url:
            frames, ended = await drain(await connect(url, PATIENT))
        assert frames == [b"0", b"1", b"2"]
        assert ended.reason == "closed by the exchange with code 1008"

    run(test)


def test_a_fragmented_message_is_joined() -> None:
    async def behaviour(socket: web.WebSocketResponse) -> None:
        transport = socket._req.transport  # type: ignore[union-attr]
        transport.write(b"\x01\x02ab" + b"\x00\x01c" + b"\x80\x02de")  # type: ignore[union-attr]
        await until_closed(socket)

    async def test() -> None:
        async with served(behaviour) as url:
            socket = await connect(url, PATIENT)
            assert await socket.receive() == [b"abcde"]
            await socket.close()

    run(test)


def test_a_cut_connection_ends_with_a_reason() -> None:
    async def behaviour(socket: web.WebSocketResponse) -> None:
        socket._req.transport.abort()  # type: ignore[union-attr]

    async def test() -> None:
        async with served(behaviour) as url:
            ended = await end_of(await connect(url, PATIENT))
        assert ended.reason == "the connection broke without a close frame"

    run(test)


def test_a_full_queue_ends_the_connection_and_keeps_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "QUEUE_FRAMES_MAX", 10)

    async def behaviour(socket: web.WebSocketResponse) -> None:
        for number in range(100):
            await socket.send_str(str(number))
        await until_closed(socket)

    async def test() -> None:
        async with served(behaviour) as url:
            socket = await connect(url, PATIENT)
            async with asyncio.timeout(30):
                while socket._ended is None:
                    await asyncio.sleep(0.01)
            frames, ended = await drain(socket)
        assert frames == [str(n).encode() for n in range(11)]
        assert "queue is full" in ended.reason

    run(test)


def test_the_servers_ping_is_answered_with_its_payload() -> None:
    answered: list[bytes] = []

    async def behaviour(socket: web.WebSocketResponse) -> None:
        await socket.ping(b"1772409600000")
        message = await socket.receive()
        assert message.type is WSMsgType.PONG
        answered.append(bytes(message.data))
        await socket.close()

    async def test() -> None:
        async with served(behaviour, autoping=False) as url:
            await end_of(await connect(url, PATIENT))

    run(test)
    assert answered == [b"1772409600000"]


def test_a_half_open_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(stream_client, "PING_AFTER_SECONDS", 0.1)

    async def behaviour(socket: web.WebSocketResponse) -> None:
        await asyncio.sleep(30)  # reads nothing, answers nothing

    async def test() -> None:
        async with served(behaviour) as url:
            ended = await end_of(await connect(url, Patience(frame_seconds=0.5, message_seconds=20)))
        assert ended.reason.startswith("half-open")

    run(test)


def test_a_connection_that_only_answers_pings_is_given_up_for_want_of_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_client, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(stream_client, "PING_AFTER_SECONDS", 0.05)

    async def test() -> None:
        async with served(until_closed) as url:
            ended = await end_of(await connect(url, Patience(frame_seconds=20, message_seconds=0.5)))
        assert ended.reason.startswith("no message for")

    run(test)


def test_before_the_planned_end_a_successor_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(stream_client, "LIFETIME_SECONDS", 0)
    monkeypatch.setattr(stream_client, "LIFETIME_JITTER_SECONDS", 0)

    async def test() -> None:
        async with served(until_closed) as url:
            socket = await connect(url, PATIENT)
            assert "planned" in await socket.retired()
            await socket.close()

    run(test)


def test_without_a_successor_the_planned_end_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(stream_client, "LIFETIME_SECONDS", 0)
    monkeypatch.setattr(stream_client, "LIFETIME_JITTER_SECONDS", 0)
    monkeypatch.setattr(stream_client, "HAND_OVER_SECONDS", 0)

    async def test() -> None:
        async with served(until_closed) as url:
            ended = await end_of(await connect(url, PATIENT))
        assert ended.at_once and "no successor" in ended.reason

    run(test)


def test_a_refused_connection_says_where_to() -> None:
    async def test() -> None:
        with pytest.raises(SocketEnded, match=r"could not connect to ws://127\.0\.0\.1:1/"):
            await connect("ws://127.0.0.1:1/", PATIENT)

    run(test)


def test_sending_on_a_dead_connection_does_nothing() -> None:
    async def test() -> None:
        async with served(until_closed) as url:
            socket = await connect(url, PATIENT)
            await socket.close()
            await socket.close()
            socket.send({"method": "LIST_SUBSCRIPTIONS", "id": 1})

    run(test)


def test_the_back_off_doubles_with_jitter_to_thirty_seconds_and_starts_again() -> None:
    backoff = Backoff()
    waits = [backoff.next_seconds() for _ in range(10)]
    ceilings = [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]

    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))
    backoff.succeeded()
    assert backoff.next_seconds() <= 0.5
