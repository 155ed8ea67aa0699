"""`make run` over real servers and stand-ins for everything else (tests.launcher.standin)."""

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from tests.launcher.conftest import Launcher, eventually, free_port, is_gone

Launch = Callable[..., Launcher]


def database(launcher: Launcher) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(
        host=str(launcher.data / "postgres"), user="tradingbot", dbname="tradingbot", autocommit=True
    )


def answers(launcher: Launcher) -> bool:
    try:
        database(launcher).close()
    except psycopg.OperationalError:
        return False
    return True


def test_fresh_folder_comes_to_ready_with_address_user_and_password(running: Launcher) -> None:
    line = running.says("ready")

    assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+  user operator  password \S{12,}", line)


def test_sigterm_stops_every_process_and_exits_cleanly(launch: Launch) -> None:
    launcher = launch()
    launcher.says("ready")
    pids = launcher.children().values()

    code = launcher.stop()

    assert code == 0
    assert len(pids) == 6
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_second_run_continues_with_the_same_data_and_password(launch: Launch) -> None:
    first = launch()
    first_line = first.says("ready")
    with database(first) as connection:
        connection.execute("CREATE TABLE kept (value int)")
    first.stop()

    second = launch(PORT=first_line.split(":")[2].split()[0])

    assert second.says("ready") == first_line
    with database(second) as connection:
        connection.execute("SELECT value FROM kept")


def test_files_that_hold_secrets_are_readable_by_their_owner_only(running: Launcher) -> None:
    for name in ("secret_key", "operator_password", "keys/simulator.key", "keys/simulator.secret"):
        assert (running.data / name).stat().st_mode & 0o777 == 0o600


def test_second_launcher_in_the_same_folder_is_refused_with_the_pid_of_the_first(
    running: Launcher, launch: Launch
) -> None:
    second = launch(DATA_DIR=str(running.data))

    assert second.ends() == 1
    assert f"pid {running.popen.pid}" in second.output[-1]
    assert running.popen.poll() is None


def test_killed_launcher_leaves_nothing_running_and_the_next_one_recovers(launch: Launch) -> None:
    first = launch()
    first.says("ready")
    pids = first.children().values()
    with database(first) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS value")

    first.popen.send_signal(signal.SIGKILL)

    second = launch()
    second.says("ready")
    assert [pid for pid in pids if not is_gone(pid)] == []
    with database(second) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (1,)


def test_child_that_outlives_a_killed_launcher_is_ended_by_the_next_one(launch: Launch) -> None:
    first = launch(STANDIN_WORKER="stubborn")
    first.says("ready")
    stubborn = first.children()["worker"]

    first.popen.send_signal(signal.SIGKILL)
    first.popen.wait()
    assert not is_gone(stubborn)

    second = launch()
    second.says("an earlier run left behind")
    second.says("ready")
    assert is_gone(stubborn)


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_killed_server_comes_back_with_what_was_committed(launch: Launch, server: str) -> None:
    launcher = launch()
    launcher.says("ready")
    client = redis.Redis(unix_socket_path=str(launcher.data / "redis" / "redis.sock"))
    with database(launcher) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
    client.set("kept", "1")
    old = launcher.children()[server]
    # everysec: wait for the write to be in the file, which only SIGKILL of the machine could lose then
    eventually(
        lambda: b"kept" in (launcher.data / "redis" / "appendonly.aof").read_bytes(), "the key in the file"
    )

    os.kill(old, signal.SIGKILL)

    launcher.says("killed by SIGKILL")
    eventually(lambda: old not in launcher.children().values() and answers(launcher), "a new server")
    with database(launcher) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (1,)
    assert client.get("kept") == b"1"


def test_fallen_worker_is_started_again(launch: Launch) -> None:
    launcher = launch()
    launcher.says("ready")
    old = launcher.children()["worker"]

    os.kill(old, signal.SIGKILL)

    launcher.says("worker ended (killed by SIGKILL); starting it again")
    eventually(lambda: old not in launcher.children().values(), "a new worker")
    assert not is_gone(launcher.children()["worker"])


def test_child_that_keeps_falling_stops_everything_with_one_line(launch: Launch, base: Path) -> None:
    file = base / "fall"
    launcher = launch(STANDIN_WORKER="falls when told", STANDIN_FILE=str(file))
    launcher.says("ready")
    pids = launcher.children().values()

    file.touch()
    os.kill(launcher.children()["worker"], signal.SIGKILL)

    assert launcher.ends() == 1
    assert "worker fell more than 5 times in a minute (exit code 3)" in launcher.output[-1]
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_child_that_ignores_sigterm_is_killed(launch: Launch) -> None:
    launcher = launch(STANDIN_WORKER="stubborn")
    launcher.says("ready")
    stubborn = launcher.children()["worker"]

    code = launcher.stop()

    assert code == 0
    assert is_gone(stubborn)
    assert "worker did not stop in 1 s and was killed" in launcher.output


def test_sigterm_while_starting_leaves_nothing_running(launch: Launch) -> None:
    launcher = launch(STANDIN_MIGRATE="hangs")
    launcher.says("running migrate")
    eventually(lambda: len(launcher.children()) == 4, "servers, simulator and step on record")
    pids = launcher.children().values()

    code = launcher.stop()

    assert code == 0
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_failing_step_gives_its_last_line(launch: Launch) -> None:
    launcher = launch(STANDIN_MIGRATE="fails")

    assert launcher.ends() == 1
    assert "migrate failed (exit code 1): settings: SYMBOLS='?' names no symbol." in launcher.output[-1]


def test_child_that_ends_while_starting_gives_its_last_line(launch: Launch) -> None:
    launcher = launch(STANDIN_WORKER="falls", STANDIN_READY="503")

    assert launcher.ends() == 1
    assert "worker ended while starting (exit code 3): no broker" in launcher.output[-1]


def test_product_that_does_not_become_ready_says_what_is_missing_and_where_the_logs_are(
    launch: Launch,
) -> None:
    launcher = launch(STANDIN_READY="503")

    assert launcher.ends() == 1
    assert "no heartbeat of worker trading" in launcher.output[-1]
    assert str(launcher.data / "logs") in launcher.output[-1]


def test_account_that_the_simulator_no_longer_knows_is_refused_not_replaced(launch: Launch) -> None:
    first = launch()
    first.says("ready")
    first.stop()
    (first.data / "accounts").unlink()

    second = launch()

    assert second.ends() == 1
    assert f"to begin anew: rm -r {second.data}" in second.output[-1]
    assert (second.data / "keys" / "simulator.key").read_text() == "fake-key\n"


@pytest.mark.parametrize("setting", ["PORT", "SIMULATOR_PORT"])
def test_taken_port_names_the_setting_that_changes_it(launch: Launch, setting: str) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]

        launcher = launch(**({"PORT": "8399"} | {setting: str(port)}))

        assert launcher.ends() == 1
        assert f"Port {port}" in launcher.output[-1]
        assert f"{setting}=" in launcher.output[-1]


def test_given_servers_are_used_and_none_is_started(launch: Launch) -> None:
    launcher = launch(DATABASE_URL="postgresql://me@db.example/desk", REDIS_URL="redis://cache.example")

    launcher.says("ready")

    assert len(launcher.children()) == 4
    assert not (launcher.data / "postgres").exists()
    assert not (launcher.data / "redis").exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"TRADING_ENVIRONMENT": "prod"}, "TRADING_ENVIRONMENT='prod' is not known. Use one of: simulator"),
        ({"TRADING_ENABLED": "maybe"}, "TRADING_ENABLED='maybe' is not a yes or a no."),
        ({"PORT": "80a"}, "PORT='80a' is not a whole number."),
        ({"PORT": "70000"}, "PORT=70000 is outside 1 to 65535."),
        ({"PORT": "9300", "SIMULATOR_PORT": "9300"}, "SIMULATOR_PORT=9300 is also PORT"),
        ({"SPEED": "fast"}, "SPEED='fast' is not a plain decimal number"),
        ({"SEED": "-1"}, "SEED=-1 is outside"),
        ({"REPLAY": "no/such.csv.gz"}, "REPLAY=no/such.csv.gz: there is no such file"),
        ({"DATABASE_URL": "mysql://x/y"}, "DATABASE_URL must start with postgres://"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL must start with redis://"),
        ({"OPENAI_BASE_URL": "example"}, "OPENAI_BASE_URL must start with http://"),
        ({"TRADING_ENVIRONMENT": "live"}, "TRADING_ENVIRONMENT=live needs a real model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_bad_setting_gives_one_line_and_starts_nothing(
    launch: Launch, settings: dict[str, str], line: str
) -> None:
    launcher = launch(**settings)

    assert launcher.ends() == 1
    assert len(launcher.output) == 1
    assert line in launcher.output[0]
    assert not launcher.data.exists()


@pytest.mark.parametrize("folder", ["/sys/tradingbot", "/dev/null/tradingbot"])
def test_folder_that_cannot_be_written_gives_one_line(launch: Launch, folder: str) -> None:
    launcher = launch(DATA_DIR=folder)

    assert launcher.ends() == 1
    assert len(launcher.output) == 1
    assert f"{folder} cannot be written" in launcher.output[0]


def test_bot_trades_what_the_simulator_trades(running: Launcher) -> None:
    environment = Path(f"/proc/{running.children()['worker']}/environ").read_text().split("\0")

    assert "SYMBOLS=BTCUSDT" in environment


def test_last_words_of_a_child_do_not_come_from_an_earlier_run(launch: Launch) -> None:
    first = launch(STANDIN_WORKER="falls", STANDIN_READY="503")
    first.ends()

    second = launch(STANDIN_WORKER="falls silently", STANDIN_READY="503")

    assert second.ends() == 1
    assert "worker ended while starting (exit code 3): it said nothing" in second.output[-1]


def test_closed_terminal_stops_everything(launch: Launch) -> None:
    terminal, stdin = os.openpty()
    launcher = launch(stdin=stdin)
    os.close(stdin)
    launcher.says("ready")
    pids = launcher.children().values()

    os.close(terminal)

    assert launcher.ends() == 0
    assert [pid for pid in pids if not is_gone(pid)] == []
