"""A realistically messy folder, by README's lines: every picture as displayed, every skipped file reported."""

import csv
import json
import shutil
from pathlib import Path

import messy
import numpy as np
import pytest
from conftest import Dmis

from condense.data import sources
from condense.sets.hdf5 import read


@pytest.fixture
def small(tmp_path: Path) -> messy.Messy:
    return messy.make(tmp_path / "photos", 160)


def test_inspect_reports_everything(small: messy.Messy, dmis: Dmis) -> None:
    answer = dmis("inspect", "photos", "--image-size", "32", "--grid", "grid.png", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["images"] == len(small.truth) and told["classes"] == list(messy.CLASSES)
    folders = [Path(name).parent.name for name in small.truth]
    assert told["class_counts"] == {kind: folders.count(kind) for kind in messy.CLASSES}
    unread = told["skipped"]["cannot be read"]
    assert unread["files"] == len(small.unreadable)
    assert sorted(line.partition(" (")[0] for line in unread["which"]) == sorted(
        name.partition(" (")[0] for name in small.unreadable
    )
    assert told["duplicates"]["images"] == len(small.duplicates) and told["duplicates"]["other_labels"] == 1
    assert told["changed"]["turned as EXIF says"] >= small.forms["rotated by EXIF"]
    transparent = small.forms["shape in alpha"] + small.forms["grey with alpha"]
    assert told["changed"]["transparent, laid on white"] >= transparent
    assert len(told["sizes"]) == 11 and sum(told["sizes"].values()) == told["images"] + told["test_images"]
    assert Path("grid.png").stat().st_size > 1000


def test_every_form_shows_its_shape(small: messy.Messy) -> None:
    """Dark shapes on bright ground, upright: the middle is dark, the corners bright; a triangle is dark below."""
    source = sources.load(small.folder, image_size=32, skip_unreadable=True)
    grey = source.train.images.mean(axis=3)  # [n, 32, 32]
    kinds = np.array([small.truth[f"train/{name.removeprefix('train/')}"] for name in source.files or ()])
    assert (grey[:, :2, :2].mean((1, 2)) > 150).all()
    assert (grey[:, 14:18, 14:18].mean((1, 2)) < 130)[np.isin(kinds, ["disc", "square", "triangle"])].all()
    above, below = grey[:, 5:9, 5:27].mean((1, 2)), grey[:, 23:27, 5:27].mean((1, 2))
    assert (above - below > 30)[kinds == "triangle"].all()
    bars = grey[kinds == "bars"]
    assert (bars[:, :, 16].std(1) > 2 * bars[:, 5, 6:26].std(1)).all(), "bars lie: brightness changes downwards"


@pytest.mark.slow
def test_the_readmes_lines_lead_from_a_messy_folder_to_an_export(dmis: Dmis, tmp_path: Path) -> None:
    made = messy.make(tmp_path / "photos", 400)
    quick = ("--skip-unreadable", "--quick", "--set", "train.batch_size=32", "--quiet")
    refused = dmis("condense", "--data", "photos", "--image-size", "32", "--out", "photos.h5")
    assert refused.code == 2 and "--skip-unreadable" in refused.err and not Path("photos.h5").exists()
    assert dmis("relabel", "photos", "--image-size", "32", *quick).code == 0
    with Path("photos-relabelled", "labels.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(made.truth)
    answer = dmis("condense", "--data", "photos", "--image-size", "32", "--ipc", "2", *quick, "--out", "photos.h5")
    assert answer.code == 0, answer.err
    assert read(Path("photos.h5")).images.shape == (8, 32, 32, 3)
    scored = dmis("evaluate", "photos.h5", "--protocol", "quick", "--repeats", "1", "--skip-unreadable", "--json", "-q")
    assert scored.code == 0 and 0 <= json.loads(scored.out)["mean"] <= 100, scored.err
    for format in ("folder", "hf", "webdataset"):
        shutil.rmtree("small", ignore_errors=True)
        assert dmis("export", "photos.h5", "small", "--format", format).code == 0
        assert Path("small", "DATASHEET.md").is_file()
