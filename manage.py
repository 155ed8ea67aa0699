#!/usr/bin/env python
"""Django's command line for tradingbot."""

import os
import sys

from tradingbot.env import SettingError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingbot.settings")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except SettingError as error:
        sys.exit(f"settings: {error}")


if __name__ == "__main__":
    main()
