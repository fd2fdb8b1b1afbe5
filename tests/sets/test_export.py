"""Every export, read back by the program it is for or by the rule that program follows."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import Normalize

from condense.data import sources
from condense.errors import UserError
from condense.preprocessing import Preprocessing
from condense.sets import shards
from condense.sets.condensed_set import CondensedSet, Provenance
from condense.sets.datasheet import datasheet
from condense.sets.export import ENDINGS, FOLDERS, FORMATS, _aside, export, folder_names, left_out
from condense.sets.foreign import read_foreign


def make(*, floats: bool = False, channels: int = 3, classes: tuple[str, ...] = ("cat", "dog", "eel")) -> CondensedSet:
    rng = np.random.default_rng(0)
    shape = (12, 4, 4, channels)
    pixels = rng.normal(0.5, 0.5, shape).astype(np.float32)
    images = pixels if floats else rng.integers(0, 256, shape).astype(np.uint8)
    return CondensedSet(
        images=images,
        labels=np.repeat(np.arange(3), 4),
        classes=classes,
        preprocessing=Preprocessing((0.5,) * channels, (0.25,) * channels),
        provenance=Provenance("dmis", 4, 0, {"a": 1}, "digits", "00", "noisy", "sym:0.4", 0.4),
        value_range=(0.0, 1.0) if floats else (0.0, 255.0),
        soft_labels=np.full((12, 3), 1 / 3, np.float32),
    )


@pytest.mark.parametrize(
    "classes", [("cat", "dog", "eel"), ("zebra", "ant", "a/b"), ("A", "a", ".."), ("", "a", "b"), (" ", "\x1b", "b|")]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_folder_is_read_by_torchvision(tmp_path: Path, classes: tuple[str, ...], channels: int) -> None:
    condensed = make(channels=channels, classes=classes)
    export(condensed, tmp_path / "out", "folder")
    folder = ImageFolder(str(tmp_path / "out"))
    assert folder.targets == condensed.labels.tolist()
    for (file, _), image in zip(folder.imgs, condensed.images, strict=True):
        with Image.open(file) as opened:
            np.testing.assert_array_equal(np.asarray(opened).reshape(image.shape), image)
    told = json.loads((tmp_path / "out" / "condensed.json").read_text())
    assert list(told["classes"].values()) == list(classes)
    assert told["sha256"] == condensed.sha256()


def test_folder_names() -> None:
    assert folder_names(("cat", "dog")) == ("cat", "dog")
    assert folder_names(("T-shirt/top", "Trouser")) == ("0_T-shirt_top", "1_Trouser")
    assert folder_names(("b", "a")) == ("0_b", "1_a")  # would swap the labels
    assert folder_names(("A", "a")) == ("0_A", "1_a")  # one folder on some systems
    assert folder_names(("..", "con")) == ("0_", "1_con")
    many = folder_names(tuple(reversed([f"class {i}" for i in range(100)])))
    assert many[7] == "07_class 92" and list(many) == sorted(many)
    long = folder_names(("ü" * 300 + "a", "ü" * 300 + "b"))
    assert len(set(long)) == 2 and all(len(name.encode()) < 255 for name in long)


def test_many_images_sort_in_order(tmp_path: Path) -> None:
    one = make()
    images = np.arange(24, dtype=np.uint8).repeat(48).reshape(24, 4, 4, 3)
    condensed = dataclasses.replace(
        one,
        images=images,
        labels=np.repeat(np.arange(2), 12),
        classes=("a", "b"),
        soft_labels=None,
        provenance=dataclasses.replace(one.provenance, ipc=12),
    )
    export(condensed, tmp_path / "out", "folder")
    values = [int(np.asarray(image)[0, 0, 0]) for image, _ in ImageFolder(str(tmp_path / "out"))]
    assert values == list(range(24))


def test_hf_folder_is_opened_by_datasets_offline(tmp_path: Path) -> None:
    condensed = make()
    export(condensed, tmp_path / "out", "hf")
    code = """
import sys
from datasets import ClassLabel, load_dataset
found = load_dataset(sys.argv[1], split="train")
assert found.features["label"] == ClassLabel(names=["cat", "dog", "eel"]), found.features
assert found["label"] == [0] * 4 + [1] * 4 + [2] * 4
import numpy
numpy.save(sys.argv[2], numpy.stack([numpy.asarray(image) for image in found["image"]]))
numpy.save(sys.argv[3], numpy.asarray(found["soft_labels"], numpy.float32))
"""
    arguments = [str(tmp_path / "out"), str(tmp_path / "images.npy"), str(tmp_path / "soft.npy")]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=offline)
    assert done.returncode == 0 and "malformed" not in done.stderr, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), condensed.images)
    np.testing.assert_array_equal(np.load(tmp_path / "soft.npy"), condensed.soft_labels)


def test_the_dataset_card_is_yaml_and_a_datasheet(tmp_path: Path) -> None:
    export(make(), tmp_path / "out", "hf")
    _, front, text = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["license"] == "cc-by-4.0" and told["size_categories"] == ["n<1K"]
    (file,) = told["configs"][0]["data_files"]
    assert (tmp_path / "out" / file["path"]).is_file() and file["split"] == "train"
    assert text.strip() == datasheet(make()).strip()


def test_webdataset_reads_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 5)
    condensed = make()
    export(condensed, tmp_path / "out", "webdataset")
    tars = sorted(str(file) for file in (tmp_path / "out").glob("*.tar"))
    assert [Path(name).name for name in tars] == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset

        samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8").to_tuple("png", "cls", "json"))
    np.testing.assert_array_equal(np.stack([image for image, _, _ in samples]), condensed.images)
    assert [label for _, label, _ in samples] == condensed.labels.tolist()
    assert [told["class"] for _, _, told in samples] == [condensed.classes[label] for label in condensed.labels]
    np.testing.assert_allclose([told["soft_labels"] for _, _, told in samples], condensed.soft_labels)
    first = [Path(name).read_bytes() for name in tars]
    export(condensed, tmp_path / "again", "webdataset")
    assert [(tmp_path / "again" / Path(name).name).read_bytes() for name in tars] == first


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_export_holds_the_datasheet(format: str, tmp_path: Path) -> None:
    condensed = make()
    path = tmp_path / f"out{ENDINGS.get(format, '')}"
    export(condensed, path, format)
    wanted = datasheet(condensed)
    assert condensed.sha256() in wanted and "CC BY 4.0" in wanted and "sym:0.4, 40.0% imprecise" in wanted
    if format in FOLDERS:
        assert (path / "DATASHEET.md").read_text() == wanted
        sums = dict(reversed(line.split("  ")) for line in (path / "SHA256SUMS").read_text().splitlines())
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        assert sums.keys() == files.keys() - {"SHA256SUMS"}
        assert all(hashlib.sha256(files[name].read_bytes()).hexdigest() == found for name, found in sums.items())
    elif format == "npz":
        with np.load(path, allow_pickle=False) as arrays:
            assert str(arrays["datasheet"]) == wanted
    elif format == "parquet":
        import pyarrow.parquet

        assert pyarrow.parquet.read_schema(path).metadata[b"datasheet"].decode() == wanted
    else:
        assert torch.load(path, weights_only=True)["datasheet"] == wanted


def test_the_datasheet_states_unknowns_and_unfair_results() -> None:
    one = make()
    told = dataclasses.replace(
        one.provenance, data_name="photos", notes={"uses_true_labels": True}, sealed=False, recipe={"x": "```"}
    )
    text = datasheet(dataclasses.replace(one, provenance=told, source_index=np.arange(12)))
    assert "not known to dmis" in text and "(oracle)" in text and "not protected by a checksum" in text
    assert "12 real images" in text and text.count("```") == 2


def test_npz_is_read_by_our_own_loader(tmp_path: Path) -> None:
    condensed = make(floats=True)
    export(condensed, tmp_path / "set.npz", "npz")
    source = sources.load(str(tmp_path / "set.npz"))
    np.testing.assert_array_equal(source.train.images, condensed.pictures())
    np.testing.assert_array_equal(source.supervision.observed, condensed.labels)
    assert source.train.classes == condensed.classes
    with np.load(tmp_path / "set.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["pixels"], condensed.images)
        np.testing.assert_array_equal(arrays["soft_labels"], condensed.soft_labels)


def test_folder_is_read_by_our_own_loader(tmp_path: Path) -> None:
    condensed = make(classes=("zebra", "ant", "bee"))
    export(condensed, tmp_path / "out", "folder")
    source = sources.load(str(tmp_path / "out"))
    np.testing.assert_array_equal(source.train.images, condensed.images)
    np.testing.assert_array_equal(source.supervision.observed, condensed.labels)


def test_vico_as_their_programs_take_it(tmp_path: Path) -> None:
    condensed = make(floats=True)
    export(condensed, tmp_path / "res_DM.pt", "vico")
    loaded = torch.load(tmp_path / "res_DM.pt", weights_only=True)
    images, labels = loaded["data"][-1]
    assert loaded["accs_all_exps"] == {}
    assert images.dtype == torch.float32 and labels.dtype == torch.int64
    assert labels.tolist() == condensed.labels.tolist()
    expected = (condensed.images.transpose(0, 3, 1, 2) - 0.5) / 0.25
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("form", ["vico", "ddranking"])
def test_images_of_a_known_data_set_are_normalised_as_the_peers_test_images(tmp_path: Path, form: str) -> None:
    """CIFAR-10's std in their code, 0.2023, is not that of all pixels, 0.2470; other sets keep their own."""
    own = make(floats=True)
    of_cifar = dataclasses.replace(own, provenance=dataclasses.replace(own.provenance, data_name="cifar10"))
    export(of_cifar, tmp_path / "set.pt", form)
    loaded = torch.load(tmp_path / "set.pt", weights_only=True)
    images = loaded["images"] if form == "ddranking" else loaded["data"][-1][0]
    pixels = torch.from_numpy(own.images.transpose(0, 3, 1, 2))
    theirs = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))(pixels)
    torch.testing.assert_close(images, theirs, atol=1e-6, rtol=0)
    assert loaded["std"] == [0.2023, 0.1994, 0.2010]
    if form == "vico":
        back = read_foreign(tmp_path / "set.pt", None, "cifar10")
        np.testing.assert_allclose(back.images, own.images, atol=1e-6)
    export(own, tmp_path / "own.pt", form)
    assert torch.load(tmp_path / "own.pt", weights_only=True)["mean"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("floats", [False, True])
def test_npz_comes_back_whole(tmp_path: Path, floats: bool) -> None:
    """With its whitening, and soft labels at their temperature, so that networks see and learn the same."""
    rng = np.random.default_rng(1)
    matrix = np.eye(48, dtype=np.float32) + rng.normal(0, 0.01, (48, 48)).astype(np.float32)
    whiten = (rng.normal(size=48).astype(np.float32), matrix, np.linalg.inv(matrix))
    own = make(floats=floats)
    condensed = dataclasses.replace(
        own,
        preprocessing=Preprocessing((0.1, 0.2, 0.3), (0.25, 0.5, 0.75), *whiten),
        provenance=dataclasses.replace(own.provenance, notes={"soft_label_temperature": 4}),
        soft_labels=rng.dirichlet(np.ones(3), 12).astype(np.float32),
    )
    export(condensed, tmp_path / "set.npz", "npz")
    back = read_foreign(tmp_path / "set.npz", None, "digits")
    assert back.preprocessing is not None and back.soft_labels is not None and back.temperature == 4
    assert (back.preprocessing.mean, back.preprocessing.std) == ((0.1, 0.2, 0.3), (0.25, 0.5, 0.75))
    value_range = (0.0, 1.0) if floats else (0.0, 255.0)
    again = dataclasses.replace(
        own, images=back.images, value_range=value_range, preprocessing=back.preprocessing, soft_labels=back.soft_labels
    )
    for ours, theirs in zip(again.tensors(), condensed.tensors(), strict=True):
        assert torch.equal(ours, theirs)
    x = condensed.tensors()[0]
    assert torch.equal(back.preprocessing.denormalise(x), condensed.preprocessing.denormalise(x))


def test_ddranking_is_sorted_by_class(tmp_path: Path) -> None:
    condensed = make()
    export(condensed, tmp_path / "set.pt", "ddranking")
    loaded = torch.load(tmp_path / "set.pt", weights_only=True)
    assert loaded["images"].shape == (12, 3, 4, 4)
    assert loaded["labels"].tolist() == sorted(condensed.labels.tolist())
    assert torch.equal(loaded["soft_labels"], torch.full((12, 3), 1 / 3))
    torch.testing.assert_close(loaded["images"], condensed.tensors()[0], rtol=0, atol=0)


def test_parquet_holds_png_and_names(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    condensed = make()
    export(condensed, tmp_path / "set.parquet", "parquet")
    table = parquet.read_table(tmp_path / "set.parquet")
    assert table["label"].to_pylist() == condensed.labels.tolist()
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"]["names"] == list(condensed.classes)
    import io

    for row, image in zip(table["image"].to_pylist(), condensed.images, strict=True):
        with Image.open(io.BytesIO(row["bytes"])) as opened:
            np.testing.assert_array_equal(np.asarray(opened), image)


@pytest.mark.filterwarnings("ignore")  # another library's
def test_parquet_is_read_by_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    condensed = make()
    export(condensed, tmp_path / "set.parquet", "parquet")
    table = datasets.Dataset.from_parquet(str(tmp_path / "set.parquet"), cache_dir=str(tmp_path / "cache"))
    assert table.features["label"].names == list(condensed.classes)
    assert table["label"][:] == condensed.labels.tolist()
    np.testing.assert_array_equal(np.asarray(table[5]["image"]), condensed.images[5])


def test_missing_pyarrow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'dmis\[parquet\]'"):
        export(make(), tmp_path / "set.parquet", "parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["folder", "npz", "vico", "ddranking"])
def test_existing_output_needs_force(tmp_path: Path, format: str) -> None:
    ending = ENDINGS.get(format, "")
    target = tmp_path / f"out{ending}"
    export(make(), target, format)
    with pytest.raises(UserError, match="exists already"):
        export(make(), target, format)
    export(make(floats=True), target, format, force=True)
    export(make(), tmp_path / f"fresh{ending}", format)
    export(make(), target, format, force=True)

    def content(path: Path) -> dict[str, bytes]:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return {str(file.relative_to(path)): file.read_bytes() for file in files}

    assert content(target) == content(tmp_path / f"fresh{ending}")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [f"fresh{ending}", f"out{ending}"]


@pytest.mark.parametrize(("name", "format"), [("looks.npz", "folder"), ("set", "npz"), ("set.npz", "ddranking")])
def test_a_name_that_ends_like_another_format_is_refused(tmp_path: Path, name: str, format: str) -> None:
    with pytest.raises(UserError, match=name):
        export(make(), tmp_path / name, format)
    assert list(tmp_path.iterdir()) == []


def test_foreign_folder_is_never_replaced(tmp_path: Path) -> None:
    for format in FORMATS:
        photos = tmp_path / f"photos{ENDINGS.get(format, '')}"
        photos.mkdir(exist_ok=True)
        (photos / "holiday.jpg").write_text("x")
        with pytest.raises(UserError, match="no export made" if format == "folder" else "is a folder"):
            export(make(), photos, format, force=True)
        assert (photos / "holiday.jpg").read_text() == "x"


@pytest.mark.parametrize("format", sorted(ENDINGS))
def test_a_folder_is_not_a_place_for_a_file(tmp_path: Path, format: str) -> None:
    (tmp_path / f"out{ENDINGS[format]}").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        export(make(), tmp_path / f"out{ENDINGS[format]}", format, force=True)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
def test_an_export_that_was_killed_blocks_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool, replaced: bool
) -> None:
    """A leftover `.replaced-X` made every later `export --force` fail."""
    out = tmp_path / "out"
    export(make(), out, "folder")
    before = (out / "cat" / "0.png").read_bytes()
    aside = tmp_path / ".replaced-out" if old else _aside(out)
    out.rename(aside)
    if replaced:
        export(make(), tmp_path / "new", "folder")
        (tmp_path / "new").rename(out)
    else:
        with pytest.raises(UserError, match="exists already"):
            export(make(floats=True), out, "folder")
        assert (out / "cat" / "0.png").read_bytes() == before  # nothing was lost
    export(make(floats=True), out, "folder", force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert (out / "cat" / "0.png").read_bytes() != before


def test_omissions_are_reported() -> None:
    """Exports lost soft labels, mean and std in silence."""
    assert left_out(make(), "folder") == ("soft_labels",) == left_out(make(), "vico")
    assert left_out(make(), "npz") == left_out(make(), "parquet") == left_out(make(), "ddranking") == ()
    assert left_out(dataclasses.replace(make(floats=True), soft_labels=None), "parquet") != ()


def test_npz_has_the_normalisation(tmp_path: Path) -> None:
    export(make(), tmp_path / "set.npz", "npz")
    with np.load(tmp_path / "set.npz") as arrays:
        assert arrays["mean"].tolist() == [0.5] * 3 and arrays["std"].tolist() == [0.25] * 3


def test_parquet_has_soft_labels_and_the_normalisation(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    condensed = dataclasses.replace(make(), source_index=np.arange(12), weights=np.ones(12, np.float32))
    export(condensed, tmp_path / "set.parquet", "parquet")
    table = parquet.read_table(tmp_path / "set.parquet")
    np.testing.assert_array_equal(np.array(table["soft_labels"].to_pylist(), np.float32), condensed.soft_labels)
    assert table["source_index"].to_pylist() == list(range(12)) and table["weights"].to_pylist() == [1.0] * 12
    told = json.loads(table.schema.metadata[b"dmis"])
    assert told["mean"] == [0.5] * 3 and told["std"] == [0.25] * 3


def test_failed_export_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(make(), tmp_path / "out", "folder")
    before = sorted(tmp_path.rglob("*"))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("condense.files.os.replace", fail)
    with pytest.raises(Exception, match="no space left"):
        export(make(floats=True), tmp_path / "out", "folder", force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_unknown_format_and_odd_channels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no format 'jpg'; choose one of folder, hf, webdataset, npz"):
        export(make(), tmp_path / "out", "jpg")
    with pytest.raises(UserError, match="these images have 2"):
        export(make(channels=2), tmp_path / "out", "folder")
    assert list(tmp_path.iterdir()) == []
