"""Images that do not fit in memory lie in a temporary file, or are refused."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condense.data import memory, sources
from condense.data.fit import resize
from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.trainer import Trainer


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for place in range(40):
        file = tmp_path / "pictures" / "ab"[place % 2] / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
    (tmp_path / "pictures" / "a" / "broken.png").write_bytes(b"no picture")
    return str(tmp_path / "pictures")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_a_folder_larger_than_half_of_memory_is_mapped(folder, scratch, monkeypatch):
    """Reading 12 GB of pictures on a machine with 16 was killed half-way."""
    expected = sources.load(folder, skip_unreadable=True)
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * expected.train.images.nbytes - 1)
    found = sources.load(folder, skip_unreadable=True)
    assert isinstance(found.train.images, np.memmap) and not isinstance(expected.train.images, np.memmap)
    np.testing.assert_array_equal(found.train.images, expected.train.images)
    assert found.train.fingerprint() == expected.train.fingerprint() and found.files == expected.files
    some = np.array([3, 0, 39, 3])
    np.testing.assert_array_equal(found.train.take(some).images, expected.train.images[some])
    np.testing.assert_array_equal(resize(found.train.images, 4), resize(expected.train.images, 4))
    if os.name == "posix":
        assert not list(scratch.iterdir()), "the files have no name and go with the arrays"


def test_mapped_images_train_a_generator_to_the_same_weights(folder, scratch, monkeypatch):
    network = NetworkOptions.model_validate({"channels": 8, "multipliers": (1,), "blocks": 1})
    options = TrainOptions.model_validate({"steps": 3, "batch_size": 8, "objective": "vanilla"})

    def trained():
        source = sources.load(folder, skip_unreadable=True)
        trainer = Trainer(TrainingSet(source.train, source.supervision), network, options, 0)
        for _ in trainer.steps():
            pass
        return source, trainer.state()[0]

    plain, expected = trained()
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * plain.train.images.nbytes - 1)
    mapped, found = trained()
    assert isinstance(mapped.train.images, np.memmap)
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.skipif(not Path("/proc/mounts").exists(), reason="needs Linux")
def test_folders_in_memory_are_told_from_those_on_disks(tmp_path):
    assert memory._lies_in_memory(Path("/dev/shm/some/folder"))
    assert not memory._lies_in_memory(Path("/proc/self"))


@pytest.mark.parametrize("full", ["before", "meanwhile", "in memory"])
def test_images_for_which_the_disk_has_no_room_are_refused(folder, scratch, monkeypatch, full):
    monkeypatch.setattr(memory, "available_bytes", lambda: 100)
    if full == "before":
        usage = memory.shutil.disk_usage(scratch)
        monkeypatch.setattr(memory.shutil, "disk_usage", lambda path: usage._replace(free=100))
    elif full == "in memory":
        monkeypatch.setattr(memory, "_lies_in_memory", lambda path: True)
    else:

        def refuse(*_):
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(UserError, match=r"Reading 41 images needs .* GiB, more than half of the memory .*TMPDIR"):
        sources.load(folder, skip_unreadable=True)
    assert not list(Path(scratch).iterdir())
