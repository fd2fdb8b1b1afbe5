"""Errors a user can act on, each with the exit code the command line returns for it.

Every message says what was found, what is needed and what to do, in one sentence or two.
Impossible states are `assert`s, not these.
"""

from __future__ import annotations


def in_short(error: BaseException, length: int = 300) -> str:
    """The message of another library's error, on one line of at most `length` characters."""
    return " ".join(str(error).split())[:length]


class DmisError(Exception):
    """Anything the command line reports as one sentence instead of a traceback."""

    exit_code = 1


class UserError(DmisError):
    """Bad input: a file, a recipe, an option or a label that cannot be used (exit code 2)."""

    exit_code = 2


class RunFailed(DmisError):
    """Work that started properly and could not continue, e.g. a NaN loss or a full disk (exit code 1)."""

    exit_code = 1


class Interrupted(DmisError):
    """Stopped by Ctrl-C (or SIGTERM) after the state was saved (exit code 130)."""

    exit_code = 130


class WorkerDone(DmisError):
    """Not an error: a process that torchrun started beside the main one has finished its part (exit code 0)."""

    exit_code = 0
