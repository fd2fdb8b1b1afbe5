"""`import condense`: the names it gives, light to load; the same files as the command line; data from anywhere."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import condense
from condense import front_door
from condense.benchmark.grid_recipe import layers_of
from condense.errors import UserError
from condense.evaluate import protocols
from condense.generator.model import Generator
from condense.methods import dm
from condense.methods._generate import GeneratorOptions
from condense.pipeline import arm_scores
from condense.pipeline.plan import Request, make_plan
from condense.sets.condensed_set import Cost

FEW = "longtail:1000+sym:0.4"  # 240 of the digits
SMALL = {"train": {"steps": 3, "batch_size": 16, "posterior_sigmas": [0.5]}, "network": {"channels": 8, "blocks": 1}}
DRAWN = {**SMALL, "draw": {"sampler_steps": 2, "pool": 1, "agree": False, "choose": "none"}}


@pytest.fixture(scope="module")
def few():
    return condense.load_data("digits", noise=FEW)


def settings(nested, above=""):
    """The `--set` options of a nested mapping."""
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from settings(value, f"{above}{name}.")
        else:
            yield from ("--set", f"{above}{name}={str(value).lower()}")


def in_new_process(code):
    return subprocess.run([sys.executable, "-P", "-c", code], timeout=300, capture_output=True, text=True)


def test_importing_brings_in_nothing_heavy():
    code = (
        "import sys, condense; print({'torch', 'numpy', 'scipy', 'pydantic', 'h5py'} & set(sys.modules)); dir(condense)"
    )
    assert in_new_process(code).stdout == "set()\n"


@pytest.mark.parametrize("first", ["condense.evaluate", "from condense.evaluate import protocols"])
def test_evaluate_is_a_function_and_a_package_in_any_order(first):
    code = f"""
import inspect
import condense
{first}
assert list(inspect.signature(condense.evaluate).parameters)[:3] == ["sets", "data", "protocol"]
from condense.evaluate.protocols import protocol
assert protocol("hard").name == "hard" and callable(condense.evaluate)
from condense import condense as function, evaluate
assert callable(function) and callable(evaluate) and evaluate.protocols.protocol is protocol
"""
    answer = in_new_process(code)
    assert answer.returncode == 0, answer.stderr


def test_every_name_is_there_and_others_are_not():
    assert set(condense.__all__) <= set(dir(condense))
    for name in condense.__all__:
        assert callable(getattr(condense, name))
    assert not hasattr(condense, "no_such_name")


@pytest.mark.parametrize(
    ("method", "changed"),
    [("random", {}), ("dm", {"iterations": 2, "real_batch": 8}), ("dmis", DRAWN)],
)
def test_library_and_command_line_write_equal_files(method, changed, dmis, few, tmp_path):
    """All of the file but how long it took and when it was made."""
    command = ("condense", "--method", method, "--ipc", 1, "--noise", FEW, "--quick", *settings(changed))
    answer = dmis(*command, "--out", "cli.h5", "--run", "run", "-q")
    assert answer.code == 0, answer.err
    ours = condense.condense(few, method=method, ipc=1, quick=True, recipe=changed)
    for name, made in (("cli", condense.CondensedSet.load("cli.h5")), ("library", ours)):
        notes = without_cost(made.provenance.notes)
        told = dataclasses.replace(made.provenance, cost=Cost(), created="", notes=notes)
        dataclasses.replace(made, provenance=told).save(tmp_path / f"{name}-plain.h5")
    assert (tmp_path / "cli-plain.h5").read_bytes() == (tmp_path / "library-plain.h5").read_bytes()


def without_cost(notes):
    """Notes, those of generators included, without times and memory."""
    return {
        name: without_cost(value) if isinstance(value, dict) else value
        for name, value in notes.items()
        if name not in ("seconds", "peak_memory_bytes")
    }


@pytest.mark.parametrize("side", [8, 28])
@pytest.mark.parametrize("method", ["dmis", "vanilla", "dm"])
def test_the_defaults_are_those_of_the_command_line(method, side):
    """By image size and number, which a long tail does not change; the seed of the noise is the data's."""
    data = {"name": "digits", "noise": FEW, "image_size": side}
    named = make_plan(Request(named={"data": data, "method": method}))
    loaded = condense.load_data("digits", noise=FEW, image_size=side)
    ours = make_plan(Request(named={"method": method}), loaded)
    assert ours.options == named.options and ours.written() == named.written()
    np.testing.assert_array_equal(ours.train.supervision.candidates, named.train.supervision.candidates)
    assert make_plan(Request(named={"seed": 7}), loaded).written()["data"]["noise_seed"] == 0


def test_a_set_is_scored_as_by_the_command_line(dmis, few, monkeypatch):
    for name, rules in protocols.PROTOCOLS.items():
        monkeypatch.setitem(protocols.PROTOCOLS, name, dataclasses.replace(rules, epochs=1))
    sets = [condense.condense(few, method="random", ipc=1, seed=seed) for seed in (0, 1)]
    sets[0].save("a.h5")
    told = dmis("evaluate", "a.h5", "--network", "mlp", "--repeats", 2, "--json")
    assert told.code == 0, told.err
    score = condense.evaluate(sets[0], few, network="mlp", repeats=2)
    assert score.to_json().keys() == json.loads(told.out).keys()
    assert list(score.accuracies) == json.loads(told.out)["accuracies"]
    assert condense.evaluate("a.h5", network="mlp", repeats=2).accuracies == score.accuracies
    both = condense.evaluate(sets, few, network=["mlp"], repeats=1)
    assert len(both.accuracies) == 2 and both.sets == ("set 1", "set 2")
    with pytest.raises(UserError, match=r"a\.h5 is given twice"):
        condense.evaluate(["a.h5", "a.h5"], few)
    with pytest.raises(UserError, match="no test images"):
        condense.evaluate(sets[0], few.training_set(), network="mlp")


def test_a_generator_is_trained_kept_and_judges_labels(few, tmp_path):
    generator = condense.train(few, recipe=SMALL, run=tmp_path / "run", quick=True)
    assert isinstance(generator, Generator)
    labels = condense.relabel(few, generator=generator)
    assert labels.posterior.shape == (len(few), 10) and labels.suggested.dtype == np.int64
    np.testing.assert_array_equal(labels.suggested, labels.posterior.argmax(1))
    np.testing.assert_array_equal(labels.confidence, labels.posterior.max(1))
    assert labels.likely_wrong.sum() == round(float(labels.suggestions.suspicion.sum(dtype=np.float64)))
    assert labels.to_json()["labels"] is None and labels.to_json()["found"]["wrong"] > 0.2
    np.testing.assert_array_equal(condense.relabel(few, generator=tmp_path / "run").posterior, labels.posterior)
    kept = Generator.load(tmp_path / "run")
    np.testing.assert_array_equal(kept.sample(np.array([0, 1]), 0), generator.sample(np.array([0, 1]), 0))
    kept.save(str(tmp_path / "copy"))
    assert Generator.load(str(tmp_path / "copy")).record == kept.record
    with pytest.raises(UserError, match="no run folder"):
        Generator.load(tmp_path / "nowhere")
    saved = labels.save(tmp_path / "labels")
    assert saved.to_json()["labels"] == str(tmp_path / "labels" / "labels.csv")
    with np.load(tmp_path / "labels" / "posteriors.npz") as kept:
        np.testing.assert_array_equal(kept["posterior"], labels.posterior)
    again = condense.load_data("digits", noise=FEW)
    kept = condense.train(again, recipe=SMALL, run=tmp_path / "run", quick=True)
    assert without_cost(kept.record.to_json()) == without_cost(generator.record.to_json())


def test_labels_are_judged_without_a_generator(few):
    fast = condense.relabel(few, fast=True)
    assert fast.to_json()["found"]["auroc"] > 0.9 and "linear classifier" in fast.asked
    sure = np.eye(10)[few.source.truth.labels]
    by_hand = condense.relabel(few, pred_probs=sure)
    np.testing.assert_array_equal(by_hand.suggested, few.source.truth.labels)
    assert by_hand.left_out.startswith("probabilities from a file") and by_hand.network_evaluations == 0
    with pytest.raises(UserError, match="give one"):
        condense.relabel(few, fast=True, pred_probs=sure)
    with pytest.raises(UserError, match="pred_probs is float64"):
        condense.relabel(few, pred_probs=sure[:3])


def test_classifiers_are_compared_as_by_the_command_line(dmis, few, tmp_path):
    command = ("classify", "digits", "--noise", FEW, "--arm", "gce", "--arm", "co-teaching", "--set", "gce.q=0.5")
    answer = dmis(*command, "--network", "mlp", "--epochs", 2, "--out", "kept", "-q", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    asked = {"arms": ["gce", "co-teaching"], "network": "mlp", "epochs": 2, "options": {"gce": {"q": 0.5}}}
    ours = condense.classify(few, **asked)
    assert without_seconds(ours) == without_seconds(told)
    assert [score.arm for score in ours.arms] == ["gce", "co-teaching"]
    assert ours.arms[0].mean == ours.arms[0].accuracies[0] and ours.arms[0].std is None
    for file in Path("kept").iterdir():  # a result of the command is one of ours: it is not computed again
        file.write_text(file.read_text().replace('"accuracy": ', '"accuracy": 1'))
    assert [score.mean > 100 for score in condense.classify(few, **asked, run="kept").arms] == [True, True]
    defaults = dmis("classify", "digits", "--noise", FEW, "--json", "--dry-run")
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arm_scores, "_accuracy", lambda name, bench: seen.append((name, bench.options.training)) or 50.0)
        every = condense.classify(few)
    foreseen = json.loads(defaults.out)
    assert [name for name, _ in seen] == foreseen["arms"] and list(every.refused) == foreseen["left_out"]
    assert (every.network, every.epochs) == (foreseen["network"], foreseen["epochs"])


def without_seconds(found):
    told = found if isinstance(found, dict) else found.to_json()
    return {**told, "arms": [{**line, "seconds": 0} for line in told["arms"]]}


def test_seeds_of_classifiers_share_the_labels_of_the_data(few):
    found = condense.classify(few, arms="ce", network="mlp", epochs=1, seed=3, seeds=2)
    assert found.seeds == (3, 4) and len(set(found.arms[0].accuracies)) == 2
    alone = condense.classify(few, arms="ce", network="mlp", epochs=1, seed=4)
    assert alone.arms[0].accuracies == found.arms[0].accuracies[1:] and found.arms[0].ci95 > 0


def test_a_generator_in_memory_is_among_the_classifiers(few, tmp_path):
    generator = condense.train(few, recipe=SMALL, quick=True)
    generator.save(tmp_path / "run")
    drawn = {"options": {"dmis-ce": {"per_class": 2}}, "recipe": DRAWN, "network": "mlp", "epochs": 1}
    first = condense.classify(few, arms=["dmis", "dmis-ce"], generator=generator, **drawn)
    again = condense.classify(few, arms=["dmis", "dmis-ce"], generator=[tmp_path / "run"], **drawn)
    assert without_seconds(first) == without_seconds(again)
    trained = condense.classify(few, arms="dmis", recipe={**SMALL, "quick": True})
    assert trained.arms[0].mean == first.arms[0].mean
    twice = "a generator trained as 'dmis'; give at most one of vanilla and dmis"
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'run'} holds {twice}")):
        condense.classify(few, generator=[generator, tmp_path / "run"])
    with pytest.raises(UserError, match=f"There is {twice}"):
        condense.classify(few, generator=[tmp_path / "run", generator])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"arms": "elrr"}, "did you mean elr"),
        ({"arms": []}, "There is no arm to train"),
        ({"arms": 5}, "arms is 5; give one by name"),
        ({"arms": "cc"}, "cc learns from candidate sets, but no image has one"),
        ({"network": "convnet99"}, 'no network is called "convnet99"; nearest: convnet4'),
        ({"epochs": 0}, "section 'fit' key 'epochs' is 0"),
        ({"epochs": "many"}, "section 'fit' key 'epochs' is \"many\""),
        ({"seed": -1}, "'seed' is -1"),
        ({"seeds": 0}, "'seeds' is 0"),
        ({"seed": 2**63 - 1, "seeds": 2}, "leave the range"),
        ({"options": {"gce": {"p": 1}}}, "options of the arm 'gce' has an unknown key 'p'"),
        ({"options": {"gce": 5}}, "Found 5 as the options of the arm 'gce'"),
        ({"options": {"train": {"steps": 1}}}, "There are options for 'train'; they can be given for fit, cc, ce"),
        ({"options": 5}, "Found 5 where names with values are needed"),
        ({"recipe": {"fit": {"epochs": 1}}}, "unknown key 'fit'"),
        ({"generator": 5}, "generator is 5"),
        ({"generator": [5]}, "generator holds a int"),
        ({"generator": "nowhere"}, "no run folder nowhere"),
        ({"generator": "x", "seeds": 2}, "give one seed, or no generator"),
    ],
)
def test_what_cannot_be_classified_by_is_refused_in_a_sentence(arguments, said, few, monkeypatch):
    monkeypatch.setattr(arm_scores, "_accuracy", lambda name, bench: 50.0)
    with pytest.raises(UserError, match=re.escape(said)):
        condense.classify(few, **{"arms": "ce", **arguments})


def test_classifiers_need_test_images(few):
    with pytest.raises(UserError, match="has no test images"):
        condense.classify(few.training_set(), arms="ce")


GRID = {
    "methods": ["random"],
    "settings": [{"name": "digits", "noise": "sym:0.4"}],
    "ipc": [1],
    "evaluate": {"protocol": "quick", "network": "mlp", "repeats": 2},
}

SCRIPT = """
import json, condense

print("begun")
outcome = condense.benchmark(json.loads(open("grid.json").read()), "out", jobs=1)
print(json.dumps(outcome.to_json()))
"""

OWN = """
from condense.methods.random import Options
from condense.methods.random import condense as draw

def condense(train, ipc, options, seed, run):
    return draw(train, ipc, options, seed, run)
"""


def test_a_script_runs_a_grid_with_a_method_of_its_own(dmis, tmp_path):
    """Without `if __name__ == "__main__"`: each cell's process ran the script again."""
    (tmp_path / "my_method.py").write_text(OWN)
    (tmp_path / "grid.json").write_text(json.dumps({**GRID, "methods": ["random", "my_method"]}))
    (tmp_path / "script.py").write_text(SCRIPT)
    ran = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    begun, answer = ran.stdout.splitlines()
    told = json.loads(answer)
    assert begun == "begun" and (told["cells"], told["done"], told["failed"], told["missing"]) == (2, 2, 0, 0)
    first, own = told["table"]
    assert (first["method"], own["method"]) == ("random", "my_method") and first["accuracy"] == own["accuracy"]
    answer = dmis("report", tmp_path / "out", "--json")
    by_command, outcome = json.loads(answer.out), condense.report(tmp_path / "out")
    assert {**by_command, "out": "", "report": "", "results": ""} == {**told, "out": "", "report": "", "results": ""}
    assert [row.method for row in outcome.results] == ["random", "my_method"] and outcome.done == 2
    assert json.loads(json.dumps(outcome.to_json())) == by_command
    assert len(outcome.results[0].accuracies) == 2 and outcome.results[0].accuracies == outcome.results[1].accuracies


@pytest.mark.parametrize(
    ("recipe", "arguments", "said"),
    [
        (GRID, {"jobs": 0}, "'jobs' is 0"),
        (GRID, {"hours": -1}, "'hours' is -1"),
        ("nowhere.yaml", {}, "nowhere.yaml"),
        (5, {}, "The recipe is a int; give a mapping, a file, or the name of one"),
        ({**GRID, "seeds": {0: object()}}, {}, "cannot be written down"),
        ({**GRID, "methods": ["randon"]}, {}, "did you mean random"),
        ({**GRID, "typo": 1}, {}, "unknown key 'typo'"),
        ({"extends": "nowhere"}, {}, "nowhere"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused_before_anything_is_written(recipe, arguments, said, tmp_path):
    with pytest.raises(UserError, match=re.escape(said)):
        condense.benchmark(recipe, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError):
        condense.report(tmp_path / "out")


def test_a_mapping_extends_a_recipe_that_ships(tmp_path):
    wide = {"extends": "digits-generators", "seeds": (0, 1), "settings": [{"name": Path("digits"), "noise": "sym:0.2"}]}
    own, shipped = layers_of(front_door._grid(wide)), layers_of("digits-generators")
    assert own == {**shipped, "seeds": [0, 1], "settings": [{"name": "digits", "noise": "sym:0.2"}]}
    assert "extends" in wide


def test_arrays_are_a_data_set():
    images = np.arange(8, dtype=np.uint8).repeat(16).reshape(8, 4, 4)
    by_name = condense.load_data(images=images, labels=["dog", "cat"] * 4)
    assert by_name.classes == ("cat", "dog") and by_name.source.supervision.observed.tolist() == [1, 0] * 4
    by_number = condense.load_data(
        "pets", images=images, labels=np.array([1, 0] * 4), classes=["cat", "dog"], noise="sym:0.5", seed=3
    )
    observed, truth = by_number.source.supervision.observed, by_number.source.truth.labels
    assert by_number.source.train.name == "pets" and truth.tolist() == [1, 0] * 4
    assert by_number.corruption.overall_rate == np.mean(observed != truth) > 0
    sets = condense.load_data(images=images, labels=np.ones((8, 2), dtype=np.bool_) ^ (np.eye(8, 2) > 0))
    assert sets.source.supervision.candidates[0].tolist() == [False, True] and sets.source.truth is None
    wide = np.zeros((2, 4, 8), dtype=np.uint8)
    padded = condense.load_data(images=wide, labels=[0, 1], image_size=8, reading={"fit": "pad", "flip": False})
    assert padded.source.train.images[0, 0, 0, 0] == 255 and padded.source.train.flip is False
    small = condense.condense(by_name, method="random", ipc=2)
    assert (small.classes, len(small)) == (("cat", "dog"), 4)
    assert condense.condense(by_name.training_set(), method="random", ipc=2).sha256() == small.sha256()
    tested = condense.load_data(images=images, labels=["dog", "cat"] * 4, test_images=images, test_labels=["cat"] * 8)
    assert tested.source.test_truth.labels.tolist() == [0] * 8


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["dog", "cat", None, "cat"], dtype=object),
        np.array(["dog", "cat", np.nan, "cat"], dtype=object),
        ["dog", "cat", "", "cat"],
    ],
)
def test_names_as_a_table_holds_them_are_labels_and_missing_ones_unknown(labels):
    loaded = condense.load_data(images=np.zeros((4, 4, 4), np.uint8), labels=labels)
    assert loaded.classes == ("cat", "dog")
    assert loaded.source.supervision.candidates.tolist() == [[False, True], [True, False], [True, True], [True, False]]
    for numbers in ([1, 0], [np.int64(1), np.int64(0)]):
        whole = condense.load_data(images=np.zeros((2, 4, 4), np.uint8), labels=np.array(numbers, dtype=object))
        assert whole.source.supervision.observed.tolist() == [1, 0]


IMAGES = np.zeros((2, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give images too, or the name or path"),
        ({"labels": [0, 1]}, "give images too"),
        ({"name": "digits", "labels": [0, 1]}, "give images too"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "one label for each image"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, 1, 1]}, "2 training images, but 3 given labels"),
        ({"images": np.zeros((2, 4, 4)), "labels": [0, 1]}, "must be uint8"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": ["a", "b"], "classes": ["a", "c"]}, "'b' is not one of"),
        ({"name": "digots"}, "did you mean 'digits'"),
        ({"name": ""}, "name of the data set is empty"),
        ({"images": [IMAGES[0], IMAGES[1, :2]], "labels": [0, 1]}, "images cannot be an array"),
        ({"images": IMAGES, "labels": [["a"], ["b", "c"]]}, "labels cannot be an array"),
        ({"images": IMAGES, "labels": [["a"], ["b"]]}, r"labels holds <U1 \[2, 1\]"),
        ({"images": IMAGES, "labels": [b"caf\xe9", b"tea"]}, "labels cannot be an array .*decode"),
        ({"images": IMAGES, "labels": [{0}, {1}]}, r"labels holds the set \{0\}"),
        ({"images": IMAGES, "labels": [True, False]}, r"labels\.astype\(int\)"),
        ({"images": IMAGES, "labels": [0, 1], "classes": "ab"}, "classes is the text 'ab'"),
        ({"images": IMAGES, "labels": [0, 1], "root": "x"}, "root and download are for stored data sets"),
        ({"images": IMAGES, "labels": [0, 1], "reading": "flip"}, "reading is 'flip'"),
        ({"images": IMAGES, "labels": [0, 1], "seed": -1}, "'seed' is -1"),
        ({"images": IMAGES, "labels": [0, 1], "seed": "a"}, "'seed' is \"a\""),
        ({"images": IMAGES, "labels": [0, 1], "seed": 2**63}, "'seed' is 9223372036854775808"),
    ],
)
def test_data_that_cannot_be_used_are_refused_in_a_sentence(arguments, said):
    with pytest.raises(UserError, match=said):
        condense.load_data(**arguments)


def test_arguments_of_another_kind_are_refused_in_a_sentence(few):
    small = condense.condense(few, method="random", ipc=1)
    for arguments, said in (
        ({"repeats": "many"}, "'repeats' is \"many\""),
        ({"repeats": 0}, "'repeats' is 0"),
        ({"seed": -1}, "'seed' is -1"),
        ({"protocol": None}, 'no protocol is called "None"'),
    ):
        with pytest.raises(UserError, match=said):
            condense.evaluate(small, few, **arguments)
    for wrong, kind in ((5, "int"), (np.zeros(3), "ndarray"), ([small, 5], "list")):
        with pytest.raises(UserError, match=f"The sets are a {kind}"):
            condense.evaluate(wrong, few)
    with pytest.raises(UserError, match=r"The data are a ndarray.*load_data\(images"):
        condense.condense(np.zeros((99, 9, 9), np.uint8), method="random")


def test_a_recipe_cannot_change_data_that_are_loaded(few, tmp_path, caplog):
    with pytest.raises(UserError, match=r"loaded already, so data\.noise = 'sym:0.4'"):
        condense.condense(few, method="random", ipc=1, recipe={"data": {"noise": "sym:0.4"}})
    with pytest.raises(UserError, match="section 'data' has an unknown key 'nois'; did you mean 'noise'"):
        condense.condense(few, method="random", ipc=1, recipe={"data": {"nois": "sym:0.4"}})
    same = {"data": {"noise": few.recipe.noise, "name": few.recipe.name}}
    assert len(condense.condense(few, method="random", ipc=1, recipe=same)) == 10
    (tmp_path / "r.yaml").write_text("data: {name: cifar10, noise: 'pair:0.3'}\nipc: 1\n")
    assert len(condense.condense(few, method="random", recipe=tmp_path / "r.yaml")) == 10
    assert "data.noise = 'pair:0.3' is not used" in caplog.text


def test_the_recipe_in_a_set_is_one_for_the_same_data(tmp_path):
    np.savez(tmp_path / "some.npz", images=np.zeros((20, 4, 4), np.uint8), labels=np.arange(20) % 2)
    there = {"root": tmp_path / "some.npz", "noise": "sym:0.3", "seed": 3}
    loaded = condense.load_data("digits", **there)
    first = condense.condense(loaded, method="random", ipc=2, seed=1)
    again = condense.condense(loaded, recipe=first.provenance.recipe)
    assert first.provenance.recipe["data"]["noise_seed"] == 3
    assert again.source_index.tolist() == first.source_index.tolist()


def test_sets_may_come_from_an_iterator(few, tmp_path):
    condense.condense(few, method="random", ipc=1).save(tmp_path / "s.h5")
    found = condense.evaluate(tmp_path.glob("*.h5"), few, protocol="quick", network="mlp", repeats=1)
    assert found.mean == condense.evaluate(tmp_path / "s.h5", few, protocol="quick", network="mlp", repeats=1).mean


def python_of_the_readme():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"```python\n(import condense\n.*?)```", text, re.DOTALL)
    return found


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch):
    """Word for word but for fewer images, and budgets of a step or two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dm.Options, "QUICK", {"iterations": 1, "real_batch": 4})
    monkeypatch.setattr(GeneratorOptions, "QUICK", {**SMALL, "second_stage": None})
    rules = dataclasses.replace(protocols.protocol("quick"), epochs=1)
    monkeypatch.setitem(protocols.PROTOCOLS, "quick", rules)
    names = {}
    exec(python_of_the_readme().replace('"sym:0.4"', f'"{FEW}"'), names)
    score, labels = names["score"], names["labels"]
    assert 0 <= score.mean == score.accuracies[0] <= 100 and json.dumps(score.to_json())
    assert len(labels.suggested) == len(labels.confidence) == len(labels.likely_wrong) == len(labels.posterior)
    assert json.dumps(labels.to_json()) and json.dumps(names["small"].to_json())
    assert condense.CondensedSet.load("set.h5").sha256() == names["small"].sha256()
    assert len(condense.CondensedDataset("set.h5")) == 10


@pytest.mark.slow
def test_the_lines_of_the_readme_run_word_for_word(tmp_path):
    """Half a minute on an idle core: a tenth of the digits right by chance, and better than that."""
    code = (
        python_of_the_readme()
        + "assert score.mean > 20 and (labels.suggested == data.source.truth.labels).mean() > 0.6"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
