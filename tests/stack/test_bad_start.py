"""What a person may get wrong when starting the real product: one line each, and nothing half done.

Settings that the launcher refuses by itself are in tests/launcher; here are those that a real part refuses.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.conftest import server_folder
from tests.stack.running import RunningStack, processes_of, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


@pytest.fixture
def fresh() -> Iterator[RunningStack]:
    """A product that was never started."""
    with server_folder() as folder:
        stack = RunningStack(folder)
        yield stack
        stack.kill_all()


def refusal(stack: RunningStack, **settings: str) -> str:
    """The last line of a start that is refused; nothing of it may still run."""
    assert stack.fails_to_start(**settings) == 1, stack.output
    assert processes_of(stack.data) == []
    assert not any("Traceback" in line for line in stack.output)
    return stack.output[-1]


def test_setting_of_a_part_is_refused_by_name(fresh: RunningStack) -> None:
    line = refusal(fresh, RECV_WINDOW_MS="3s")

    assert "RECV_WINDOW_MS='3s' is not a whole number" in line


def test_unknown_environment_is_refused_before_anything_starts(fresh: RunningStack) -> None:
    line = refusal(fresh, TRADING_ENVIRONMENT="paper")

    assert "TRADING_ENVIRONMENT='paper' is not known" in line
    assert not fresh.data.exists()


def test_a_symbol_that_the_simulator_does_not_list_is_named_at_once(fresh: RunningStack) -> None:
    line = refusal(fresh, SYMBOLS="BTCUSDT,NOPEUSDT")

    assert "SYMBOLS names NOPEUSDT, which the simulator does not list. It lists BTCUSDT" in line


def test_broken_line_of_a_candle_file_is_named_with_file_and_line(
    fresh: RunningStack, tmp_path: Path
) -> None:
    recording = tmp_path / "BTCUSDT-1m-broken.csv.gz"
    lines = [
        "open_time_ms,open,high,low,close,volume",
        "1677628800000,23141.57,23150.00,23140.00,23145.10,1.5",
        "1677628860000,not-a-price,23150.00,23140.00,23145.10,1.5",
    ]
    recording.write_bytes(gzip.compress("\n".join(lines).encode()))

    line = refusal(fresh, REPLAY=str(recording))

    assert f"{recording}:3: " in line


def test_model_that_does_not_answer_costs_the_proposals_only(fresh: RunningStack) -> None:
    fresh.start(OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    fresh.quicken()

    outcome = wait_for(
        lambda: fresh.value(
            "SELECT d.outcome FROM proposals_decision d JOIN proposals_proposal p ON p.decision_id = d.id "
            "WHERE p.status = 'no_trade' AND d.outcome <> 'STALE_DATA'"
        ),
        "a NO_TRADE for want of a model",
    )

    assert outcome not in {"", "OK"}
    wait_for(fresh.is_ready, "every part at work")
