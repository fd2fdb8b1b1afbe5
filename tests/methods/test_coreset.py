"""Herding and k-center as methods: chosen among real images by a network's features, through the command line too."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Dmis
from tiny import pictures, training_set

from condense import methods
from condense.classifiers.teaching import teacher_for
from condense.data.types import Supervision, TrainingSet
from condense.errors import UserError
from condense.methods import _coreset
from condense.recipe import parse
from condense.run import Run
from condense.sets.hdf5 import read

NAMES = ("herding", "kcenter")
TEACHER = {"epochs": 2, "batch_size": 16}


def make(name, train, ipc, **teacher):
    method = methods.load(name)
    return method.condense(train, ipc, parse(method.Options, {"teacher": {**TEACHER, **teacher}}, "x"), 0, Run(None))


def nearest_to_mean(features, taken):
    """What herding takes next, by the definition."""
    mean = features.mean(0)
    rest = [i for i in range(len(features)) if i not in taken]
    return min(rest, key=lambda i: np.linalg.norm((len(taken) + 1) * mean - features[taken].sum(0) - features[i]))


def farthest(features, taken):
    """What k-center takes next, by the definition."""
    if not taken:
        return nearest_to_mean(features, taken)
    rest = [i for i in range(len(features)) if i not in taken]
    return max(rest, key=lambda i: min(np.linalg.norm(features[i] - features[j]) for j in taken))


@pytest.mark.parametrize(("name", "following"), [("herding", nearest_to_mean), ("kcenter", farthest)])
def test_choice_in_the_features_of_a_network_trained_on_the_labels_given(name, following):
    train = training_set("noisy")
    made = make(name, train, 4)
    options = methods.load(name).Options.model_validate({"teacher": TEACHER})
    teacher = teacher_for(train, options.teacher, 0, Run(None))
    for y in range(3):
        own = np.flatnonzero(train.supervision.observed == y)
        features = teacher.features(train.images.images[own]).astype(np.float64)
        taken: list[int] = []
        for _ in range(4):
            taken.append(following(features, taken))
        assert made.source_index[4 * y : 4 * y + 4].tolist() == own[taken].tolist()
    np.testing.assert_array_equal(made.images, train.images.images[made.source_index])
    assert made.provenance.notes["teacher"]["network"] == "convnet3"
    assert made.provenance.cost.network_evaluations == 2 * 60 + 60 and made.provenance.cost.images_seen == 120


@pytest.mark.parametrize("name", NAMES)
def test_impossible_choices_are_refused_before_a_teacher_is_trained(name, monkeypatch):
    monkeypatch.setattr(_coreset, "teacher_for", None)
    with pytest.raises(UserError, match=r"several candidate labels .* sorts real images by their one label"):
        make(name, training_set("partial"), 1)
    with pytest.raises(UserError, match=r"'dark' has 5, .*ipc is 6; lower ipc"):
        make(name, training_set("labelled", per_class=5), 6)


@pytest.mark.parametrize(
    ("size", "channels", "network"), [(28, 1, "convnet3"), (16, 3, "resnet18"), (32, 3, "convnet3-bn")]
)
def test_every_size_channel_and_network(size, channels, network):
    images, truth = pictures(3, size, channels)
    train = TrainingSet(images, Supervision.from_labels(truth.labels, 3, trusted=False))
    for name in NAMES:
        assert make(name, train, 2, network=network, epochs=1).images.shape == (6, size, size, channels)


def test_images_without_a_label_are_left_out():
    train = training_set("unlabelled")
    for name in NAMES:
        assert train.supervision.single[make(name, train, 3).source_index].all()


# through the command line


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    """Herding of a small file of patterns."""
    images, truth = pictures(6)
    np.savez(tmp_path / "patterns.npz", images=images.images, labels=truth.labels)
    return ("condense", "--data", "patterns.npz", "--method", "herding", "--ipc", "2", "--quick")


def test_a_given_teacher_is_used_and_a_missing_one_reported(dmis: Dmis, command: tuple[str, ...]) -> None:
    assert dmis(*command, "--run", "first", "--out", "a.h5").code == 0
    assert Path("first/teacher.safetensors").is_file()
    given = dmis(*command, "--set", "teacher.folder=first", "--seed", 5, "--run", "second", "--out", "b.h5")
    assert given.code == 0 and not Path("second/teacher.safetensors").exists()
    assert read(Path("a.h5")).sha256() == read(Path("b.h5")).sha256()
    missing = dmis(*command, "--set", "teacher.folder=nowhere", "--out", "c.h5")
    assert missing.code == 2 and "nowhere holds no teacher" in missing.err
    wrong = dmis(*command, "--set", "teacher.network=convnet", "--out", "c.h5")
    assert wrong.code == 2 and "nearest: " in wrong.err and "convnet3" in wrong.err
    assert not Path("c.h5").exists()


def test_a_run_folder_with_a_teacher_is_continued_or_replaced(dmis: Dmis, command: tuple[str, ...]) -> None:
    assert dmis(*command, "--run", "run", "--out", "a.h5").code == 0
    again = dmis(*command, "--run", "run", "--out", "b.h5")
    assert again.code == 2 and "run holds the teacher.safetensors of an earlier run; give --resume" in again.err
    assert dmis(*command, "--run", "run", "--out", "b.h5", "--resume").code == 0
    assert read(Path("a.h5")).sha256() == read(Path("b.h5")).sha256()
    changed = (*command, "--set", "teacher.epochs=2", "--run", "run", "--out", "c.h5")
    assert "belongs to a run with other options" in dmis(*changed, "--resume").err
    assert dmis(*changed, "--force").code == 0
    lines = Path("run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["teacher_epoch"] for line in lines] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("ipc", [1, 10, 50, 100])
@pytest.mark.parametrize("name", [*NAMES, "rded", "sre2l"])
def test_every_ipc_on_digits(name: str, ipc: int, dmis: Dmis) -> None:
    answer = dmis("condense", "--method", name, "--ipc", ipc, "--noise", "sym:0.4", "--quick", "--out", "a.h5")
    assert answer.code == 0 and read(Path("a.h5")).images.shape == (10 * ipc, 8, 8, 1)
