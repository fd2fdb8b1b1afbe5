"""The condensed set and its HDF5 file: what is checked, round trips, and files damaged on purpose."""

import dataclasses
import errno
import json
import multiprocessing
import os
import pickle
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from condense.data import hdf5_file
from condense.errors import UserError
from condense.run import JSON
from condense.sets.hdf5 import CondensedDataset, CondensedSet, Cost, Preprocessing, Provenance, read, write

CLASSES = ("cat", "dog", "große Eule")


def make(ipc: int = 2, *, floats: bool = False, zca: bool = False, recipe: object = None) -> CondensedSet:
    """A set with everything optional filled in."""
    rng = np.random.default_rng(0)
    count, shape = 3 * ipc, (4, 5, 3)
    images = (
        rng.normal(0.5, 0.6, (count, *shape)).astype(np.float32) if floats else rng.integers(0, 256, (count, *shape))
    )
    matrix = (np.eye(60) + 0.01 * rng.normal(size=(60, 60))).astype(np.float32)
    whiten = (rng.normal(size=60).astype(np.float32), matrix, np.linalg.inv(matrix)) if zca else ()
    soft = rng.random((count, 3)).astype(np.float32)
    return CondensedSet(
        images=images if floats else images.astype(np.uint8),
        labels=np.repeat(np.arange(3), ipc),
        classes=CLASSES,
        preprocessing=Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), *whiten),
        provenance=Provenance(
            method="dmis",
            ipc=ipc,
            seed=7,
            recipe=recipe or {"train": {"steps": 20, "rate": 1e-4}, "data": "digits"},
            data_name="digits",
            data_fingerprint="ab" * 32,
            supervision="noisy",
            corruption="sym:0.4",
            corruption_rate=0.4,
            cost=Cost(1.5, 10, 2**31, 640),
            created="2025-01-02T03:04:05Z",
            package_version="0.1.0",
            notes={"dropped": 0.25},
        ),
        value_range=(0.0, 1.0) if floats else (0.0, 255.0),
        soft_labels=soft / soft.sum(axis=1, keepdims=True),
        source_index=np.arange(count) - 1,
        weights=rng.random(count).astype(np.float32),
    )


def assert_same(a: CondensedSet, b: CondensedSet) -> None:
    assert a.provenance == b.provenance
    assert (a.classes, a.value_range) == (b.classes, b.value_range)
    for of_a, of_b in ((a, b), (a.preprocessing, b.preprocessing)):
        for field in dataclasses.fields(of_a):
            x, y = getattr(of_a, field.name), getattr(of_b, field.name)
            if isinstance(x, np.ndarray):
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("zca", [False, True])
def test_round_trip(tmp_path: Path, floats: bool, zca: bool) -> None:
    condensed = make(floats=floats, zca=zca)
    write(tmp_path / "set.h5", condensed)
    assert_same(read(tmp_path / "set.h5"), condensed)


def test_round_trip_without_optional_parts(tmp_path: Path) -> None:
    provenance = dataclasses.replace(make().provenance, corruption_rate=None)
    condensed = dataclasses.replace(make(), soft_labels=None, source_index=None, weights=None, provenance=provenance)
    write(tmp_path / "set.h5", condensed)
    back = read(tmp_path / "set.h5")
    assert back.soft_labels is None and back.weights is None and back.provenance.corruption_rate is None
    assert back.sha256() == condensed.sha256() != make().sha256()


def test_long_recipe_survives(tmp_path: Path) -> None:
    recipe = {"text": "é" * 200_000, "list": [1, None, 0.1, True]}
    write(tmp_path / "set.h5", make(recipe=recipe))
    assert read(tmp_path / "set.h5").provenance.recipe == recipe


def test_same_set_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", make(zca=True))
    write(tmp_path / "b.h5", make(zca=True))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_images_are_compressed_by_class(tmp_path: Path) -> None:
    write(tmp_path / "set.h5", make(ipc=4))
    with h5py.File(tmp_path / "set.h5") as file:
        images = file["images"]
        assert (images.chunks, images.compression, images.compression_opts) == ((4, 4, 5, 3), "gzip", 4)
        assert images.shuffle


def test_sha256_covers_what_training_uses() -> None:
    base = make(zca=True)
    brighter = base.images.copy()
    brighter[3, 1, 2, 0] ^= 1
    matrix = base.preprocessing.zca_matrix
    assert matrix is not None
    others = [
        dataclasses.replace(base, images=brighter),
        dataclasses.replace(base, classes=("cat", "dog", "owl")),
        dataclasses.replace(base, weights=base.weights + 1),
        dataclasses.replace(base, preprocessing=dataclasses.replace(base.preprocessing, mean=(0.4, 0.5, 0.61))),
        dataclasses.replace(base, preprocessing=dataclasses.replace(base.preprocessing, zca_matrix=matrix * 2)),
    ]
    assert len({base.sha256(), *(other.sha256() for other in others)}) == 6
    moved = dataclasses.replace(base, provenance=dataclasses.replace(base.provenance, seed=8))
    assert moved.sha256() == base.sha256()


def noted(condensed: CondensedSet, **notes: JSON) -> CondensedSet:
    """The set with other notes."""
    return dataclasses.replace(condensed, provenance=dataclasses.replace(condensed.provenance, notes=notes))


def test_sha256_covers_what_comparing_uses(tmp_path: Path) -> None:
    """The mark of true labels or a packing cannot be taken off a file, nor a learned rate or a teacher be put in."""
    base = noted(make())
    others = [
        noted(base, uses_true_labels=True),
        noted(base, learned_rate=0.02),
        noted(base, learned_rate=0.03),
        noted(base, online_teacher={"sha256": "ab", "bytes": 3}),
        noted(packed(), pack=2),
    ]
    assert len({base.sha256(), *(other.sha256() for other in others)}) == 6
    assert {base.sha256_of_arrays()} == {other.sha256_of_arrays() for other in others[:-1]}
    assert others[-1].sha256() != noted(packed()).sha256() == noted(packed(), pack=1).sha256()
    assert base.sha256() == base.sha256_of_arrays() == noted(base, anything="else").sha256()
    for other in others:
        write(tmp_path / "set.h5", other, force=True)
        assert read(tmp_path / "set.h5").sha256() == other.sha256()
        with h5py.File(tmp_path / "set.h5", "r+") as file:
            file.attrs["notes"] = np.bytes_("{}")
        with pytest.raises(UserError, match="SHA-256 differs"):
            read(tmp_path / "set.h5")


def packed(**notes: JSON) -> CondensedSet:
    """Six images of 4x6 pixels, of four plain parts: part k of image i has the brightness 20 i + 3 k."""
    parts = 20 * np.arange(6)[:, None] + 3 * np.arange(4)
    images = np.repeat(np.repeat(parts.reshape(6, 2, 2, 1), 2, 1), 3, 2).repeat(3, 3).astype(np.uint8)
    return noted(dataclasses.replace(make(), images=images, source_index=None), **notes)


def test_a_packed_set_is_seen_as_its_pictures(tmp_path: Path) -> None:
    """Plain parts stay plain when enlarged, so what networks see is known."""
    stored = packed(pack=2, flip=False)
    write(tmp_path / "set.h5", stored)
    back = read(tmp_path / "set.h5")
    assert_same(back, stored)
    assert (len(back), back.ipc, back.pack, back.packing) == (6, 2, 2, 4)
    seen = back.unpacked()
    assert (len(seen), seen.ipc, seen.pack, seen.packing) == (24, 8, 1, 4) and seen.unpacked() is seen
    expected = (20 * np.arange(6)[:, None] + 3 * np.arange(4)).reshape(24, 1, 1, 1) / 255
    np.testing.assert_allclose(seen.images, np.broadcast_to(expected, (24, 4, 6, 3)), atol=1e-6)
    np.testing.assert_array_equal(seen.labels, np.repeat(np.arange(3), 8))
    assert stored.soft_labels is not None and stored.weights is not None
    for place in range(24):
        np.testing.assert_array_equal(seen.soft_labels[place], stored.soft_labels[place // 4])
        assert seen.weights[place] == stored.weights[place // 4]
    assert seen.provenance.notes == {"flip": False, "packing": 4, "unpacked_from": stored.sha256()}
    x, soft = back.tensors()
    mean, std = np.reshape(back.preprocessing.mean, (3, 1, 1)), np.reshape(back.preprocessing.std, (3, 1, 1))
    np.testing.assert_allclose(x, (np.broadcast_to(expected, (24, 3, 4, 6)) - mean) / std, atol=1e-5)
    assert soft.shape == (24, 3)
    loaded = CondensedDataset(tmp_path / "set.h5")
    assert len(loaded) == 24
    torch.testing.assert_close(torch.stack([loaded[place][0] for place in range(24)]), x, atol=1e-5, rtol=0)


def test_a_set_that_is_not_packed_is_its_own_pictures() -> None:
    plain = make()
    assert plain.unpacked() is plain and plain.pack == plain.packing == 1
    collage = noted(make(), packing=4)  # of RDED, whose networks see it whole
    assert (collage.pack, collage.packing, len(collage.unpacked())) == (1, 4, 6)


@pytest.mark.parametrize(
    ("pack", "told"),
    [(3, "cannot be cut into 3x3"), (10**6, "holds from 1 to 8"), (0, "pack is 0"), ("2", "pack is '2'")],
)
def test_a_packing_that_images_cannot_have_is_refused(tmp_path: Path, pack: JSON, told: str) -> None:
    with pytest.raises(UserError, match=told):
        packed(pack=pack)
    write(tmp_path / "set.h5", packed())
    with h5py.File(tmp_path / "set.h5", "r+") as file:
        file.attrs["notes"] = np.bytes_(json.dumps({"pack": pack}))
    with pytest.raises(UserError, match=told):
        read(tmp_path / "set.h5")


def test_an_image_of_several_pictures_is_no_copy() -> None:
    with pytest.raises(UserError, match="leave source_index out"):
        dataclasses.replace(packed(pack=2), source_index=np.arange(6))


def test_a_file_of_the_first_version_has_a_checksum_of_arrays(tmp_path: Path) -> None:
    marked = noted(make(), uses_true_labels=True)
    write(tmp_path / "set.h5", marked)
    with h5py.File(tmp_path / "set.h5", "r+") as file:
        file.attrs["schema"] = np.bytes_("condensed-set/1")
    with pytest.raises(UserError, match="SHA-256 differs"):  # a newer file cannot pass for an old one
        read(tmp_path / "set.h5")
    with h5py.File(tmp_path / "set.h5", "r+") as file:
        file.attrs["sha256"] = np.bytes_(marked.sha256_of_arrays())
    assert read(tmp_path / "set.h5").uses_true_labels


def test_tensors_follow_the_formula() -> None:
    condensed = make()
    x, soft = condensed.tensors()
    assert x.shape == (6, 3, 4, 5) and x.dtype == torch.float32
    assert x[2, 1, 3, 4].item() == pytest.approx((condensed.images[2, 3, 4, 1] / 255 - 0.5) / 0.25, abs=1e-6)
    assert soft.dtype == torch.float32 and soft.shape == (6, 3)
    hard = dataclasses.replace(condensed, soft_labels=None).tensors()[1]
    assert hard.tolist() == [0, 0, 1, 1, 2, 2]


def test_zca_matches_numpy_and_inverts() -> None:
    condensed = make(zca=True)
    process = condensed.preprocessing
    x, _ = condensed.tensors()
    plain = (condensed.unit_images().transpose(0, 3, 1, 2) - np.reshape(process.mean, (3, 1, 1))) / np.reshape(
        process.std, (3, 1, 1)
    )
    white = (plain.reshape(6, 60) - process.zca_mean) @ process.zca_matrix
    np.testing.assert_allclose(x.reshape(6, 60).numpy(), white, atol=1e-4)
    pixels = process.denormalise(x).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(pixels, condensed.unit_images(), atol=1e-4)


def test_pictures_of_bytes_are_the_bytes_and_floats_are_clipped() -> None:
    np.testing.assert_array_equal(make().pictures(), make().images)
    floats = make(floats=True)
    pictures = floats.pictures()
    assert (pictures[floats.images > 1] == 255).all() and (pictures[floats.images < 0] == 0).all()
    inside = (floats.images > 0) & (floats.images < 1)
    assert abs(pictures[inside] / 255 - floats.images[inside]).max() <= 0.5 / 255 + 1e-6


def replaced(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[CondensedSet], CondensedSet]:
    return lambda condensed: dataclasses.replace(condensed, **{name: change(getattr(condensed, name).copy())})


def put(value: float, *place: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (replaced("labels", put(3, 5)), r"entry 5 is 3, outside 0\.\.2"),
        (replaced("labels", put(-1, 0)), r"entry 0 is -1"),
        (
            replaced("labels", put(1, 4)),
            r"class 2 \(große Eule\) has 1 and class 1 \(dog\) has 3|class 1 \(dog\) has 3",
        ),
        (replaced("labels", lambda labels: labels[::-1].copy()), r"image 2 has a lower label"),
        (replaced("labels", lambda labels: labels.astype(np.int32)), r"must be int64 \[6\], found int32"),
        (replaced("labels", lambda labels: labels[:5]), r"must be int64 \[6\], found int64 \[5\]"),
        (replaced("images", lambda images: images.astype(np.float64)), r"uint8 or float32.*found float64"),
        (replaced("images", lambda images: images[..., 0]), r"found uint8 \[6, 4, 5\]"),
        (replaced("images", lambda images: images[..., :2]), r"2 channels, the preprocessing 3"),
        (replaced("soft_labels", put(np.nan, 4, 1)), r"NaN or infinity in image 4"),
        (replaced("soft_labels", put(0.9, 4, 1)), r"summing to 1"),
        (replaced("soft_labels", lambda soft: soft[:, :2]), r"soft_labels must be float32 \[6, 3\]"),
        (replaced("weights", put(-1, 0)), r"weights must not be negative"),
        (replaced("source_index", put(-2, 0)), r"source_index"),
        (lambda c: dataclasses.replace(c, classes=("cat", "cat", "dog")), r"different class names"),
        (lambda c: dataclasses.replace(c, value_range=(0, 1)), r"uint8 images have the value range 0 to 255"),
        (
            lambda c: dataclasses.replace(c, provenance=dataclasses.replace(c.provenance, ipc=3)),
            r"2 images per class, but the provenance says 3",
        ),
    ],
)
def test_what_is_refused(damage: Callable[[CondensedSet], CondensedSet], message: str) -> None:
    with pytest.raises(UserError, match=message):
        damage(make())


def test_nan_pixels_and_falling_range_are_refused() -> None:
    condensed = make(floats=True)
    images = condensed.images.copy()
    images[3, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match=r"NaN or infinity in image 3 \(1 such"):
        dataclasses.replace(condensed, images=images)
    with pytest.raises(UserError, match="must be finite and increase"):
        dataclasses.replace(condensed, value_range=(1.0, 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0.5,), (0.0,)), "positive std"),
        (((0.5, 0.5), (1.0,)), "one positive std per channel"),
        (((0.5,), (0.1,), np.zeros(4, np.float32)), "ZCA needs"),
        (
            (
                (0.5,),
                (0.1,),
                np.zeros(4, np.float32),
                np.eye(4, dtype=np.float32),
                np.eye(3, dtype=np.float32),
            ),
            "ZCA needs",
        ),
    ],
)
def test_preprocessing_refuses(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Preprocessing(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "set.h5", make(ipc=3))
    return tmp_path / "set.h5"


def test_truncated_at_any_length(file: Path) -> None:
    content = file.read_bytes()
    for length in range(0, len(content), 37):
        file.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"set\.h5"):
            read(file)


def test_flipped_pixels_are_noticed(file: Path) -> None:
    """A bit flipped anywhere in the compressed pixels is refused."""
    with h5py.File(file) as opened:
        chunks = [opened["images"].id.get_chunk_info(i) for i in range(3)]
    content = file.read_bytes()
    for chunk in chunks:
        for place in range(chunk.byte_offset, chunk.byte_offset + chunk.size, 7):
            file.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
            with pytest.raises(UserError):
                read(file)


def test_flipped_bytes_anywhere_never_crash(file: Path) -> None:
    """Damage that changes nothing used may go unseen, but is a sentence or the same set, nothing else."""
    whole = read(file)
    content = file.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(250):
        place = rng.randrange(len(content))
        file.write_bytes(content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :])
        try:
            assert_same(read(file), whole)
        except UserError:
            refused += 1
    assert refused > 60


def damage_schema(h5: h5py.File) -> None:
    h5.attrs["schema"] = np.bytes_("condensed-set/2")


def damage_foreign(h5: h5py.File) -> None:
    h5.attrs["schema"] = np.bytes_("weather/1")


def damage_no_schema(h5: h5py.File) -> None:
    del h5.attrs["schema"]


def damage_missing_images(h5: h5py.File) -> None:
    del h5["images"]


def damage_missing_std(h5: h5py.File) -> None:
    del h5["preprocessing/std"]


def damage_missing_method(h5: h5py.File) -> None:
    del h5.attrs["method"]


def damage_seed(h5: h5py.File) -> None:
    h5.attrs["seed"] = "seven"


def damage_method(h5: h5py.File) -> None:
    h5.attrs["method"] = "text of variable length"


def damage_classes(h5: h5py.File) -> None:
    del h5["classes"]
    h5["classes"] = list(CLASSES)


def damage_recipe(h5: h5py.File) -> None:
    h5.attrs["recipe"] = np.bytes_("{")


def damage_huge(h5: h5py.File) -> None:
    del h5["images"]
    images = h5.create_dataset("images", (10**12, 4, 5, 3), np.uint8, chunks=(3, 4, 5, 3), compression="gzip")
    images.attrs["layout"] = np.bytes_("NHWC")
    images.attrs["value_range"] = [0.0, 255.0]


def damage_huge_chunk(h5: h5py.File) -> None:
    del h5["images"]
    images = h5.create_dataset(
        "images",
        (9, 4, 5, 3),
        np.uint8,
        chunks=(2**25, 4, 5, 3),
        maxshape=(None, 4, 5, 3),
        compression="gzip",
    )
    images.attrs["layout"] = np.bytes_("NHWC")


def damage_layout(h5: h5py.File) -> None:
    h5["images"].attrs["layout"] = np.bytes_("NCHW")


def damage_dtype(h5: h5py.File) -> None:
    del h5["labels"]
    h5["labels"] = np.repeat(np.arange(3), 3).astype(np.int32)


def damage_label(h5: h5py.File) -> None:
    h5["labels"][8] = 9


def damage_pixel(h5: h5py.File) -> None:
    h5["images"][0, 0, 0, 0] ^= 1


def damage_link(h5: h5py.File) -> None:
    del h5["labels"]
    h5["labels"] = h5py.ExternalLink("elsewhere.h5", "/labels")


def damage_group_link(h5: h5py.File) -> None:
    h5.move("preprocessing", "hidden")
    h5["preprocessing"] = h5py.SoftLink("/hidden")


def damage_external(h5: h5py.File) -> None:
    del h5["labels"]
    h5.create_dataset("labels", (9,), np.int64, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def damage_group(h5: h5py.File) -> None:
    del h5["labels"]
    h5.create_group("labels")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_schema, r"'condensed-set/2', but this version reads 'condensed-set/1'; upgrade"),
        (damage_foreign, r"schema is 'weather/1'"),
        (damage_no_schema, r"no schema attribute"),
        (damage_missing_images, r"/images is missing"),
        (damage_missing_std, r"/preprocessing/std is missing"),
        (damage_missing_method, r"'method' is missing"),
        (damage_seed, r"damaged or of another kind.*seven"),
        (damage_method, r"'method' must be fixed-length text"),
        (damage_classes, r"/classes holds values of variable length"),
        (damage_recipe, r"damaged or of another kind"),
        (damage_huge, r"/images claims \[1000000000000, 4, 5, 3\] values, 60,000,000,000,000 bytes"),
        (damage_huge_chunk, r"/images claims"),
        (damage_layout, r"layout 'NCHW'"),
        (damage_dtype, r"labels must be int64 \[9\], found int32"),
        (damage_label, r"entry 8 is 9"),
        (damage_pixel, r"SHA-256 differs"),
        (damage_link, r"/labels is a link"),
        (damage_group_link, r"/preprocessing is a link"),
        (damage_external, r"/labels is not a data set stored in this file"),
        (damage_group, r"/labels is not a data set stored in this file"),
    ],
)
def test_damaged_files_are_refused(file: Path, damage: Callable[[h5py.File], None], message: str) -> None:
    with h5py.File(file, "r+") as h5:
        damage(h5)
    with pytest.raises(UserError, match=message) as caught:
        read(file)
    assert str(file) in str(caught.value)


def test_minor_version_is_read(file: Path) -> None:
    with h5py.File(file, "r+") as h5:
        h5.attrs["schema"] = np.bytes_("condensed-set/1.3")
    assert read(file).ipc == 3


def test_files_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text(json.dumps({"no": "hdf5"}))
    with pytest.raises(UserError, match="of another kind"):
        read(tmp_path / "a.h5")
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "b.h5")
    with pytest.raises(UserError, match="is a folder"):
        read(tmp_path)


def test_what_is_no_damage_of_the_file_is_not_called_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file of other users, nor a system that starts no more processes."""

    def no_more(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    hdf5_file._examiner().end()
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", no_more)
        with pytest.raises(UserError, match=r"does not start \(Resource temporarily unavailable\)\.$"):
            read(file)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="may not be read by this user"):
        read(file)


def test_existing_file_is_kept_without_force(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(UserError, match="--force"):
        write(file, make(ipc=1))
    assert file.read_bytes() == before
    write(file, make(ipc=1), force=True)
    assert read(file).ipc == 1


def test_failed_write_keeps_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("cut")

    monkeypatch.setattr(CondensedSet, "seal", fail)
    with pytest.raises(RuntimeError, match="cut"):
        write(file, make(ipc=1), force=True)
    assert file.read_bytes() == before
    assert [entry.name for entry in file.parent.iterdir()] == ["set.h5"]


def test_dataset_equals_tensors(file: Path) -> None:
    dataset = CondensedDataset(file)
    x, targets = read(file).tensors()
    assert len(dataset) == 9 and dataset.classes == CLASSES
    torch.testing.assert_close(torch.stack([dataset[i][0] for i in range(9)]), x, rtol=0, atol=0)
    torch.testing.assert_close(torch.stack([dataset[i][1] for i in range(9)]), targets, rtol=0, atol=0)
    copy = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(copy[4][0], x[4], rtol=0, atol=0)
    with pytest.raises(IndexError):
        dataset[9]


def test_a_file_that_is_replaced_never_gets_the_labels_of_the_old_one(file: Path) -> None:
    """The file was opened anew by its path: new pixels with old labels."""
    x, targets = read(file).tensors()
    dataset = CondensedDataset(str(file))
    write(str(file), dataclasses.replace(make(ipc=3), images=255 - make(ipc=3).images), force=True)
    torch.testing.assert_close(dataset[4][0], x[4], rtol=0, atol=0)
    torch.testing.assert_close(dataset[4][1], targets[4], rtol=0, atol=0)
    file.unlink()
    assert len([dataset[i] for i in range(9)]) == 9
    pickle.loads(pickle.dumps(dataset))[0]


def edited(path: Path, name: str, value: str) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs[name] = np.bytes_(value)


def test_an_oracle_mark_cannot_be_taken_away_unnoticed(file: Path) -> None:
    """The provenance was not hashed."""
    marked = make(ipc=3)
    told = dataclasses.replace(marked.provenance, notes={"uses_true_labels": True})
    write(file, dataclasses.replace(marked, provenance=told), force=True)
    assert read(file).uses_true_labels and read(file).provenance.sealed
    edited(file, "notes", "{}")
    with pytest.raises(UserError, match="changed since it was written"):
        read(file)
    with h5py.File(file, "r+") as h5:
        del h5.attrs["provenance_sha256"]
    with pytest.raises(UserError, match="changed since it was written"):  # the checksum of the contents has it too
        read(file)
    write(file, make(ipc=3), force=True)
    edited(file, "notes", "{}")
    with pytest.raises(UserError, match="its provenance changed since it was written"):
        read(file)
    with h5py.File(file, "r+") as h5:
        del h5.attrs["provenance_sha256"]
    unsealed = read(file)  # as of an earlier version, and said to be
    assert not unsealed.provenance.sealed
    write(file, unsealed, force=True)  # writing it anew gives it no seal
    assert read(file).provenance.sealed is False


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("notes", "null", "'notes' must be Mapping, found None"),
        ("notes", "[1]", "'notes' must be Mapping"),
        ("cost", "{}", None),
        ("cost", '{"seconds": "long"}', "'seconds' must be int or float, found 'long'"),
        ("cost", '{"images_seen": true}', "'images_seen' must be int"),
        ("cost", "[]", "set.h5"),
        ("cost", '{"more": 1}', "more"),
        ("notes", "[" * 50_000, "set.h5"),
        ("recipe", "9" * 5000, "set.h5"),
    ],
)
def test_provenance_of_another_type_is_a_sentence(file: Path, name: str, value: str, message: str | None) -> None:
    """`notes=null` was a traceback."""
    with h5py.File(file, "r+") as h5:
        del h5.attrs["provenance_sha256"]
    try:
        edited(file, name, value)
    except (OSError, RuntimeError):
        pytest.skip("HDF5 takes no attribute of that size")
    if message is None:
        assert read(file).provenance.cost == Cost()
        return
    with pytest.raises(UserError, match=message) as caught:
        read(file)
    assert len(str(caught.value)) < 1000


def test_every_text_of_the_provenance_is_under_the_seal(file: Path) -> None:
    """Each attribute edited in turn."""
    whole = file.read_bytes()
    for name in ("method", "data_name", "data_fingerprint", "supervision", "corruption", "created", "package_version"):
        file.write_bytes(whole)
        edited(file, name, "something else")
        with pytest.raises(UserError, match="SHA-256 of the provenance differs"):
            read(file)
    for name in ("ipc", "seed", "corruption_rate"):
        file.write_bytes(whole)
        with h5py.File(file, "r+") as h5:
            h5.attrs[name] = 1
        with pytest.raises(UserError):
            read(file)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker:UserWarning")  # on one core
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of any fork beside threads
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_dataset_in_workers(file: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    dataset = CondensedDataset(file)
    x, targets = read(file).tensors()
    batches = list(DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=method))
    torch.testing.assert_close(torch.cat([batch[0] for batch in batches]), x, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([batch[1] for batch in batches]), targets, rtol=0, atol=0)
