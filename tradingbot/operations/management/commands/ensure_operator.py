"""`manage.py ensure_operator`: the first account, so that somebody can sign in."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from tradingbot import env
from tradingbot.core import audit, clock

OPERATOR = "operator"


class Command(BaseCommand):
    help = (
        "Create the superuser `operator` with the password of OPERATOR_PASSWORD_FILE or OPERATOR_PASSWORD. "
        "An account that exists keeps its password; --reset sets it again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reset", action="store_true", help="set the password again")

    @transaction.atomic
    def handle(self, *, reset: bool, **_: Any) -> None:
        """Create or complete the account; safe to run at every start."""
        try:
            password = env.secret("OPERATOR_PASSWORD")
        except env.SettingError as error:
            raise CommandError(f"{error} It holds the password of the first account.") from error
        if not password:
            raise CommandError("OPERATOR_PASSWORD_FILE is empty. It holds the password of the first account.")
        user, created = get_user_model().objects.get_or_create(
            username=OPERATOR, defaults={"is_staff": True, "is_superuser": True}
        )
        if created or reset:
            user.set_password(password)
            user.save(update_fields=["password"])
            action = "operator.created" if created else "operator.password_reset"
            audit.record(action=action, subject=f"user:{OPERATOR}", actor="installation", now=clock.now())
            self.stdout.write(f"{OPERATOR}: {'created' if created else 'password set again'}")
        elif user.check_password(password):
            self.stdout.write(f"{OPERATOR}: exists")
        else:
            self.stdout.write(
                f"{OPERATOR}: exists, and the password was changed since; `manage.py ensure_operator --reset` "
                "sets it back"
            )
