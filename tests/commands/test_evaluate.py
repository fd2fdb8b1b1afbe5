"""`dmis evaluate` of several sets and networks, and with a teacher's soft labels."""

import dataclasses
import json
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

from condense.classifiers import networks
from condense.cli import run
from condense.data import sources
from condense.evaluate import protocols
from condense.evaluate.stats import summarise_nested


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """One epoch of any protocol."""
    for name, rules in protocols.PROTOCOLS.items():
        monkeypatch.setitem(protocols.PROTOCOLS, name, dataclasses.replace(rules, epochs=1))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two random sets of one image per class, of seeds 0 and 1. Not to be written to."""
    folder = tmp_path_factory.mktemp("sets")
    for seed in (0, 1):
        arguments = ["--method", "random", "--ipc", "1", "--seed", str(seed), "--run", str(folder / f"run{seed}")]
        assert run(["condense", *arguments, "--out", str(folder / f"{seed}.h5"), "--quiet", "--json"]) == 0
    return [folder / "0.h5", folder / "1.h5"]


def told(answer):
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_several_sets_are_scored_together(dmis, sets):
    found = told(dmis("evaluate", *sets, "--network", "mlp", "--repeats", 2, "--json"))
    nested = summarise_nested(found["by_set"])
    assert (found["mean"], found["ci95"]) == (nested.mean, nested.ci95)
    assert (found["std_between"], found["std"]) == (nested.std_between, nested.std_within)
    assert found["sets"] == [str(path) for path in sets] and found["protocol"]["name"] == "hard"
    alone = told(dmis("evaluate", sets[1], "--network", "mlp", "--repeats", 2, "--seed", 1, "--json"))
    assert set(found) == set(alone) and found["accuracies"] == [*found["by_set"][0], *alone["accuracies"]]
    counts = np.bincount(sources.load("digits").test_truth.labels)
    assert np.average(list(found["per_class"].values()), weights=counts) == pytest.approx(found["mean"])
    assert found["confused"][0]["percent"] >= found["confused"][-1]["percent"] > 0
    assert found["by_set"][1] == alone["accuracies"]  # set 1 has networks of its own: those of seed 0 + 1


def test_a_packed_set_is_made_scored_and_exported_picture_by_picture(dmis):
    learn = ("--method", "dm", "--ipc", 1, "--set", "iterations=2", "--set", "real_batch=8", "--run", "run")
    assert dmis("condense", *learn, "--set", "pack=2", "--out", "set.h5").code == 0
    answer = dmis("evaluate", "set.h5", "--network", "mlp", "--repeats", 1, "-q")
    assert "4 pictures in every stored image; networks trained on 40 images" in answer.out
    scored = told(dmis("evaluate", "set.h5", "--network", "mlp", "--repeats", 1, "--json"))
    assert (scored["packing"], scored["trained_on"]) == (4, 40)
    described = told(dmis("inspect", "set.h5", "--json"))
    assert (described["images"], described["ipc"], described["packing"]) == (10, 1, 4)
    exported = told(dmis("export", "set.h5", "set.npz", "--format", "npz", "--json"))
    assert exported["images"] == 40
    again = dmis("import", "set.npz", "--data", "digits", "--out", "loose.h5", "--json")
    assert told(again)["ipc"] == 4
    loose = told(dmis("evaluate", "loose.h5", "--network", "mlp", "--repeats", 1, "--json"))
    assert loose["accuracies"] == pytest.approx(scored["accuracies"], abs=0.3) and loose["packing"] == 1
    with np.load("set.npz") as file:
        sheet = str(file["datasheet"])
    assert "cut out of images of 4 pictures each" in sheet and described["sha256"] in sheet
    for method, section in (("dm", "pack"), ("dmis", "refine.pack")):
        refused = dmis("condense", "--method", method, "--ipc", 1, "--set", f"{section}=3", "--dry-run")
        assert refused.code == 2 and "8x8 pixels cannot be cut into 3x3 equal parts" in refused.err


def test_table_of_several_sets(dmis, sets):
    answer = dmis("evaluate", *sets, "--network", "mlp,convnet1", "--repeats", 1, "-q")
    head, first, second, names, data, _, title, *classes, confused = answer.out.splitlines()
    assert head.split() == "network test accuracy sd sets sd networks 1 2 networks time".split()
    assert first.startswith("mlp") and second.startswith("convnet1")
    assert names == f"Sets: 1 = {sets[0]}, 2 = {sets[1]}" and "images of digits" in data
    assert title == "mlp, each class:" and [line.split()[0] for line in classes] == list("0123456789")
    assert confused.startswith("Most often confused: ") and confused.count(" taken for ") == 5


def test_cross_is_one_network_of_every_kind_that_fits(dmis, sets, monkeypatch):
    monkeypatch.setattr(networks, "CROSS", ("mlp", "lenet", "convnet1", "alexnet"))
    found = told(dmis("evaluate", sets[0], "--cross", "--network", "convnet2, mlp", "--repeats", 1, "--json"))
    assert [score["network"] for score in found["scores"]] == ["convnet2", "mlp", "convnet1", "alexnet"]  # 8x8
    assert found == {**found["scores"][0], "sets": [str(sets[0])], "scores": found["scores"]}
    several = told(dmis("evaluate", *sets, "--network", "mlp", "--network", "convnet1", "--repeats", 1, "--json"))
    assert set(several) == set(found) and [score["network"] for score in several["scores"]] == ["mlp", "convnet1"]
    assert several["mean"] == pytest.approx(mean(each[0] for each in several["by_set"]))


def test_protocol_names_its_network_and_the_recipe_another(dmis, sets):
    told_by_protocol = dmis("evaluate", sets[0], "--protocol", "dmis", "--repeats", 1)
    assert told_by_protocol.code == 2 and "resnet34 needs images of at least 9x9" in told_by_protocol.err
    Path("recipe.yaml").write_text("evaluate: {protocol: dmis, network: mlp, repeats: 1}")
    assert told(dmis("evaluate", sets[0], "-c", "recipe.yaml", "--json"))["network"] == "mlp"


def test_soft_labels_come_from_the_set_or_a_teacher(dmis, sets):
    refused = dmis("evaluate", sets[0], "--protocol", "soft", "--repeats", 1)
    assert refused.code == 2 and "no soft labels" in refused.err and "--teacher" in refused.err
    made = dmis(
        *("condense", "--method", "herding", "--ipc", 1, "--run", "taught", "--out", "taught.h5"),
        *("--set", "teacher.network=convnet1", "--set", "teacher.epochs=1", "--json"),
    )
    assert made.code == 0, made.err
    found = told(dmis("evaluate", sets[0], "--protocol", "soft", "--teacher", "taught", "--repeats", 1, "--json"))
    assert found["labels"] == "online" and found["network"] == "convnet3-bn"
    stored = ("--protocol", "soft-stored", "--teacher", "taught", "--repeats", 1, "--json")
    assert told(dmis("evaluate", sets[0], *stored))["labels"] == "soft"
    pointless = dmis("evaluate", sets[0], "--teacher", "taught", "--repeats", 1)
    assert pointless.code == 2 and "hard trains on class labels" in pointless.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "mlp,vgg11"], "vgg11 needs images of at least 28x28, found 8x8; choose mlp"),
        (["--network", "mlp", "--network", "mpl"], 'no network is called "mpl"; nearest: mlp'),
    ],
)
def test_networks_are_checked_before_the_work(dmis, sets, arguments, message):
    answer = dmis("evaluate", sets[0], *arguments)
    assert answer.code == 2 and message in answer.err


def test_sets_must_belong_together(dmis, sets):
    twice = dmis("evaluate", sets[0], sets[0])
    assert twice.code == 2 and "are the same set" in twice.err
    other = dmis("condense", "--method", "random", "--ipc", 2, "--run", "run", "--out", "two.h5", "--json")
    assert other.code == 0
    mixed = dmis("evaluate", sets[0], "two.h5")
    assert mixed.code == 2 and "two.h5 has the images per class 2" in mixed.err
