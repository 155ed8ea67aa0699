"""`with-servers -- COMMAND`, as `make test` uses it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launcher.conftest import OURS, ROOT, eventually, is_gone

PROBE = """
import os, pathlib, psycopg, redis, sys
psycopg.connect(os.environ["DATABASE_URL"]).execute("SELECT 1")
redis.Redis.from_url(os.environ["REDIS_URL"]).ping()
pathlib.Path(sys.argv[1]).write_text(str(os.getppid()))
sys.exit(7)
"""


def start(temporary: Path, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    return subprocess.Popen(
        [sys.executable, "-m", "tradingbot.launcher", "with-servers", *arguments],
        cwd=ROOT,
        env=clean | {"TMPDIR": str(temporary)} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def temporary(base: Path) -> Path:
    folder = base / "tmp"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def test_command_meets_both_servers_and_its_exit_code_is_handed_on(temporary: Path, base: Path) -> None:
    run = start(temporary, "--", sys.executable, "-c", PROBE, str(base / "parent"))

    _, errors = run.communicate(timeout=60)

    assert run.returncode == 7, errors
    assert (base / "parent").read_text() == str(run.pid)


def test_nothing_is_left_when_the_command_has_ended(temporary: Path, base: Path) -> None:
    run = start(temporary, "--", "sh", "-c", f"cp /proc/$PPID/task/$PPID/children {base}/children")

    assert run.wait(timeout=60) == 0

    pids = [int(pid) for pid in (base / "children").read_text().split()]
    assert len(pids) == 3  # PostgreSQL, Redis and the shell
    assert [pid for pid in pids if not is_gone(pid)] == []
    assert list(temporary.iterdir()) == []


def test_keep_leaves_the_folder_and_says_where(temporary: Path) -> None:
    run = start(temporary, "--keep", "--", "true")

    _, errors = run.communicate(timeout=60)

    (kept,) = temporary.iterdir()
    assert f"kept {kept}" in errors
    assert (kept / "postgres.log").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_from_outside_it_leaves_no_server_running(
    temporary: Path, base: Path, number: signal.Signals
) -> None:
    run = start(temporary, "--", "sh", "-c", f"touch {base}/started; exec sleep 60")
    eventually((base / "started").exists, "the command")
    pids = children(run.pid)

    run.send_signal(number)
    run.wait(timeout=20)

    command = pids.pop()
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid), f"the end of {pid}")
    if not is_gone(command):  # SIGKILL gives no time to pass anything on
        os.kill(command, signal.SIGKILL)


def test_given_servers_are_handed_on_as_they_are(temporary: Path) -> None:
    given = {"DATABASE_URL": "postgresql://me@db.example/desk", "REDIS_URL": "redis://cache.example"}
    run = start(
        temporary,
        "--",
        "sh",
        "-c",
        "echo $DATABASE_URL $REDIS_URL; cat /proc/$PPID/task/$PPID/children",
        **given,
    )

    output, _ = run.communicate(timeout=60)

    urls, pids = output.splitlines()
    assert urls == " ".join(given.values())
    assert len(pids.split()) == 1


def test_command_that_does_not_exist_is_one_line(temporary: Path) -> None:
    run = start(temporary, "--", "no-such-command")

    _, errors = run.communicate(timeout=60)

    assert run.returncode == 1
    assert errors.startswith("tradingbot: no-such-command cannot be started: ")
    assert errors.count("\n") == 1
