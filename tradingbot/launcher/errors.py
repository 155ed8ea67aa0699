"""The launcher's own refusals."""


class LauncherError(Exception):
    """Something the person at the keyboard can put right; the text is one line that says what and how."""


class StopRequested(Exception):
    """Ctrl-C, SIGTERM or SIGHUP came while something was being started."""
