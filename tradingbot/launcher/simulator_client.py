"""What the launcher asks of the exchange simulator: the bot's account, opened once, and which symbols it trades."""

import hashlib
import hmac
import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tradingbot.launcher import places
from tradingbot.launcher.errors import LauncherError

OPENING_BALANCES = {"USDT": "10000"}
TIMEOUT_SECONDS = 5
_HTTP_REFUSED = {400, 401, 403}
# Loopback only: a proxy from the environment has no business here.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    body: str

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def ask(
    url: str, *, body: dict[str, object] | None = None, headers: dict[str, str] | None = None
) -> Answer | None:
    """GET, or POST `body` as JSON; None when nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers or {})  # noqa: S310 - our own loopback URLs
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with _opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            return Answer(response.status, response.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return None


def key_files(data: Path) -> dict[str, str]:
    """The settings that tell the bot where its simulator key lies."""
    return {
        "BINANCE_SIMULATOR_API_KEY_FILE": str(data / "keys" / "simulator.key"),
        "BINANCE_SIMULATOR_API_SECRET_FILE": str(data / "keys" / "simulator.secret"),
    }


def ensure_account(data: Path, simulator_url: str) -> None:
    """Open the account on the first run; later make sure that the simulator still knows its key.

    A key it no longer knows is refused, not replaced: the books in Postgres belong to the old account.
    """
    folder = places.make_private(data / "keys")
    key_file, secret_file = folder / "simulator.key", folder / "simulator.secret"
    if key_file.exists() and secret_file.exists():
        _check(key_file.read_text().strip(), secret_file.read_text().strip(), data, simulator_url)
        return
    answer = ask(f"{simulator_url}/sim/accounts", body={"balances": OPENING_BALANCES})
    opened = answer.json() if answer is not None else None
    if not isinstance(opened, dict) or not {"apiKey", "secretKey"} <= opened.keys():
        shown = "no answer" if answer is None else f"HTTP {answer.status} {answer.body[:200]}"
        raise LauncherError(f"The simulator opened no account: {shown}.")
    places.write_secret(secret_file, str(opened["secretKey"]))
    places.write_secret(key_file, str(opened["apiKey"]))


def symbols(simulator_url: str) -> list[str]:
    """What the simulator trades: its own market's symbols, or those of the recording it replays."""
    answer = ask(f"{simulator_url}/api/v3/exchangeInfo")
    info = answer.json() if answer is not None else None
    if not isinstance(info, dict) or not info.get("symbols"):
        raise LauncherError(f"The simulator at {simulator_url} does not say what it trades: see its log.")
    return [str(row["symbol"]) for row in info["symbols"]]


def _check(key: str, secret: str, data: Path, simulator_url: str) -> None:
    time_answer = ask(f"{simulator_url}/api/v3/time")
    server_time = time_answer.json() if time_answer is not None else None
    if not isinstance(server_time, dict) or "serverTime" not in server_time:
        raise LauncherError(f"The simulator at {simulator_url} does not say what time it is: see its log.")
    query = f"timestamp={server_time['serverTime']}&recvWindow=60000"
    signature = hmac.new(secret.encode(), query.encode(), hashlib.sha256).hexdigest()
    url = f"{simulator_url}/api/v3/account?{query}&signature={signature}"
    answer = ask(url, headers={"X-MBX-APIKEY": key})
    if answer is None or (answer.status != 200 and answer.status not in _HTTP_REFUSED):
        raise LauncherError(f"The simulator at {simulator_url} does not answer for its account: see its log.")
    if answer.status != 200:
        raise LauncherError(
            f"The simulator no longer knows the key in {data / 'keys'} (its own data is gone or from elsewhere). "
            f"The bot's books belong to that account; to begin anew: rm -r {data}"
        )
