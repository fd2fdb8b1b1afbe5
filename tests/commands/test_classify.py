"""`dmis classify`: which arms run, what is kept, and that nothing is done twice."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Answer, Dmis

from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.pipeline import arm_scores
from condense.pipeline.plan import Request, make_plan

FIT = ("--network", "convnet1", "--epochs", "1", "-q", "--json")
SINGLE = {"gce", "elr", "co-teaching", "pencil"}  # arms for one label per image
SETS = {"cc", "proden", "idgp", "pico", "crdpll", "dirk"}
PARTLY = {"pseudo-label", "mean-teacher", "fixmatch", "dash", "comatch", "flexmatch", "simmatch", "softmatch"}
ARMS = {"ce", "mixup"} | SINGLE | SETS | PARTLY


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the arms trained so far; accuracies are made up, 50, 51, …"""
    done: list[str] = []

    def accuracy(name: str, bench: object) -> float:
        done.append(name)
        return 49.0 + len(done)

    monkeypatch.setattr(arm_scores, "_accuracy", accuracy)
    return done


def test_arms_are_trained_and_tested(dmis: Dmis) -> None:
    answer = dmis("classify", "digits", "--noise", "sym:0.4", "--arm", "ce", "--arm", "co-teaching", *FIT)
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert (told["data"], told["noise"], told["seeds"], told["network"]) == ("digits", "sym:0.4", [0], "convnet1")
    assert [line["arm"] for line in told["arms"]] == ["ce", "co-teaching"]
    for line in told["arms"]:
        assert 10 < line["mean"] <= 100 and line["accuracies"] == [line["mean"]] and line["ci95"] is None


def test_all_is_every_arm_that_takes_the_labels(dmis: Dmis, counted: list[str]) -> None:
    noise = "mix:clean=0.1,sym:0.4=0.4,partial:0.5=0.3,unlabeled=0.2"
    told = json.loads(dmis("classify", "digits", "--noise", noise, *FIT).out)
    taken = {"ce", "mixup"} | SETS | PARTLY
    assert {line["arm"] for line in told["arms"]} == set(counted) == taken | {"vanilla", "dmis", "dmis-ce"}
    assert set(told["refused"]) == ARMS - taken
    assert "one label per image" in told["refused"]["gce"]


def test_arms_for_unlabelled_images_are_not_trained_on_candidate_sets_of_all_classes(
    dmis: Dmis, counted: list[str]
) -> None:
    """Under one seed an image may have every class as a candidate, under another none, which stopped `all` there."""
    told = json.loads(dmis("classify", "digits", "--noise", "partial:0.5", "--seeds", 2, *FIT).out)
    assert {line["arm"] for line in told["arms"]} == {"ce", "mixup"} | SETS | {"vanilla", "dmis", "dmis-ce"}
    assert set(counted) == {line["arm"] for line in told["arms"]}
    made = make_plan(Request(named={"data": {"name": "digits", "noise": "partial:0.5"}})).train.supervision
    assert made.unlabelled.any(), "an image that every arm for unlabelled images would have accepted"


def test_published_numbers_stand_beside_ours(dmis: Dmis, counted: list[str]) -> None:
    arguments = ("classify", "fashion-mnist", "--noise", "sym:0.4", "--arm", "co-teaching", "--arm", "dmis-ce")
    answer = dmis(*arguments, "--arm", "pencil", *FIT)
    if answer.code == 2 and "fashion-mnist" in answer.err:
        pytest.skip("Fashion-MNIST is not on this machine")
    assert [line["published"] for line in json.loads(answer.out)["arms"]] == [92.17, 87.76, 90.85]


def test_existing_results_are_not_computed_again(dmis: Dmis, counted: list[str]) -> None:
    command = ("classify", "digits", "--noise", "sym:0.4", "--arm", "ce", "--arm", "gce", "--out", "results", *FIT)
    first = json.loads(dmis(*command).out)
    assert counted == ["ce", "gce"] and sorted(p.name for p in Path("results").iterdir()) == ["ce-0.json", "gce-0.json"]
    Path("results/gce-0.json").unlink()
    more = json.loads(dmis(*command, "--seeds", "2").out)
    assert counted == ["ce", "gce", "gce", "ce", "gce"]
    assert more["arms"][0]["accuracies"] == [first["arms"][0]["mean"], 53.0]
    assert more["arms"][1]["mean"] == np.mean([52.0, 54.0]) and more["arms"][1]["ci95"] > 0
    assert json.loads(dmis(*command, "--seeds", "2").out) == more and len(counted) == 5

    other = dmis(*command, "--set", "gce.q=0.5")
    assert other.code == 2 and "gce-0.json belongs to a request with other options" in other.err
    noisier = dmis(*(word.replace("0.4", "0.5") for word in command))
    assert noisier.code == 2 and "other labels" in noisier.err
    Path("results/ce-0.json").write_text("{")
    damaged = dmis(*command)
    assert damaged.code == 2 and "is not a result" in damaged.err and len(counted) == 5


def test_a_result_belongs_to_its_test_split_and_to_flipping(dmis: Dmis, counted: list[str], few_digits: Path) -> None:
    digits = dict(np.load(few_digits))

    def classify(*more: str, **changed: np.ndarray) -> Answer:
        np.savez("few.npz", **digits | changed)
        return dmis("classify", "few.npz", "--arm", "ce", "--arm", "dmis", "--out", "results", *more, *FIT)

    assert classify().code == 0 and counted == ["ce", "dmis"]
    assert classify().code == 0 and len(counted) == 2
    for what, answer in (
        ("test_images", classify(test_images=255 - digits["test_images"])),
        ("test_labels", classify(test_labels=digits["test_labels"][::-1])),
        ("flip (false, now true)", classify("--set", "data.flip=true")),
    ):
        assert answer.code == 2 and f"ce-0.json belongs to a request with other {what}; choose" in answer.err
    assert len(counted) == 2
    told = json.loads(Path("results/dmis-0.json").read_text())["request"]
    assert {"flip", "test_images", "test_labels"} < told.keys()


def test_a_result_of_an_earlier_version_that_records_less_is_computed_again(
    dmis: Dmis, counted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    command = ("classify", "digits", "--noise", "sym:0.4", "--arm", "ce", "--out", "results", *FIT)
    assert dmis(*command).code == 0
    file = Path("results/ce-0.json")
    whole = json.loads(file.read_text())
    known = {key: value for key, value in whole["request"].items() if not key.startswith("test_")}
    file.write_text(json.dumps({**whole, "request": known}))
    again = dmis(*command)
    assert again.code == 0 and json.loads(again.out)["arms"][0]["mean"] == 51.0
    assert "ce-0.json does not record its test_images, test_labels" in caplog.text
    assert json.loads(file.read_text())["request"] == whole["request"]
    file.write_text(json.dumps({**whole, "request": known | {"seed": 3}}))
    other = dmis(*command)
    assert other.code == 2 and "other seed (3, now 0)" in other.err and len(counted) == 2


def test_a_dry_run_lists_the_trainings_and_writes_nothing(dmis: Dmis, counted: list[str]) -> None:
    command = ("classify", "digits", "--noise", "partial:0.5", "--out", "results", "--seeds", "2")
    told = json.loads(dmis(*command, *FIT, "--dry-run").out)
    assert told["arms"][-3:] == ["vanilla", "dmis", "dmis-ce"] and set(told["left_out"]) == SINGLE | PARTLY
    assert set(told["arms"][:-3]) == ARMS - SINGLE - PARTLY
    assert (told["images"], told["classes"], told["image_shape"]) == (1297, 10, [8, 8, 1])
    assert (told["network"], told["epochs"], told["seeds"]) == ("convnet1", 1, [0, 1])
    assert (told["generators"], told["results"], told["kept"]) == (["vanilla", "dmis"], 22, 0)
    assert not counted and not Path("results").exists()

    assert dmis(*command, "--arm", "cc", "--arm", "proden", *FIT).code == 0
    again = json.loads(dmis(*command, "--arm", "cc", *FIT, "--dry-run").out)
    assert (again["generators"], again["results"], again["kept"]) == ([], 2, 2)
    wrong = dmis(*command, *FIT, "--dry-run", "--set", "cc.nothing=1")
    assert wrong.code == 2 and "nothing" in wrong.err
    for_people = dmis(*command, "--dry-run").out
    assert "left out" in for_people and "proden" in for_people


def test_a_trained_generator_is_tested_and_drawn_from(dmis: Dmis, trained: Path) -> None:
    command = ("classify", "digits", "--noise", "sym:0.4", "--generator", trained, "--arm", "dmis", "--arm", "dmis-ce")
    answer = dmis(*command, "--set", "draw.sampler_steps=2", *FIT)
    assert answer.code == 0, answer.err
    lines = json.loads(answer.out)["arms"]
    assert [line["arm"] for line in lines] == ["dmis", "dmis-ce"]
    assert all(0 <= line["mean"] <= 100 for line in lines)


def test_the_number_of_images_drawn_for_ce(dmis: Dmis, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def train_arm(arm: object, of: object, budget: object, train: TrainingSet, seed: int, **more: object) -> None:
        seen.append(np.bincount(train.supervision.observed).tolist())
        raise UserError("enough")

    monkeypatch.setattr("condense.pipeline.classify.train_arm", train_arm)
    command = ("classify", "digits", "--noise", "sym:0.4", "--generator", trained, "--arm", "dmis-ce", *FIT)
    for count in ("3", "null"):
        settings = ("--set", f"dmis-ce.per_class={count}", "--set", "draw.sampler_steps=2")
        assert dmis(*command, *settings).err == "error: enough\n"
    assert seen == [[3] * 10, [130] * 10]
    assert "per_class" in dmis(*command, "--set", "dmis-ce.per_class=0").err


def test_generators_are_trained_once_per_seed_and_kept(dmis: Dmis) -> None:
    command = ("classify", "digits", "--noise", "partial:0.5", "--arm", "vanilla", "--arm", "dmis", "--arm", "dmis-ce")
    options = (*TINY, "--set", "draw.sampler_steps=2", "--out", "kept", *FIT)
    answer = dmis(*command, *options)
    assert answer.code == 0, answer.err
    made = sorted(path.name for path in Path("kept/generators").iterdir())
    assert made == ["dmis-0", "vanilla-0"]
    answer = dmis(
        "classify", "digits", "--noise", "partial:0.5", "--arm", "dmis", "--generator", "kept/generators/dmis-0", *FIT
    )
    again = dmis(*command, *options)
    assert json.loads(answer.out)["arms"][0]["mean"] == json.loads(again.out)["arms"][1]["mean"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arm", "gce", "--noise", "partial:0.5"], "choose ce or mixup"),
        (["--arm", "proden", "--noise", "sym:0.4"], "no image has one"),
        (["--arm", "fixmatch"], "every image has one"),
        (["--arm", "pencil", "--noise", "partial:0.5"], "pencil learns from one label per image"),
        (["--arm", "dirk", "--noise", "sym:0.4"], "dirk learns from candidate sets, but no image has one"),
        (["--arm", "softmatch", "--noise", "sym:0.4"], "softmatch learns from images without a label"),
        (["--arm", "simmatch", "--set", "simmatch.own=2"], "own"),
        (["--arm", "pencil", "--noise", "sym:0.4", "--set", "pencil.stop=0.1"], "stop 0.1 comes before start"),
        (["--arm", "elrr"], "did you mean elr"),
        (["--arm", "ce", "--seeds", "0"], "at least 1"),
        (["--arm", "ce", "--set", "ce.q=1"], "unknown key 'q'"),
        (["--arm", "ce", "--set", "fit.epoch=1"], "did you mean 'epochs'"),
        (["--arm", "ce", "--set", "fit=1"], "Found 1 as the section 'fit'; write names with values"),
        (["--arm", "ce", "--set", "trian.steps=1"], "unknown key 'trian'"),
        (["--arm", "ce", "--network", "convnet9"], "convnet"),
        (["--arm", "dmis", "--generator", "nowhere"], "no run folder nowhere"),
        (["--arm", "dmis", "--generator", "x", "--seeds", "2"], "labels of one seed"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(arguments: list[str], said: str, dmis: Dmis) -> None:
    answer = dmis("classify", "digits", *arguments)
    assert answer.code == 2 and answer.out == ""
    (sentence,) = answer.err.splitlines()
    assert sentence.startswith("error: ") and said in sentence
