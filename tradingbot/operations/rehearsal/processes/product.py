"""The product as processes: started by its own launcher, which starts the killed again; looked at from outside."""

import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
import requests
from django.conf import settings
from django.db import connection, connections

from tradingbot.launcher import places, processes
from tradingbot.launcher.postgres_server import DATABASE, ROLE, PostgresServer
from tradingbot.launcher.redis_server import RedisServer
from tradingbot.operations.rehearsal.processes.inbox import Inbox
from tradingbot.operations.rehearsal.processes.model import EagerModel
from tradingbot.operations.rehearsal.processes.table import PARTS, WIRES_SETTING
from tradingbot.operations.rehearsal.processes.wire import HOST, Wires

READY_SECONDS_MAX = 150
STOP_SECONDS_MAX = 25
HTTP_SECONDS_MAX = 10
READY_LINE = re.compile(r"^ready (http://\S+)  user (\S+)  password (\S+)$", re.MULTILINE)
FALLEN_LINE = re.compile(r"^(\S+) ended \((.+?)\); starting it again", re.MULTILINE)
WORKER_READY = b" ready."
WORKERS = ("trading", "trading-2", "streams", "advisor", "alerts")
# Of the launcher's five restarts of a part in a minute, one is left for a part that falls by itself.
FALLS_PER_MINUTE_MAX = 4
FALLS_SECONDS = 63.0
BOOT_SECONDS = 5.0  # of a part that does not say when it is at work
SETTINGS = {
    "TRADING_ENVIRONMENT": "simulator",
    "TRADING_ENABLED": "true",
    "EXCHANGE_TIMEOUT_SECONDS": "3",
    "RECONCILE_GRACE_SECONDS": "5",
}


class NotInTime(Exception):
    """Something that must happen did not happen within its time; the text says what."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float) -> Any:
    """The first true answer of `condition`; raises NotInTime with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)
    return found


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listened on a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind((HOST, 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Product:
    """One run of the whole product in `folder`; the wires to its exchange are `wires`."""

    def __init__(self, folder: Path, *, seed: int, speed: int) -> None:
        self.data, self.log = folder / "data", folder / "launcher.log"
        web, simulator = free_ports(2)
        self.url, self.simulator_url = f"http://{HOST}:{web}", f"http://{HOST}:{simulator}"
        self.wires = Wires(simulator, PARTS)
        self.model = EagerModel()
        self.inbox = Inbox(seed)
        self.falls: dict[str, deque[float]] = {}
        self.fell_by_itself: Counter[str] = Counter()
        self.user = self.password = ""
        self._log_read = 0
        self._killed_at: dict[str, tuple[int, int]] = {}
        self._up_since: dict[str, tuple[int, float]] = {}
        self._http = requests.Session()
        self._http.trust_env = False
        home = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._launcher = processes.spawn(
            "launcher",
            [sys.executable, "-m", "tradingbot.operations.rehearsal.processes.table"],
            env=home
            | SETTINGS
            | {
                "DATA_DIR": str(self.data),
                "PORT": str(web),
                "SIMULATOR_PORT": str(simulator),
                "OPENAI_BASE_URL": self.model.url,
                "SEED": str(seed),
                "SPEED": str(speed),
                WIRES_SETTING: json.dumps(self.wires.ports),
            },
            log=self.log,
        )

    # --- life -------------------------------------------------------------------------------------------

    def wait_until_ready(self) -> None:
        """Return when the launcher says `ready`; raises NotInTime with its last words when it does not."""
        ready = wait_for(self._ready_or_over, "the product says `ready`", READY_SECONDS_MAX)
        if ready is True:
            raise NotInTime(f"the product ended while starting: {processes.last_words(self.log)}")
        self.user, self.password = ready[2], ready[3]
        self.postgres = PostgresServer(self.data, self.data / "logs" / "postgres.log")
        self.redis = RedisServer(self.data, self.data / "logs" / "redis.log")

    def _ready_or_over(self) -> "re.Match[str] | bool | None":
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return READY_LINE.search(text) or (True if not self._launcher.is_running() else None)

    def stop(self) -> None:
        """End the launcher with everything that it started, and the wires."""
        processes.stop([self._launcher], STOP_SECONDS_MAX)
        self.wires.stop()
        self.model.stop()
        self.inbox.stop()

    def look(self) -> None:
        """Read what the launcher said since the last look; raises NotInTime when it has given up."""
        if not self._launcher.is_running():
            raise NotInTime(f"the launcher gave up: {processes.last_words(self.log)}")
        text = self.log.read_text(encoding="utf-8", errors="replace")
        whole = text.rfind("\n") + 1
        for part, how in FALLEN_LINE.findall(text[self._log_read : whole]):
            self.falls.setdefault(part, deque(maxlen=FALLS_PER_MINUTE_MAX)).append(time.monotonic())
            if "SIGKILL" not in how and part in PARTS:
                self.fell_by_itself[part] += 1
        self._log_read = whole

    def pids(self) -> dict[str, int]:
        """Name -> pid of the parts of now."""
        rows = json.loads((self.data / "processes.json").read_text(encoding="utf-8"))
        return {row["name"]: row["pid"] for row in rows}

    def readiness(self) -> str:
        """What /readyz complains of; empty when every part works."""
        try:
            answer = self._http.get(f"{self.url}/readyz", timeout=HTTP_SECONDS_MAX)
            parts = answer.json()["parts"]
        except (requests.RequestException, ValueError, KeyError) as error:
            return f"the web server does not answer ({type(error).__name__})"
        return "; ".join(f"{name}: {part['detail']}" for name, part in parts.items() if not part["ok"])

    # --- killing ----------------------------------------------------------------------------------------

    def may_be_killed(self, part: str) -> bool:
        """Whether `part` is at work again and the launcher would start it again."""
        falls = self.falls.get(part)
        if falls and len(falls) == FALLS_PER_MINUTE_MAX and time.monotonic() - falls[0] < FALLS_SECONDS:
            return False
        return self._is_at_work(part)

    def _is_at_work(self, part: str) -> bool:
        pid = self.pids().get(part)
        old_pid, log_end = self._killed_at.get(part, (0, 0))
        if pid is None or pid == old_pid or processes.start_time(pid) is None:
            return False
        seen_pid, since = self._up_since.setdefault(part, (pid, time.monotonic()))
        if seen_pid != pid:
            self._up_since[part] = (pid, time.monotonic())
            return False
        if part in WORKERS and old_pid:
            written = self._log_of(part).read_bytes()
            return WORKER_READY in written[log_end if len(written) >= log_end else 0 :]  # it may be rotated
        return not old_pid or time.monotonic() - since > BOOT_SECONDS

    def kill(self, part: str, number: int = signal.SIGKILL) -> bool:
        """Signal a part or server by its pid; False when it was not there."""
        pid = self.pids().get(part)
        if pid is None or processes.start_time(pid) is None:
            return False
        log = self._log_of(part)
        self._killed_at[part] = (pid, log.stat().st_size if log.exists() else 0)
        os.kill(pid, number)
        return True

    def _log_of(self, part: str) -> Path:
        return self.data / "logs" / f"{part}.log"

    def flush_redis(self) -> bool:
        """FLUSHALL; False when Redis is not there."""
        client = redis.Redis(unix_socket_path=str(self.redis.socket), socket_timeout=5)
        try:
            client.flushall()
        except redis.RedisError:
            return False
        finally:
            client.close()
        return True

    # --- looking ----------------------------------------------------------------------------------------

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection of our own to the product's database."""
        return psycopg.connect(
            host=str(self.postgres.sockets), user=ROLE, dbname=DATABASE, autocommit=True, connect_timeout=5
        )

    @contextmanager
    def as_database(self) -> Iterator[None]:
        """Django's own connection goes to the product's database, and secrets of channels to its folder."""
        kept, kept_secrets = dict(connection.settings_dict), settings.ALERT_SECRETS_DIR
        settings.ALERT_SECRETS_DIR = self.data / kept_secrets.name
        connections.close_all()
        connection.settings_dict.update(
            NAME=DATABASE,
            USER=ROLE,
            PASSWORD="",
            HOST=str(self.postgres.sockets),
            PORT="",
        )
        try:
            yield
        finally:
            connections.close_all()
            connection.settings_dict.update(kept)
            settings.ALERT_SECRETS_DIR = kept_secrets

    def exchange(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """GET, or POST `body`, on the simulator's control paths, past the wires."""
        method = "GET" if body is None else "POST"
        answer = self._http.request(method, f"{self.simulator_url}{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def complaints_of_logs(self) -> Counter[str]:
        """Last lines of tracebacks in the logs of the parts, counted."""
        found: Counter[str] = Counter()
        for part in PARTS:
            text = self._log_of(part).read_text(encoding="utf-8", errors="replace")
            for block in text.split("Traceback (most recent call last):")[1:]:
                last = next((line for line in block.splitlines()[1:] if line and line[0] not in " \t"), "")
                found[f"{part}: {last.partition(':')[0][:80]}"] += 1
        return found


@contextmanager
def running_product(*, seed: int, speed: int, keep: Path | None) -> Iterator[Product]:
    """The product from `ready` to its end, in a temporary folder; `keep` receives the logs."""
    folder = places.throwaway_folder(places.server_account())
    try:
        product = Product(folder, seed=seed, speed=speed)
        try:
            product.wait_until_ready()
            yield product
        finally:
            product.stop()
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copytree(product.data / "logs", keep / "logs", dirs_exist_ok=True)
                shutil.copy(product.log, keep / "launcher.log")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
