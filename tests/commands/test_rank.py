"""`dmis rank`: the arms behind DD-Ranking's scores, and what cannot be ranked."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Dmis

from condense.cli import run
from condense.data.types import ImageData, Truth
from condense.evaluate import protocols
from condense.evaluate.ddranking import label_robust_score
from condense.evaluate.protocols import Protocol
from condense.evaluate.score import FreshNetworks, Score
from condense.sets.condensed_set import CondensedSet
from condense.sets.hdf5 import read, write

BRIEF = ("--network", "mlp", "--repeats", "2", "--steps", "20", "-q", "--json")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real digits under wrong labels, one and two per class, and two by true labels. Not to be written to."""
    folder = tmp_path_factory.mktemp("sets")
    made = {name: folder / f"{name}.h5" for name in ("one", "two", "oracle")}
    for name, file in made.items():
        arguments = ["--method", "random", "--noise", "sym:0.4", "--ipc", "1" if name == "one" else "2"]
        arguments += ["--clean-first", "oracle"] if name == "oracle" else []
        assert run(["condense", *arguments, "--out", str(file), "--run", str(folder / name), "--quiet", "--json"]) == 0
    return made


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five epochs of any protocol."""
    for name, rules in protocols.PROTOCOLS.items():
        monkeypatch.setitem(protocols.PROTOCOLS, name, dataclasses.replace(rules, epochs=5))
    monkeypatch.setattr("condense.commands.rank.SOFT_STORED", dataclasses.replace(protocols.SOFT_STORED, epochs=1))


def test_sets_are_ranked_by_fractions(sets: dict[str, Path], dmis: Dmis, tmp_path: Path) -> None:
    done = dmis("rank", *sets.values(), "--protocol", "quick", *BRIEF)
    assert done.code == 0, done.err
    (answer,) = done.out.splitlines()
    told = json.loads(answer)
    assert (told["data"], told["protocol"]["name"], told["soft_protocol"]) == ("digits", "quick", None)
    found = {Path(entry["path"]).stem: entry for entry in told["sets"]}
    lrs = [entry["scores"]["lrs"] for entry in told["sets"]]
    assert lrs == sorted(lrs, reverse=True) and set(found) == set(sets)
    for entry in found.values():
        accuracy = {arm: entry["accuracy"][arm]["mean"] for arm in entry["accuracy"]}
        assert all(0 <= value <= 1 for value in accuracy.values()) and accuracy["real"] > 0.3
        assert entry["labels"] == "hard" and accuracy["own"] == accuracy["hard"]
        scores = entry["scores"]
        assert scores["hlr"] == pytest.approx(accuracy["real"] - accuracy["hard"])
        assert scores["ior"] == pytest.approx(accuracy["own"] - accuracy["random"])
        assert scores["lrs"] == pytest.approx(label_robust_score(scores["hlr"], scores["ior"]))
        assert 0 < scores["ars"] < 1 and entry["cost"]["seconds"] > 0
        assert entry["bytes"] == 10 * entry["ipc"] * (64 + 8)
        assert entry["compression_ratio"] == pytest.approx(1297 * (64 + 8) / entry["bytes"])
    assert {name: entry["uses_true_labels"] for name, entry in found.items()} == {
        "one": False,
        "two": False,
        "oracle": True,
    }
    assert "given labels" in found["one"]["accuracy"]["real"]["how"]  # 40 % of them wrong, as the methods got them
    assert found["two"]["accuracy"]["random"] == found["oracle"]["accuracy"]["random"]  # drawn and trained once
    assert found["two"]["accuracy"]["random"] != found["one"]["accuracy"]["random"]
    assert not list(tmp_path.iterdir())


def test_soft_labels_are_compared_with_soft_labels(dmis: Dmis, sets: dict[str, Path], short: None) -> None:
    taught = dmis(
        *("condense", "--method", "herding", "--ipc", 1, "--run", "taught", "--out", "taught.h5", "--noise", "sym:0.4"),
        *("--set", "teacher.network=convnet1", "--set", "teacher.epochs=1", "--json"),
    )
    assert taught.code == 0, taught.err
    made = read(sets["one"])
    soft = np.full((10, 10), 0.1, dtype=np.float32)
    write(Path("soft.h5"), dataclasses.replace(made, soft_labels=soft))
    refused = dmis("rank", "soft.h5", *BRIEF)
    assert refused.code == 2 and "--teacher RUN" in refused.err and "--hard-labels" in refused.err
    told = json.loads(dmis("rank", "soft.h5", "--teacher", "taught", *BRIEF, "--real-accuracy", 0.9).out)
    (entry,) = told["sets"]
    assert entry["labels"] == "soft" and told["soft_protocol"]["name"] == "soft-stored"
    assert entry["accuracy"]["real"] == {"mean": 0.9, "how": "as told"}
    assert entry["accuracy"]["own"] != entry["accuracy"]["hard"]
    assert entry["bytes"] == 10 * (64 + 8 + 4 * 10)  # soft labels weigh more than half an image here
    hard = json.loads(dmis("rank", "soft.h5", "--hard-labels", *BRIEF, "--real-accuracy", 0.9).out)["sets"][0]
    assert hard["labels"] == "hard" and hard["accuracy"]["hard"] == entry["accuracy"]["hard"]


@pytest.mark.parametrize("network", ["mlp", None])
def test_protocols_are_told_as_networks_were_trained(
    network: str | None, dmis: Dmis, sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: dict[str, str] = {}

    def score_set(
        made: CondensedSet, test: ImageData, truth: Truth, rules: Protocol, fresh: FreshNetworks, run: object
    ) -> Score:
        used[rules.name] = fresh.architecture(rules)
        return Score(50.0, None, None, (50.0,), {}, "", 0.0)

    monkeypatch.setattr("condense.commands.rank.score_set", score_set)
    monkeypatch.setattr("condense.commands.rank.with_labels", lambda drawn, rules, teacher: drawn)
    made = read(sets["one"])
    write(Path("soft.h5"), dataclasses.replace(made, soft_labels=np.full((10, 10), 0.1, dtype=np.float32)))
    asked = ("rank", "soft.h5", "--teacher", "any", "--real-accuracy", "0.9", "-q", "--json")
    for flip, hard, soft in (
        ((), "color_crop_cutout_scale_rotate", "crop"),
        (("--flip",), protocols.HARD.augmentation, "crop_flip"),
    ):
        told = json.loads(dmis(*asked, *flip, *(() if network is None else ("--network", network))).out)
        assert (told["protocol"]["augmentation"], told["soft_protocol"]["augmentation"]) == (hard, soft)
        names = {told[key]["name"]: told[key]["network"] for key in ("protocol", "soft_protocol")}
        assert names == {"hard": network or "convnet3", "soft-stored": network or "convnet3-bn"}
        assert names == {name: used[name] for name in names}


def test_the_table_for_people(dmis: Dmis, sets: dict[str, Path], short: None) -> None:
    answer = dmis("rank", sets["oracle"], sets["one"], "--quick", *BRIEF[:-1], "--real-accuracy", 0.9)
    head, *lines = answer.out.splitlines()
    assert head.split()[:7] == ["set", "method", "IPC", "LRS", "ARS", "HLR", "IOR"]
    assert {line.split()[0] for line in lines[:2]} == {str(sets["oracle"]), str(sets["one"])}
    assert "random (oracle)" in answer.out and "not a competing method" in answer.out
    assert "LRS and ARS: higher is better" in answer.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--protocol", "soft"), "trains on soft labels"),
        (("--protocol", "hardest"), 'no protocol is called "hardest"'),
        (("--network", "vgg11"), "vgg11 needs images of at least 28x28"),
        (("--repeats", "0"), "repeats is 0"),
        (("--steps", "0"), "steps 0"),
        (("--real-accuracy", "91"), "91 is not a fraction"),
        (("--lrs-weight", "2"), "weight 2 must lie"),
        (("--data", "other.npz"), "3"),
    ],
)
def test_what_cannot_be_ranked_is_one_sentence_and_exit_2(
    arguments: tuple[str, ...], said: str, sets: dict[str, Path], dmis: Dmis
) -> None:
    np.savez("other.npz", train_images=np.zeros((9, 8, 8, 1), np.uint8), train_labels=np.arange(9) % 3)
    answer = dmis("rank", sets["one"], *arguments, "-q")
    assert answer.code == 2 and answer.out == ""
    (sentence,) = answer.err.splitlines()
    assert sentence.startswith("error: ") and said in sentence
