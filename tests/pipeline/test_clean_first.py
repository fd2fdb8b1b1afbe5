"""Labels repaired by cleanlab and by the oracle before a method sees them, and the record of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Dmis
from tiny import training_set

from condense.classifiers.cross import FoldOptions, fold_of
from condense.data import corrupt, digits, sources
from condense.data.types import Supervision, TrainingSet
from condense.errors import UserError
from condense.pipeline.relabel import doubted_by_cleanlab, repaired_by_cleanlab
from condense.run import Run
from condense.sets.hdf5 import read

SHARED = ("condense", "--noise", "sym:0.4", "--method", "random", "--ipc", 1)


@pytest.fixture(scope="module")
def planted():
    """500 digits with every fifth label flipped, before and after cleanlab, and the true labels."""
    pytest.importorskip("cleanlab")
    source = digits.load()
    chosen = np.arange(500)
    truth = source.truth.labels[chosen]
    given = truth.copy()
    given[::5] = (given[::5] + np.random.default_rng(0).integers(1, 10, 100)) % 10
    supervision = Supervision.from_labels(given, 10, trusted=False)
    trusted = Supervision(supervision.candidates, np.arange(500) % 50 == 0)  # ten wrong labels nobody may doubt
    train = TrainingSet(source.train.take(chosen), trusted)
    repaired, seconds = repaired_by_cleanlab(
        train, FoldOptions(folds=2, epochs=5, batch_size=32, learning_rate=2e-3), 0, Run(None)
    )
    assert seconds > 0
    return train, repaired, truth


def test_cleanlab_finds_planted_flips(planted):
    """Precision of the doubted labels above 0.9, recall 0.75; 93 % of the labels right after repair, 80 % before."""
    train, repaired, truth = planted
    free = ~train.supervision.trusted
    given, after = train.supervision.observed, repaired.supervision.observed
    wrong, doubted = (given != truth)[free], (given != after)[free]
    assert (wrong & doubted).sum() / doubted.sum() > 0.9
    assert (wrong & doubted).sum() / wrong.sum() > 0.75
    assert (after == truth)[free].mean() > 0.93 > 0.83 > (given == truth)[free].mean()


@pytest.mark.parametrize("images", [1, 2])
def test_cleanlab_does_not_doubt_labels_of_a_class_that_lies_in_one_fold(images: int) -> None:
    """Cleanlab warns of a class with one image in words of its own, which users must not see."""
    pytest.importorskip("cleanlab")
    train = training_set("labelled")
    light, others = (np.flatnonzero((train.supervision.observed == 1) == which) for which in (True, False))
    places = np.flatnonzero(fold_of(40 + images, 2, 0) == 0)[:images]
    order = np.insert(others, places - np.arange(images), light[:images])
    given = Supervision.from_labels(train.supervision.observed[order], 3, trusted=False)
    assert (given.observed[places] == 1).all()
    options = FoldOptions(folds=2, epochs=5, batch_size=8)
    doubts = doubted_by_cleanlab(TrainingSet(train.images.take(order), given), options, 0, Run(None))
    assert not doubts.doubted[places].any() and (doubts.probabilities[places].argmax(1) != 1).all()


def test_trusted_labels_stay_and_the_images_too(planted):
    train, repaired, truth = planted
    kept = train.supervision.trusted
    given = train.supervision.observed
    assert (given[kept] != truth[kept]).all()
    np.testing.assert_array_equal(repaired.supervision.observed[kept], given[kept])
    assert repaired.images is train.images
    assert "labels repaired by cleanlab" in repaired.corruption.spec


def test_cleanlab_doubts_single_labels_alone():
    pytest.importorskip("cleanlab")
    several = int((~training_set("mixture").supervision.single).sum())
    with pytest.raises(UserError, match=f"{several} of 60 images have none or several; use --clean-first dmis"):
        repaired_by_cleanlab(training_set("mixture"), FoldOptions(), 0, Run(None))


def test_without_cleanlab_a_sentence_says_what_to_install(dmis: Dmis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    answer = dmis(*SHARED, "--clean-first", "cleanlab")
    assert answer.code == 2 and "pip install 'dmis[noise]'" in answer.err
    assert not list(Path().iterdir())


def test_cleanlab_from_the_command_line_is_recorded_and_resumed(dmis: Dmis) -> None:
    pytest.importorskip("cleanlab")
    folds = ("--set", "labeller.folds=2", "--set", "labeller.epochs=1", "--run", "run")
    arguments = (*SHARED, "--clean-first", "cleanlab", *folds)
    foretold = json.loads(dmis(*arguments, "--dry-run", "--json").out)["network_evaluations"]
    assert dmis(*arguments).code == 0
    made = read(Path("digits-random-cleanlab-ipc1.h5"))
    told = made.provenance
    assert told.corruption == "sym:0.4, labels repaired by cleanlab"
    assert told.notes["labels_repaired_by"] == "cleanlab" and "uses_true_labels" not in told.notes
    assert 0.05 < told.notes["labels_changed"] < 0.95
    assert told.recipe["labeller"]["epochs"] == 1 and told.recipe["clean_first"] == "cleanlab"
    assert told.cost.images_seen == len(sources.load("digits").train)  # two folds: everyone is learnt from once
    assert told.cost.network_evaluations == foretold == 2 * told.cost.images_seen  # and judged once
    assert Path("run/labeller/out-of-fold-0.safetensors").exists()
    assert dmis(*arguments, "--resume", "--out", "again.h5").code == 0
    assert read(Path("again.h5")).sha256() == made.sha256()
    answer = dmis(*SHARED, "--clean-first", "cleanlab", "--set", "labeller.fold=2")
    assert answer.code == 2 and "did you mean 'folds'" in answer.err


def test_the_oracle_is_marked_wherever_its_set_is_reported(dmis: Dmis) -> None:
    assert dmis(*SHARED, "--clean-first", "oracle").code == 0
    file = Path("digits-random-true-labels-ipc1.h5")
    told = read(file).provenance
    source = sources.load("digits")
    _, corruption = corrupt.apply("sym:0.4", source.truth, source.train, 0)
    assert told.notes["labels_changed"] == corruption.overall_rate, "every wrong label, and no other"
    assert told.notes["uses_true_labels"] is True and told.notes["labels_repaired_by"] == "oracle"
    assert "repaired by oracle" in told.corruption
    shown = json.loads(dmis("inspect", file, "--json").out)
    assert shown["provenance"]["notes"]["uses_true_labels"] is True
    assert "repaired by oracle" in dmis("inspect", file).out
    marked = "Made with the true labels (oracle)"
    scored = ("--network", "mlp", "--repeats", 1, "--protocol", "quick", "-q")
    assert json.loads(dmis("evaluate", file, *scored, "--json").out)["uses_true_labels"] is True
    assert marked in dmis("evaluate", file, *scored).out
    assert json.loads(dmis("validate", file, "--json").out)["uses_true_labels"] is True
    measured = ("metrics", file, "--steps", 1, "--k", 1, "--cas", "none", "-q")
    assert marked in dmis(*measured).out
    audited = dmis("audit", file, "--classifier", "none", "--json")
    assert json.loads(audited.out)["uses_true_labels"] is True
    assert dmis(*SHARED, "--seed", 1, "--clean-first", "oracle", "--out", "other.h5", "--run", "other").code == 0
    assert marked in dmis("evaluate", file, "other.h5", *scored).out
    assert dmis(*SHARED, "--out", "plain.h5").code == 0
    plain = dmis("evaluate", "plain.h5", *scored)
    assert plain.code == 0 and "oracle" not in plain.out
    assert dmis("evaluate", file, "plain.h5", *scored).code == 2, "a bound and a rival have no common mean"


def test_quick_classifiers_hand_on_beliefs_are_recorded_and_resumed(dmis: Dmis) -> None:
    asked = ("--set", "labeller.folds=2", "--set", "labeller.epochs=4", "--set", "labeller.width=8")
    shared = ("condense", "--noise", "sym:0.4", "--method", "frepo", "--ipc", 1, "--clean-first", "labeller")
    few = ("--set", "iterations=2", "--set", "width=4", "--set", "pool=1", "--set", "real_batch=16")
    arguments = (*shared, *asked, *few, "--run", "run")
    foretold = json.loads(dmis(*arguments, "--dry-run", "--json").out)
    assert foretold["minutes_by_stage"].keys() == {"labeller", "labelling", "learning images"}
    answer = dmis(*arguments)
    assert answer.code == 0, answer.err
    made = read(Path("digits-frepo-labelled-ipc1.h5"))
    told = made.provenance
    assert told.corruption == "sym:0.4, labels repaired by labeller"
    assert told.notes["labels_repaired_by"] == "labeller" and 0.2 < told.notes["labels_changed"] < 0.6
    assert told.notes["believed"] is True, "frepo learned from the beliefs, not from the labels they come to"
    assert told.recipe["labeller"]["folds"] == 2 and told.recipe["clean_first"] == "labeller"
    assert told.cost.network_evaluations == foretold["network_evaluations"]
    assert Path("run/labeller/labeller-1-1.safetensors").exists()
    assert dmis(*arguments, "--resume", "--out", "again.h5").code == 0
    assert read(Path("again.h5")).sha256() == made.sha256()
    answer = dmis(*shared, "--set", "labeller.fold=2")
    assert answer.code == 2 and "did you mean 'folds'" in answer.err
