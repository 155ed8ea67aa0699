"""`make run`: everything from an empty folder to `ready`, and back down again."""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from tradingbot.launcher import options as options_module
from tradingbot.launcher import places, processes, simulator_client
from tradingbot.launcher.errors import LauncherError, StopRequested
from tradingbot.launcher.options import HOST, Options
from tradingbot.launcher.postgres_server import PostgresServer
from tradingbot.launcher.processes import Child
from tradingbot.launcher.redis_server import RedisServer
from tradingbot.launcher.stack import Process, Stack, Step
from tradingbot.launcher.supervisor import StopSignal, Supervisor, end_leftovers, say

OPERATOR = "operator"
OUTSIDE_SECONDS_MAX = 30
_HTTP_ERROR = 500


def run(stack: Stack) -> int:
    """Start `stack`, keep it running until Ctrl-C or SIGTERM, stop it; answers the exit code."""
    os.umask(0o077)  # logs, schedules and simulator books are nobody else's business
    stop_signal = StopSignal()
    options = options_module.read()
    _open_data_folder(options.data)
    lock = _lock(options.data)
    try:
        return _run_locked(stack, options, stop_signal)
    finally:
        os.close(lock)


def _run_locked(stack: Stack, options: Options, stop_signal: StopSignal) -> int:
    record = options.data / "processes.json"
    supervisor = Supervisor(record, stop_signal)
    try:
        if left := end_leftovers(record, stop_signal.pause):
            say(f"ended {left} processes that an earlier run left behind")
        options_module.refuse_taken_ports(options.ports())
        _start(stack, options, supervisor, stop_signal)
        supervisor.watch()
    except StopRequested:
        pass
    finally:
        supervisor.stop(stack.stop_order)
    return 0


def _start(stack: Stack, options: Options, supervisor: Supervisor, stop_signal: StopSignal) -> None:
    password = _make_secrets(options.data)
    env = child_env(options)
    env |= _start_servers(options, supervisor, stop_signal)
    words = words_of(options)
    outside = [process for process in stack.outside if process.only_if.format(**words)]
    for process in outside:
        say(f"starting {process.name}")
        supervisor.add(_starter(process, words, env, options.logs))
    for step in stack.steps:
        say(f"running {step.name}")
        supervisor.run_to_end(_starter(step, words, env, options.logs))
    for process in outside:
        url = process.ready_url.format(**words)
        supervisor.wait_for(process.name, url, OUTSIDE_SECONDS_MAX, lambda status: status < _HTTP_ERROR)
    if options.runs_simulator:
        simulator_client.ensure_account(options.data, options.simulator_url)
        env["SYMBOLS"] = _symbols(env.get("SYMBOLS", ""), simulator_client.symbols(options.simulator_url))
    say(f"starting {', '.join(process.name for process in stack.processes)}")
    for process in stack.processes:
        supervisor.add(_starter(process, words, env, options.logs))
    ready_url = stack.ready_url.format(**words)
    supervisor.wait_for("The product", ready_url, stack.ready_seconds_max, lambda status: status == 200)
    say(f"ready {options.web_url}  user {OPERATOR}  password {password}")


def _symbols(asked: str, listed: list[str]) -> str:
    """The symbols to trade: those asked for, or else all that the simulator lists; refuses one it does not."""
    wanted = [symbol.strip().upper() for symbol in asked.split(",") if symbol.strip()]
    if unknown := [symbol for symbol in wanted if symbol not in listed]:
        raise LauncherError(
            f"SYMBOLS names {', '.join(unknown)}, which the simulator does not list. It lists {', '.join(listed)}."
        )
    return ",".join(wanted or listed)


def _start_servers(options: Options, supervisor: Supervisor, stop_signal: StopSignal) -> dict[str, str]:
    """The private servers, unless others were given; answers the URLs."""
    urls = {"DATABASE_URL": options.database_url or "", "REDIS_URL": options.redis_url or ""}
    if options.database_url is None:
        postgres = PostgresServer(options.data, _log(options.logs, "postgres"), pause=stop_signal.pause)
        say(f"starting PostgreSQL {postgres.binaries.version} in {postgres.home}")
        supervisor.add(postgres.start)
        urls["DATABASE_URL"] = postgres.url
    if options.redis_url is None:
        redis = RedisServer(options.data, _log(options.logs, "redis"), pause=stop_signal.pause)
        say(f"starting Redis in {redis.home}")
        supervisor.add(redis.start)
        urls["REDIS_URL"] = redis.url
    return urls


def words_of(options: Options) -> dict[str, str]:
    """What the braces in the process table stand for."""
    return {
        "python": sys.executable,
        "data": str(options.data),
        "port": str(options.port),
        "web_url": options.web_url,
        "simulator_port": str(options.simulator_port),
        "simulator_url": options.simulator_url,
        "model_port": str(options.model_port),
        "seed": str(options.seed),
        "speed": str(options.speed),
        "replay": str(options.replay or ""),
        "runs_simulator": "yes" if options.runs_simulator else "",
        "runs_model": "yes" if options.runs_model else "",
    }


def child_env(options: Options) -> dict[str, str]:
    """The environment of every child, the servers' URLs excepted."""
    env = os.environ | {
        "TRADING_ENVIRONMENT": options.environment,
        "DATA_DIR": str(options.data),
        "PUBLIC_URL": os.environ.get("PUBLIC_URL", "").strip() or options.web_url,
        "OPERATOR_PASSWORD_FILE": str(options.data / "operator_password"),
        "OPENAI_BASE_URL": options.model_url or f"http://{HOST}:{options.model_port}/v1",
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc otherwise keeps an arena per thread
    }
    if not any(env.get(name, "").strip() for name in ("SECRET_KEY", "SECRET_KEY_FILE")):
        env["SECRET_KEY_FILE"] = str(options.data / "secret_key")
    if options.runs_simulator:
        env |= {"SIMULATOR_URL": options.simulator_url} | simulator_client.key_files(options.data)
    for name in ("NO_PROXY", "no_proxy"):  # simulator and stand-in are on loopback, whatever proxy is set
        env[name] = ",".join(filter(None, [env.get(name, ""), HOST, "localhost"]))
    return env


def _starter(entry: "Process | Step", words: Mapping[str, str], env: Mapping[str, str], logs: Path):
    """A function that starts `entry`, again and again if need be."""
    command = [part.format(**words) for part in entry.command]
    own_env: Mapping[str, str] = {}
    if isinstance(entry, Process):
        own_env = entry.env
        for flag, template in entry.options.items():
            if value := template.format(**words):
                command += [flag, value]

    def start() -> Child:
        return processes.spawn(entry.name, command, env={**env, **own_env}, log=_log(logs, entry.name))

    return start


def _log(logs: Path, name: str) -> Path:
    log = logs / f"{name}.log"
    processes.rotate(log)
    return log


def _open_data_folder(data: Path) -> None:
    """Make `data` and find out by writing whether it can be written."""
    probe = data / "writable"
    try:
        data.mkdir(parents=True, exist_ok=True)
        # Root's PostgreSQL runs as another user and must be able to pass; all else in here is private.
        data.chmod(0o711 if os.geteuid() == 0 else 0o700)
        (data / "logs").mkdir(mode=0o700, exist_ok=True)
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise LauncherError(
            f"{data} cannot be written ({error.strerror}): "
            "make the folder writable, or choose another with DATA_DIR=/some/path"
        ) from error


def _lock(data: Path) -> int:
    """The lock that makes this the only launcher of `data`; its file holds our pid."""
    path = data / "lock"
    handle = places.lock(path)
    if handle is None:
        pid = path.read_text(encoding="utf-8").strip() or "unknown"
        raise LauncherError(
            f"{data} is in use by another `make run` (pid {pid}): stop that one first, "
            "or give this one its own DATA_DIR and ports."
        )
    os.truncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def _make_secrets(data: Path) -> str:
    """Make what is still missing of the secret key and the operator's password; answers the password."""
    for name, size_bytes in (("secret_key", 48), ("operator_password", 12)):
        if not (data / name).exists():
            places.write_secret(data / name, secrets.token_urlsafe(size_bytes))
    return (data / "operator_password").read_text(encoding="utf-8").strip()
