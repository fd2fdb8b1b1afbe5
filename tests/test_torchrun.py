"""Two processes under torchrun: one trains with the other, one alone writes and reports."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import side_by_side
import tiny
import torch
from safetensors import safe_open

from condense.generator.model import Generator
from condense.generator.training.session import train_generator
from condense.generator.training.two_stage import beliefs
from condense.pipeline.make import make_set
from condense.pipeline.plan import Request, make_plan
from condense.run import Run
from condense.sets.hdf5 import read

LOST = """
from dataclasses import replace

from condense.cli import main
from condense.generator.training.trainer import Trainer

batch_of = Trainer.batch


def lost(self, *arguments):
    batch = batch_of(self, *arguments)
    lost_now = self.step == 2 and self.accelerator.process_index == 1
    return replace(batch, x_t=batch.x_t * float("nan")) if lost_now else batch


Trainer.batch = lost
main()
"""


@pytest.fixture
def torchrun(tmp_path):
    def call(*arguments, program=("-m", "--", "condense")):
        command = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc_per_node", "2", *program]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )

    return call


def test_two_processes_train_two_stages_and_draw(torchrun, tmp_path):
    tiny = ["network.channels=8", "train.steps=4", "train.batch_size=32", "second_stage={}", "draw.sampler_steps=3"]
    tiny += ["second_stage.network.channels=8", "second_stage.train.steps=3", "draw.pool=1"]
    told = [argument for setting in tiny for argument in ("--set", setting)]
    done = torchrun(
        "condense", "--noise", "sym:0.4", "--ipc", "1", "--run", "out", "--out", "set.h5", "--json", "-q", *told
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["path"] == "set.h5", "one of them answers"
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4], "and one of them writes"
    with safe_open(tmp_path / "out" / "beliefs.safetensors", "pt") as file:
        believed = file.get_tensor("beliefs")
    generator = Generator.load(Run(tmp_path / "out"))
    assert generator.second.record.steps == 3
    train = make_plan(Request(named={"data": {"noise": "sym:0.4"}, "method": "random"})).train
    alone = beliefs(generator, train, Run(None)).posterior
    torch.testing.assert_close(believed, torch.from_numpy(alone))
    settings = [*tiny, f"generator={tmp_path / 'out'}"]
    drawn = make_set(make_plan(Request(named={"data": {"noise": "sym:0.4"}, "ipc": 1}, settings=settings)), Run(None))
    made = read(tmp_path / "set.h5")
    np.testing.assert_array_equal(made.images, drawn.images)
    assert made.provenance.cost.network_evaluations == drawn.provenance.cost.network_evaluations > 0


def test_two_processes_share_what_is_trained_beforehand_and_held_out_looks(torchrun, tmp_path):
    """The comparisons with one process are in `side_by_side`; the number of evaluations is that of one process."""
    done = torchrun(str(tmp_path), program=["--", side_by_side.__file__])
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name, options in side_by_side.TRAINED.items():
        record = train_generator(side_by_side.DATA, tiny.NETWORK, options, 3, Run(None)).record
        assert found[name]["evaluations"] == [record.evaluations] * 2, name
        assert found[name]["images_seen"] == record.images_seen
        assert found[name]["loss"][0] == found[name]["loss"][1]
        assert found[name]["equal"] and found[name]["asked"] % len(side_by_side.DATA) == 0


@pytest.mark.slow
def test_one_diverging_process_stops_both(torchrun, tmp_path):
    (tmp_path / "lost.py").write_text(LOST)
    tiny = ["--set", "network.channels=8", "--set", "train.steps=6", "--set", "train.batch_size=32"]
    done = torchrun(
        "train", "--data", "digits", "--noise", "sym:0.4", "--run", "out", "-q", *tiny, program=["--", "lost.py"]
    )
    assert done.returncode != 0
    assert "The loss became nan at step 2" in done.stderr


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["demo", "--out", "demo"], "`dmis demo` needs one process, but torchrun started 2"),
        (["evaluate", "set.h5"], "`dmis evaluate` needs one process"),
        (["--debug", "benchmark", "digits"], "`dmis benchmark` needs one process"),
        (["condense", "--method", "random", "--ipc", "1"], r"here none is trained \(method random\); run it without"),
    ],
)
def test_what_several_processes_cannot_do_together_is_refused(dmis, monkeypatch, command, sentence):
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = dmis(*command)
    assert answer.code == 2 and re.search(sentence, answer.err)
    assert not list(Path().iterdir())


@pytest.mark.slow
def test_two_processes_that_cannot_work_together_end_with_the_sentence(torchrun, tmp_path):
    done = torchrun("condense", "--method", "random", "--ipc", "1", "--out", "set.h5")
    assert done.returncode != 0 and "run it without torchrun" in done.stderr
    assert not (tmp_path / "set.h5").exists()
