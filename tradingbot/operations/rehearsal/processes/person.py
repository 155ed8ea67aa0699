"""The operator as a script, over HTTP: opens what waits, approves most of it, at times with two hands at once."""

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import psycopg
import requests

from tradingbot.operations.rehearsal.processes.product import HTTP_SECONDS_MAX, Product, wait_for

LOOK_SECONDS = 0.5
APPROVE_CHANCE = 0.85
DOUBLE_CHANCE = 0.3
COMMAND_SECONDS_MAX = 90
FORM = re.compile(r'<form id="(approve|reject)-form".*?</form>', re.DOTALL)
FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
CHOICE = re.compile(r'<input type="radio" name="choice" value="([^"]+)"')


class Desk:
    """One signed-in browser of the operator."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._http = requests.Session()
        self._http.trust_env = False

    def forms(self, path: str) -> dict[str, dict[str, str]]:
        """The hidden fields of the forms to approve and to reject on a page."""
        self._sign_in()
        page = self._http.get(f"{self._product.url}{path}", timeout=HTTP_SECONDS_MAX).text
        found = {}
        for form in FORM.finditer(page):
            choice = CHOICE.search(form[0])
            found[form[1]] = dict(FIELD.findall(form[0])) | ({"choice": choice[1]} if choice else {})
        return found

    def post(self, path: str, fields: dict[str, str]) -> int:
        """Send a form as a browser without scripts does; the HTTP status. Raises what requests raises."""
        self._sign_in()
        return self._send(path, fields)

    def _send(self, path: str, fields: dict[str, str]) -> int:
        answer = self._http.post(
            f"{self._product.url}{path}",
            data=fields | {"csrfmiddlewaretoken": self._http.cookies["csrftoken"]},
            headers={"Referer": f"{self._product.url}/"},
            timeout=HTTP_SECONDS_MAX,
        )
        return answer.status_code

    def _sign_in(self) -> None:
        if "sessionid" in self._http.cookies:
            return
        self._http.get(f"{self._product.url}/login/", timeout=HTTP_SECONDS_MAX)
        if "csrftoken" not in self._http.cookies:
            raise requests.ConnectionError("the login page set no cookie")
        self._send("/login/", {"username": self._product.user, "password": self._product.password})

    def insist(self, path: str) -> None:
        """Send a command until the web server has taken it."""

        def taken() -> bool:
            try:
                return self.post(path, {}) < 400
            except requests.RequestException:
                return False

        wait_for(taken, f"POST {path} is taken", COMMAND_SECONDS_MAX)


class Person:
    """Decides in a thread of its own until `stop`; `answers` counts what the web server said."""

    def __init__(self, product: Product, seed: int) -> None:
        self._product = product
        self._dice = Random(f"person:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
        self._desks = (Desk(product), Desk(product))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="person", daemon=True)
        self.answers: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to look at the queue."""
        self._thread.start()

    def stop(self) -> None:
        """Decide nothing more."""
        self._stop.set()
        self._thread.join(4 * HTTP_SECONDS_MAX)

    def _run(self) -> None:
        seen: set[Any] = set()
        while not self._stop.wait(LOOK_SECONDS):
            try:
                waiting = self._waiting()
            except psycopg.Error:  # the database is being restarted
                continue
            for proposal_id in waiting:
                if proposal_id not in seen and not self._stop.is_set():
                    self._decide(proposal_id, seen)

    def _waiting(self) -> list[Any]:
        with self._product.connect() as connection:
            rows = connection.execute(
                "SELECT id FROM proposals_proposal WHERE status = 'pending_approval' ORDER BY created_at LIMIT 20"
            ).fetchall()
        return [row[0] for row in rows]

    def _decide(self, proposal_id: Any, seen: set[Any]) -> None:
        """One decision; what the dead web server did not answer is tried again with the next look."""
        verb = "approve" if self._dice.random() < APPROVE_CHANCE else "reject"
        hands = 2 if self._dice.random() < DOUBLE_CHANCE else 1
        try:
            fields = self._desks[0].forms(f"/approvals/{proposal_id}/").get(verb)
        except requests.RequestException:
            self.answers["web server away"] += 1
            return
        if fields is None:  # decided or expired meanwhile
            seen.add(proposal_id)
            return
        with ThreadPoolExecutor(hands) as pool:
            path = f"/approvals/{proposal_id}/{verb}/"
            for answer in [pool.submit(self._click, desk, path, fields) for desk in self._desks[:hands]]:
                self.answers[f"{verb}: {answer.result()}"] += 1
        # Not marked as seen: a click whose answer was lost is repeated when it is still waiting.

    @staticmethod
    def _click(desk: Desk, path: str, fields: dict[str, str]) -> str:
        try:
            return f"HTTP {desk.post(path, fields)}"
        except requests.RequestException:
            return "no answer"
