"""The product as literal data: its processes in starting order, and the order in which they stop.

Words in braces come from `run.words`. An option whose word is empty is left out together with its flag.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CELERY = ("{python}", "-m", "celery", "-A", "tradingbot")
WORKER = (*CELERY, "worker", "-l", "INFO", "-P", "threads")
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
ASGI = ("{python}", "-m", "uvicorn", "tradingbot.asgi:application", "--lifespan", "off", "--no-access-log")
WEB = (*ASGI, "--host", "127.0.0.1", "--ws", "websockets-sansio")
SIMULATOR = ("{python}", "-m", "simulator")
MANAGE = ("{python}", "manage.py")


@dataclass(frozen=True)
class Process:
    """One long-lived child. It counts as started when `ready_url` (if any) answers without a server error."""

    name: str
    command: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    ready_url: str = ""
    only_if: str = ""  # a word; the process is started when it is not empty


@dataclass(frozen=True)
class Step:
    """A command that is run to its end while starting; a failure ends the start."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Stack:
    """`outside` stands in for the outside world (exchange, model) and is up before `processes` start."""

    outside: tuple[Process, ...]
    steps: tuple[Step, ...]
    processes: tuple[Process, ...]
    ready_url: str
    ready_seconds_max: float
    stop_order: tuple[tuple[tuple[str, ...], float], ...]  # names, and the seconds they are given


PRODUCT = Stack(
    outside=(
        Process(
            "simulator",
            (*SIMULATOR, "serve", "--port", "{simulator_port}", "--data", "{data}/simulator"),
            options={"--seed": "{seed}", "--speed": "{speed}", "--replay": "{replay}"},
            ready_url="{simulator_url}/api/v3/ping",
            only_if="{runs_simulator}",
        ),
        Process(
            "model",
            (*SIMULATOR, "model", "--port", "{model_port}"),
            ready_url="http://127.0.0.1:{model_port}/v1/models",
            only_if="{runs_model}",
        ),
    ),
    steps=(
        Step("migrate", (*MANAGE, "migrate", "--noinput")),
        Step("operator", (*MANAGE, "ensure_operator")),
    ),
    processes=(
        Process(
            "web",
            (*WEB, "--port", "{port}", "--timeout-graceful-shutdown", "2"),
            env={"DATABASE_POOL": "true"},
        ),
        Process(
            "streams",
            (*WORKER, "-Q", "streams", "-c", "1", "-n", "streams@%h", *QUIET),
            env={"TRADINGBOT_STREAMS": "1"},
        ),
        Process("trading", (*WORKER, "-Q", "trading", "-c", "4", "-n", "trading@%h", *QUIET)),
        Process("advisor", (*WORKER, "-Q", "advisor", "-c", "4", "-n", "advisor@%h", *QUIET)),
        # Of its own, so that a mail server that hangs holds up nothing but other mail.
        Process("alerts", (*WORKER, "-Q", "alerts", "-c", "4", "-n", "alerts@%h", *QUIET)),
        Process(
            "beat",
            (*CELERY, "beat", "-l", "INFO", "-s", "{data}/beat-schedule", "--pidfile="),
        ),
    ),
    ready_url="{web_url}/readyz",
    ready_seconds_max=60,
    # 14 seconds in all. What is still there after its share is killed.
    stop_order=(
        (("beat",), 1.5),
        (("streams", "trading", "advisor", "alerts"), 5.0),
        (("web",), 3.0),
        (("simulator", "model"), 1.5),
        (("redis",), 1.0),
        (("postgres",), 2.0),
    ),
)
