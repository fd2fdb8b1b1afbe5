"""`dmis audit` on sets and data whose labels, copies and duplicates are known."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import Dmis

from condense.cli import run
from condense.data import sources
from condense.data.types import Source
from condense.pipeline.plan import Request, make_plan
from condense.sets.hdf5 import read, write


@pytest.fixture(scope="module")
def digits() -> Source:
    return sources.load("digits")


@pytest.fixture(scope="module")
def noisy_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four real digits of each class by labels of which 40 % are wrong. Not to be written to."""
    file = tmp_path_factory.mktemp("sets") / "random.h5"
    arguments = ["condense", "--method", "random", "--noise", "sym:0.4", "--ipc", "4", "--seed", "3"]
    assert run([*arguments, "--out", str(file), "--run", str(file.parent / "run"), "--quiet", "--json"]) == 0
    return file


def test_a_set_of_real_images_is_compared_with_their_true_labels(noisy_set: Path, digits: Source, dmis: Dmis) -> None:
    told = json.loads(dmis("audit", noisy_set, "--steps", "20", "--json", "-q").out)
    made = read(noisy_set)
    assert digits.truth is not None and made.source_index is not None
    right = digits.truth.labels[made.source_index] == made.labels
    assert told["true_labels"] == {"images": 40, "share_right": pytest.approx(right.mean())}
    assert told["same_data"] and told["data"] == "digits"
    # the labels the method was given are made again from the set's own recipe
    assert told["given_labels"]["share_right"] == pytest.approx(1 - made.provenance.corruption_rate)
    counts = np.array(told["judged"]["confusion"])
    assert counts.sum(1).tolist() == [4] * 10
    assert told["judged"]["share_agreed"] == pytest.approx(counts.trace() / 40) == pytest.approx(right.mean(), abs=0.2)
    assert "true labels" in told["judged"]["classifier"] and told["judged"]["test_accuracy"] > 0.6
    assert told["bytes"] == 40 * 64 + 40 * 8


def test_copies_of_training_images_are_flagged_and_new_ones_not(noisy_set: Path, digits: Source, dmis: Dmis) -> None:
    told = json.loads(dmis("audit", noisy_set, "--classifier", "none", "--json").out)
    assert "judged" not in told
    near = told["memorisation"]
    assert near["flagged"] and near["copies"] == 40 and near["median_distance"] == 0
    made = read(noisy_set)
    assert near["nearest_training_image"] == made.source_index.tolist()  # type: ignore[union-attr]
    assert "Memorised: 40 of 40" in dmis("audit", noisy_set, "--classifier", "none").out

    assert digits.test is not None and digits.test_truth is not None
    chosen = np.concatenate([np.flatnonzero(digits.test_truth.labels == y)[:4] for y in range(10)])
    new = dataclasses.replace(made, images=digits.test.images[chosen], source_index=None)
    write(Path("new.h5"), new)
    told = json.loads(dmis("audit", "new.h5", "--classifier", "none", "--json").out)
    assert not told["memorisation"]["flagged"] and "true_labels" not in told
    assert not told["averages"]["flagged"] and told["averages"]["share_averaged"] < 0.1
    assert told["memorisation"]["median_distance"] == pytest.approx(
        told["memorisation"]["median_distance_real"], rel=0.3
    )


def test_averages_of_two_training_images_are_flagged_but_not_as_copies(
    noisy_set: Path, digits: Source, dmis: Dmis
) -> None:
    assert digits.truth is not None
    members = [np.flatnonzero(digits.truth.labels == y)[:8] for y in range(10)]
    pairs = np.concatenate([np.stack([own[:4], own[4:]], 1) for own in members])
    both = digits.train.images[pairs].astype(np.uint16)
    halves = ((both[:, 0] + both[:, 1]) // 2).astype(np.uint8)
    write(Path("halves.h5"), dataclasses.replace(read(noisy_set), images=halves, source_index=None))
    told = json.loads(dmis("audit", "halves.h5", "--classifier", "none", "--json").out)
    assert not told["memorisation"]["flagged"]
    found = told["averages"]
    assert found["flagged"] and found["averages"] == len(found["averaged_images"]) >= 38 and found["p_value"] < 1e-6
    assert np.mean(np.sort(found["nearest_pair"], 1) == np.sort(pairs, 1)) > 0.9
    assert np.median(found["weight"]) == pytest.approx(0.5, abs=0.02)
    out = dmis("audit", "halves.h5", "--classifier", "none").out
    assert f"Averages: {found['averages']} of 40" in out and "Memorised" not in out


def test_duplicates_and_soft_labels_of_a_set(noisy_set: Path, dmis: Dmis) -> None:
    made = read(noisy_set)
    images = made.images.copy()
    images[1] = images[7] = images[0]
    soft = np.full((40, 10), 0.05, np.float32)
    soft[np.arange(40), made.labels] = 0.55
    soft[:10] = 0
    soft[:10, 9] = 1
    write(Path("twice.h5"), dataclasses.replace(made, images=images, soft_labels=soft))
    told = json.loads(dmis("audit", "twice.h5", "--classifier", "none", "--json").out)
    assert told["duplicates"] == 2 and told["soft_labels_agree"] == 0.75
    assert told["true_labels"]["images"] == 38  # two images are no longer what the index says


def test_training_data_with_injected_noise(dmis: Dmis) -> None:
    told = json.loads(dmis("audit", "digits", "--noise", "sym:0.4", "--steps", "60", "--json", "-q").out)
    truth = told["true_labels"]
    assert truth["share_right"] == truth["share_among_candidates"] == pytest.approx(0.6, abs=0.04)
    injected = np.array(truth["confusion"])
    assert injected.sum() == told["images"] == sum(told["labels_per_class"])
    judged = told["judged"]
    # sixty steps make a poor judge; guessing would be right as often as labels are wrong, 0.4
    assert judged["precision"] > 0.55 and judged["recall"] > 0.5 and judged["gap"] < 0.25
    np.testing.assert_allclose(judged["injected"], injected / injected.sum(1, keepdims=True))
    np.testing.assert_allclose(np.sum(judged["transition"], 1), 1)
    assert "given labels" in judged["classifier"]
    assert set(told["duplicates"].values()) == {0}


def test_the_label_of_a_classs_only_image_is_not_doubted(dmis: Dmis) -> None:
    images, labels = tiny.pictures()
    one = int(np.flatnonzero(labels.labels == 1)[0])
    used = np.flatnonzero((labels.labels != 1) | (np.arange(60) == one))
    np.savez("one.npz", images=images.images[used], labels=labels.labels[used], class_names=images.classes)
    answer = dmis("audit", "one.npz", "--steps", 20, "--json")
    told = json.loads(answer.out)["judged"]
    assert int(np.flatnonzero(used == one)[0]) not in told["suspected_images"]


def test_duplicates_in_training_data_and_test_images_among_them(digits: Source, dmis: Dmis) -> None:
    assert digits.truth is not None and digits.test is not None and digits.test_truth is not None
    images, labels = digits.train.images[:200].copy(), digits.truth.labels[:200].copy()
    images[5] = images[6] = images[4]
    labels[4], labels[5], labels[6] = 1, 1, 2
    test = digits.test.images[:20].copy()
    test[3] = images[100]
    np.savez(
        "pairs.npz",
        train_images=images,
        train_labels=labels,
        test_images=test,
        test_labels=digits.test_truth.labels[:20],
    )
    told = json.loads(dmis("audit", "pairs.npz", "--classifier", "none", "--json").out)
    assert told["duplicates"] == {"training_images": 2, "with_another_label": 1, "test_images_in_training": 1}


def test_partial_labels_have_no_transition_matrix(dmis: Dmis) -> None:
    told = json.loads(dmis("audit", "digits", "--noise", "partial:0.5", "--classifier", "none", "--json").out)
    assert told["supervision"] == "partial" and told["true_labels"]["share_among_candidates"] == 1
    sets_only = json.loads(dmis("audit", "digits", "--noise", "partial:0.9", "--classifier", "none", "--json").out)
    assert sets_only["true_labels"]["share_right"] is None and sum(sets_only["labels_per_class"]) == 0


def test_the_report_is_one_file_and_is_not_overwritten(noisy_set: Path, dmis: Dmis) -> None:
    arguments = ("audit", noisy_set, "--classifier", "none", "--html", "report.html")
    assert dmis(*arguments).code == 0
    text = Path("report.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 3  # the noise of the given labels, the nearest copies and averages
    assert '="http' not in text and "memorisation: flagged" in text and "averages: flagged" in text
    again = dmis(*arguments)
    assert again.code == 2 and "--force" in again.err
    assert dmis(*arguments, "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.h5",), "nowhere.h5"),
        (("digits", "--classifier", "convnet"), "no classifier is called 'convnet'"),
        (("digits", "--steps", "0"), "0 steps"),
        (("SET", "--data", "other.npz"), "has 10 classes, the training data other has 3"),
        (("SET", "--data", "digits", "--image-size", "16"), "the training images of digits 16x16"),
        (("SET", "--data", "other.npz", "--noise", "sym:0.4"), "10 classes"),
    ],
)
def test_what_does_not_belong_together_is_one_sentence_and_exit_2(
    arguments: tuple[str, ...], said: str, noisy_set: Path, dmis: Dmis
) -> None:
    np.savez("other.npz", train_images=np.zeros((9, 8, 8, 1), np.uint8), train_labels=np.arange(9) % 3)
    answer = dmis("audit", *(str(noisy_set) if word == "SET" else word for word in arguments), "-q")
    assert answer.code == 2 and answer.out == ""
    (sentence,) = answer.err.splitlines()
    assert sentence.startswith("error: ") and said in sentence


def test_the_report_names_doubted_images_with_their_label_and_class(dmis: Dmis) -> None:
    """It also names the command that corrects them."""
    audit = ("audit", "digits", "--noise", "sym:0.4", "--steps", 30, "--html", "report.html", "--json")
    told = json.loads(dmis(*audit).out)
    text = Path("report.html").read_text(encoding="utf-8")
    first = told["judged"]["suspected_images"][0]
    given = make_plan(Request(named={"data": {"name": "digits", "noise": "sym:0.4"}})).source
    card = re.search(rf"<s>(\d)</s> <b>(\d)</b><span>{first}</span>", text)
    assert card is not None and int(card[1]) == given.supervision.observed[first] != int(card[2])
    assert text.count("<figcaption><s>") == min(48, told["judged"]["suspected_wrong"])
    assert "<code>dmis relabel</code>" in text and 'class="marked"' in text
