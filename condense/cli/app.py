"""The app `dmis`: its commands in the order of the help, and errors as a sentence with an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from condense import __version__, console
from condense.allocator import keep_freed_memory
from condense.cli import benchmark, data, make, score, sets, start
from condense.errors import DmisError, Interrupted, UserError, WorkerDone, in_short
from condense.machine import DEVICE, num_processes

DEBUG = "DMIS_DEBUG"
WITH_TORCHRUN = ("train", "condense")  # commands that several processes can run together
CONTEXT = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help="Condense image data sets with wrong, ambiguous or missing labels.",
    epilog="Start with: dmis demo",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich would triple the time of `dmis -h`
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"dmis {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show the traceback of an unexpected error (or set {DEBUG}=1).")
    ] = False,
) -> None:
    pass


# in the order in which the help lists them
COMMANDS = (
    start.demo,
    start.init,
    sets.inspect,
    data.corrupt,
    make.train,
    make.condense,
    score.evaluate,
    score.rank,
    benchmark.benchmark,
    benchmark.report,
    data.relabel,
    score.classify,
    make.generate,
    sets.export,
    sets.import_set,
    score.audit,
    score.metrics,
    sets.validate,
    start.doctor,
)
for command in COMMANDS:
    app.command("import" if command is sets.import_set else None)(command)  # a Python keyword


def main() -> None:
    """Entry of the console script."""
    keep_freed_memory()
    console.prepare()
    code = run(sys.argv[1:])
    if num_processes() > 1:
        # threads of torch's process groups may outlive the interpreter, and C++ then aborts the finished process
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code; every error is reported as one sentence on stderr."""
    device = os.environ.get(DEVICE)
    try:
        return _told(arguments)
    finally:
        if device is None:
            os.environ.pop(DEVICE, None)
        else:
            os.environ[DEVICE] = device


def _told(arguments: Sequence[str]) -> int:
    debug = "--debug" in arguments or os.environ.get(DEBUG, "0") not in ("", "0")
    try:
        return _invoked(arguments)
    except WorkerDone:
        return 0
    except DmisError as error:
        console.complain(str(error), "" if isinstance(error, Interrupted) else "error: ")
        return error.exit_code
    except BrokenPipeError:
        # the reader is gone; the interpreter's flush at exit must not complain either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if console.is_out_of_memory(error) and not debug:
            console.complain(
                "out of memory; use fewer or smaller images (--image-size), a smaller batch or network, "
                "fewer --jobs, or a machine with more (--resume continues from the last checkpoint)."
            )
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            console.complain("no space left on the disk; free some, then run again (--resume continues).")
        elif debug:
            raise
        else:
            told = in_short(error)
            console.complain(f"{type(error).__name__}: {told} (with --debug it shows where)")
        return 1


def _invoked(arguments: Sequence[str]) -> int:
    _refuse_processes(arguments)
    _refuse_empty(arguments)
    try:
        app([word for word in arguments if word != "--debug"], prog_name="dmis")  # accepted in any place
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        if code == 130:
            console.complain("interrupted.", "")
        if sys.stdout is not None:
            with contextlib.suppress(ValueError):  # stdout may be closed
                sys.stdout.flush()
        return code
    return 0


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise `UserError` if a value is empty, as from a shell variable that is not set.

    As a path it would mean the current folder, and as a recipe none.
    """
    for before, word in zip(["dmis", *arguments], arguments, strict=False):
        place = word[:-1] if re.fullmatch(r"--[a-z-]+=", word) else before if not word else ""
        if place:
            raise UserError(
                f"The value after {place} is empty (a shell variable that is not set?); give one, or leave it out."
            )


def _refuse_processes(arguments: Sequence[str]) -> None:
    """Raise `UserError` if torchrun started several processes of a command that needs one."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    if num_processes() > 1 and command and command not in WITH_TORCHRUN:
        raise UserError(
            f"`dmis {command}` needs one process, but torchrun started {num_processes()}; run it without torchrun, "
            "which is for `dmis train` and for `dmis condense` with a method that trains a generator."
        )
