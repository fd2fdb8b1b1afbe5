"""kill -9 at several moments: the same result after --resume, and no leftovers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from condense.run import Run
from condense.sets.hdf5 import read

MOMENTS = int(os.environ.get("DMIS_KILLS", "4"))
TINY = (
    *("--set", "train.steps=60", "--set", "train.batch_size=16", "--set", "network.channels=8"),
    *("--set", "network.blocks=1", "--set", "train.checkpoint_every=5", "--set", "train.second_opinion=false"),
)
COMMANDS = {
    "train": ("train", "--noise", "sym:0.4", *TINY, "--run", "run"),
    "relabel": ("relabel", "digits", "--noise", "sym:0.4", *TINY, "--run", "run", "--out", "out"),
    "dm": (
        *("condense", "--method", "dm", "--ipc", "1", "--set", "iterations=40", "--set", "real_batch=16"),
        *("--set", "checkpoint_every=2", "--run", "run", "--out", "out.h5"),
    ),
}
RESULTS = {"train": "run/generator.safetensors", "relabel": "out/labels.csv", "dm": "out.h5"}


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "condense", *arguments, "--quiet"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=quiet)


def result(folder: Path, command: str) -> object:
    """What must come out alike: times, which a file tells too, left aside."""
    if command == "dm":
        return read(folder / "out.h5").sha256()
    if command == "train":
        found = Run(folder / "run").load("generator")
        assert found is not None
        return {name: tensor.numpy().tobytes() for name, tensor in found[0].items()}
    return (folder / RESULTS[command]).read_bytes()


def whole(folder: Path, command: str, *more: str) -> float:
    folder.mkdir(exist_ok=True)
    started = time.monotonic()
    process = start(folder, *COMMANDS[command], *more)
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    return time.monotonic() - started


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_killed_run_goes_on_to_the_same_result_and_leaves_nothing(tmp_path: Path, command: str) -> None:
    """faults.md, case 31. DMIS_KILLS is the number of moments (4), spread evenly from the first file on."""
    seconds = whole(tmp_path / "unbroken", command)
    expected = result(tmp_path / "unbroken", command)
    names = sorted(str(path.relative_to(tmp_path / "unbroken")) for path in (tmp_path / "unbroken").rglob("*"))
    folder = tmp_path / "broken"
    folder.mkdir()
    for moment in range(MOMENTS):
        resume = ["--resume"] if (folder / "run" / "recipe.json").exists() else []
        process = start(folder, *COMMANDS[command], *resume, "--force")
        deadline = time.monotonic() + 10 * seconds
        while not (folder / "run").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds * (moment + 0.5) / (4 * MOMENTS))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        (folder / "run").mkdir(exist_ok=True)
        (folder / "run" / f".partial-0123abcd-{moment}.safetensors").write_bytes(b"as a write that was cut off")
        if (folder / RESULTS[command]).exists():
            break
    whole(folder, command, "--resume", "--force")
    assert result(folder, command) == expected
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == names
