"""CIFAR from fabricated files: the binary version, the pickles, and pickles changed to run code."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from condense.data import sources
from condense.errors import UserError

RNG = np.random.default_rng(0)
NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def records(label_columns: list[np.ndarray]) -> tuple[np.ndarray, bytes]:
    """Random images [n, 32, 32, 3] and the binary file that holds them."""
    images = RNG.integers(0, 256, (len(label_columns[0]), 32, 32, 3), dtype=np.uint8)
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return images, np.concatenate([np.stack(label_columns, axis=1), planes], axis=1).astype(np.uint8).tobytes()


@pytest.fixture
def binary10(tmp_path: Path) -> tuple[Path, np.ndarray]:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    batches = []
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        images, content = records([np.arange(10)])
        (folder / name).write_bytes(content)
        batches.append(images)
    return tmp_path, np.stack(batches)


def test_binary_version_of_cifar10(binary10):
    root, batches = binary10
    for place in (root, root / "cifar-10-batches-bin"):
        source = sources.load("cifar10", root=place)
        assert source.test is not None
        assert source.truth is not None
        np.testing.assert_array_equal(source.train.images, batches[:5].reshape(-1, 32, 32, 3))
        np.testing.assert_array_equal(source.test.images, batches[5])
        np.testing.assert_array_equal(source.truth.labels, np.tile(np.arange(10), 5))
        assert source.train.classes == tuple(NAMES)


def test_binary_version_of_cifar100_takes_the_fine_label(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("\n".join(f"class{i}" for i in range(100)))
    fine = np.arange(100)
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(records([fine // 5, fine])[1])
    source = sources.load("cifar100", root=tmp_path)
    assert source.truth is not None
    np.testing.assert_array_equal(source.truth.labels, fine)
    assert source.train.num_classes == 100


def test_truncated_and_missing_binary_files_are_named(binary10):
    folder = binary10[0] / "cifar-10-batches-bin"
    file = folder / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"data_batch_3.bin has 30725 bytes"):
        sources.load("cifar10", root=folder)
    file.unlink()
    with pytest.raises(UserError, match=r"data_batch_3.bin cannot be read"):
        sources.load("cifar10", root=folder)


def write_pickles(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Small batches in the python version's form, declared to torchvision as the published ones."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    dataset = torchvision.datasets.CIFAR10
    batches = []
    for listed in ("train_list", "test_list"):
        published = []
        for name, _ in getattr(dataset, listed):
            images, _ = records([np.arange(10)])
            data = images.transpose(0, 3, 1, 2).reshape(10, -1)
            content = pickle.dumps({"data": data, "labels": list(range(10))})
            (folder / name).write_bytes(content)
            published.append([name, hashlib.md5(content).hexdigest()])
            batches.append(images)
        monkeypatch.setattr(dataset, listed, published)
    content = pickle.dumps({"label_names": NAMES})
    (folder / "batches.meta").write_bytes(content)
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": hashlib.md5(content).hexdigest()})
    return np.stack(batches)


def test_python_version_goes_through_torchvision(tmp_path, monkeypatch):
    batches = write_pickles(tmp_path, monkeypatch)
    source = sources.load("cifar10", root=tmp_path)
    np.testing.assert_array_equal(source.train.images, batches[:5].reshape(-1, 32, 32, 3))
    assert source.train.classes == tuple(NAMES)


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_changed_pickle_is_never_opened(tmp_path, monkeypatch, name):
    write_pickles(tmp_path, monkeypatch)
    mark = tmp_path / "code was run"
    (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(_Attack(mark)))
    with pytest.raises(UserError, match=f"{name} is not the published file"):
        sources.load("cifar10", root=tmp_path)
    assert not mark.exists()


def test_missing_files_are_explained(tmp_path):
    with pytest.raises(UserError, match="neither cifar-100-binary nor cifar-100-python"):
        sources.load("cifar100", root=tmp_path)
