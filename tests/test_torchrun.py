"""Two processes under torchrun: one trains with the other, one alone writes and reports."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def torchrun(tmp_path):
    def call(*arguments):
        command = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "--", "condense"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )

    return call


def test_two_processes_train_one_generator(torchrun, tmp_path):
    tiny = ["--set", "network.channels=8", "--set", "train.steps=6", "--set", "train.batch_size=32"]
    done = torchrun("train", "--data", "digits", "--noise", "sym:0.4", "--run", "out", "--json", "-q", *tiny)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["run"] == "out"
    assert (tmp_path / "out" / "generator.safetensors").exists()
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [6]


@pytest.mark.slow
def test_the_demo_refuses_several_processes(torchrun):
    done = torchrun("demo", "--out", "demo")
    assert done.returncode != 0
    assert "needs one process" in done.stderr
