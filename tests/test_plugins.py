"""Methods, arms and data sets of installed packages, which work as those of the package do."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Dmis

from condense import methods, plugins
from condense.classifiers import arms
from condense.cli import complete
from condense.data import sources
from condense.errors import UserError
from condense.sets.hdf5 import read

METHOD = '''
"""First: the first images of each class. Source: https://example.org."""
import numpy as np
from pydantic import Field
from condense.sets.assemble import Making, assemble
from condense.options import Options as Base

class Options(Base):
    """Which images."""
    skip: int = Field(0, description="images of each class to pass over")

def condense(train, ipc, options, seed, run):
    observed = train.supervision.observed
    chosen = np.concatenate([np.flatnonzero(observed == y)[options.skip:][:ipc] for y in range(10)])
    return assemble(train, train.images.images[chosen], Making("first", ipc, options, seed), source_index=chosen)
'''
ARM = '''
"""Louder: cross-entropy times a factor. Source: https://example.org."""
import torch.nn.functional as F
from pydantic import Field
from condense.classifiers.arms.ce import check, lesson as ce_lesson
from condense.options import Options as Base
from dataclasses import replace

class Options(Base):
    """The factor."""
    factor: float = Field(1.0, gt=0, description="weight of the loss")

def lesson(given, options):
    taught = ce_lesson(given, options)
    return replace(taught, loss=lambda logits, targets: options.factor * taught.loss(logits, targets))
'''
DATA = """
import numpy as np
from condense.data.clean_sets import clean_source

def load(root, download):
    images = np.zeros((40, 8, 8, 1), np.uint8)
    images[20:, ::2] = 255
    labels = np.repeat([0, 1], 20)
    return clean_source("stripes", ("plain", "striped"), (images, labels), (images, labels), str(root), flip=True)

def nothing(root, download):
    return None
"""
ENTRY_POINTS = """
[dmis.methods]
first = plugin_package.first
random = plugin_package.first

[dmis.arms]
louder = plugin_package.louder
broken = plugin_package.nowhere
uninstalled = module_of_a_stranger

[dmis.data]
stripes = plugin_package.stripes:load
nothing = plugin_package.stripes:nothing
digits = plugin_package.stripes:load
"""
FIT = ("--network", "mlp", "--epochs", "1", "--json")


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with plug-ins, as pip leaves it."""
    site = tmp_path / "site"
    (site / "plugin_package").mkdir(parents=True)
    (site / "plugin_package" / "__init__.py").touch()
    (site / "plugin_package" / "first.py").write_text(METHOD)
    (site / "plugin_package" / "louder.py").write_text(ARM)
    (site / "plugin_package" / "stripes.py").write_text(DATA)
    announce(site, "plugins", ENTRY_POINTS)
    monkeypatch.syspath_prepend(site)
    plugins.every_entry_point.cache_clear()
    yield
    plugins.every_entry_point.cache_clear()


def announce(folder: Path, package: str, entry_points: str) -> None:
    told = folder / f"{package}-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (told / "entry_points.txt").write_text(entry_points)


def test_their_names_are_among_the_others_and_take_none_of_them() -> None:
    assert "first" in methods.names() and "random" not in methods.installed()
    assert {"broken", "louder"} <= set(arms.names()) and {"broken", "louder"} <= set(arms.installed())
    assert methods.load("random").__name__ == "condense.methods.random"  # type: ignore[attr-defined]
    assert complete.methods("fir") == ["first"] and complete.arms("lou") == ["louder"]


def test_a_recipe_may_name_an_installed_method(tmp_path: Path, dmis: Dmis) -> None:
    assert dmis("init", "recipe.yaml", "--method", "first").code == 0
    assert "skip: 0  # images of each class to pass over" in (tmp_path / "recipe.yaml").read_text()
    answer = dmis("condense", "-c", "recipe.yaml", "--set", "skip=1", "--ipc", "2", "--out", "set.h5")
    assert answer.code == 0, answer.err
    made = read(tmp_path / "set.h5")
    assert made.provenance.method == made.provenance.recipe["method"] == "first" and made.provenance.recipe["skip"] == 1
    assert "did you mean 'skip'" in dmis("condense", "-c", "recipe.yaml", "--set", "skipp=1").err


def test_an_installed_method_and_arm_are_benchmarked(
    tmp_path: Path, dmis: Dmis, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {
        "methods": ["first"],
        "ipc": [1],
        "settings": [{"name": "digits", "noise": "sym:0.4"}],
        "evaluate": {"protocol": "quick", "repeats": 1},
        "classifiers": ["louder"],
        "fit": {"network": "mlp", "epochs": 1},
        "options": {"first": {"skip": 2}, "louder": {"factor": 2.0}},
    }
    (tmp_path / "grid.yaml").write_text(json.dumps(recipe))
    answer = dmis("benchmark", "grid.yaml", "--out", "grid", "--jobs", "1")
    assert answer.code == 0, answer.err
    results = (tmp_path / "grid" / "results.csv").read_text()
    assert ",first," in results and ",louder," in results
    assert read(next((tmp_path / "grid").rglob("condensed.h5"))).provenance.cost.seconds > 0  # though it records none
    monkeypatch.setattr("condense.plugins.announced", lambda group: {})  # another machine, without the package
    (tmp_path / "grid" / "results.csv").unlink()
    assert dmis("report", "grid").code == 0
    assert (tmp_path / "grid" / "results.csv").read_text() == results
    assert "There is no method 'first'" in dmis("benchmark", "grid.yaml", "--out", "grid").err
    (tmp_path / "arms.yaml").write_text(json.dumps({**recipe, "methods": ["random"], "options": {}}))
    assert "There is no arm 'louder'" in dmis("benchmark", "arms.yaml", "--out", "arms", "--dry-run").err


def test_an_installed_arm_has_options_of_its_own(dmis: Dmis) -> None:
    command = ("classify", "digits", "--noise", "sym:0.4", "--arm", "louder", *FIT)
    told = json.loads(dmis(*command, "--arm", "ce", "--set", "louder.factor=1e-30").out)
    louder, ce = (line["mean"] for line in told["arms"])
    assert louder < 30 < ce  # a loss of nearly 0 teaches nothing
    assert "did you mean 'factor'" in dmis(*command, "--set", "louder.facto=2").err


def test_a_broken_plug_in_is_named_and_spoils_nothing_else(dmis: Dmis) -> None:
    command = ("classify", "digits", "--noise", "sym:0.4", *FIT)
    assert dmis(*command, "--arm", "ce").code == 0
    answer = dmis(*command, "--arm", "broken")
    assert answer.code == 2
    assert "The arm 'broken' cannot be imported: ModuleNotFoundError" in answer.err


def test_an_installed_data_set_is_named_like_the_others(tmp_path: Path, dmis: Dmis) -> None:
    assert complete.data("stri") == ["stripes"] and sources.names()[0] == "digits"
    told = json.loads(dmis("inspect", "stripes", "--noise", "sym:0.4", "--json").out)
    assert (told["name"], told["images"], told["test_images"], told["classes"]) == (
        "stripes",
        40,
        40,
        ["plain", "striped"],
    )
    assert told["corruption"] == "sym:0.4" and told["may_flip"] is True
    assert dmis("condense", "--data", "stripes", "--method", "random", "--ipc", "2", "--out", "set.h5").code == 0
    answer = dmis("evaluate", "set.h5", "--protocol", "quick", "--repeats", "1", "--json")  # on the set's own data
    assert json.loads(answer.out)["mean"] == 100
    assert "did you mean 'stripes'" in dmis("inspect", "stripe").err
    assert "gives a NoneType; its function must return a Source" in dmis("inspect", "nothing").err


def test_an_arm_in_the_current_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger.py").write_text("raise SystemExit")
    with pytest.raises(UserError, match="There is no arm 'stranger'"):
        arms.load("stranger")


def test_installed_names_never_lead_to_code_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe may name what is installed, and whoever sent it may have sent the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "module_of_a_stranger.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path)!r}, 'ran').touch()")
    with pytest.raises(UserError, match="cannot be imported: ModuleNotFoundError"):
        arms.load("uninstalled")
    (tmp_path / "named_by_hand.py").write_text("")
    announce(tmp_path, "sent", "[dmis.methods]\nsent = module_of_a_stranger\n")
    with pytest.raises(UserError, match="has no class Options"):
        methods.load("named_by_hand", own=True)
    assert str(tmp_path) in sys.path and "sent" not in methods.names()
    with pytest.raises(UserError, match="There is no method 'sent'"):
        methods.load("sent")
    assert not (tmp_path / "ran").exists()
