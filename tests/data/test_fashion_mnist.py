"""Fashion-MNIST from fabricated idx files, whole and damaged."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from condense.data import clean_sets, fashion_mnist, idx, sources
from condense.errors import RunFailed, UserError

RNG = np.random.default_rng(0)
IMAGES = {
    "train": RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8),
    "t10k": RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8),
}
LABELS = {"train": np.arange(20, dtype=np.uint8) % 10, "t10k": np.arange(10, dtype=np.uint8)}


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "t10k"):
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(IMAGES[split])))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[split]))
    return tmp_path


@pytest.fixture
def nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "no debian")
    monkeypatch.setattr(fashion_mnist, "cache_folder", lambda: tmp_path / "no cache")


def test_raw_and_gzipped_files_are_read(folder):
    source = sources.load("fashion-mnist", root=folder)
    assert source.test is not None
    assert source.truth is not None
    np.testing.assert_array_equal(source.train.images[..., 0], IMAGES["train"])
    np.testing.assert_array_equal(source.test.images[..., 0], IMAGES["t10k"])
    np.testing.assert_array_equal(source.truth.labels, LABELS["train"])
    assert source.train.classes[9] == "Ankle boot"
    assert source.train.images.flags.writeable


def test_a_given_folder_comes_before_debians(folder, tmp_path, monkeypatch, nowhere_else):
    with pytest.raises(UserError) as nothing:
        sources.load("fashion-mnist")
    for way in ("--root", "dataset-fashion-mnist", "--download"):
        assert way in str(nothing.value)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", folder)
    assert len(sources.load("fashion-mnist").train) == 20
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no idx files"):
        sources.load("fashion-mnist", root=tmp_path / "empty")


def test_torchvisions_layout_is_found_in_root(folder):
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in list(folder.glob("*ubyte*")):
        file.rename(raw / file.name)
    assert len(sources.load("fashion-mnist", root=folder).train) == 20


def damage_truncate_gz(folder: Path) -> None:
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-2000])


def damage_truncate_raw(folder: Path) -> None:
    file = folder / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-3])


def damage_magic(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(b"<html>not found</html>")


def damage_bomb(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 2**32 - 1))


def damage_counts(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS["t10k"]))


def damage_label(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS["train"] + 1))


def damage_missing(folder: Path) -> None:
    (folder / "t10k-images-idx3-ubyte.gz").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate_gz, "train-images-idx3-ubyte.gz is damaged"),
        (damage_truncate_raw, "announces 10 bytes .* holds 7"),
        (damage_magic, "is not an idx file of 1 axes"),
        (damage_bomb, "would unpack 8 bytes into 4,294,967,295, which images never do"),
        (damage_counts, "20 train images, but 10 labels"),
        (damage_label, "outside 0..9"),
        (damage_missing, "lacks t10k-images"),
    ],
)
def test_damaged_files_are_named(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message):
        sources.load("fashion-mnist", root=folder)


def test_a_failed_download_is_one_sentence():
    with pytest.raises(RunFailed, match=r"downloading it failed \(no network\)"), clean_sets.downloading("it"):
        raise OSError("no network")


def test_a_bomb_takes_no_memory(tmp_path):
    """A gzip bomb as IDX took 6.3 GB."""
    count = 400_000
    with gzip.open(tmp_path / "bomb.gz", "wb", compresslevel=1) as stream:
        stream.write(bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28)))
        for _ in range(32):
            stream.write(bytes(count * 28 * 28 // 32))
    with pytest.raises(UserError, match=r"would unpack .* bytes into 313,600,000, which images never do"):
        idx.read(tmp_path / "bomb.gz", 3)
