"""`make strangers` never passes without having traded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.strangers import run_nautilus

pytestmark = pytest.mark.strangers


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No environment made before, no other Python; only an openssl that is never asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "openssl").touch(mode=0o755)
    monkeypatch.setattr(run_nautilus, "STAMP", tmp_path / "installed")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.delenv("NAUTILUS_PYTHON", raising=False)
    return programs


def test_without_a_python_for_nautilus_it_says_so_with_a_status_of_its_own(
    bare_machine: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_nautilus.main() == run_nautilus.COULD_NOT_RUN

    assert "CANNOT RUN, nothing was tested: no Python 3.12" in capfd.readouterr().err


def test_a_python_shim_that_does_not_run_is_not_chosen(
    bare_machine: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shim = bare_machine / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)

    assert run_nautilus.main() == run_nautilus.COULD_NOT_RUN


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("Failed to establish a new connection\nERROR: No matching distribution found", "index cannot be reached"),
        ("ERROR: No matching distribution found for nautilus-trader==1.0", "no wheel for this machine"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "THESE PACKAGES DO NOT MATCH THE HASHES"),
    ],
)  # fmt: skip
def test_a_failed_installation_is_told_in_words(log: str, told: str) -> None:
    assert told in run_nautilus.install_problem(log, "python3.12")
