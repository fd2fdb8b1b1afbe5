"""Streams: a result reaches somebody whatever stdout is, and no terminal obeys a file."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from condense import console
from condense.cli import run
from condense.cli.output import answer

SCRIPT = """
import sys
from condense import console
from condense.cli import app, run
from condense.cli.output import answer
console.prepare()
@app.command("probe")
def probe() -> None:
    answer(lambda: {"mean": "92.5"}, "--json" in sys.argv, lambda result: print(result["mean"], "± 0.4 % – done"))
sys.exit(run(["probe"]))
"""


def probe(stdout: str, encoding: str = "utf-8", *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The result of a command under a shell that redirects stdout."""
    command = f'"{sys.executable}" -P -c "$SCRIPT" {" ".join(arguments)} {stdout}'
    environment = {**os.environ, "SCRIPT": SCRIPT, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    return subprocess.run(["sh", "-c", command], capture_output=True, env=environment, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a Unix shell")
@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", b"92.5 +/- 0.4 % - done\n"), ("latin-1", "92.5 ± 0.4 % - done\n".encode("latin-1")), ("utf-8", None)],
)
def test_a_plain_stdout_costs_no_result(encoding: str, expected: bytes | None) -> None:
    """`evaluate` ended with rc 1 at ± and the accuracy was lost."""
    done = probe("", encoding)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected or "92.5 ± 0.4 % – done\n".encode(), b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a Unix shell")
def test_a_closed_stdout_costs_no_result() -> None:
    """AttributeError, rc 1."""
    done = probe(">&-")
    assert done.returncode == 0 and b"92.5" in done.stderr and b"rror" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stdout_costs_no_result() -> None:
    """What stdout cannot take goes to stderr."""
    done = probe(">/dev/full")
    assert done.returncode == 1 and b"92.5" in done.stderr and b"no space left" in done.stderr


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"cp1252", b"92.5 \xb1 0.4 \x96 3 \\u732b\n"),
        (b"cp437", b"92.5 \xf1 0.4 - 3 \\u732b\n"),
        (b"ascii", b"92.5 +/- 0.4 - 3 \\u732b\n"),
    ],
)
def test_letters_that_an_encoding_lacks_are_replaced_by_plain_ones(
    monkeypatch: pytest.MonkeyPatch, name: bytes, shown: bytes
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, name.decode(), newline="\n"))
    console.prepare()
    console.deliver("92.5 ± 0.4 – 3 猫\n")
    assert raw.getvalue() == shown


def test_names_cannot_control_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes of a class name were printed raw by `inspect`."""
    answer(lambda: "cat\x1b]0;title\x07", False, lambda name: print(name, "\nnext"))
    assert capsys.readouterr().out == "cat\\x1b]0;title\\x07 \nnext\n"
    console.complain("x\x1b[2J" + "y" * 600_000)
    told = capsys.readouterr().err
    assert "\x1b" not in told and len(told) < 2100


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((10**9,), np.dtype("f8")),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_too_little_memory_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Torch's "enforce fail" was shown."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(sys.modules["condense.cli.app"], "app", fail)
    monkeypatch.delenv("DMIS_DEBUG", raising=False)
    assert run(["doctor"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: out of memory; use fewer or smaller images") and told.count("\n") == 1


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    assert not console.is_out_of_memory(RuntimeError("size mismatch"))
    assert not console.is_out_of_memory(ValueError("DefaultCPUAllocator"))
