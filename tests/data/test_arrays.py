"""Array files: what each key means, round trips, and files made to harm."""

import dataclasses
import io
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from condense.data import arrays, corrupt, hdf5_file, memory, sources
from condense.data import hdf5 as hdf5_data
from condense.data.types import Corruption, Source
from condense.errors import UserError
from condense.sets import hdf5 as condensed

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
NAMES = np.array(["ant", "bee", "cat"])


def npz(path: Path, **stored) -> str:
    np.savez(path / "some.npz", **stored)
    return str(path / "some.npz")


def hdf5(path: Path, **stored) -> str:
    with h5py.File(path / "some.h5", "w") as file:
        for key, array in stored.items():
            array = np.asarray(array)
            file[key] = array.astype(h5py.string_dtype()) if array.dtype.kind == "U" else array
    return str(path / "some.h5")


both = pytest.mark.parametrize("write", [npz, hdf5])


def assert_same(first: Source, second: Source) -> None:
    for one, other in ((first.train, second.train), (first.test, second.test)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one.images, other.images)
            assert (one.classes, one.name, one.split) == (other.classes, other.name, other.split)
    for one, other in ((first.truth, second.truth), (first.test_truth, second.test_truth)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(first.supervision.candidates, second.supervision.candidates)
    np.testing.assert_array_equal(first.supervision.trusted, second.supervision.trusted)


@both
def test_plain_labels_are_given_and_true(tmp_path, write):
    source = sources.load(write(tmp_path, images=IMAGES[..., 0], labels=LABELS[:, None].astype(np.uint8)))
    np.testing.assert_array_equal(source.train.images, IMAGES[..., :1])
    assert source.train.classes == ("0", "1", "2")
    assert source.supervision.kind == "noisy"
    np.testing.assert_array_equal(source.supervision.observed, LABELS)
    np.testing.assert_array_equal(source.truth.labels, LABELS)
    assert source.test is None


@both
def test_names_and_test_images(tmp_path, write):
    path = write(
        tmp_path,
        train_images=IMAGES,
        train_labels=LABELS,
        test_images=IMAGES[::-1],
        test_labels=LABELS[::-1],
        class_names=NAMES,
    )
    source = sources.load(path)
    assert source.train.classes == ("ant", "bee", "cat")
    np.testing.assert_array_equal(source.test.images, IMAGES[::-1])
    np.testing.assert_array_equal(source.test_truth.labels, LABELS[::-1])


@both
def test_a_chosen_array_gives_the_labels_and_the_usual_one_the_truth(tmp_path, write):
    worst = np.roll(LABELS, 1)
    path = write(tmp_path, train_images=IMAGES, train_labels=LABELS, noisy_worst=worst)
    source = sources.load(f"{path}::noisy_worst")
    np.testing.assert_array_equal(source.supervision.observed, worst)
    assert source.supervision.kind == "noisy"
    np.testing.assert_array_equal(source.truth.labels, LABELS)
    with pytest.raises(UserError, match=r"no array 'noisy_best'.*noisy_worst"):
        sources.load(f"{path}::noisy_best")
    named = sources.load("cifar10", root=Path(f"{path}::noisy_worst"))
    assert named.train.name == "cifar10"
    np.testing.assert_array_equal(named.supervision.observed, worst)
    assert sources.load("cifar10", root=Path(path)).supervision.kind == "labelled"


@both
def test_candidates_are_the_given_labels_and_only_clean_labels_the_truth(tmp_path, write):
    candidates = np.eye(3, dtype=np.bool_)[LABELS]
    candidates[0, 1] = True
    path = write(tmp_path, train_images=IMAGES, train_labels=LABELS, candidates=candidates)
    source = sources.load(path)
    assert source.truth is None
    np.testing.assert_array_equal(source.supervision.candidates, candidates)
    assert source.supervision.trusted.tolist() == [True] + [False] * 5
    path = write(
        tmp_path,
        train_images=IMAGES,
        candidates=candidates,
        clean_labels=LABELS,
        trusted=np.ones(6, dtype=np.bool_),
    )
    source = sources.load(path)
    np.testing.assert_array_equal(source.truth.labels, LABELS)
    assert source.supervision.kind == "partial"


@pytest.mark.parametrize("spec", ["none", "sym:0.4", "partial:0.5", "unlabeled:0.1"])
def test_written_files_are_read_back_identically(tmp_path, spec):
    original = sources.load("digits")
    supervision, record = corrupt.apply(spec, original.truth, original.train, seed=4)
    arrays.write_npz(tmp_path / "a.npz", original, supervision, record)
    read = sources.load(str(tmp_path / "a.npz"))
    assert_same(read, dataclasses.replace(original, supervision=supervision))
    assert arrays.recorded_corruption(read.train) == record
    assert arrays.recorded_corruption(original.train) == Corruption("none", 0, None)
    arrays.write_npz(tmp_path / "b.npz", read, supervision, record)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_source_without_truth_or_test_has_none_after_the_round_trip(tmp_path):
    source = sources.load(npz(tmp_path, images=IMAGES, labels=LABELS, class_names=NAMES))
    bare = dataclasses.replace(source, truth=None)
    arrays.write_npz(tmp_path / "bare.npz", bare, bare.supervision, Corruption("none", 0, None))
    assert_same(sources.load(str(tmp_path / "bare.npz")), bare)
    with np.load(tmp_path / "bare.npz") as stored:  # other programs find the given labels where they look
        np.testing.assert_array_equal(stored["train_labels"], LABELS)


GOOD = {"train_images": IMAGES, "train_labels": LABELS}


@both
@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"pixels": IMAGES}, "holds pixels; it needs train_images and train_labels"),
        ({"train_images": IMAGES}, "it needs train_images and train_labels"),
        ({**GOOD, "train_images": IMAGES / 255}, r"must be uint8 .* found float64"),
        ({**GOOD, "train_images": IMAGES.transpose(0, 3, 1, 2)}, r"must be uint8 .* \[6, 3, 4, 4\]"),
        ({**GOOD, "train_images": IMAGES[:0]}, r"\[0, 4, 4, 3\]"),
        ({**GOOD, "train_labels": LABELS[:5]}, "6 training images, but 5 given labels"),
        ({**GOOD, "train_labels": LABELS + 0.5}, "whole numbers"),
        ({**GOOD, "train_labels": LABELS - 1}, r"entry 0 is -1"),
        ({**GOOD, "train_labels": LABELS + 10**12}, "entry 0 is 1000000000000"),
        ({**GOOD, "train_labels": LABELS + 1, "class_names": NAMES}, r"entry 2 is 3, outside 0\.\.2"),
        ({**GOOD, "train_labels": LABELS % 2, "class_names": NAMES}, "no image is labelled .cat."),
        ({**GOOD, "train_labels": LABELS * 0}, "at least two different class names"),
        ({**GOOD, "class_names": np.array(["a", "a", "b"])}, "at least two different class names"),
        ({**GOOD, "class_names": LABELS}, "class_names must be strings"),
        ({**GOOD, "test_images": IMAGES}, "only one of test_images and test_labels"),
        ({**GOOD, "test_images": IMAGES, "test_labels": LABELS[:2]}, "6 test images, but 2 test labels"),
        ({**GOOD, "test_images": IMAGES[:, :2, :2], "test_labels": LABELS}, "bring them to the same shape"),
        ({**GOOD, "clean_labels": LABELS[:3]}, "6 training images, but 3 true labels"),
        ({**GOOD, "candidates": np.ones((6, 3))}, "candidates must be bool"),
        (
            {**GOOD, "candidates": np.zeros((6, 3), dtype=np.bool_), "class_names": NAMES},
            "empty candidate set",
        ),
        ({**GOOD, "candidates": np.ones((5, 3), dtype=np.bool_)}, "5 given labels"),
        ({"train_images": IMAGES, "candidates": LABELS > 0}, r"candidates must be bool \[n, c\], found bool \[6\]"),
        ({**GOOD, "flip": np.array([True, False])}, r"flip must be true or false, found \[True, False\]"),
        ({**GOOD, "flip": np.array(2)}, "flip must be true or false, found 2"),
        ({**GOOD, "flip": np.array(np.nan)}, "flip must be true or false, found nan"),
        ({**GOOD, "trusted": np.ones(5, dtype=np.bool_)}, r"trusted must be bool \[6\]"),
        ({**GOOD, "images": IMAGES[:5]}, "holds both images and train_images"),
        ({**GOOD, "labels": LABELS}, "holds both labels and train_labels"),
    ],
)
def test_wrong_arrays_are_refused_in_one_sentence(tmp_path, write, stored, message):
    with pytest.raises(UserError, match=message):
        sources.load(write(tmp_path, **stored))


def test_a_text_is_not_taken_for_true(tmp_path):
    with pytest.raises(UserError, match="flip must be true or false, found no"):
        sources.load(npz(tmp_path, **GOOD, flip=np.array("no")))


@both
def test_single_labels_are_trusted_where_the_file_says_so(tmp_path, write):
    trusted = np.array([True, False, False, True, False, False])
    source = sources.load(write(tmp_path, **GOOD, trusted=trusted))
    assert source.supervision.trusted.tolist() == trusted.tolist()
    assert source.supervision.observed.tolist() == LABELS.tolist()


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("key", ["train_images", "train_labels", "class_names", "candidates", "corruption"])
def test_pickles_in_npz_are_never_opened(tmp_path, key):
    mark = tmp_path / "code was run"
    harmful = np.empty(1, dtype=object)
    harmful[0] = _Attack(mark)
    np.savez(tmp_path / "attack.npz", **{**GOOD, key: harmful})
    with pytest.raises(UserError, match=f"array '{key}' .* pickled Python objects"):
        sources.load(str(tmp_path / "attack.npz"))
    assert not mark.exists()


def test_a_bare_pickle_called_npz_is_never_opened(tmp_path):
    mark = tmp_path / "code was run"
    (tmp_path / "attack.npz").write_bytes(pickle.dumps(_Attack(mark)))
    with pytest.raises(UserError, match=r"damaged or not an .npz"):
        sources.load(str(tmp_path / "attack.npz"))
    assert not mark.exists()


def npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_a_header_that_claims_more_than_the_file_holds_allocates_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("train_images.npy", npy_header((10**6, 1000, 1000, 3)) + b"0" * 100)
        archive.writestr("train_labels.npy", npy_header((10**6,)))
    with pytest.raises(UserError, match="announces 3000000000000 bytes"):
        sources.load(str(tmp_path / "bomb.npz"))


@both
def test_arrays_larger_than_memory_are_refused_before_reading(tmp_path, monkeypatch, write):
    path = write(tmp_path, **GOOD)
    monkeypatch.setattr(memory, "available_bytes", lambda: IMAGES.nbytes - 1)
    with pytest.raises(UserError, match=r"array 'train_images' .* GiB of memory"):
        sources.load(path)


@both
@pytest.mark.parametrize("share", [0, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path, write, share):
    path = Path(write(tmp_path, **GOOD))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"some\.(npz|h5)"):
        sources.load(str(path))


def test_flipped_bytes_are_noticed(tmp_path):
    path = Path(npz(tmp_path, **GOOD))
    content = bytearray(path.read_bytes())
    position = content.index(IMAGES.tobytes()[:64])
    content[position : position + 8] = b"damaged!"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"array 'train_images' .* is damaged"):
        sources.load(str(path))


def test_condensed_sets_are_not_data_sets(tmp_path):
    path = hdf5(tmp_path, images=IMAGES, labels=LABELS)
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = "condensed-set/1"
    with pytest.raises(UserError, match="is a condensed set"):
        sources.load(path)


@pytest.mark.parametrize("suffix", ["npz", "h5", "h5 of others"])
def test_class_names_that_are_not_utf8_are_a_sentence(tmp_path, suffix):
    arrays = {
        "images": np.zeros((2, 4, 4), np.uint8),
        "labels": np.arange(2),
        "class_names": np.array([b"caf\xe9", b"tea"]),
    }
    place = tmp_path / f"some.{suffix.split()[0]}"
    if suffix == "npz":
        np.savez(place, **arrays)
    else:
        with h5py.File(place, "w") as file:
            for key, array in arrays.items():
                file[key] = array
            if suffix == "h5 of others":
                del file["class_names"]
                file.create_dataset("class_names", data=[b"caf\xe9", b"tea"], dtype=h5py.string_dtype())
    with pytest.raises(UserError, match=r"class_names (must be UTF-8|holds text that is not UTF-8)"):
        sources.load(place)


def test_our_own_hdf5_has_checksums_and_no_text_of_variable_length(tmp_path):
    """One flipped bit of our own file hung for ever."""
    hdf5_data.write(
        tmp_path / "own.h5", [(np.zeros((2, 4, 4, 1), np.uint8), np.arange(2))], (2, 4, 4, 1), ("große Eule", "")
    )
    assert (tmp_path / "own.h5").read_bytes()[8] >= 2  # the superblock's version, from 2 on with checksums
    with h5py.File(tmp_path / "own.h5") as file:
        assert not any(file[name].dtype.hasobject for name in file)
    assert sources.load(str(tmp_path / "own.h5")).train.classes == ("große Eule", "")


@pytest.mark.parametrize("name", ["condensed_98.h5", "plain_110_h5new.h5", "plain_283_h5own.h5"])
def test_files_that_hang_or_crash_the_hdf5_library_are_a_sentence(name, monkeypatch):
    """Kept files that hung for ever or ended the process by SIGSEGV."""
    monkeypatch.setattr(hdf5_file, "SECONDS", 3.0)
    file = Path(__file__).parents[1] / "damaged" / name
    for read in (lambda: sources.load(str(file)), lambda: condensed.read(file)):
        with pytest.raises(UserError, match="so it is damaged or made to mislead; make it again"):
            read()


def linked(file: h5py.File, name: str, target: Path) -> None:
    file[name] = h5py.ExternalLink(str(target), "/images")


def stored_outside(file: h5py.File, name: str, target: Path) -> None:
    file.create_dataset(name, (2,), np.int64, external=[(str(target), 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, name: str, target: Path) -> None:
    layout = h5py.VirtualLayout((2,), np.int64)
    layout[:] = h5py.VirtualSource(str(target), "images", (2,))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("place", [linked, stored_outside, virtual])
def test_nothing_outside_the_file_is_read(tmp_path, place):
    """A private file's bytes came back as pixels."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"private!" * 2)
    with h5py.File(tmp_path / "some.h5", "w") as file:
        file["images"] = np.zeros((2, 4, 4), np.uint8)
        place(file, "labels", secret)
    with pytest.raises(UserError, match=r"is a link|not a data set stored in this file"):
        sources.load(str(tmp_path / "some.h5"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["images", "soft_labels", "preprocessing"])
def test_a_link_to_a_named_pipe_is_never_opened(tmp_path, name):
    """`/preprocessing` as an external link to a pipe hung for ever."""
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "some.h5", "w", libver=("v110", "v110")) as file:
        file.attrs["schema"] = np.bytes_("condensed-set/1")
        file[name] = h5py.ExternalLink(str(tmp_path / "pipe"), "/x")
        if name != "images":
            images = file.create_dataset("images", data=np.zeros((2, 4, 4, 1), np.uint8))
            images.attrs["layout"] = np.bytes_("NHWC")
            images.attrs["value_range"] = [0.0, 255.0]
            file["labels"] = np.arange(2)
            file["classes"] = np.array([b"a", b"b"])
    with pytest.raises(UserError, match=rf"/{name} is (a link|missing)|/preprocessing is missing"):
        condensed.read(tmp_path / "some.h5")
    with pytest.raises(UserError, match="not a regular file"):
        condensed.read(tmp_path / "pipe")


def test_small_files_that_claim_much_are_refused_before_memory_is_taken(tmp_path):
    """A file of 22 kB took 2.8 GB."""
    with h5py.File(tmp_path / "some.h5", "w") as file:
        file.create_dataset("images", (3 * 2**20, 32, 32), np.uint8, chunks=(2**10, 32, 32), compression="gzip")
        file["labels"] = np.zeros(3 * 2**20, np.uint8)
    with pytest.raises(UserError, match="/images claims"):
        sources.load(str(tmp_path / "some.h5"))


def test_a_file_open_for_writing_elsewhere_is_reported_as_such(tmp_path):
    """It was called damaged."""
    with h5py.File(tmp_path / "some.h5", "w", libver="latest") as file:
        file["images"] = np.zeros((2, 4, 4), np.uint8)
        file.flush()
        with pytest.raises(UserError, match="open for writing in another program; close it there"):
            sources.load(str(tmp_path / "some.h5"))


def test_a_packed_file_that_would_unpack_beyond_all_measure_is_refused(tmp_path):
    """A zip of nothing but zeros."""
    with zipfile.ZipFile(tmp_path / "some.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "|u1", "fortran_order": False, "shape": (300, 1024, 1024)}
            )
            for _ in range(300):
                stream.write(bytes(2**20))
        with archive.open("labels.npy", "w") as stream:
            np.lib.format.write_array(stream, np.arange(300) % 2)
    with pytest.raises(UserError, match="would unpack"):
        sources.load(str(tmp_path / "some.npz"))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array(["cat", "dog", "cat"]), r"train_labels must be whole numbers \[n\], found <U3 \[3\]; number them by"),
        (np.array([0.0, 1.0, 0.0]), r"found float64 \[3\]; store labels.astype\(int\)"),
        (
            np.array([0.0, np.nan, 1.0]),
            r"found float64 \[3\]; an image of unknown class has every class as a candidate",
        ),
        (np.array([0.5, 1.0, 0.0]), r"found float64 \[3\]\.$"),
        (np.array([[0.5, 0.5], [0.2, 0.8], [1, 0]]), r"found float64 \[3, 2\]; probabilities are for .* --pred-probs"),
    ],
)
def test_labels_of_another_kind_are_refused_with_the_remedy(tmp_path, labels, said):
    np.savez(tmp_path / "d.npz", train_images=np.zeros((3, 4, 4), np.uint8), train_labels=labels)
    with pytest.raises(UserError, match=said):
        sources.load(tmp_path / "d.npz")
