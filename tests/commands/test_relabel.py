"""`dmis relabel`: the table and where it leads, a user's folder, its page, its judgement, and mistakes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import Dmis
from PIL import Image

import condense
from condense.data import label_file, sources
from condense.data.types import Supervision, Truth
from condense.errors import UserError
from condense.generator.labels.suggestions import Suggestions
from condense.generator.model import Generator
from condense.notices import tell
from condense.pipeline.plan import Request, make_plan
from condense.pipeline.relabelling import COLUMNS, calibration_error, judged
from condense.run import Run

FEW = "longtail:1000+sym:0.4"  # 240 of the digits
FAST = ("--set", "train.steps=5", "--set", "train.batch_size=16", "--set", "network.channels=8")


def table(folder: str | Path) -> list[dict[str, str]]:
    with (Path(folder) / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        assert tuple(rows.fieldnames or ()) == COLUMNS
        return list(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's pictures: eight dark and eight light ones, one of each in the other's folder."""
    for value, name in ((40, "dark"), (200, "light")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(8):
            shade = 240 - value if index == 0 else value
            Image.new("L", (8, 8), shade + index).save(tmp_path / "pictures" / name / f"{index}.png")
    return tmp_path / "pictures"


def test_named_data_with_a_trained_generator(dmis: Dmis, trained: Path) -> None:
    relabel = ("relabel", "digits", "--noise", FEW, "--generator", trained, "--out", "out")
    answer = dmis(*relabel, "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    rows, beliefs = table("out"), np.load("out/posteriors.npz")
    given = make_plan(Request(named={"data": {"name": "digits", "noise": FEW}})).source
    assert told["images"] == len(rows) == len(given.train) < 500 and [row["file"] for row in rows[:3]] == [
        "0",
        "1",
        "2",
    ]
    posterior, names = beliefs["posterior"], beliefs["class_names"].tolist()
    np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(beliefs["image_posterior"].sum(1), 1, atol=1e-5)
    assert [row["suggested"] for row in rows] == [names[y] for y in posterior.argmax(1)]
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], posterior.max(1), atol=6e-5)
    doubt = 1 - posterior[np.arange(len(rows)), [names.index(row["given_label"]) for row in rows]]
    marked = np.array([row["is_label_issue"] == "True" for row in rows])
    assert marked.sum() == round(doubt.sum()) and doubt[marked].min() >= doubt[~marked].max()
    assert [row["predicted_label"] for row in rows] == [names[y] for y in beliefs["image_posterior"].argmax(1)]
    np.testing.assert_allclose([float(row["label_quality"]) for row in rows], 1 - doubt, atol=6e-5)
    changed = np.array([row["given_label"] != row["suggested"] for row in rows])
    assert told["would_change"] == changed.sum() and told["would_fill_in"] == 0
    assert told["without_likelier"] == (marked & ~changed).sum()
    assert told["likely_wrong"] == marked.sum() > 0 and told["asked"] == {"generator": 1}
    np.testing.assert_allclose(np.array(told["transition"]), beliefs["transition"], atol=1e-6)
    np.testing.assert_allclose(np.sum(told["transition"], 1), 1, atol=1e-5)
    assert [int(row["given_label"]) for row in rows] == given.supervision.observed.tolist()
    truth = given.truth.labels
    assert told["found"]["wrong"] == pytest.approx(np.mean(given.supervision.observed != truth))
    assert told["found"]["right_after"] == pytest.approx(np.mean([int(r["suggested"]) for r in rows] == truth))
    again = dmis(*relabel)
    assert again.code == 2 and "--force" in again.err
    people = dmis(*relabel, "--force").out
    assert "would change" in people and "Estimated transition matrix" in people and "--labels out/labels.csv" in people


def with_second_opinion(dmis: Dmis) -> tuple[str, ...]:
    """Arguments that name a generator with a second opinion beside it."""
    train = ("--set", "train.transition=volmin", "--set", "train.helper.steps=3", "--run", "volmin")
    assert dmis("train", "--data", "digits", "--noise", FEW, *FAST, *train).code == 0
    return ("--generator", "volmin")


def test_a_second_opinion_is_used_unless_declined(dmis: Dmis) -> None:
    relabel = ("relabel", "digits", "--noise", FEW, *with_second_opinion(dmis), "--json")
    told = json.loads(dmis(*relabel, "--out", "both").out)
    both, kept = np.load("both/posteriors.npz"), Generator.load(Run(Path("volmin")))
    assert list(told["asked"]) == ["generator", "classifier"]
    assert tuple(told["asked"].values()) == kept.opinion.exponents
    np.testing.assert_array_equal(both["transition"], kept.opinion.judge.transition.numpy())
    assert "classifier (weight" in Path("both/review.html").read_text()
    told = json.loads(dmis(*relabel, "--set", "train.second_opinion=false", "--out", "alone").out)
    alone = np.load("alone/posteriors.npz")
    assert told["asked"] == {"generator": 1.0}
    np.testing.assert_array_equal(alone["transition"], kept.transition.numpy())
    assert not np.array_equal(alone["image_posterior"], both["image_posterior"])


@pytest.mark.parametrize("kind", ["all-class", "conditional", "volmin", "given", "both given"])
def test_dry_run_estimates_the_cost_and_writes_nothing(kind: str, dmis: Dmis, trained: Path) -> None:
    how: tuple[str | Path, ...] = ("--set", f"network.kind={kind}", "--set", "train.eliminate=null", *FAST)
    if kind == "volmin":
        how = ("--set", "train.transition=volmin", "--set", "train.helper.steps=3", "--set", "train.flip=true", *FAST)
    elif "given" in kind:
        how = ("--generator", trained) if kind == "given" else with_second_opinion(dmis)
    relabel = ("relabel", "digits", "--noise", FEW, *how, "--json")
    before = list(Path().iterdir())
    foretold = json.loads(dmis(*relabel, "--dry-run").out)
    assert list(Path().iterdir()) == before
    told = json.loads(dmis(*relabel).out)
    assert foretold["network_evaluations"] == told["network_evaluations"] > 8 * told["images"] - 1
    assert (foretold["images"], foretold["classes"]) == (told["images"], 10) and foretold["parameters"] > 1000


def test_quick_classifiers_judge_labels_too(dmis: Dmis) -> None:
    quick = ("--labeller", "--set", "labeller.epochs=1", "--set", "labeller.width=4", "--run", "run")
    relabel = ("relabel", "digits", "--noise", FEW, *quick, "--json")
    foretold = json.loads(dmis(*relabel, "--dry-run").out)
    told = json.loads(dmis(*relabel, "--out", "out").out)
    assert foretold["minutes_by_stage"].keys() == {"labeller", "labelling"}
    assert foretold["network_evaluations"] == told["network_evaluations"] and told["asked"] == {"labeller": 1}
    again = json.loads(dmis(*relabel, "--resume", "--out", "again").out)
    assert table("out") == table("again") and again["network_evaluations"] == told["network_evaluations"]
    data = condense.load_data("digits", noise=FEW)
    recipe = {"labeller": {"epochs": 1, "width": 4}}
    np.testing.assert_array_equal(
        condense.relabel(data, labeller=True, recipe=recipe).posterior, np.load("out/posteriors.npz")["posterior"]
    )
    with pytest.raises(UserError, match="generator, labeller, pred_probs, and fast or features exclude each other"):
        condense.relabel(data, labeller=True, fast=True)


def test_dry_run_for_people_is_a_recipe(dmis: Dmis) -> None:
    people = dmis("relabel", "digits", "--set", "train.steps=7", "--dry-run").out
    assert "steps: 7\n" in people and "network evaluations" in people
    assert "repaired by the method dmis" in dmis("relabel", "digits", "--set", "method=random", "--dry-run").err


def test_the_table_leads_back_into_training(dmis: Dmis, trained: Path) -> None:
    assert dmis("corrupt", "digits", "--noise", FEW, "--out", "few.npz").code == 0
    assert dmis("relabel", "few.npz", "--generator", trained, "--out", "out").code == 0
    source, rows = sources.load("few.npz"), table("out")
    suggested = label_file.read("out/labels.csv", source)
    assert suggested.observed.tolist() == [int(row["suggested"]) for row in rows] and suggested.kind == "noisy"
    given = label_file.read("out/labels.csv::given", source)
    assert given.observed.tolist() == [int(row["given_label"]) for row in rows]
    told = json.loads(dmis("inspect", "few.npz", "--labels", "out/labels.csv", "--json").out)
    assert told["corruption"] == "labels:labels.csv"
    assert told["corruption_rate"] == pytest.approx(np.mean(suggested.observed != source.truth.labels))
    train = ("train", "--data", "few.npz", "--labels", "out/labels.csv", *FAST, "--run", "run", "--json")
    assert dmis(*train).code == 0
    assert json.loads(Path("run/recipe.json").read_text())["data"]["labels"] == "out/labels.csv"
    other = dmis("train", "--data", "few.npz", *FAST, "--run", "run", "--resume")
    assert other.code == 2 and "data.labels" in other.err
    both = dmis(*train, "--force", "--noise", "sym:0.4")
    assert both.code == 2 and "leave one of --labels and --noise out" in both.err


def test_a_users_folder_with_and_without_a_table(dmis: Dmis, folder: Path) -> None:
    answer = dmis("relabel", folder, *FAST, "--json")
    assert answer.code == 0, answer.err
    told, rows = json.loads(answer.out), table("pictures-relabelled")
    assert told["found"] is None and told["classes"] == ["dark", "light"]
    assert [row["file"] for row in rows][:2] == ["dark/0.png", "dark/1.png"]
    assert [row["given_label"] for row in rows] == ["dark"] * 8 + ["light"] * 8
    assert Path("runs/pictures-dmis-relabel-seed0/generator.safetensors").is_file()
    lines = ["dark/0.png,", "dark/1.png,dark|light", *(f"dark/{k}.png,dark" for k in (2, 3)), "light/1.png,light"]
    (folder / "labels.csv").write_text("file,label\n" + "\n".join(lines) + "\n")
    assert dmis("relabel", folder, *FAST, "--out", "out", "--run", "other").code == 0
    assert [row["given_label"] for row in table("out")] == [
        "",
        "",
        "dark",
        "dark",
        "light",
    ]  # both of two classes: unknown
    (folder / "labels.csv").write_text(Path("out/labels.csv").read_text())
    source = sources.load(str(folder))
    names = [source.train.classes[y] for y in source.supervision.observed]
    assert names == [row["suggested"] for row in table("out")]
    told = json.loads(dmis("inspect", folder, "--labels", "out/labels.csv::given", "--json").out)
    assert told["images_without_label"] == 2


def test_arrays_are_relabelled_too(dmis: Dmis, trained: Path) -> None:
    for number, noise in enumerate(("mix:clean=0.2,sym:0.4=0.3,partial:0.3=0.3,unlabeled=0.2", "annotators:0.3")):
        assert dmis("corrupt", "digits", "--noise", f"longtail:1000+{noise}", "--out", f"{number}.npz").code == 0
        answer = dmis("relabel", f"{number}.npz", "--generator", trained, "--json")
        told = json.loads(answer.out)
        source, rows = sources.load(f"{number}.npz"), table("digits-relabelled")
        given = [row["given_label"] for row in rows]
        several = source.supervision.candidates.sum(1)
        assert [len(cell.split("|")) if cell else 10 for cell in given] == several.tolist()
        sure = source.supervision.trusted
        assert not any(row["is_label_issue"] == "True" for row, trusted in zip(rows, sure, strict=True) if trusted)
        single = source.supervision.single
        other = np.array([cell != row["suggested"] for cell, row in zip(given, rows, strict=True)])
        assert told["would_change"] == (single & other).sum() and told["would_fill_in"] == (~single).sum() > 0
        marked = [row for row in rows if row["is_label_issue"] == "True"]
        kept = sum(row["suggested"] in row["given_label"].split("|") for row in marked)
        assert told["without_likelier"] == kept
        shutil.rmtree("digits-relabelled")


def test_the_label_of_a_classs_only_image_is_kept_and_told(dmis: Dmis, caplog: pytest.LogCaptureFixture) -> None:
    tell.cache_clear()
    images, labels = tiny.pictures()
    one = int(np.flatnonzero(labels.labels == 1)[0])
    used = np.flatnonzero((labels.labels != 1) | (np.arange(60) == one))
    np.savez("one.npz", images=images.images[used], labels=labels.labels[used], class_names=images.classes)
    answer = dmis("relabel", "one.npz", "--fast", "--out", "out")
    assert answer.code == 0 and "1 label is not judged, but kept" in caplog.text and ": light." in caplog.text
    row = table("out")[int(np.flatnonzero(used == one)[0])]
    assert (row["given_label"], row["suggested"], row["is_label_issue"]) == ("light", "light", "False")


def certain(classes: list[int], num_classes: int = 3) -> np.ndarray:
    return (0.9 * np.eye(num_classes) + 0.1 / num_classes).astype(np.float32)[classes]


def test_judgement_by_hand() -> None:
    """Six labels, two wrong; one of them is found, and one right label is suspected."""
    given = Supervision.from_labels(np.array([0, 0, 1, 1, 2, 2]), 3, trusted=False)
    beliefs = certain([0, 1, 1, 0, 2, 2])
    told = judged(Suggestions(given, beliefs, beliefs, np.eye(3)), Truth(np.array([0, 1, 1, 1, 2, 0])))
    assert told["wrong"] == pytest.approx(2 / 6)
    assert (told["precision"], told["recall"]) == (0.5, 0.5)
    # suspicions .067 .967 .067 .967 .067 .067: pairs (wrong, right) won 3 + 0, tied 1 + 3 of 8
    assert told["auroc"] == pytest.approx((3 + 0.5 * 1 + 0 + 0.5 * 3) / 8)
    assert told["right_before"] == pytest.approx(4 / 6) and told["right_after"] == pytest.approx(4 / 6)
    assert told["ece"] == pytest.approx(abs(beliefs.max() - 4 / 6)), "as sure of each, and four of six are right"


def test_calibration_error_by_hand() -> None:
    """Two bins: confidence 0.9 and 0.9 with one right, 0.3 with one right."""
    found = calibration_error(np.float32([0.9, 0.9, 0.3]), np.array([True, False, True]), bins=2)
    assert found == pytest.approx((abs(1.8 - 1) + abs(0.3 - 1)) / 3)
    assert calibration_error(np.float32([1, 1]), np.array([True, True])) == 0


def test_as_many_labels_are_likely_wrong_as_are_expected_to_be_the_most_doubtful_first() -> None:
    given = Supervision.from_labels(np.array([0, 0, 0, 0]), 3, trusted=False)
    beliefs = np.array([[0.5, 0.5, 0], [0.4, 0.3, 0.3], [0.2, 0.7, 0.1], [1, 0, 0]], np.float32)  # 1.9 are wrong
    found = Suggestions(given, beliefs, beliefs, np.eye(3))
    assert found.likely_wrong.tolist() == [False, True, True, False]
    assert found.suggested.tolist() == [0, 0, 1, 0] and found.changed.tolist() == [False, False, True, False]


def test_labels_that_are_surely_right_are_never_suspected() -> None:
    trusted = Supervision.from_labels(np.array([0, 1]), 3, trusted=True)
    beliefs = np.eye(3, dtype=np.float32)[[0, 1]]
    told = judged(Suggestions(trusted, certain([2, 2]), beliefs, np.eye(3)), Truth(np.array([0, 1])))
    assert told == {
        **{"wrong": 0.0, "precision": None, "recall": None, "auroc": None},
        **{"right_before": 1.0, "right_after": 1.0, "ece": 0.0},
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits", "--noise", "sym:0.4", "--generator", "nowhere"], "nowhere holds no trained generator"),
        (["digits", "--labels", "nowhere.npy"], "no label file nowhere.npy"),
        (["digits", "--labels", "long.npy"], "1298 entries, more than the 1297 training images"),
        (["digits", "--labels", "short.npy"], "3 entries, fewer"),
        (["digits", "--labels", "wild.npy"], "entry 0 is 10, outside 0..9"),
        (["digits", "--labels", "empty.npy"], "empty candidate set"),
        (["digits", "--labels", "nine.npy"], "no image is labelled '9'"),
        (["digits", "--labels", "none.npy"], "no image is labelled '0' (10 of 10"),
        (["digits", "--labels", "names.csv::anna,ben"], "row 2 names 'zwei', which is not one of the classes"),
        (["digits", "--set", "method=random"], "repaired by the method dmis"),
        (["digits", "--out", "file"], "file is a file"),
        (["digits", "--labeller", "--fast"], "--fast and --labeller exclude each other"),
        (["digits", "--set", "clean_first=cleanlab"], "judges the labels as given; leave out clean_first: cleanlab"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(arguments: list[str], said: str, dmis: Dmis) -> None:
    truth = sources.load("digits").truth.labels
    np.save("long.npy", np.append(truth, 1))
    np.save("short.npy", truth[:3])
    np.save("wild.npy", np.append(10, truth[1:]))
    np.save("empty.npy", np.eye(10, dtype=bool)[truth] & (np.arange(1297) != 7)[:, None])
    np.save("nine.npy", truth % 9)
    np.save("none.npy", truth * 0 - 1)
    Path("names.csv").write_text("anna,ben\n" + "1,1\n1,zwei\n" + "1,1\n" * 1295)
    Path("file").write_text("kept")
    before = sorted(Path().iterdir())
    answer = dmis("relabel", *arguments)
    (sentence,) = answer.err.splitlines()
    assert answer.code == 2 and answer.out == "" and said in sentence
    assert sorted(Path().iterdir()) == before


@pytest.mark.slow
def test_wrong_labels_of_digits_are_found(dmis: Dmis) -> None:
    """A third of the default budget, about two minutes on one core."""
    answer = dmis("relabel", "digits", "--noise", "sym:0.4", "--set", "train.steps=300", "--json")
    found = json.loads(answer.out)["found"]
    assert found["auroc"] > 0.9 and found["right_after"] > found["right_before"] + 0.2
