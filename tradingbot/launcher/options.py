"""What the person who starts the product may say, read from the environment and checked before anything starts."""

import os
import socket
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tradingbot import env
from tradingbot.core.environments import Environment
from tradingbot.launcher.errors import LauncherError

HOST = "127.0.0.1"
OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Options:
    """One `make run`. A URL that is None means a server or stand-in of our own."""

    data: Path
    environment: str
    port: int
    simulator_port: int
    model_port: int
    seed: int
    speed: Decimal
    replay: Path | None
    database_url: str | None
    redis_url: str | None
    model_url: str | None

    @property
    def runs_simulator(self) -> bool:
        return self.environment == Environment.SIMULATOR

    @property
    def runs_model(self) -> bool:
        return self.model_url is None

    @property
    def web_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def simulator_url(self) -> str:
        return f"http://{HOST}:{self.simulator_port}"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    def ports(self) -> dict[str, int]:
        """Setting name -> port, of the servers that will be started."""
        wanted = {"PORT": self.port}
        if self.runs_simulator:
            wanted["SIMULATOR_PORT"] = self.simulator_port
        if self.runs_model:
            wanted["MODEL_PORT"] = self.model_port
        return wanted


def read() -> Options:
    """The options of this run. Raises SettingError or LauncherError with one line that names the setting."""
    env.boolean("TRADING_ENABLED", False)  # refused here rather than after the servers have started
    environment = env.choice("TRADING_ENVIRONMENT", Environment.SIMULATOR, [e.value for e in Environment])
    options = Options(
        data=Path(env.text("DATA_DIR", ".data")).absolute(),
        environment=environment,
        port=_port("PORT", 8000),
        simulator_port=_port("SIMULATOR_PORT", 9100),
        model_port=_port("MODEL_PORT", 9101),
        seed=env.integer("SEED", 7, minimum=0, maximum=2**31 - 1),
        speed=env.decimal("SPEED", "1", minimum="0.01", maximum="10000"),
        replay=_replay(),
        database_url=_url("DATABASE_URL", {"postgres", "postgresql"}),
        redis_url=_url("REDIS_URL", {"redis", "rediss", "unix"}),
        model_url=_model_url(environment),
    )
    _refuse_shared_ports(options.ports())
    return options


def _port(name: str, default: int) -> int:
    return env.integer(name, default, minimum=1, maximum=65535)


def _url(name: str, schemes: set[str]) -> str | None:
    return env.url(name, None, schemes=schemes) if env.text(name, "") else None


def _model_url(environment: str) -> str | None:
    """Where the advisor's model answers; None for the stand-in, which never advises on real money."""
    given = _url("OPENAI_BASE_URL", {"http", "https"})
    if given is not None:
        return given
    if env.text("OPENAI_API_KEY", "") or env.text("OPENAI_API_KEY_FILE", ""):
        return OPENAI_URL
    if environment == Environment.LIVE:
        raise LauncherError(
            "TRADING_ENVIRONMENT=live needs a real model: set OPENAI_API_KEY_FILE, or OPENAI_BASE_URL."
        )
    return None


def _replay() -> Path | None:
    given = env.text("REPLAY", "")
    if not given:
        return None
    path = Path(given).absolute()
    if not path.is_file():
        raise LauncherError(f"REPLAY={given}: there is no such file ({path}).")
    if not os.access(path, os.R_OK):
        raise LauncherError(f"REPLAY={given}: the file cannot be read ({path}).")
    return path


def _refuse_shared_ports(ports: dict[str, int]) -> None:
    seen: dict[int, str] = {}
    for name, port in ports.items():
        if port in seen:
            raise LauncherError(f"{name}={port} is also {seen[port]}: give each its own port.")
        seen[port] = name


def refuse_taken_ports(ports: dict[str, int]) -> None:
    """Raise LauncherError for the first port that something else listens on."""
    for name, port in ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what uvicorn does: ignore TIME_WAIT
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise LauncherError(
                    f"Port {port} on {HOST} cannot be used ({error.strerror}): "
                    f"stop what listens there, or choose another with {name}=..."
                ) from error
