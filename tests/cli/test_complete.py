"""Shell completion as a shell asks for it, and what docs/scripting.md promises scripts."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Dmis

from condense import methods
from condense.classifiers.networks import NAMES as NETWORKS
from condense.cli import complete
from condense.data.noise_spec import KINDS, LONG_TAIL, MIXTURE
from condense.data.sources import TABLE as DATA
from condense.evaluate.protocols import PROTOCOLS
from condense.pipeline.classify import OF_GENERATORS
from condense.pipeline.decisions import identity
from condense.pipeline.plan import OBJECTIVES, Request, make_plan
from condense.sets.export import FORMATS

DOCS = Path(__file__).parents[2] / "docs" / "scripting.md"
DMIS = [sys.executable, "-P", "-m", "condense"]


def test_lists_of_names_are_those_of_the_modules() -> None:
    assert complete.DATA == tuple(DATA) and complete.FORMATS == tuple(FORMATS)
    assert complete.PROTOCOLS == tuple(PROTOCOLS) and complete.NETWORKS == tuple(NETWORKS)
    assert complete.OBJECTIVES == tuple(OBJECTIVES) and complete.OF_GENERATORS == OF_GENERATORS
    assert {name.removesuffix(":") for name in complete.NOISE} == {*KINDS, LONG_TAIL, MIXTURE, "none"}


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("cond", ["condense"]),
        ("condense --method d", [name for name in methods.names() if name.startswith("d")]),
        ("train --method d", ["dmis"]),
        ("evaluate --protocol hard-", ["hard-quick", "hard-adam", "hard-as-learned"]),
        ("train --data f", ["fashion-mnist"]),
        ("inspect cifar", ["cifar10", "cifar100"]),
        ("condense -c digits", ["digits", "digits-generators", "digits-sym40"]),
        ("export a.h5 b --format h", ["hf"]),
        ("train --noise p", ["pair:", "partial:"]),
        ("classify digits --arm pen", ["pencil"]),
        ("classify digits --arm dmis-", ["dmis-ce"]),
        ("demo --device c", ["cpu", "cuda"]),
    ],
)
def test_a_shell_is_given_names(
    typed: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from condense.cli import run

    words = typed.split(" ")
    monkeypatch.setenv("_DMIS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"dmis {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert run([]) == 0
    assert capsys.readouterr().out.split() == wanted


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_once_installed(tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "dmis"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m condense "$@"\n')
    command.chmod(0o755)
    home["PATH"] = f"{tmp_path / 'bin'}:{home['PATH']}"
    done = subprocess.run([*DMIS, "--install-completion", "bash"], env=home, capture_output=True, text=True)
    assert done.returncode == 0 and "bash completion installed" in done.stdout, done.stderr
    (script,) = (tmp_path / ".bash_completions").iterdir()
    asked = (
        f"source {script}; COMP_WORDS=(dmis condense --method ds); COMP_CWORD=3; _dmis_completion dmis; echo $COMPREPLY"
    )
    shell = subprocess.run(["bash", "-c", asked], env=home, capture_output=True, text=True)
    assert shell.stdout.split() == ["dsa"], shell.stderr
    shown = subprocess.run([*DMIS, "--show-completion", "zsh"], env=home, capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stdout.startswith("#compdef dmis")


def promised() -> dict[str, set[str]]:
    """Keys by command, as the page lists them."""
    text = DOCS.read_text(encoding="utf-8").partition("## JSON")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (`.*?) \| ([\w ]+) \|$", text, re.MULTILINE)
    return {name: set(keys.split()) for names, keys in lines for name in re.findall(r"`([^`]+)`", names)}


def test_json_has_the_keys_that_are_promised(dmis: Dmis) -> None:
    fast = ("--set", "train.steps=3", "--set", "train.batch_size=8", "--set", "network.channels=8")
    few = ("--noise", "longtail:50", "--quiet")
    calls: dict[str, tuple[str, ...]] = {
        "corrupt": ("corrupt", "digits", "-o", "c.npz", "--noise", "sym:0.4"),
        "condense": ("condense", "--method", "random", "--ipc", "1", "--out", "r.h5", "--quiet"),
        "condense --dry-run": ("condense", "--method", "random", "--dry-run"),
        "train": ("train", "--noise", "sym:0.4", *fast, "--run", "run", "--quiet"),
        "relabel": ("relabel", "digits", *few[:2], "--fast", "--out", "found"),
        "relabel --dry-run": ("relabel", "digits", *few[:2], "--fast", "--dry-run"),
        "relabel --apply": ("relabel", "digits", *few[:2], "--apply", "decisions.json"),
        "evaluate": ("evaluate", "r.h5", "--protocol", "quick", "--network", "mlp", "--repeats", "1", "--quiet"),
        "benchmark": ("benchmark", "grid.yaml", "--out", "grid"),
        "report": ("report", "grid"),
        "classify": ("classify", "digits", "--arm", "ce", "--network", "mlp", "--epochs", "1", "--quiet"),
        "classify --dry-run": ("classify", "digits", "--arm", "ce", "--dry-run"),
        "export": ("export", "r.h5", "w", "--format", "webdataset"),
        "validate": ("validate", "r.h5"),
        "inspect SET": ("inspect", "r.h5"),
        "inspect DATA": ("inspect", "digits", *few[:2]),
        "init": ("init", "recipe.yaml"),
    }
    keys = promised()
    assert keys.keys() == calls.keys() | {"train --dry-run", "doctor"}
    about = identity(make_plan(Request(named={"data": {"name": "digits", "noise": few[1]}})).source)
    Path("decisions.json").write_text(json.dumps({"format": "dmis-decisions/1", "data": about, "decisions": []}))
    grid = {"methods": ["random"], "ipc": [1], "settings": [{"name": "digits"}]}
    grid["evaluate"] = {"protocol": "quick", "network": "mlp", "repeats": 1}
    Path("grid.yaml").write_text(json.dumps(grid))
    for name, call in calls.items():
        answer = dmis(*call, "--json")
        assert answer.code == 0, (name, answer.err)
        assert json.loads(answer.out).keys() == keys[name], name


@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        (("condense", "--methd", "dm"), 2, "--method"),
        (("condense", "--method", "dsm"), 2, "dsa"),
        (("evalute", "x.h5"), 2, "'evaluate'"),
        (("evaluate", "missing.h5"), 2, "missing.h5"),
        (("train", "--set", "trian.steps=3"), 2, "did you mean 'train'"),
        (("train", "--set", "train.stpes=3"), 2, "did you mean 'steps'"),
        (("train", "--set", "network.kind=allclass"), 2, "did you mean 'all-class'"),
        (("inspect", "digits", "--fit", "crpo"), 2, '--fit is "crpo"'),
        (("inspect", "digit"), 2, "did you mean 'digits'"),
        (("inspect", "digits", "--noise", "symm:0.4"), 2, "did you mean 'sym'"),
        (("train", "--device", "gpu"), 2, "auto or cpu"),
    ],
)
def test_mistakes_end_with_2_and_the_name_that_was_meant(
    call: tuple[str, ...], code: int, told: str, dmis: Dmis
) -> None:
    answer = dmis(*call)
    assert answer.code == code and answer.out == "" and told in answer.err
    assert list(Path().iterdir()) == []
