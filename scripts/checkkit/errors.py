"""Exit codes, and the errors behind two of them."""

from __future__ import annotations

EXIT_CLEAN = 0
EXIT_FINDINGS = 1
EXIT_USAGE = 2  # argparse uses it too
EXIT_UNREADABLE = 3


class CheckError(Exception):
    """Base of all errors of the script; the text is one line for a person."""

    exit_code = EXIT_USAGE


class UsageError(CheckError):
    """The command line is wrong: an unknown rule, a broken baseline."""


class UnreadableError(CheckError):
    """The path cannot be read."""

    exit_code = EXIT_UNREADABLE
