"""HDF5 files that are open elsewhere: in a notebook, in another process, or as a CondensedDataset."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from condense.data import label_file, sources
from condense.errors import UserError
from condense.preprocessing import Preprocessing
from condense.sets.condensed_set import CondensedSet, Cost, Provenance
from condense.sets.hdf5 import CondensedDataset, read, write

HOLD = "import h5py, sys; f = h5py.File(sys.argv[1], sys.argv[2]); print('open', flush=True); sys.stdin.read()"


def a_condensed_set() -> CondensedSet:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1)).astype(np.uint8)
    told = Provenance("random", 2, 0, {}, "data", "ab" * 32, "noisy", "none", None, Cost())
    return CondensedSet(images, np.repeat(np.arange(3), 2), ("a", "b", "c"), Preprocessing((0.5,), (0.2,)), told)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((6, 4, 4), dtype=np.uint8)
        file["labels"] = np.arange(6) % 3
    return path


def hold(path, mode):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"open\n"
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="locks are others there")
def test_a_file_open_for_writing_elsewhere_is_detected(data):
    """Case 36: it was called damaged, "fetch or make it again"."""
    source = sources.load(str(data))
    holder = hold(data, "a")
    try:
        for read_it in (lambda: sources.load(str(data)), lambda: label_file.read(f"{data}::labels", source)):
            with pytest.raises(UserError, match=r"open for writing in another program; close it there"):
                read_it()
    finally:
        holder.communicate()
    assert len(sources.load(str(data)).train) == 6
    with h5py.File(data, "a"), pytest.raises(UserError, match="open for writing"):
        sources.load(str(data))


def test_a_file_open_for_reading_is_read(data):
    """As case 36, also in this process, whatever the flags of the lock."""
    holder = hold(data, "r")
    try:
        assert len(sources.load(str(data)).train) == 6
    finally:
        holder.communicate()
    for locking in (None, False, True):
        with h5py.File(data, "r", locking=locking):
            assert len(sources.load(str(data)).train) == 6


def test_a_condensed_dataset_does_not_lock_its_file(tmp_path):
    """Case 36: h5py could not open the file of a CondensedDataset."""
    path = tmp_path / "set.h5"
    made = a_condensed_set()
    write(path, made)
    dataset = CondensedDataset(path)
    first = dataset[0][0].clone()
    for mode in ("r", "a"):
        with h5py.File(path, mode) as file:
            assert "images" in file
    with h5py.File(path, "r"):
        assert read(path).sha256() == made.sha256() and len(CondensedDataset(path)) == len(made)
    path.unlink()
    assert bool((dataset[0][0] == first).all())
