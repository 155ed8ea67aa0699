"""The whole product as processes under test: started by the real launcher, looked at from outside."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import requests

from tradingbot.core import clock
from tradingbot.launcher import processes

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS_MAX = 100
STOP_SECONDS_MAX = 15
READY_LINE = re.compile(r"ready (http://127\.0\.0\.1:\d+)  user (\S+)  password (\S+)")
SETTINGS = {
    "TRADING_ENABLED": "true",
    "SPEED": "20",  # a candle every 3 s
    "EXCHANGE_TIMEOUT_SECONDS": "3",
    "RECONCILE_GRACE_SECONDS": "5",
}
# What a market at twenty times its speed needs is looser than installed, which takes two people.
PACE = """
from decimal import Decimal
from proposals import services
from proposals.models import Strategy
from risk import selectors
from risk import services as risk
from risk.rules.limits import LIMIT_NAMES
from tradingbot.core import clock
newest = selectors.limits_history().first()
values = {name: getattr(newest, name) for name in LIMIT_NAMES} | {
    "price_drift_max_pct": Decimal(3), "orders_per_minute_max": 100,
    "volatility_max_pct": Decimal(20), "loss_streak_max": 100, "cool_down_seconds": 0,
}
risk.save_limits(values=values, actor="test", confirmed_by="second", reason="the pace", now=clock.now())
for strategy in Strategy.objects.all():
    strategy.min_seconds_between = 2
    services.save_strategy(strategy=strategy, actor="test", now=clock.now())
"""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """The first true answer of `condition`; fails with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def processes_of(data: Path) -> list[str]:
    """Command lines of all processes that run in `data` or were started for it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or processes.start_time(int(entry.name)) is None:
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            settings = (entry / "environ").read_bytes().split(b"\0")
            folder = (entry / "cwd").readlink()
        except OSError:  # gone, or of somebody else
            continue
        if (
            f"DATA_DIR={data}".encode() in settings
            or os.fsencode(data) in command
            or folder.is_relative_to(data)
        ):
            found.append(f"{entry.name}: {command.decode(errors='replace')}")
    return found


class RunningStack:
    """`python -m tradingbot.launcher run` with a data folder and ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        web, simulator, model = free_ports(3)
        self._ports = {"PORT": str(web), "SIMULATOR_PORT": str(simulator), "MODEL_PORT": str(model)}
        self.url, self.simulator_url = f"http://127.0.0.1:{web}", f"http://127.0.0.1:{simulator}"
        self.model_url = f"http://127.0.0.1:{model}"
        self.user = self.password = ""
        self.output: list[str] = []
        self._http = requests.Session()
        self._http.trust_env = False

    # --- life ---------------------------------------------------------------------------------------------

    def start(self, **settings: str) -> None:
        """Start the launcher and wait for its `ready` line."""
        self._launch(settings)
        line = wait_for(self._ready_or_over, f"ready in {self.output}", READY_SECONDS_MAX)
        assert isinstance(line, re.Match), self.output
        assert line[1] == self.url
        self.user, self.password = line[2], line[3]

    def fails_to_start(self, **settings: str) -> int:
        """Start the launcher and wait for its end; the exit code."""
        self._launch(settings)
        code = self._launcher.wait(timeout=READY_SECONDS_MAX)
        self._reader.join(timeout=5)
        return code

    def _launch(self, settings: dict[str, str]) -> None:
        home = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.output = []
        self._launcher = subprocess.Popen(
            [sys.executable, "-m", "tradingbot.launcher", "run"],
            cwd=ROOT,
            env=home | SETTINGS | self._ports | {"DATA_DIR": str(self.data)} | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._launcher,), daemon=True)
        self._reader.start()

    def _read(self, launcher: "subprocess.Popen[str]") -> None:
        assert launcher.stdout is not None
        for line in launcher.stdout:
            self.output.append(line.rstrip())

    def _ready_or_over(self) -> re.Match[str] | bool:
        found = next(filter(None, map(READY_LINE.fullmatch, self.output)), None)
        return found or self._launcher.poll() is not None

    def stop(self) -> float:
        """SIGTERM; the seconds it took to end with everything that it had started."""
        pids = self.pids().values()
        began = time.monotonic()
        self._launcher.send_signal(signal.SIGTERM)
        try:
            code = self._launcher.wait(timeout=3 * STOP_SECONDS_MAX)
        finally:
            if self._launcher.poll() is None:
                self._launcher.kill()
        seconds = time.monotonic() - began
        assert code == 0, self.output
        assert [pid for pid in pids if processes.start_time(pid) is not None] == []
        assert processes_of(self.data) == []
        return seconds

    def kill_all(self) -> None:
        """The last resort when a test left it running: the launcher takes its children along."""
        if self.is_running:
            self._launcher.terminate()
            try:
                self._launcher.wait(timeout=2 * STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._launcher.kill()

    @property
    def is_running(self) -> bool:
        """Whether the launcher is up."""
        return self._launcher.poll() is None

    def pids(self) -> dict[str, int]:
        """Name -> pid of the parts of now."""
        assert self.is_running, self.output
        rows = json.loads((self.data / "processes.json").read_text(encoding="utf-8"))
        return {row["name"]: row["pid"] for row in rows}

    def kill(self, part: str) -> datetime:
        """SIGKILL a part and wait until the launcher has started it again; when that was."""
        old = self.pids()[part]
        os.kill(old, signal.SIGKILL)
        killed_at = clock.now()
        wait_for(lambda: self.pids().get(part) not in (old, None), f"a new {part}")
        return killed_at

    # --- looking and asking -------------------------------------------------------------------------------

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What the product's database answers, read past the product."""
        with psycopg.connect(
            host=str(self.data / "postgres"), user="tradingbot", dbname="tradingbot", autocommit=True
        ) as connection:
            return connection.execute(query, parameters or None).fetchall()  # type: ignore[arg-type]

    def value(self, query: str, *parameters: object) -> Any:
        """The first field of the first row, or None."""
        rows = self.rows(query, *parameters)
        return rows[0][0] if rows else None

    def account_of_itself(self) -> str:
        """What the product decided and why, for whoever reads of a failed test."""
        questions = {
            "proposals of the last five minutes": (
                "SELECT to_char(created_at, 'HH24:MI:SS.MS'), symbol, action, status, round(notional_quote, 2), "
                "nullif(concat_ws(' ', refusal, decision_reason), '') FROM proposals_proposal "
                "WHERE created_at > now() - interval '5 minutes' ORDER BY created_at"
            ),
            "decisions without a proposal": (
                "SELECT outcome, count(*), max(outcome_detail) FROM proposals_decision "
                "WHERE outcome <> 'OK' GROUP BY outcome"
            ),
            "orders of the last five minutes": (
                "SELECT to_char(i.created_at, 'HH24:MI:SS.MS'), i.kind, o.symbol, o.side, o.role, o.status, "
                "o.exchange_status, o.reason FROM execution_order o JOIN execution_executionintent i "
                "ON i.id = o.intent_id WHERE i.created_at > now() - interval '5 minutes' ORDER BY i.created_at"
            ),
            "control and autonomy": (
                "SELECT c.status, a.status, a.changed_at, a.reason FROM risk_tradingcontrol c "
                "JOIN risk_autonomy a USING (environment) WHERE environment = 'simulator'"
            ),
            "alerts": "SELECT to_char(first_seen_at, 'HH24:MI:SS'), severity, count, title, detail "
            "FROM core_alert WHERE resolved_at IS NULL",
        }
        told = []
        for name, query in questions.items():
            rows = self.rows(query)
            told += [f"{name} ({len(rows)}):", *("  " + " | ".join(map(str, row)) for row in rows)]
        return "\n".join(told)

    def exchange(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """GET, or POST `body`, on the simulator's control paths."""
        if body is None:
            answer = self._http.get(f"{self.simulator_url}{path}", timeout=10)
        else:
            answer = self._http.post(f"{self.simulator_url}{path}", json=body, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def orders_there(self) -> list[dict[str, Any]]:
        """Every order by the exchange's own books, where the bot has the only account."""
        orders: list[dict[str, Any]] = self.exchange("/sim/orders")["orders"]
        return orders

    def is_ready(self) -> bool:
        """Whether /readyz says that every part works."""
        try:
            return self._http.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def manage(self, *arguments: str) -> str:
        """Run manage.py with the environment that the web server has; what it printed."""
        variables = Path(f"/proc/{self.pids()['web']}/environ").read_text(encoding="utf-8").split("\0")
        environment = dict(line.split("=", 1) for line in variables if "=" in line)
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=environment | {"DATABASE_POOL": "false"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def quicken(self) -> None:
        """Let the strategy decide on every candle, and the limits bear with it."""
        self.manage("shell", "-c", PACE)

    # --- the operator over HTTP ---------------------------------------------------------------------------

    def post(self, path: str, **fields: str) -> requests.Response:
        """A command as the signed-in operator's plain form."""
        self._sign_in()
        return self._send(path, **fields)

    def get(self, path: str) -> requests.Response:
        """A page as the signed-in operator sees it."""
        self._sign_in()
        answer = self._http.get(f"{self.url}{path}", timeout=10)
        assert answer.ok, f"{path}: HTTP {answer.status_code}"
        return answer

    def _sign_in(self) -> None:
        if "sessionid" not in self._http.cookies:
            self._http.get(f"{self.url}/login/", timeout=10)
            self._send("/login/", username=self.user, password=self.password)

    def _send(self, path: str, **fields: str) -> requests.Response:
        token = self._http.cookies["csrftoken"]
        answer = self._http.post(
            f"{self.url}{path}",
            data=fields | {"csrfmiddlewaretoken": token},
            headers={"Referer": self.url + "/"},
            timeout=10,
        )
        assert answer.ok, f"{path}: HTTP {answer.status_code} {answer.text}"
        return answer

    def halt(self) -> None:
        """Halt as the operator."""
        self.post("/halt/")

    def control(self) -> str:
        """HALTED, REDUCING or ACTIVE."""
        return str(self.value("SELECT status FROM risk_tradingcontrol WHERE environment = 'simulator'"))
