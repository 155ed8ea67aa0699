"""`with-servers`: a throw-away PostgreSQL and Redis around one command, for tests and checks."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tradingbot.launcher import places, processes
from tradingbot.launcher.errors import LauncherError
from tradingbot.launcher.postgres_server import PostgresServer
from tradingbot.launcher.redis_server import RedisServer

STOP_SECONDS = 6


def run(command: Sequence[str], *, keep: bool) -> int:
    """Run `command` with DATABASE_URL, REDIS_URL and a SECRET_KEY for the occasion; answers its exit code.

    What is already in the environment is left as it is, and no server is started for it.
    `keep` leaves folder and logs behind.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _servers(keep=keep) as urls:
        return _run_to_end(command, os.environ | urls)


@contextmanager
def _servers(*, keep: bool) -> Iterator[dict[str, str]]:
    folder = places.throwaway_folder(places.server_account())
    started: list[processes.Child] = []
    outside: list[Path] = []
    try:
        urls: dict[str, str] = {}
        if not any(os.environ.get(name, "").strip() for name in ("SECRET_KEY", "SECRET_KEY_FILE")):
            urls["SECRET_KEY"] = secrets.token_urlsafe(48)
        if not os.environ.get("DATABASE_URL", "").strip():
            postgres = PostgresServer(folder, folder / "postgres.log", durable=False)
            outside.append(postgres.sockets)
            started.append(postgres.start())
            urls["DATABASE_URL"] = postgres.url
        if not os.environ.get("REDIS_URL", "").strip():
            redis = RedisServer(folder, folder / "redis.log", durable=False)
            outside.append(redis.socket.parent)
            started.append(redis.start())
            urls["REDIS_URL"] = redis.url
        yield urls
    finally:
        processes.stop(started, STOP_SECONDS)
        if keep:
            print(f"with-servers: kept {folder}", file=sys.stderr)
        else:
            for path in (*outside, folder):
                shutil.rmtree(path, ignore_errors=True)


def _run_to_end(command: Sequence[str], env: dict[str, str]) -> int:
    """The command shares our terminal and process group: a Ctrl-C reaches it without our help; we wait."""
    try:
        child = subprocess.Popen(list(command), env=env)
    except OSError as error:
        raise LauncherError(f"{command[0]} cannot be started: {error.strerror}.") from error
    try:
        while True:
            try:
                code = child.wait()
                return 128 - code if code < 0 else code
            except KeyboardInterrupt:
                continue
    finally:
        if child.poll() is None:  # we were told to stop, the command was not
            child.terminate()
            try:
                child.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
