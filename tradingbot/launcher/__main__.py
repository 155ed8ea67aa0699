"""Command line of the launcher."""

import argparse
import sys

from tradingbot.env import SettingError
from tradingbot.launcher import run, with_servers
from tradingbot.launcher.errors import LauncherError
from tradingbot.launcher.stack import PRODUCT, Stack


def main(arguments: list[str], stack: Stack = PRODUCT) -> int:
    """Run one subcommand; answers the exit code. A refusal is one line on stderr and exit code 1."""
    parser = argparse.ArgumentParser(prog="tradingbot.launcher", description=__doc__)
    commands = parser.add_subparsers(dest="subcommand", required=True)
    commands.add_parser("run", help="start the whole product; settings come from the environment")
    lend = commands.add_parser("with-servers", help="run a command with a throw-away PostgreSQL and Redis")
    lend.add_argument("--keep", action="store_true", help="leave the servers' folder and logs behind")
    lend.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND [ARGUMENT ...]")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.subcommand == "run":
            return run.run(stack)
        command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
        if not command:
            parser.error("with-servers: say the command after --")
        return with_servers.run(command, keep=chosen.keep)
    except (LauncherError, SettingError) as error:
        print(f"tradingbot: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
