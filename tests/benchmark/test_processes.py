"""A benchmark as a process: stopped by Ctrl-C in the middle of a cell, gone on with, and a cell that is killed."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import Dmis

from condense.benchmark.executors import SubmititExecutor
from condense.benchmark.runner import benchmark
from condense.evaluate.results import read_csv

DMIS = [sys.executable, "-P", "-m", "condense"]
WAITS = '''
"""A toy method that waits for a file."""
import time
from pathlib import Path
from condense.methods.random import Options, condense as draw

def condense(train, ipc, options, seed, run):
    Path("waits").touch()
    while not Path("go").exists():
        time.sleep(0.02)
    return draw(train, ipc, options, seed, run)
'''
KILLED = '''
"""A toy method that the system kills because memory runs out."""
import os, signal
from condense.methods.random import Options

def condense(train, ipc, options, seed, run):
    os.kill(os.getpid(), signal.SIGKILL)
'''
RECIPE = {
    "methods": ["random"],
    "settings": [{"name": "digits", "noise": "sym:0.4"}],
    "ipc": [1],
    "evaluate": {"protocol": "hard-quick", "network": "mlp", "repeats": 1},
}


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in found}


@pytest.mark.slow
def test_a_grid_stopped_half_way_resumes(tmp_path: Path, dmis: Dmis, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys" / "waits.py").write_text(WAITS)
    (tmp_path / "toys" / "killed.py").write_text(KILLED)
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(RECIPE))
    own = ["--set", "methods=[random, toys.waits, toys.killed]"]  # by hand: a recipe names no code that is run
    command = [*DMIS, "benchmark", "grid.yaml", "--out", "out", "--jobs", "1", *own]
    where = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(tmp_path)}, "text": True}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **where)  # type: ignore[call-overload]
    deadline = time.monotonic() + 300
    while not (tmp_path / "waits").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == "" and "[1/3] digits-sym-0.4_random_ipc1_seed0" in err
    assert "1 of 3 cells done; run the same again" in err and "Traceback" not in err
    assert [result.status for result in read_csv(tmp_path / "out" / "results.csv")] == ["done", "missing", "missing"]
    stopped = tmp_path / "out" / "cells" / "digits-sym-0.4_toys.waits_ipc1_seed0"
    assert sorted(path.name for path in stopped.iterdir()) == ["log.txt", "recipe.json", "run"]

    done = tmp_path / "out" / "cells" / "digits-sym-0.4_random_ipc1_seed0"
    before = digests(done)
    (tmp_path / "go").touch()
    monkeypatch.syspath_prepend(tmp_path)
    again = dmis("benchmark", "grid.yaml", "--out", "out", "--jobs", "2", *own)
    assert again.code == 1 and "1 of 3 cells failed" in again.err, again.err
    assert digests(done) == before and len(before) == 4
    results = read_csv(tmp_path / "out" / "results.csv")
    assert [result.status for result in results] == ["done", "done", "failed"]
    assert results[2].error == "its process was ended by SIGKILL, most likely out of memory: lower --jobs"
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".partial")]
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(name in page for name in ("random", "toys.waits", "toys.killed", "SIGKILL"))


@pytest.mark.slow
def test_a_job_of_submitit_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(RECIPE | {"methods": ["random"]}))
    executor = SubmititExecutor(tmp_path / "jobs", {"timeout_min": 5}, 2, "local")
    answer = benchmark(str(tmp_path / "grid.yaml"), tmp_path / "out", executor=executor)
    assert (answer.done, answer.failed) == (1, 0)
    assert list((tmp_path / "jobs").glob("*_log.out"))


def test_the_commands_dry_run_and_their_mistakes(dmis: Dmis, tmp_path: Path) -> None:
    Path("grid.yaml").write_text(yaml.safe_dump(RECIPE | {"methods": ["random"]}))
    answer = dmis("benchmark", "grid.yaml", "--out", "out", "--dry-run", "--set", "ipc=[1, 5]", "--set", "seeds=[3]")
    assert (
        answer.code == 0 and "digits-sym-0.4_random_ipc5_seed3" in answer.out and "2 cells, 2 to be run" in answer.out
    )
    assert not Path("out").exists()
    for arguments, said in (
        (["nothing.yaml", "--out", "out"], "no recipe 'nothing.yaml'"),
        (["digits-sym40", "--out", "out"], "dmis condense -c"),
        (["grid.yaml", "--out", "grid.yaml"], "is a file"),
        (["grid.yaml", "--out", "out", "--executor", "cloud"], "use local, or slurm"),
        (["grid.yaml", "--out", "out", "--executor", "slurm"], "--executor local"),
    ):
        answer = dmis("benchmark", *arguments)
        assert answer.code == 2 and said in answer.err, answer.err
