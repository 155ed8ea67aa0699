"""A process that finds a database without its migrations says so in one line and does nothing."""

import os
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

COMMANDS = {
    "web": ["-m", "uvicorn", "tradingbot.asgi:application", "--port", "0", "--lifespan", "off"],
    "worker": ["-m", "celery", "-A", "tradingbot", "worker", "-P", "solo", "-Q", "trading"],
    "beat": ["-m", "celery", "-A", "tradingbot", "beat", "--pidfile=", "-s", os.devnull + "-schedule"],
}


@pytest.fixture
def empty_database() -> str:
    """The URL of a database without a single table."""
    url = os.environ["DATABASE_URL"]
    name = "tradingbot_unmigrated"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))


@pytest.mark.parametrize("part", COMMANDS)
def test_unmigrated_database_is_refused_in_one_line(part: str, empty_database: str) -> None:
    environment = {**os.environ, "DATABASE_URL": empty_database}

    done = subprocess.run(
        [sys.executable, *COMMANDS[part]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "migrations are missing" in output
    assert "manage.py migrate" in output
    assert "Traceback" not in output
