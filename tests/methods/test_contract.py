"""What every condensation method must do, whatever its name, on digits with wrong labels."""

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from condense import front_door, methods
from condense.data import corrupt, digits
from condense.data.types import TrainingSet, Truth
from condense.errors import UserError
from condense.methods._generate import GeneratorOptions
from condense.recipe import parse
from condense.run import Run
from condense.sets.condensed_set import CondensedSet
from condense.sets.hdf5 import read

IPC = 2
BUDGETS = {
    "chosen": {"asked": {"folds": 2, "epochs": 1, "width": 4, "crops": False}},
    "dc": {"iterations": 1, "outer": 2, "inner": 1, "real_batch": 4},
    "dm": {"iterations": 2, "real_batch": 4},
    "dsa": {"iterations": 1, "outer": 2, "inner": 1, "real_batch": 4},
    "frepo": {"iterations": 3, "real_batch": 16, "pool": 2, "width": 4, "max_age": 1},
    "idc": {"iterations": 3, "real_batch": 8, "net_batch": 8, "pool": 2, "width": 4, "max_age": 1},
    "sre2l": {"teacher": {"network": "convnet3-bn", "epochs": 1}, "recover": {"iterations": 3, "joint": 20}},
    "mtt": {"iterations": 1, "experts": 1, "student_steps": 1, "start_epochs": 1, "expert_gap": 1},
    "dmis": {
        "network": {"channels": 8, "multipliers": [1], "blocks": 1, "patch": 2},
        "train": {"steps": 4, "batch_size": 32},
        "draw": {"pool": 2, "sampler_steps": 2, "agree": False},  # a fresh generator agrees with little
    },
    "vanilla": {
        "network": {"channels": 8, "multipliers": [1], "blocks": 1, "patch": 2},
        "train": {"steps": 4, "batch_size": 32},
        "draw": {"pool": 2, "sampler_steps": 2, "agree": False},
    },
    "tdsm": {
        "network": {"channels": 8, "multipliers": [1], "blocks": 1, "patch": 2},
        "train": {"steps": 4, "batch_size": 32, "helper": {"batch_size": 32}},
        "draw": {"pool": 2, "sampler_steps": 2, "agree": False},
    },
    "cad": {
        "network": {"channels": 8, "multipliers": [1], "blocks": 1, "patch": 2},
        "train": {"steps": 4, "batch_size": 32, "coherence": {"folds": 2, "epochs": 1}},
        "draw": {"pool": 2, "sampler_steps": 2, "agree": False},
    },
}
"""Options smaller still than a method's own QUICK, where even that takes seconds."""


def budget(name):
    return BUDGETS.get(name, methods.load(name).Options.QUICK)


def training_set(name="sym:0.4", truth_seed=None):
    """The first 200 digits with their truth: time goes into networks trained on them."""
    source = digits.load()
    truth = source.truth
    given, corruption = corrupt.apply(name, truth, source.train, 0)
    if truth_seed is not None:  # another truth beside the same given labels
        truth = Truth(np.random.default_rng(truth_seed).permutation(truth.labels))
    few = np.arange(200)
    return TrainingSet(source.train, given, corruption).take(few), Truth(truth.labels[few])


def make(name, seed=0, ipc=IPC, train=None):
    method = methods.load(name)
    options = parse(method.Options, budget(name), name)
    return method.condense(train or training_set()[0], ipc, options, seed, Run(None))


def digest(condensed: CondensedSet) -> str:
    parts = [condensed.images, condensed.labels, condensed.soft_labels, condensed.source_index, condensed.weights]
    return hashlib.sha256(b"|".join(b"-" if part is None else part.tobytes() for part in parts)).hexdigest()


@pytest.fixture(scope="module")
def first():
    """One set of each method, made once."""
    made: dict[str, CondensedSet] = {}

    def get(name):
        if name not in made:
            made[name] = make(name)
        return made[name]

    return get


def test_the_folder_is_the_registry():
    assert {"dmis", "random", "vanilla"} <= set(methods.names())
    assert list(methods.names()) == sorted(methods.names())
    assert not any(name.startswith("_") for name in methods.names())
    assert set(BUDGETS) <= set(methods.names())


@pytest.mark.parametrize("name", methods.names())
def test_sets_are_class_major_and_balanced(name, first):
    condensed = first(name)
    np.testing.assert_array_equal(condensed.labels, np.repeat(np.arange(10), IPC))
    assert condensed.images.shape == (10 * IPC, 8, 8, 1)
    assert condensed.images.dtype in (np.uint8, np.float32)
    assert condensed.ipc == IPC and condensed.classes == tuple("0123456789")


@pytest.mark.parametrize("name", methods.names())
def test_the_record_describes_how_the_set_was_made(name, first):
    train, made = training_set()[0], first(name).provenance
    assert (made.method, made.ipc, made.seed) == (name, IPC, 0)
    assert (made.data_name, made.data_fingerprint) == ("digits", train.images.fingerprint())
    assert (made.supervision, made.corruption) == ("noisy", "sym:0.4")
    assert made.corruption_rate == train.corruption.overall_rate
    assert made.cost.seconds > 0
    resolved = parse(methods.load(name).Options, made.recipe, name)
    assert resolved == parse(methods.load(name).Options, budget(name), name)


@pytest.mark.parametrize("name", methods.names())
def test_the_cost_is_estimated(name, first):
    method = methods.load(name)
    options = parse(method.Options, budget(name), name)
    if isinstance(options, GeneratorOptions) or (name in methods.installed() and not hasattr(method, "evaluations")):
        return  # `pipeline.cost` tells what generators cost; for other packages' methods it is optional
    assert method.evaluations(training_set()[0], IPC, options) == first(name).provenance.cost.network_evaluations


@pytest.mark.parametrize("name", methods.names())
def test_same_seed_same_bytes_whatever_the_truth(name, first):
    condense = methods.load(name).condense
    assert list(inspect.signature(condense).parameters) == ["train", "ipc", "options", "seed", "run"]
    train, other_truth = training_set(truth_seed=3)
    assert (other_truth.labels != training_set()[1].labels).mean() > 0.5
    assert digest(make(name, train=train)) == digest(first(name))


@pytest.mark.parametrize("name", methods.names())
def test_other_seed_other_bytes(name, first):
    assert digest(make(name, seed=1)) != digest(first(name))


@pytest.mark.parametrize("name", methods.names())
def test_an_empty_set_is_refused(name):
    with pytest.raises(UserError, match="ipc is 0; at least one image per class"):
        make(name, ipc=0)


@pytest.mark.parametrize("name", methods.names())
def test_the_file_names_its_source_and_its_options_are_explained(name):
    told = methods.load(name).__doc__
    assert told is not None and "Source: " in told and "https://" in told
    for field in methods.load(name).Options.model_fields.values():
        nested = field.annotation
        assert field.description or hasattr(nested, "model_fields")


@pytest.mark.parametrize("name", methods.names())
def test_misspelt_options_are_refused(name):
    with pytest.raises(UserError, match=f"The {name} has an unknown key 'nonsense'"):
        parse(methods.load(name).Options, {"nonsense": 1}, name)


@pytest.mark.parametrize("name", methods.names())
def test_the_quick_budget_is_made_of_the_methods_own_options(name):
    options = methods.load(name).Options
    assert isinstance(options.QUICK, Mapping) and "QUICK" not in options.model_fields
    quick = parse(options, options.QUICK, name).model_dump(exclude_unset=True)
    assert quick == options.QUICK or quick == json.loads(json.dumps(options.QUICK))


@pytest.mark.parametrize("name", methods.names())
def test_only_generators_have_the_sections_of_generators(name):
    options = methods.load(name).Options
    if not issubclass(options, GeneratorOptions):
        assert not set(GeneratorOptions.model_fields) & set(options.model_fields), "a recipe file may hold them too"


# finding methods


@pytest.mark.parametrize(("asked", "meant"), [("dmiss", "dmis"), ("Random", "random"), ("vanila", "vanilla")])
def test_an_unknown_method_gets_the_nearest_name(asked, meant):
    with pytest.raises(UserError, match=f"no method '{asked}'; did you mean {meant}"):
        methods.load(asked)


@pytest.mark.parametrize("asked", ["qqqqqq", "", ".dmis", "dmis.", "a b.c"])
def test_names_that_resemble_nothing_are_refused(asked):
    with pytest.raises(UserError, match="There is no method"):
        methods.load(asked)


TOY = '''
"""Toy: the first images of each class. Source: https://example.org."""
import numpy as np
from pydantic import Field
from condense.sets.assemble import Making, assemble
from condense.options import Options as Base

class Options(Base):
    """Which images."""
    QUICK = {"skip": 0}
    skip: int = Field(1, description="images of each class to pass over")

def condense(train, ipc, options, seed, run):
    start, observed = options.skip, train.supervision.observed
    chosen = np.concatenate(
        [np.flatnonzero(observed == y)[start : start + ipc] for y in range(train.images.num_classes)]
    )
    return assemble(train, train.images.images[chosen], Making("toy", ipc, options, seed), source_index=chosen)
'''


def test_a_users_method_is_one_file_anywhere(tmp_path, monkeypatch, dmis):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    train = training_set()[0]
    method = methods.load("mine.toy", own=True)
    made = method.condense(train, 3, method.Options(), 0, Run(None))
    np.testing.assert_array_equal(made.labels, train.supervision.observed[made.source_index])
    command = ("condense", "--method", "mine.toy", "--noise", "sym:0.4", "--ipc", 3)
    assert dmis(*command, "--out", "whole.h5", "--run", "a").code == 0
    assert dmis(*command, "--quick", "--out", "quick.h5", "--run", "b").code == 0
    whole, quick = (read(tmp_path / f"{name}.h5").source_index for name in ("whole", "quick"))
    assert whole.tolist() == made.source_index.tolist() and whole[:2].tolist() == quick[1:3].tolist()
    assert "did you mean 'skip'" in dmis(*command, "--set", "skipp=2").err
    ours = front_door.condense(front_door.load_data("digits", noise="sym:0.4"), method="mine.toy", ipc=3)
    assert ours.sha256() == read(tmp_path / "whole.h5").sha256()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no class Options"),
        ("class Options: pass", "no class Options that derives from condense.options.Options"),
        ("from condense.options import Options", "no function condense"),
    ],
)
def test_a_module_that_is_not_a_method_is_refused_with_what_it_lacks(tmp_path, monkeypatch, text, complaint):
    name = f"lacking{abs(hash(text))}"
    (tmp_path / f"{name}_package").mkdir()
    (tmp_path / f"{name}_package" / "method.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=complaint):
        methods.load(f"{name}_package.method", own=True)


def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    text = Path(methods.__file__).with_name("random.py").read_text(encoding="utf-8")
    (tmp_path / "own_single_file.py").write_text(text)
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "deep.py").write_text(text)
    for name in ("own_single_file", "own_package.deep"):
        assert methods.load(name, own=True).Options().model_dump() == {}


@pytest.mark.parametrize(("text", "told"), [("def (", "SyntaxError"), ("nothing_of_the_sort", "NameError")])
def test_a_module_that_cannot_be_imported_is_named(tmp_path, monkeypatch, text, told):
    monkeypatch.chdir(tmp_path)
    name = f"wrong_{told.lower()}"
    (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(UserError, match=f"'{name}' cannot be imported: {told}"):
        methods.load(name, own=True)


def test_the_help_names_every_file_of_the_folder(dmis):
    files = {file.stem for file in Path(methods.__path__[0]).glob("[a-z]*.py")}
    assert files == set(methods.names()) - set(methods.installed())
    assert f"Condensation method: {', '.join(methods.names())}" in " ".join(dmis("condense", "-h").out.split())


def test_a_dotted_path_to_nothing_is_refused():
    with pytest.raises(UserError, match="cannot be imported"):
        methods.load("no.such.module", own=True)


def mark(folder, name):
    """A module that records that it was run."""
    (folder / f"{name}.py").write_text(f"open({str(folder / 'it_ran')!r}, 'w').close()\n")


def test_a_recipe_runs_no_code(tmp_path, monkeypatch, dmis):
    """`method: mine` of a stranger's recipe imported mine.py, even with --dry-run."""
    mark(tmp_path, "stranger_1")
    (tmp_path / "recipe.yaml").write_text("method: stranger_1\ndata: {name: digits}\n")
    for command in ("condense", "train", "relabel digits"):
        answer = dmis(*command.split(), "-c", "recipe.yaml", "--dry-run")
        assert answer.code == 2 and "runs only if you name it by hand: give it as --method stranger_1" in answer.err
    for name in ("stranger_1", "os.path", "stranger_1.deep"):
        with pytest.raises(UserError, match="runs only if you name it by hand"):
            methods.load(name)
    assert not (tmp_path / "it_ran").exists()
    assert "'stranger_1' has no class Options" in dmis("condense", "--method", "stranger_1", "--dry-run").err
    assert (tmp_path / "it_ran").exists()


def test_a_benchmark_of_others_and_its_report_run_no_code(tmp_path, dmis):
    """`dmis report DIR` imported what benchmark.json names."""
    mark(tmp_path, "stranger_2")
    recipe = {"methods": ["random", "stranger_2"], "settings": [{"name": "digits", "noise": "sym:0.4"}]}
    (tmp_path / "grid.yaml").write_text(json.dumps(recipe))
    answer = dmis("benchmark", "grid.yaml", "--out", "out", "--dry-run")
    assert answer.code == 2 and "--set 'methods=[stranger_2]'" in answer.err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "benchmark.json").write_text(json.dumps(recipe))
    answer = dmis("report", "out")
    assert answer.code == 0, answer.err
    assert "stranger_2" in (tmp_path / "out" / "results.csv").read_text()
    assert not (tmp_path / "it_ran").exists()
