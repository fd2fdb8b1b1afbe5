"""What `dmis validate`, `dmis export` and `dmis inspect` answer."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Dmis
from PIL import Image

from condense.commands.export import export
from condense.commands.inspect import inspect
from condense.commands.validate import validate
from condense.data import sources
from condense.errors import UserError
from condense.notices import tell
from condense.recipe import DataRecipe
from condense.recipes import train_downstream
from condense.sets.hdf5 import CondensedSet, Preprocessing, Provenance, read, write


@pytest.fixture(scope="module")
def digits() -> sources.Source:
    return sources.load("digits")


@pytest.fixture
def file(tmp_path: Path, digits: sources.Source) -> Path:
    """Ten real digits of each class."""
    train = digits.train
    assert digits.truth is not None
    chosen = np.concatenate([np.flatnonzero(digits.truth.labels == label)[:10] for label in range(10)])
    told = Provenance("random", 10, 0, {"data": "digits"}, "digits", train.fingerprint(), "noisy", "none", None)
    condensed = CondensedSet(
        images=train.images[chosen],
        labels=np.repeat(np.arange(10), 10),
        classes=train.classes,
        preprocessing=Preprocessing((0.3,), (0.35,)),
        provenance=told,
        source_index=chosen,
    )
    write(tmp_path / "set.h5", condensed)
    return tmp_path / "set.h5"


def test_validate(file: Path) -> None:
    told = json.loads(json.dumps(validate(file)))
    assert (told["valid"], told["ipc"], told["classes"], told["images"]) == (True, 10, 10, 100)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"set\.h5"):
        validate(file)


def test_export_reports_what_was_written(file: Path) -> None:
    told = export(file, file.parent / "out", "folder")
    assert told["files"] == 103  # the pictures, condensed.json, the datasheet, the checksums
    assert told["bytes"] == sum(f.stat().st_size for f in (file.parent / "out").rglob("*") if f.is_file())
    told = export(file, file.parent / "set.npz", "npz")
    assert told["files"] == 1 and told["bytes"] == (file.parent / "set.npz").stat().st_size


def test_inspect_a_condensed_set(file: Path) -> None:
    told = json.loads(json.dumps(inspect(DataRecipe(name=str(file)), grid_png=file.parent / "grid.png", columns=4)))
    assert told["kind"] == "condensed set"
    assert (told["ipc"], told["image_shape"], told["value_range"]) == (10, [8, 8, 1], [0, 255])
    assert told["provenance"]["method"] == "random" and told["provenance"]["cost"]["images_seen"] == 0
    assert told["sha256"] == validate(file)["sha256"]
    with Image.open(file.parent / "grid.png") as picture:
        assert picture.size == (4 * 65 + 1, 10 * 65 + 1)


def test_inspect_a_data_set(tmp_path: Path, digits: sources.Source) -> None:
    told = json.loads(json.dumps(inspect(DataRecipe(name="digits"), grid_png=tmp_path / "grid.png", columns=3)))
    assert told["kind"] == "data set" and told["wrong_labels"] == 0
    assert sum(told["class_counts"].values()) == told["images"] == len(digits.train)
    with Image.open(tmp_path / "grid.png") as picture:
        cell = np.asarray(picture)[1:65:8, 1:65:8]
    assert digits.truth is not None
    first = digits.train.images[int(np.flatnonzero(digits.truth.labels == 0)[0]), :, :, 0]
    np.testing.assert_array_equal(cell, first)


def test_inspect_reports_the_noise() -> None:
    told = inspect(DataRecipe(name="digits", noise="sym:0.4"), seed=1)
    assert told["supervision"] == "noisy"
    assert told["corruption_rate"] == pytest.approx(told["wrong_labels"])
    assert 0.3 < told["wrong_labels"] < 0.45
    partial = inspect(DataRecipe(name="digits", noise="partial:0.5"), seed=1)
    assert partial["wrong_labels"] == 0 and partial["mean_candidates"] == pytest.approx(5.5, abs=0.2)
    lost = inspect(DataRecipe(name="digits", noise="unlabeled:0.1"))
    assert lost["mean_candidates"] == 1, "an image without label has no candidates"
    assert inspect(DataRecipe(name="digits", noise="mix:partial:0.5=0.5,unlabeled=0.5"))["mean_candidates"] == (
        pytest.approx(5.5, abs=0.3)
    )


def test_people_get_a_few_lines_and_the_place_of_the_grid(file: Path, dmis: Dmis) -> None:
    answer = dmis("inspect", file, "--grid", "grid.png")
    assert answer.code == 0 and len(answer.out.splitlines()) < 50 and "Wrote grid.png." in answer.out
    assert (
        "provenance.recipe" not in answer.out
        and json.loads(dmis("inspect", file, "--json").out)["provenance"]["recipe"]
    )
    assert "Wrote grid.png." in dmis("inspect", "digits", "--grid", "grid.png", "--force").out


def test_a_set_shows_itself_in_one_line(file: Path) -> None:
    assert repr(read(file)) == "CondensedSet(digits by random: 10 classes, 10 images per class, 8x8x1 uint8)"


def test_the_data_set_is_named_if_the_user_names_none(dmis: Dmis, caplog: pytest.LogCaptureFixture) -> None:
    tell.cache_clear()
    assert dmis("condense", "--method", "random", "--dry-run").code == 0
    assert "no data set is named, so this works on 'digits'" in caplog.text
    caplog.clear()
    assert dmis("condense", "--data", "digits", "--method", "random", "--dry-run").code == 0
    assert "no data set is named" not in caplog.text


def test_inspect_an_unlabelled_grid(tmp_path: Path) -> None:
    told = inspect(DataRecipe(name="digits", noise="unlabeled:0.1"), grid_png=tmp_path / "grid.png", columns=3)
    assert told["images_without_label"] == pytest.approx(0.9 * told["images"], rel=0.02)
    assert (tmp_path / "grid.png").is_file()


def test_noise_without_truth_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "pictures" / name / "0.png")
    assert inspect(DataRecipe(name=str(tmp_path / "pictures")))["wrong_labels"] is None
    with pytest.raises(UserError, match="no clean labels"):
        inspect(DataRecipe(name=str(tmp_path / "pictures"), noise="sym:0.4"))


def test_downstream_script_learns_digits(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_downstream.main([str(file), "--data", "digits", "--epochs", "30"])
    training, test = (float(line.split()[2]) for line in capsys.readouterr().out.splitlines())
    assert training > 95 and test > 50  # chance is 10
