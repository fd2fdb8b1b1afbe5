"""The teacher beside a set: the same network, found by checksum, refused when it belongs to another set."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Dmis

from condense.classifiers.beside import path_beside, read_beside, write_beside
from condense.classifiers.teacher import load_teacher
from condense.errors import UserError
from condense.sets.hdf5 import read

RDED = (
    *("condense", "--method", "rded", "--ipc", 1, "--noise", "sym:0.4", "--set", "teacher.epochs=1"),
    *("--set", "teacher.network=convnet1-bn", "--set", "pool=5", "--set", "crops=2", "-q", "--json"),
)
BRIEF = ("--network", "mlp", "--repeats", 1, "-q", "--json")


@pytest.fixture
def made(dmis: Dmis) -> Path:
    answer = dmis(*RDED, "--run", "run", "--out", "set.h5")
    assert answer.code == 0, answer.err
    return Path("set.h5")


def test_the_file_is_the_network_of_the_run(made: Path) -> None:
    condensed = read(made)
    beside, trained = read_beside(made, condensed.teacher_sha256), load_teacher(Path("run"))
    assert beside is not None and beside.classes == trained.classes
    x = condensed.pictures()
    assert torch.equal(beside.logits(x), trained.logits(x))
    again = write_beside(Path("run"), Path("elsewhere.h5"))
    assert again["sha256"] == condensed.teacher_sha256
    assert (
        again["bytes"]
        == path_beside(Path("elsewhere.h5")).stat().st_size
        < Path("run/teacher.safetensors").stat().st_size
    )


def test_equal_runs_give_equal_sets_and_a_given_teacher_goes_along(made: Path, dmis: Dmis) -> None:
    assert dmis(*RDED, "--run", "again", "--out", "again.h5").code == 0
    assert read(Path("again.h5")).sha256() == read(made).sha256()
    given = dmis(*RDED, "--set", "teacher.folder=run", "--run", "other", "--out", "given.h5")
    assert given.code == 0 and read(Path("given.h5")).teacher_sha256 == read(made).teacher_sha256


def test_students_query_a_teacher_beside_the_set(made: Path, dmis: Dmis, brief: Callable[[], None]) -> None:
    found = {}
    for protocol in ("soft", "soft-stored"):
        found[protocol] = json.loads(dmis("evaluate", made, "--protocol", protocol, *BRIEF).out)
    assert [each["labels"] for each in found.values()] == ["online", "soft"]
    moved = Path("moved.h5")
    shutil.copy(made, moved)  # without its teacher
    assert json.loads(dmis("evaluate", moved, "--protocol", "soft", *BRIEF).out)["labels"] == "soft"
    path_beside(moved).write_bytes(path_beside(made).read_bytes()[:-1] + b"x")
    refused = dmis("evaluate", moved, "--protocol", "soft", *BRIEF)
    assert refused.code == 2 and "is not the teacher that moved.h5 was made with" in refused.err
    assert dmis("evaluate", moved, "--protocol", "quick", *BRIEF).code == 0  # hard labels need no teacher


def test_sets_with_and_without_their_teacher_are_not_scored_together(
    made: Path, dmis: Dmis, brief: Callable[[], None]
) -> None:
    other = Path("other.h5")
    assert dmis(*RDED, "--seed", 1, "--set", "teacher.folder=run", "--run", "other", "--out", other).code == 0
    both = ("evaluate", made, other, *BRIEF, "--protocol")
    assert json.loads(dmis(*both, "soft").out)["labels"] == "online"
    path_beside(other).unlink()
    mixed = dmis(*both, "soft")
    assert mixed.code == 2 and mixed.out == "" and len(mixed.err.splitlines()) == 1
    assert "set.h5 has its teacher beside it, other.h5 has none" in mixed.err
    assert json.loads(dmis(*both, "soft", "--teacher", "run").out)["labels"] == "online"
    assert json.loads(dmis(*both, "soft-stored").out)["labels"] == "soft"
    path_beside(made).unlink()
    assert json.loads(dmis(*both, "soft").out)["labels"] == "soft"


def test_without_a_checksum_no_file_is_taken(made: Path) -> None:
    assert read_beside(made, None) is None
    with pytest.raises(UserError, match="SHA-256 differs"):
        read_beside(made, "0" * 64)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch of any protocol."""
    import dataclasses

    from condense.evaluate import protocols

    for name, rules in protocols.PROTOCOLS.items():
        monkeypatch.setitem(protocols.PROTOCOLS, name, dataclasses.replace(rules, epochs=1))
