"""kill -9 at many moments: the same result as of an unbroken run, and no leftovers."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from condense.run import Run
from condense.sets.hdf5 import read

MOMENTS = int(os.environ.get("DMIS_KILLS", "50"))
TRAIN = {"steps": 40, "batch_size": 16, "checkpoint_every": 5, "second_opinion": False}
TINY = tuple(
    word
    for name, value in {**{f"train.{key}": value for key, value in TRAIN.items()}, "network.channels": 8}.items()
    for word in ("--set", f"{name}={json.dumps(value)}")
)
DM = {"iterations": 40, "real_batch": 16, "checkpoint_every": 2}
BENCHMARK = {
    "methods": ["random", "dmis"],
    "settings": [{"name": "digits", "noise": "sym:0.4"}],
    "ipc": [1],
    "evaluate": {"protocol": "hard-quick", "network": "mlp", "repeats": 1},
    "options": {
        "dmis": {"train": TRAIN, "network": {"channels": 8}, "draw": {"sampler_steps": 2, "agree": False}},
    },
}
TIMES = ("seconds", "peak_memory_bytes", "bytes")  # of a benchmark's table: not the same twice


@dataclass(frozen=True)
class Work:
    """A command, the sign that it has begun, and the outputs that must be equal."""

    words: tuple[str, ...]
    begun: str
    result: Callable[[Path], object]
    again: tuple[str, ...] = ("--resume", "--force")


def _generator(folder: Path) -> object:
    found = Run(folder / "run").load("generator")
    assert found is not None
    return {name: tensor.numpy().tobytes() for name, tensor in found[0].items()}


def _table(folder: Path) -> object:
    with (folder / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done"] * 2, rows
    return [{name: cell for name, cell in row.items() if name not in TIMES} for row in rows]


WORKS = {
    "train": Work(("train", "--noise", "sym:0.4", *TINY, "--run", "run"), "run/metrics.jsonl", _generator),
    "relabel": Work(
        ("relabel", "digits", "--noise", "sym:0.4", *TINY, "--run", "run", "--out", "out"),
        "run/metrics.jsonl",
        lambda folder: (folder / "out" / "labels.csv").read_bytes(),
    ),
    "dm": Work(
        (
            *("condense", "--method", "dm", "--ipc", "1"),
            *(word for name, value in DM.items() for word in ("--set", f"{name}={value}")),
            *("--run", "run", "--out", "out.h5"),
        ),
        "run/metrics.jsonl",
        lambda folder: read(folder / "out.h5").sha256(),
    ),
    "benchmark": Work(("benchmark", "benchmark.json", "--out", "out", "--jobs", "2"), "out/cells", _table, ()),
}


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "condense", *arguments, "--quiet"]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=quiet, start_new_session=True
    )


def kill(process: subprocess.Popen[bytes], *, family: bool) -> None:
    """End a process at once; with `family` also all that it started, as the system does when memory runs out."""
    process.send_signal(signal.SIGKILL)
    for status in Path("/proc").glob("[0-9]*/stat") if family else ():
        with suppress(OSError, IndexError):
            if int(status.read_text().rpartition(")")[2].split()[3]) == process.pid:
                os.kill(int(status.parent.name), signal.SIGKILL)
    process.communicate()


def whole(folder: Path, work: Work, *more: str) -> float:
    """Run to the end; seconds since the work began."""
    process, begun = start(folder, *work.words, *more), time.monotonic()
    while process.poll() is None and not (folder / work.begun).exists():
        time.sleep(0.02)
        begun = time.monotonic()
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    return time.monotonic() - begun


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "benchmark.json").write_text(json.dumps(BENCHMARK))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("command", sorted(WORKS))
def test_a_killed_run_goes_on_to_the_same_result_and_leaves_nothing(tmp_path: Path, command: str) -> None:
    """DMIS_KILLS is the number of moments, drawn over the time that an unbroken run takes.

    A run that is killed goes on from where it was, until it ends; then the next one begins.
    """
    work = WORKS[command]
    unbroken = fresh(tmp_path / "unbroken")
    seconds = whole(unbroken, work)
    expected, left = work.result(unbroken), names(unbroken)
    folder, kills, runs = fresh(tmp_path / "broken"), 0, 0

    def check() -> None:
        assert work.result(folder) == expected
        assert names(folder) == left

    while kills < MOMENTS:
        dice = random.Random(1000 * runs + kills)
        again = work.again if (folder / "run" / "recipe.json").exists() else work.again[1:]
        process = start(folder, *work.words, *again)
        while not (folder / work.begun).exists() and process.poll() is None:
            time.sleep(0.02)
        with suppress(subprocess.TimeoutExpired):
            process.wait(dice.uniform(0, 0.8 * seconds))
        if process.poll() is None:
            kill(process, family=kills % 2 == 1)
            kills += 1
            run = folder / "run" if command != "benchmark" else next(folder.glob("out/cells/*"), folder / "out")
            (run / ".partial-0123abcd-7.safetensors").write_bytes(b"as a write that was cut off")
        else:
            said = process.communicate()[1]
            assert process.returncode == 0, said.decode()
            check()
            runs += 1
            fresh(folder)
        assert runs <= MOMENTS, f"only {kills} kills"
    whole(folder, work, *(work.again if (folder / "run" / "recipe.json").exists() else work.again[1:]))
    check()
    print(f"{command}: {kills} kills, {runs + 1} runs, {seconds:.1f} s each")
