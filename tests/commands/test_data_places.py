"""The place and identity of data: the set records them, fingerprints decide, and users are informed."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from conftest import Dmis
from PIL import Image

from condense.notices import tell
from condense.pipeline.real_data import real_data
from condense.recipe import DataRecipe
from condense.sets.hdf5 import read


@pytest.fixture(autouse=True)
def untold(caplog):
    """Notices that other tests have shown are shown again."""
    tell.cache_clear()
    caplog.set_level(logging.WARNING, "condense")


def paint(folder: Path, *, seed: int = 0, classes: tuple[str, ...] = ("dark", "light")) -> Path:
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for value, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(90 * value, 90 * value + 60, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def condense(dmis: Dmis, *arguments: object) -> None:
    answer = dmis("condense", *arguments, "--method", "random", "--ipc", 1, "--out", "set.h5", "--run", "run")
    assert answer.code == 0, answer.err


def test_test_images_are_those_of_the_set_wherever_one_stands(dmis: Dmis, tmp_path, monkeypatch):
    """Case 7: `cd elsewhere && dmis evaluate ../set.h5` took another `tiny/` without a word."""
    paint(tmp_path / "here" / "tiny")
    paint(tmp_path / "elsewhere" / "tiny", seed=1)
    monkeypatch.chdir(tmp_path / "here")
    condense(dmis, "--data", "tiny")
    monkeypatch.chdir(tmp_path / "elsewhere")
    score = ("evaluate", "../here/set.h5", "--protocol", "quick", "--repeats", 1, "--json")
    told = json.loads(dmis(*score).out)
    assert told["test_data"] == f"8 test images of tiny ({tmp_path / 'here' / 'tiny'})"
    (tmp_path / "here" / "tiny").rename(tmp_path / "here" / "moved")
    answer = dmis(*score)
    assert answer.code == 2 and "are not those that the set was made from (their fingerprints differ)" in answer.err
    assert json.loads(dmis(*score, "--data", "tiny").out)["test_data"] == "8 test images of tiny (tiny)"
    (tmp_path / "elsewhere" / "tiny").rename(tmp_path / "elsewhere" / "gone")
    answer = dmis(*score)
    assert answer.code == 2 and f"made from '{tmp_path / 'here' / 'tiny'}', which is not found here" in answer.err


def test_labels_are_those_of_the_file_the_set_was_made_with(dmis: Dmis, tmp_path, monkeypatch):
    paint(tmp_path / "here" / "tiny")
    monkeypatch.chdir(tmp_path / "here")
    answers = np.array([0, 1, 0, 1, 1, 0, 1, 0])
    np.savez("answers.npz", mine=answers, yours=1 - answers)
    condense(dmis, "--data", "tiny", "--labels", "answers.npz::mine")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.savez("answers.npz", mine=1 - answers)
    made = read(Path("../here/set.h5"))
    for asked in (DataRecipe(), DataRecipe(name=str(tmp_path / "here" / "tiny"))):
        given = real_data(made, asked)
        assert given.corruption.spec == "labels:answers.npz::mine"
        assert given.source.supervision.observed.tolist() == answers.tolist()
    own = real_data(made, DataRecipe(labels=str(tmp_path / "here" / "answers.npz::yours")))
    assert own.source.supervision.observed.tolist() == (1 - answers).tolist()

    (tmp_path / "here" / "answers.npz").unlink()
    answer = dmis("rank", "../here/set.h5", "-q")
    place = tmp_path / "here" / "answers.npz::mine"
    assert answer.code == 2 and len(answer.err.splitlines()) == 1
    assert f"made with the labels in '{place}', which is not found here" in answer.err
    score = ("evaluate", "../here/set.h5", "--protocol", "quick", "--repeats", 1, "-q")
    assert dmis(*score).code == 0, "only training labels are missing"


def test_how_pictures_were_read_is_kept(dmis: Dmis, tmp_path, monkeypatch):
    """Case 7's kind: test images are cut, padded and left out as the training images were."""
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "tall")
    for file in sorted((tmp_path / "tall").rglob("*.png")):
        with Image.open(file) as image:
            taller = image.resize((8, 12))
        taller.save(file)
    (tmp_path / "tall" / "test" / "dark" / "9.png").write_text("no picture")
    condense(dmis, "--data", "tall", "--set", "data.fit=pad", "--set", "data.skip_unreadable=true")
    told = json.loads(dmis("evaluate", "set.h5", "--protocol", "quick", "--repeats", 1, "--json").out)
    assert told["test_data"].startswith("8 test images of tall")
    assert dmis("evaluate", "set.h5", "--data", "tall", "--protocol", "quick", "--repeats", 1).code == 2


def test_mirror_images_are_a_property_of_the_data(dmis: Dmis, tmp_path, monkeypatch, caplog):
    """Case 8: `mnist/` was not flipped and `MNIST/` was; there was no switch."""
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "mnist")
    condense(dmis, "--data", "mnist")
    assert "judging by the class names, a mirror image does show its class" in caplog.text
    assert "if this is wrong: --set data.flip=false" in caplog.text
    assert read(Path("set.h5")).provenance.notes["flip"] is True
    score = ("evaluate", "set.h5", "--protocol", "quick", "--repeats", 1, "--json")
    assert "flip" in json.loads(dmis(*score).out)["protocol"]["augmentation"]
    caplog.clear()
    condense(dmis, "--data", "mnist", "--set", "data.flip=false", "--force")
    assert caplog.text == "", "nothing is left to guess"
    assert "flip" not in json.loads(dmis(*score).out)["protocol"]["augmentation"], "kept in the set"
    assert "flip" in json.loads(dmis(*score, "--set", "data.flip=true").out)["protocol"]["augmentation"]


@pytest.mark.parametrize("classes", [("0", "1"), ("a", "b"), ("hand left", "hand right")])
def test_signs_and_sides_are_not_mirrored(dmis: Dmis, tmp_path, monkeypatch, classes, caplog):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "MNIST", classes=classes)
    condense(dmis, "--data", "MNIST")
    assert read(Path("set.h5")).provenance.notes["flip"] is False and "mirror image does not show" in caplog.text


def test_a_test_split_without_a_class_is_reported(dmis: Dmis, tmp_path, monkeypatch, caplog):
    """Case 7: an npz test split lacking a class was scored without a word."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    names = np.array(["ant", "bee", "cat"])
    np.savez(
        "a.npz", images=images, labels=np.arange(9) % 3, test_images=images[:2], test_labels=[0, 1], class_names=names
    )
    condense(dmis, "--data", "a.npz")
    assert "a: no test image is of cat; the accuracy says nothing about it." in caplog.text


def test_inspect_accounts_for_everything(dmis: Dmis, tmp_path, monkeypatch):
    """Cases 5, 35, 40 and 41: what was read, skipped and why, sizes, class counts and duplicates."""
    monkeypatch.chdir(tmp_path)
    pets = paint(tmp_path / "pets")
    first = pets / "train" / "dark" / "0.png"
    (pets / "train" / "light" / "copy.png").write_bytes(first.read_bytes())
    (pets / "test" / "dark" / "copy.png").write_bytes(first.read_bytes())
    (pets / "train" / "dark" / "cut.png").write_bytes(first.read_bytes()[:60])
    (pets / "train" / ".DS_Store").write_text("")
    (pets / "train" / "dark" / "notes.txt").write_text("")
    Image.new("L", (30, 10), 90).save(pets / "train" / "dark" / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 10)).save(pets / "train" / "light" / "turned.png", exif=exif)
    answer = dmis("inspect", "pets", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["class_counts"] == {"dark": 5, "light": 6} and told["images"] == 11 and told["test_images"] == 9
    assert told["sizes"] == {"8x8": 18, "30x10": 1, "10x8": 1} and told["image_shape"] == [8, 8, 1]
    assert told["changed"] == {"turned as EXIF says": 1, "brought to 8x8 (crop)": 2}
    assert told["duplicates"] == {"images": 1, "other_labels": 1, "test_in_training": 1}
    skipped = {why: found["files"] for why, found in told["skipped"].items()}
    assert skipped == {"cannot be read": 1, "hidden, or a system's": 1, "no picture": 1}
    assert told["skipped"]["cannot be read"]["which"][0].startswith("train/dark/cut.png (")
    assert len(told["notes"]) == 2 and "have 3 different sizes" in told["notes"][0]
    shown = dmis("inspect", "pets").out
    assert "duplicates.other labels" in shown and "train/dark/notes.txt" in shown
    assert dmis("inspect", "pets", "--grid", "grid.png").code == 0
