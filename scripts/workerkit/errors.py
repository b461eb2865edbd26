"""What can go wrong, and the exit code of each class of error."""

from __future__ import annotations

EXIT_OK = 0
EXIT_DIFFERENT = 1  # of `diff`, as diff(1) has it, and of `upgrade` with conflicts, as merge(1) has it
EXIT_USAGE = 2  # argparse uses it too


class AddWorkerError(Exception):
    """Base of all errors of the script; the text is one line for a person."""

    exit_code = EXIT_USAGE


class UsageError(AddWorkerError):
    """The command line is wrong."""


class ProjectError(AddWorkerError):
    """The project lacks what a worker builds on, or its package was not found."""

    exit_code = 3


class ServiceError(AddWorkerError):
    """The service method does not exist, or a worker cannot call it."""

    exit_code = 4


class TargetExistsError(AddWorkerError):
    """A file to write exists with other content, or the worker's name is taken."""

    exit_code = 5


class MigrationError(AddWorkerError):
    """The project's Alembic history has no single head to build on."""

    exit_code = 6


class WriteError(AddWorkerError):
    """The files could not be written; none of them was."""

    exit_code = 7


class TemplateError(AddWorkerError):
    """The skill's own templates are incomplete."""

    exit_code = 8


class UncommittedError(AddWorkerError):
    """Files to change have changes that nobody committed."""

    exit_code = 9
