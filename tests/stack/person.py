"""The operator as a script over HTTP, for what a test needs of a person while it waits for something else."""

from contextlib import suppress

import requests

from tests.stack.running import RunningStack
from tradingbot.operations.rehearsal.processes.person import Desk


class Operator:
    """One signed-in operator of a running product."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self._desk = Desk(stack)

    def approve_what_waits(self) -> None:
        """Open each waiting proposal and approve it where its page offers that."""
        waiting = self._stack.rows("SELECT id FROM proposals_proposal WHERE status = 'pending_approval'")
        for (proposal_id,) in waiting:
            page = f"/approvals/{proposal_id}/"
            with suppress(requests.RequestException):  # tests kill the web server as well
                fields = self._desk.forms(page).get("approve")
                if fields is not None:
                    self._desk.post(f"{page}approve/", fields)
