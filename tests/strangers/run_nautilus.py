"""`make strangers`: NautilusTrader in an environment of its own trades on a simulator of its own.

It needs Python 3.12 or newer and some 200 MB from a package index, so it is no part of `make test`. Exit status
0: every step came to pass; 1: one did not; 77: it could not be tried, and the last line says why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements-nautilus.txt"
ENVIRONMENT = ROOT / ".venv-nautilus"
LOG = ENVIRONMENT / "install.log"
STAMP = ENVIRONMENT / "installed"
VERSIONS = ("3.12", "3.13", "3.14")
"""Those that NautilusTrader has wheels for."""
COULD_NOT_RUN = 77
INSTALL_SECONDS_MAX = 900
TRADE_SECONDS_MAX = 180
# What pip says when no index answers, in lower case.
UNREACHABLE = (
    "connection",
    "name resolution",
    "timed out",
    "max retries",
    "failed to establish",
    "proxyerror",
)


class CannotRun(Exception):
    """The text says why and what to do."""


def main() -> int:
    try:
        if shutil.which("openssl") is None:
            raise CannotRun("openssl is not here, which makes the Ed25519 key: install it")
        python = environment()
    except CannotRun as reason:
        print(f"strangers: CANNOT RUN, nothing was tested: {reason}", file=sys.stderr)
        return COULD_NOT_RUN
    return trade(python)


def environment() -> Path:
    """The Python of an environment that holds exactly the pinned packages."""
    python = ENVIRONMENT / "bin" / "python"
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if STAMP.is_file() and STAMP.read_text() == pins and works(str(python)):
        return python
    chosen = interpreter()
    print(f"strangers: making {ENVIRONMENT.name} with {chosen}", flush=True)
    made = subprocess.run([chosen, "-m", "venv", "--clear", ENVIRONMENT], capture_output=True, text=True)
    if made.returncode != 0:
        raise CannotRun(f"{chosen} cannot make an environment: {last_line(made.stdout + made.stderr)}")
    print(f"strangers: installing {REQUIREMENTS.name} (some 200 MB), log in {LOG}", flush=True)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--only-binary", ":all:"]
    try:
        with LOG.open("wb") as log:
            done = subprocess.run(
                [*pip, "--require-hashes", "-r", str(REQUIREMENTS)],
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=INSTALL_SECONDS_MAX,
            )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"pip was not done in {INSTALL_SECONDS_MAX} s: see {LOG}") from None
    if done.returncode != 0:
        raise CannotRun(install_problem(LOG.read_text(errors="replace"), chosen))
    STAMP.write_text(pins)
    return python


def interpreter() -> str:
    """A Python that NautilusTrader has wheels for: the one named by NAUTILUS_PYTHON, else one found here."""
    named = os.environ.get("NAUTILUS_PYTHON")
    if named:
        if not works(named):
            raise CannotRun(f"NAUTILUS_PYTHON={named} is no Python {', '.join(VERSIONS)}")
        return named
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in VERSIONS:
        installed = sorted(str(path) for path in pyenv.glob(f"{version}.*/bin/python"))
        for candidate in (f"python{version}", *installed):
            if works(candidate):
                return candidate
    raise CannotRun(
        f"no Python {', '.join(VERSIONS)} here, which NautilusTrader needs: install one, or name one with "
        "NAUTILUS_PYTHON=/path/to/python3.12"
    )


def works(python: str) -> bool:
    """Whether `python` runs and is of a version that there are wheels for. A pyenv shim may exist and not run."""
    ask = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.strip() in VERSIONS


def install_problem(log: str, python: str) -> str:
    """What went wrong in pip, in words."""
    quiet = log.lower()
    if any(words in quiet for words in UNREACHABLE):
        return f"the package index cannot be reached: check the network or PIP_INDEX_URL. Log: {LOG}"
    if "no matching distribution" in quiet:
        return f"no wheel for this machine and {python} (Linux needs glibc 2.35 or newer). Log: {LOG}"
    return f"pip failed: {last_line(log)} Log: {LOG}"


def trade(python: Path) -> int:
    """Start a simulator, let the adapter trade, stop the simulator."""
    serve = [sys.executable, "-m", "simulator", "serve", "--port", "0", "--speed", "4"]
    simulator = subprocess.Popen(serve, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert simulator.stdout is not None
        ready = simulator.stdout.readline().split()
        if not ready:
            print("strangers: the simulator did not start (its own words are above)", file=sys.stderr)
            return 1
        script = Path(__file__).with_name("nautilus.py")
        return subprocess.run([python, script, ready[-1]], timeout=TRADE_SECONDS_MAX).returncode and 1
    except subprocess.TimeoutExpired:
        print(f"strangers: nautilus did not trade within {TRADE_SECONDS_MAX} s", file=sys.stderr)
        return 1
    finally:
        simulator.terminate()
        simulator.wait(20)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["(no words)"])[-1][:200]


if __name__ == "__main__":
    sys.exit(main())
