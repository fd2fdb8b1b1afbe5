"""What a grid offers a referee: rows, further judges, networks on all images, parts, kept results."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Dmis
from tiny import pictures

from condense.benchmark.grid import Cell, expand
from condense.benchmark.grid_recipe import read_benchmark
from condense.benchmark.runner import benchmark
from condense.benchmark.shard import Shard, parse_shard
from condense.data import sources
from condense.data.types import Source, Supervision
from condense.errors import UserError
from condense.evaluate import protocols
from condense.evaluate.results import read_csv
from condense.sets.hdf5 import read

RECIPE: dict[str, Any] = {
    "methods": ["random", "random_soft"],
    "rows": {"rded-few": {"method": "rded", "options": {"pool": 4, "crops": 2, "teacher": {"epochs": 1}}}},
    "settings": [{"name": "digits", "noise": "sym:0.4"}],
    "ipc": [1],
    "evaluate": {"protocol": "hard-quick", "network": "mlp", "repeats": 2},
    "judged": {"random_soft": {"protocol": "soft", "network": "mlp", "repeats": 1}},
    "also": [{"protocol": "hard-adam", "network": "convnet1", "repeats": 1}],
    "options": {"random_soft": {"teacher": {"epochs": 1}}},
    "whole": ["equal", 2],
    "clean_first": ["none", "oracle"],
}


class Inline:
    """Does each task at once, in this process."""

    slots = 1

    def start(self, work: Callable[[Path, Cell], None], out: Path, cell: Cell) -> "Inline":
        work(out, cell)
        return self

    def done(self) -> bool:
        return True

    def stop(self) -> None:
        raise AssertionError("nothing runs any more")

    kill = stop

    def how_it_ended(self) -> str:
        return "it vanished"


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Few images in place of the digits, and one epoch."""
    images, truth = pictures()
    test, test_truth = pictures(seed=1)
    source = Source(
        dataclasses.replace(images, name="digits"),
        Supervision.from_labels(truth.labels, 3, trusted=True),
        truth,
        dataclasses.replace(test, name="digits", split="test"),
        test_truth,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.TABLE, "digits", lambda root, size, download: source)  # type: ignore[arg-type]
        for name in ("hard-quick", "hard-adam", "soft"):
            patch.setitem(protocols.PROTOCOLS, name, dataclasses.replace(protocols.PROTOCOLS[name], epochs=1))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small: None) -> Path:
    """A folder whose grid.yaml was run into out/ in two parts."""
    folder = tmp_path_factory.mktemp("referee")
    (folder / "grid.yaml").write_text(yaml.safe_dump(RECIPE))
    config = str(folder / "grid.yaml")
    first = benchmark(config, folder / "out", executor=Inline(), shard=Shard(1, 2))
    assert 0 < first.done < len(first.results) and first.failed == 0 and first.missing > 0
    second = benchmark(config, folder / "out", executor=Inline(), shard=Shard(2, 2))
    assert (second.missing, second.failed) == (0, 0)
    return folder


def test_every_set_is_made_once_and_judged_in_every_way(finished: Path) -> None:
    results = {result.cell: result for result in read_csv(finished / "out" / "results.csv")}
    sets = [path.parent.name for path in (finished / "out" / "cells").glob("*/condensed.h5")]
    assert len(sets) == 3 * 2  # rows, labels as given and true
    for name in sets:
        own, also = results[name], results[f"{name}_judged-hard-adam-convnet1"]
        assert own.sha256 == also.sha256 == read(finished / "out/cells" / name / "condensed.h5").sha256()
        assert (also.protocol, also.network, also.labels) == ("hard-adam", "convnet1", "hard")
        assert own.judged != also.judged and own.worst_class is not None and own.coverage is not None
    soft, row = results["digits-sym-0.4_random_soft_ipc1_seed0"], results["digits-sym-0.4_rded-few_ipc1_seed0"]
    assert (soft.labels, soft.protocol, row.row, row.method) == ("online", "soft", "rded-few", "rded")
    assert soft.training_bytes is not None and row.training_bytes == 3 * (64 + 8) < soft.training_bytes
    whole = {result.label: result for result in results.values() if result.method == "all images"}
    assert set(whole) == {
        f"all images, {how}{whose}"
        for how, whose in itertools.product(("as many batches", "2 epochs"), ("", ", labels by oracle"))
    }
    assert all(not result.is_rival and result.accuracies for result in whole.values())
    page = (finished / "out" / "report.html").read_text()
    assert "rded-few" in page and "all images, 2 epochs: " in page and (finished / "out/leaderboard.html").is_file()


def test_random_images_get_the_labels_of_their_rivals_teacher(finished: Path) -> None:
    """Trained alike with the same seed, it is the same network, bit for bit."""
    sets = (
        read(finished / f"out/cells/digits-sym-0.4_{n}_ipc1_seed0/condensed.h5") for n in ("random_soft", "rded-few")
    )
    mine, rival = sets
    assert mine.teacher_sha256 == rival.teacher_sha256 is not None


def test_tables_come_from_kept_files_alone(finished: Path, tmp_path: Path, dmis: Dmis) -> None:
    kept = tmp_path / "kept"
    told = json.loads(dmis("report", finished / "out", "--keep", kept, "--json").out)
    assert told["kept"] == told["cells"] == len(list(kept.glob("*.json")))
    assert json.loads(dmis("report", finished / "out", "--keep", kept, "--json").out)["kept"] == 0  # there already
    assert max(path.stat().st_size for path in kept.glob("*.json")) < 10_000
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(kept.glob("*.json"))[::2]:  # as from two machines
        shutil.move(path, other)
    again = dmis("report", kept, other, "--out", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    made = {result.cell: result for result in read_csv(tmp_path / "again" / "results.csv")}
    assert made == {result.cell: result for result in read_csv(finished / "out" / "results.csv")}
    tables = [(folder / "report.md").read_text() for folder in (tmp_path / "again", finished / "out")]
    rows = [{line for line in text.splitlines() if line.startswith("|")} for text in tables]
    assert rows[0] == rows[1]
    assert dmis("report", kept, other).code == 2 and dmis("report", tmp_path, "--out", tmp_path / "no").code == 2


def cells(**changed: Any) -> list[Cell]:
    return expand(read_benchmark(RECIPE | changed))


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_parts_hold_every_cell_once_and_keep_together_what_shares(count: int) -> None:
    many = cells(ipc=[1, 10], seeds=[0, 1, 2], clean_first=["none", "cleanlab"])
    parts = [Shard(index, count).of(many) for index in range(1, count + 1)]
    assert sorted(itertools.chain(*parts)) == sorted(cell.name for cell in many)
    place = {name: number for number, part in enumerate(parts) for name in part}
    for one, other in itertools.combinations(many, 2):
        shares = {one.shared, one.labeller, one.set_of, one.name} & {other.shared, other.labeller, other.set_of}
        if shares - {None}:
            assert place[one.name] == place[other.name]
    assert max(map(len, parts)) < len(many) or count == 1


@pytest.mark.parametrize(("text", "said"), [("3/2", "counted from 1"), ("0/2", "counted from 1"), ("half", "i/n")])
def test_an_impossible_part_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_shard(text)


def test_several_sets_share_the_noise_of_their_seed() -> None:
    alone: dict[str, Any] = {"methods": ["random"], "rows": {}, "options": {}, "judged": {}, "also": [], "whole": []}
    found = cells(sets=3, clean_first=["none"], **alone)
    assert [cell.name.rpartition("_")[2] for cell in found] == ["seed0", "seed0-set1", "seed0-set2"]
    assert len({cell.recipe["seed"] for cell in found}) == 3
    assert [cell.recipe["data"].get("noise_seed", cell.recipe["seed"]) for cell in found] == [0, 0, 0]
    assert len({cell.setting for cell in found}) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": {"random": {"method": "rded"}}}, "'random' has the name of a method"),
        ({"rows": {"new": {"method": "rded", "options": {"poool": 3}}}}, "unknown key 'poool'"),
        ({"also": [{"protocol": "harder"}]}, 'no protocol is called "harder"'),
        ({"sets": 0}, "sets"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        cells(**changed)
