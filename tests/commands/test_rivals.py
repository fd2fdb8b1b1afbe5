"""The rival generators TDSM and CAD by the commands: trained, estimated, reused, resumed."""

import json
from pathlib import Path

import pytest
from conftest import Dmis

from condense.sets.hdf5 import read

SMALL = {
    "tdsm": ("--set", "train.helper.steps=2", "--set", "train.helper.batch_size=8"),
    "cad": ("--set", "train.coherence.folds=2", "--set", "train.coherence.epochs=1"),
}
PREPARED = {"tdsm": {"volminnet", "noisy-classifier"}, "cad": {"out-of-fold"}}
KEPT = {**PREPARED, "cad": {"out-of-fold-0", "out-of-fold-1"}}


@pytest.mark.parametrize("method", SMALL)
def test_a_rival_costs_the_estimate_and_is_prepared_and_trained_once(
    method: str, dmis: Dmis, tiny: tuple[str, ...], drawn: tuple[str, ...]
) -> None:
    given = ("--noise", "sym:0.4", "--method", method, "--json")
    trained = (*given, *tiny, "--set", "train.steps=2", *SMALL[method])
    assert dmis("train", *trained, "--dry-run").code == 0
    asked = ("condense", *trained, *drawn, "--ipc", 1, "--run", "run")
    foretold = json.loads(dmis(*asked, "--dry-run").out)
    told = json.loads(dmis(*asked, "--out", "a.h5").out)
    assert told["cost"]["network_evaluations"] == foretold["network_evaluations"]
    made = read(Path("a.h5")).provenance
    assert set(made.notes["generator"]["prepared_seconds"]) == PREPARED[method]
    assert made.cost.images_seen > 2 * 16, "what was prepared counts too"

    reused = ("condense", "--noise", "sym:0.4", *drawn, "--ipc", 1, "--generator", "run")
    assert json.loads(dmis(*reused, *given[2:], "--out", "b.h5").out)["sha256"] == told["sha256"]
    other = dmis(*reused, "--method", "dmis")
    assert other.code == 2 and f"trained with objective '{method}'" in other.err

    kept = {name: Path(f"run/{name}.safetensors").read_bytes() for name in KEPT[method]}
    for lost in ("generator", "checkpoint"):
        Path(f"run/{lost}.safetensors").unlink()
    assert dmis(*asked, "--out", "c.h5").code == 2, "what was prepared cost time and is not thrown away unasked"
    assert json.loads(dmis(*asked, "--out", "c.h5", "--resume").out)["sha256"] == told["sha256"]
    assert {name: Path(f"run/{name}.safetensors").read_bytes() for name in kept} == kept


def test_tdsm_cannot_estimate_the_matrix_from_beliefs(dmis: Dmis, tiny: tuple[str, ...]) -> None:
    answer = dmis("train", "--noise", "sym:0.4", "--method", "tdsm", *tiny, "--set", "train.transition=estimate")
    assert answer.code == 2 and "give the matrix, or choose labeller" in answer.err
