"""On a GPU that is simulated (see `simulated_gpu.py`): all runs there, and the host seldom waits."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import simulated_gpu

from condense import methods

PROGRAM = Path(__file__).with_name("simulated_runs.py")
pytestmark = pytest.mark.skipif(simulated_gpu.missing() is not None, reason=str(simulated_gpu.missing()))


def on_a_gpu(name, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parent)}
    command = [sys.executable, "-P", str(PROGRAM), name]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_training_step_waits_for_the_gpu_and_copies_at_most_twice(tmp_path):
    found = on_a_gpu("budget", tmp_path)
    once = found.pop("generator, label model, once an epoch")
    assert once["waits"] == 0 and once["copies"] <= 5, once["places"]
    generators = [name for name in found if name.startswith("generator")]
    others = {
        "dm",
        "datadam",
        "dc",
        "dsa",
        "mtt",
        "frepo",
        "idc",
        "fit",
        "stacked, a network",
        "labeller",
        "helper, volminnet",
    }
    assert len(generators) == 7 and others <= found.keys()
    wasteful = {name: cost for name, cost in found.items() if cost["waits"] > 2 or cost["copies"] > 2}
    assert not wasteful, json.dumps(wasteful, indent=1)


@pytest.mark.slow
def test_losses_are_those_of_the_last_look_and_a_lost_run_is_noticed_at_the_next(tmp_path):
    found = on_a_gpu("numbers", tmp_path)
    losses = found["losses"]
    assert all(math.isnan(loss) for loss in losses[:9])
    assert losses[9:19] == [losses[9]] * 10 and losses[19:29] == [losses[19]] * 10
    assert len({losses[9], losses[19], losses[29]}) == 3
    assert "became nan at step 13" in found["said"] and found["done"] == 19


@pytest.mark.slow
def test_every_objective_trains_and_answers(tmp_path):
    found = on_a_gpu("objectives", tmp_path)
    assert len(found) == 20
    for device, posterior, drawn in found.values():
        assert device == "cuda:0" and posterior == [4, 3] and drawn == [3, 8, 8, 1]


@pytest.mark.slow
def test_trainings_run_on_a_gpu_without_float64(tmp_path):
    found = on_a_gpu("narrow", tmp_path)
    assert "no float64" in found["refused"] and found["learned"] == [
        "datadam",
        "dc",
        "dm",
        "dsa",
        "frepo",
        "idc",
        "mtt",
    ]


@pytest.mark.slow
def test_every_method_score_and_audit_runs(tmp_path):
    found = on_a_gpu("everything", tmp_path)
    assert found.keys() >= {*methods.names(), "evaluate", "audit of data", "audit of set"}
    assert set(found.values()) == {0}, found
