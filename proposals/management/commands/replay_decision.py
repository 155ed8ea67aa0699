"""`manage.py replay_decision ID [--model M]`: send a decision's stored request again and show the difference."""

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from proposals import rules, selectors, services
from proposals.contracts import DecisionRefused
from proposals.services.replaying import Replay
from tradingbot.core import clock

SHOWN_LENGTH_MAX = 200


class Command(BaseCommand):
    """Costs one call of the model; stores a link of the audit log and nothing else."""

    help = "Send the stored request of a decision (or of a proposal) again and show what differs."

    def add_arguments(self, parser: CommandParser) -> None:
        """The decision, and another model if wanted."""
        parser.add_argument("id", type=UUID, help="id of the decision, or of its proposal")
        parser.add_argument("--model", default="", help="another model than the one that was asked")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, compare, print."""
        decision = selectors.decision_of(options["id"])
        if decision is None:
            raise CommandError(f"There is no decision and no proposal {options['id']} in this environment.")
        try:
            found = services.replay_decision(
                decision=decision, model=options["model"], actor="command line", now=clock.now()
            )
        except DecisionRefused as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"decision {decision.pk}, {decision.symbol}, prompt {decision.prompt_version}")
        self._tell(found, decision.model_answered or decision.model_requested)

    def _tell(self, found: Replay, stored_model: str) -> None:
        took = "no answer" if found.latency_ms is None else f"{found.latency_ms} ms"
        self.stdout.write(f"stored: {stored_model}: {found.before.outcome}")
        self.stdout.write(
            f"now:    {found.model_asked} (answered {found.model_answered or '-'}, {took}): "
            f"{found.after.outcome}"
        )
        for name, before, after in found.changed:
            self.stdout.write(f"  {name}: {_shown(before)} -> {_shown(after)}")
        if not found.changed:
            self.stdout.write(
                "  the proposal is the same" if found.after.fields else "  no proposal in either"
            )
        for line in found.raw_diff:
            self.stdout.write(rules.clean_text(line, 2000))
        self.stdout.write("Nothing of this was stored as a proposal.")


def _shown(value: Any) -> str:
    return "-" if value is None else rules.clean_text(str(value), SHOWN_LENGTH_MAX)
