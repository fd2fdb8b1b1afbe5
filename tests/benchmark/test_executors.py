"""Where a benchmark's cells run: one GPU each, by CUDA_VISIBLE_DEVICES, and one of a cluster's."""

import os
import time
from pathlib import Path

import pytest
import torch

from condense.benchmark import executors as _jobs
from condense.benchmark.executors import LocalExecutor, choose_executor, slots_asked, visible_gpus
from condense.errors import UserError


def write_gpu(out: Path, cell: object) -> None:
    """A task that records the GPU it sees, and ends on request."""
    name = str(cell)
    (out / name).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    while not (out / f"{name}.end").exists():
        time.sleep(0.01)


@pytest.fixture
def gpus(monkeypatch):
    """`gpus(count, visible)`: so many GPUs, and CUDA_VISIBLE_DEVICES."""

    def become(count, visible=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return become


@pytest.mark.parametrize(
    ("count", "visible", "names"),
    [
        (0, None, []),
        (2, None, ["0", "1"]),
        (2, "3,1", ["3", "1"]),
        (1, " GPU-8a1f ,", ["GPU-8a1f"]),
        (0, "", []),
    ],
)
def test_gpus_are_named_as_cuda_wants_them(gpus, count, visible, names):
    gpus(count, visible)
    assert visible_gpus() == names
    assert LocalExecutor().slots == (len(names) or min(4, torch.get_num_threads()))


def test_each_cell_has_the_least_busy_gpu_to_itself(gpus, tmp_path):
    gpus(2, "5,7")
    executor = LocalExecutor(3)
    executor.context = _jobs.multiprocessing.get_context("fork")  # the stand-in below is of this file

    def started(name):
        job = executor.start(write_gpu, tmp_path, name)
        while not (tmp_path / name).exists() or not (tmp_path / name).read_text():
            time.sleep(0.01)
        return job, (tmp_path / name).read_text()

    def end(name, job):
        (tmp_path / f"{name}.end").touch()
        while not job.done():
            time.sleep(0.01)

    first, gpu = started("a")
    assert gpu == "5"
    second, gpu = started("b")
    assert gpu == "7"
    end("a", first)
    third, gpu = started("c")
    assert gpu == "5"
    fourth, _ = started("d")
    for name, job in (("b", second), ("c", third), ("d", fourth)):
        end(name, job)


def test_jobs_are_a_number_or_auto():
    assert slots_asked("auto") is None and slots_asked("3") == 3
    for wrong in ("0", "-1", "many", "1.5", ""):
        with pytest.raises(UserError, match="give a number of at least 1, or auto"):
            slots_asked(wrong)


def test_a_clusters_cell_requests_one_gpu_by_default(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(_jobs, "SubmititExecutor", lambda folder, parameters, slots: asked.append(parameters))
    choose_executor("slurm", tmp_path, None, [])
    choose_executor("slurm", tmp_path, None, ["gpus_per_node=0", "slurm_partition=cpu"])
    assert [one["gpus_per_node"] for one in asked] == [1, 0]
    assert asked[1]["slurm_partition"] == "cpu"
