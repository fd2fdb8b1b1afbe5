"""A running grid: finished cells stay, failed or broken ones are repeated, and none stops the rest."""

import dataclasses
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Dmis
from pages import Page
from tiny import pictures

from condense.benchmark.executors import SubmititExecutor
from condense.benchmark.grid import Cell, expand
from condense.benchmark.grid_recipe import read_benchmark
from condense.benchmark.runner import benchmark, dry_run, report
from condense.benchmark.schedule import Task, run_tasks
from condense.data import sources
from condense.data.types import Source, Supervision
from condense.errors import RunFailed, UserError
from condense.evaluate import protocols
from condense.evaluate.results import read_csv
from condense.run import Run
from condense.sets.hdf5 import read

GENERATOR = {
    "train": {"steps": 10, "batch_size": 16},
    "network": {"channels": 8, "blocks": 1},
    "draw": {"sampler_steps": 2, "agree": False},
}
LABELLER = {"train": {"steps": 120, "batch_size": 16}, "network": GENERATOR["network"]}  # knows every class by then
RECIPE = {
    "methods": ["random", "dmis"],
    "settings": [{"name": "digits", "noise": "sym:0.4"}],
    "ipc": [1, 2],
    "evaluate": {"protocol": "hard-quick", "network": "mlp", "repeats": 2},
    "options": {"dmis": GENERATOR},
}

TOY = '''
"""A toy method."""
import os, signal, time
from pathlib import Path
from condense.methods.random import Options, condense as draw

def condense(train, ipc, options, seed, run):
    {body}
    return draw(train, ipc, options, seed, run)
'''


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
        patch.setitem(protocols.PROTOCOLS, "hard-quick", dataclasses.replace(protocols.HARD_QUICK, epochs=1))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small: None) -> tuple[Path, list[str]]:
    """A folder whose grid.yaml was run into out/, labels as given and repaired; and the messages logged."""
    folder, told = tmp_path_factory.mktemp("finished"), list[str]()
    config = recipe(folder, clean_first=["none", "dmis"], labeller=LABELLER)
    assert {cell["status"] for cell in dry_run(config, folder / "out")} == {"missing"}
    assert [path.name for path in folder.iterdir()] == ["grid.yaml"]
    answer = benchmark(config, folder / "out", executor=Inline(), tell=told.append)
    assert (len(answer.results), answer.done, answer.failed, answer.missing) == (8, 8, 0, 0)
    return folder, told


@pytest.fixture
def copy(finished: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """`finished`, to be written to."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`toys(name="a line of Python")` makes the method toys.NAME."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "toys").mkdir()

    def make(**bodies: str) -> None:
        for name, body in bodies.items():
            (tmp_path / "toys" / f"{name}.py").write_text(TOY.format(body=body))
            sys.modules.pop(f"toys.{name}", None)

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "toys"]:
        del sys.modules[name]


def recipe(tmp_path: Path, **changed: Any) -> str:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(RECIPE | changed))
    return str(path)


def files(folder: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of change of every file."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in found
    }


WITHOUT_SETS = {
    "methods": ["dmis"],
    "ipc": [],
    "generation": {"samples": 12, "ks": [3], "steps": 3},
    "classifiers": ["ce", "dmis", "dmis-ce"],
    "fit": {"network": "mlp", "epochs": 1},
    "options": {"dmis": GENERATOR, "dmis-ce": {"per_class": 2}},
}


@pytest.fixture(scope="module")
def without_sets(tmp_path_factory: pytest.TempPathFactory, small: None) -> Path:
    """A folder whose grid.yaml, of samples and classifiers, was run into out/."""
    folder = tmp_path_factory.mktemp("without-sets")
    answer = benchmark(recipe(folder, **WITHOUT_SETS), folder / "out", executor=Inline())
    assert (answer.done, len(answer.results)) == (4, 4)
    return folder


def test_samples_are_measured_and_classifiers_tested_with_one_generator(without_sets: Path) -> None:
    out = without_sets / "out"
    samples, *arms = read_csv(out / "results.csv")
    assert [(result.task, result.method) for result in (samples, *arms)] == [
        ("generation", "dmis"),
        ("weak-supervision", "ce"),
        ("weak-supervision", "dmis"),
        ("weak-supervision", "dmis-ce"),
    ]
    assert [path.name for path in (out / "shared").iterdir()] == ["digits-sym-0.4_dmis_seed0"]
    kinds = ["FD", "KD", "Density k=3", "Coverage k=3", "IS", "CW-FD", "CW-KD", "CW-Density k=3", "CW-Coverage k=3"]
    assert [measured.metric for measured in samples.measured] == kinds
    told = [kind.replace("IS", "CS") + " (convnet, 12 vs 60)" for kind in kinds]
    assert [measured.name for measured in samples.measured] == told
    drawn = sources.load(str(out / "cells" / samples.cell / "samples.h5"))
    assert np.bincount(drawn.supervision.observed).tolist() == [4, 4, 4]
    assert all(0 <= result.accuracies[0] <= 100 and result.mean == result.accuracies[0] for result in arms)
    page = (out / "report.html").read_text()
    assert "digits sym:0.4: samples" in page and "FD (convnet, 12 vs 60)" in page
    assert "digits sym:0.4: classifiers" in page and "dmis, samples" in page


def test_samples_and_classifiers_that_broke_are_done_again(without_sets: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(without_sets, tmp_path / "copy"))
    out = folder / "out"
    samples, ce, dmis, _ = (out / "cells" / result.cell for result in read_csv(out / "results.csv"))
    before = {result.cell: result for result in read_csv(out / "results.csv")}
    kept = files(out / "shared")
    os.truncate(samples / "samples.h5", 500)
    (samples / "metrics.json").write_text("{")
    (ce / "accuracy.json").unlink()
    (dmis / "accuracy.json").write_text('{"accuracy": "high"}')
    config = str(folder / "grid.yaml")
    assert [cell["status"] for cell in dry_run(config, out)] == ["missing", "missing", "missing", "done"]
    assert benchmark(config, out, executor=Inline()).done == 4
    assert files(out / "shared") == kept
    for result in read_csv(out / "results.csv"):
        found, was = result, before[result.cell]
        assert (found.accuracies, found.measured) == (was.accuracies, was.measured)


def test_sets_requested_later_use_the_existing_generator(without_sets: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(without_sets, tmp_path / "copy"))
    generator = folder / "out" / "shared" / "digits-sym-0.4_dmis_seed0" / "generator.safetensors"
    before = generator.read_bytes(), generator.stat().st_mtime_ns
    answer = benchmark(str(folder / "grid.yaml"), folder / "out", settings=["ipc=[1]"], executor=Inline())
    assert (answer.done, len(answer.results)) == (5, 5)
    assert (generator.read_bytes(), generator.stat().st_mtime_ns) == before


def test_missing_weights_are_reported_before_anything_is_trained(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    config = recipe(tmp_path, **WITHOUT_SETS)
    asked = ["generation.space=inception", "generation.weights=nowhere.pth"]
    with pytest.raises(UserError, match=r"nowhere.pth cannot be read"):
        benchmark(config, tmp_path / "out", settings=asked, executor=Inline())
    assert not (tmp_path / "out").exists()
    assert len(dry_run(config, tmp_path / "out", asked)) == 4


def test_no_second_one_works_in_the_same_folder(tmp_path: Path) -> None:
    config, refused = recipe(tmp_path, methods=["random"], options={}), list[str]()

    class Twice(Inline):
        def start(self, work: Callable[[Path, Cell], None], out: Path, cell: Cell) -> Inline:
            with pytest.raises(UserError) as found:
                benchmark(config, out, executor=Inline())
            refused.append(str(found.value))
            return super().start(work, out, cell)

    for _ in range(2):  # the second time nothing is left to be done, and nobody holds the folder
        assert benchmark(config, tmp_path / "out", executor=Twice()).missing == 0
    assert refused and set(refused) == {
        f"Another benchmark is running in {tmp_path / 'out'}; wait for it, or choose another --out."
    }


def test_cells_are_scored_and_share_what_is_trained(finished: tuple[Path, list[str]]) -> None:
    out, told = finished[0] / "out", finished[1]
    results = read_csv(out / "results.csv")
    assert [result.cell for result in results] == [
        cell["cell"] for cell in dry_run(str(finished[0] / "grid.yaml"), out)
    ]
    made = {result.cell: read(out / "cells" / result.cell / "condensed.h5") for result in results}
    for result in results:
        record = made[result.cell].provenance
        assert (record.ipc, record.method, record.seed) == (result.ipc, result.method, 0)
        assert len(result.accuracies) == 2 and result.seconds == record.cost.seconds
        assert result.mean == pytest.approx(sum(result.accuracies) / 2)
        assert result.bytes == (out / "cells" / result.cell / "condensed.h5").stat().st_size
    # one generator for both sizes, one to repair labels for both methods, one trained on repaired labels
    assert sorted(path.name for path in (out / "shared").iterdir()) == [
        "digits-sym-0.4_dmis_by-dmis_seed0",
        "digits-sym-0.4_dmis_seed0",
        "digits-sym-0.4_labels-by-dmis_seed0",
    ]
    notes = {name: condensed.provenance.notes for name, condensed in made.items()}
    small, large = (notes[f"digits-sym-0.4_dmis_ipc{ipc}_seed0"] for ipc in (1, 2))
    assert small["generator"] == large["generator"]
    one, other = (notes[f"digits-sym-0.4_random_by-dmis_ipc{ipc}_seed0"] for ipc in (1, 2))
    assert one["labeller"] == other["labeller"] != small["generator"]
    assert len(told) == 9 and told[-1].startswith("[8/8]")
    assert [line for line in told if line.startswith("digits-sym-0.4_labels-by-dmis_seed0: done")]
    page = (out / "report.html").read_text()
    assert "random, labels by dmis" in page and "dmis, to repair labels" in page and "http" not in page
    assert "{name: digits, noise: &#39;sym:0.4&#39;}" in page and "Dashed: made from repaired labels" in page


def test_sizes_share_a_teacher_and_its_first_cell_continues_where_it_trained(tmp_path: Path) -> None:
    out, options = tmp_path / "out", {"herding": {"teacher": {"epochs": 1}}}
    config = recipe(tmp_path, methods=["herding"], options=options)
    assert benchmark(config, out, executor=Inline()).done == 2
    (shared,) = (out / "shared").iterdir()
    first, second = (out / "cells" / f"digits-sym-0.4_herding_ipc{ipc}_seed0" for ipc in (1, 2))
    assert (shared / "first-cell.txt").read_text().strip() == first.name
    before, sets = files(shared), [read(cell / "condensed.h5") for cell in (first, second)]
    assert sets[0].provenance.notes["teacher"] == sets[1].provenance.notes["teacher"]
    for cell in (first, second):
        (cell / "condensed.h5").unlink()
    assert benchmark(config, out, executor=Inline()).done == 2
    assert [read(cell / "condensed.h5").sha256() for cell in (first, second)] == [made.sha256() for made in sets]
    assert before["teacher.safetensors"] == files(shared)["teacher.safetensors"]


def test_a_finished_grid_is_left_unchanged(copy: Path) -> None:
    out, told, before = copy / "out", list[str](), files(copy / "out")
    assert benchmark(str(copy / "grid.yaml"), out, executor=Inline(), tell=told.append).done == 8
    after = files(out)
    rewritten = {"benchmark.json", "results.csv", "comparisons.csv", "published.csv", "report.html", "report.md"}
    rewritten |= {"table.tex", "leaderboard.html"}
    assert {name for name in after if before.get(name) != after[name]} <= rewritten and told == []
    assert all(before[name][0] == after[name][0] for name in rewritten)
    told_budgets = "- budgets: each method's own; as the recipe sets them for dmis\n"
    assert told_budgets in (out / "report.md").read_text()


def test_failures_are_reported_and_do_not_stop_the_rest(tmp_path: Path, toys: Callable[..., None]) -> None:
    toys(boom="raise ValueError('no idea <what>')", fine="pass")
    out = tmp_path / "out"
    config, own = recipe(tmp_path, options={}), ("methods=[toys.boom, toys.fine]",)
    with pytest.raises(RunFailed, match="2 of 4 cells failed"):
        benchmark(config, out, settings=own, executor=Inline())
    results = {result.cell: result for result in read_csv(out / "results.csv")}
    failed = results["digits-sym-0.4_toys.boom_ipc1_seed0"]
    assert (failed.status, failed.error, failed.mean) == ("failed", "ValueError: no idea <what>", None)
    assert "Traceback" in (out / "cells" / failed.cell / "log.txt").read_text()
    assert [result.status for result in results.values()] == ["failed", "failed", "done", "done"]
    page = (out / "report.html").read_text()
    assert (
        "no idea &lt;what&gt;" in page and "- `digits-sym-0.4_toys.boom_ipc1_seed0`" in (out / "report.md").read_text()
    )

    kept = files(out / "cells" / "digits-sym-0.4_toys.fine_ipc1_seed0")
    toys(boom="pass")
    assert benchmark(config, out, settings=own, executor=Inline()).done == 4
    assert files(out / "cells" / "digits-sym-0.4_toys.fine_ipc1_seed0") == kept
    assert not (out / "cells" / failed.cell / "error.json").exists()


def test_a_generator_that_fails_fails_its_cells_once_with_the_reason(tmp_path: Path) -> None:
    out = tmp_path / "out"
    nan = GENERATOR | {"train": {"steps": 10, "batch_size": 16, "learning_rate": 1e30}}
    with pytest.raises(RunFailed, match="2 of 4"):
        benchmark(recipe(tmp_path, options={"dmis": nan}), out, executor=Inline())
    first, second = (result for result in read_csv(out / "results.csv") if result.method == "dmis")
    assert (
        first.error and second.error == f"The generator it shares with {first.cell} could not be trained: {first.error}"
    )


def test_only_broken_cells_are_repeated(copy: Path) -> None:
    out, name = copy / "out", "digits-sym-0.4_{}_seed0".format
    cut, empty, other, lost = (
        out / "cells" / name(f"{method}_ipc{ipc}") for method in ("random", "dmis") for ipc in (1, 2)
    )
    generator = out / "shared" / name("dmis") / "generator.safetensors"
    before = files(out / "cells")
    sets = {cell: read(cell / "condensed.h5").sha256() for cell in (cut, empty, other, lost)}
    os.truncate(cut / "condensed.h5", 3000)
    (empty / "score.json").write_text("")
    (other / "condensed.h5").write_bytes((lost / "condensed.h5").read_bytes())
    (lost / "condensed.h5").unlink()
    os.truncate(generator, 3000)

    config = str(copy / "grid.yaml")
    broken = {cut.name, empty.name, other.name, lost.name}
    assert {cell["cell"] for cell in dry_run(config, out) if cell["status"] == "missing"} == broken
    assert benchmark(config, out, executor=Inline()).done == 8
    after = files(out / "cells")
    assert {path.split("/")[0] for path in after if before.get(path) != after[path]} == broken
    assert before[f"{empty.name}/condensed.h5"] == after[f"{empty.name}/condensed.h5"]
    assert {cell: read(cell / "condensed.h5").sha256() for cell in (cut, empty, lost)} == {
        cell: sets[cell] for cell in (cut, empty, lost)
    }
    assert Run(generator.parent).load("generator") is not None


def test_empty_cells_are_missing_and_made_anew(copy: Path, dmis: Dmis) -> None:
    """A folder without anything, one of empty files, none at all, and a set without its score."""
    out, name = copy / "out", "digits-sym-0.4_{}_seed0".format
    bare, hollow, gone, unscored = (
        out / "cells" / name(f"{method}_ipc{ipc}") for method in ("random", "dmis") for ipc in (1, 2)
    )
    for cell in (bare, gone):
        shutil.rmtree(cell)
    bare.mkdir()
    for part in ("recipe.json", "condensed.h5", "score.json"):
        (hollow / part).write_bytes(b"")
    (unscored / "score.json").write_text('{"sha256": ""}')
    told = json.loads(dmis("report", out, "--json").out)
    assert (told["done"], told["missing"], told["failed"]) == (4, 4, 0)
    text = "".join(Page((out / "report.html").read_text()).texts)
    assert "4of 8" in text and "still to be run" in text
    assert benchmark(str(copy / "grid.yaml"), out, executor=Inline()).done == 8
    assert all(read(cell / "condensed.h5").ipc for cell in (bare, hollow, gone, unscored))


def test_cells_of_another_recipe_are_not_mixed_in(tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = recipe(tmp_path, methods=["random"], ipc=[1], options={})
    benchmark(config, out, executor=Inline())
    with pytest.raises(UserError, match=r"made by another recipe.*another --out"):
        benchmark(config, out, settings=["evaluate.repeats=1"], executor=Inline())
    more = benchmark(config, out, settings=["ipc=[1, 2]", "title=Wider"], executor=Inline())
    assert len(more.results) == 2 and "Wider" in (out / "report.html").read_text()


def test_what_was_trained_by_another_recipe_is_not_shared(copy: Path) -> None:
    """A larger size was drawn from the generator of the smaller one, whatever its recipe said of the training."""
    out, config = copy / "out", str(copy / "grid.yaml")
    for cell in (out / "cells").iterdir():
        shutil.rmtree(cell)
    longer = ["options.dmis.train.steps=21", "ipc=[3]"]
    with pytest.raises(UserError, match=r"dmis_seed0 was trained by another recipe \(train \(steps 10, now 21\)\)"):
        benchmark(config, out, settings=longer, executor=Inline())
    assert not any((out / "cells").iterdir())
    with pytest.raises(UserError, match=r"labels-by-dmis_seed0 was trained by another recipe \(labeller \(train.steps"):
        benchmark(config, out, settings=["labeller.train.steps=21"], executor=Inline())
    (out / "shared" / "digits-sym-0.4_dmis_seed0" / "recipe.json").unlink()  # of an earlier version
    asked = ["ipc=[3]", "methods=[dmis]", "clean_first=[none]"]
    assert benchmark(config, out, settings=asked, executor=Inline()).done == 1


def test_no_more_cells_are_started_once_time_is_up(tmp_path: Path) -> None:
    answer = benchmark(recipe(tmp_path), tmp_path / "out", executor=Inline(), hours=0.0)
    assert (answer.missing, answer.failed) == (4, 0)
    assert "still to be run" in (tmp_path / "out" / "report.html").read_text()


def test_the_report_is_made_anew_from_the_folder(copy: Path, dmis: Dmis) -> None:
    out = copy / "out"
    names = ("results.csv", "comparisons.csv", "published.csv", "report.html", "report.md", "table.tex")
    before = {name: (out / name).read_bytes() for name in names}
    for name in before:
        (out / name).unlink()
    answer = dmis("report", out, "--json")
    assert answer.code == 0 and json.loads(answer.out)["done"] == 8
    assert {name: (out / name).read_bytes() for name in before} == before
    assert dmis("report", copy).code == 2
    table = json.loads(answer.out)["table"]
    labels = [f"{method}{by}" for method in ("random", "dmis") for by in ("", ", labels by dmis")]
    assert {(row["method"], row["ipc"]) for row in table} == {(m, ipc) for m in labels for ipc in (1, 2)}
    lines = dmis("report", out).out.splitlines()
    (head,) = (number for number, text in enumerate(lines) if text.split() == ["IPC", "1", "IPC", "2"])
    shown = {row["ipc"]: row["accuracy"] for row in table if row["method"] == "random"}
    assert lines[head + 1].split() == ["random", *shown[1].split(), *shown[2].split()]


def test_tasks_wait_for_what_they_need(tmp_path: Path) -> None:
    order: list[str] = []

    class Slow(Inline):
        """Each task ends at the second poll."""

        slots = 2

        def start(self, work: Callable[[Path, Cell], None], out: Path, cell: Cell) -> "Slow":
            work(out, cell)
            started = Slow()
            started.asked = 0  # type: ignore[attr-defined]
            return started

        def done(self) -> bool:
            self.asked += 1  # type: ignore[attr-defined]
            return self.asked > 1  # type: ignore[attr-defined,no-any-return]

    cell = expand(read_benchmark(RECIPE))[0]
    tasks = [
        Task("c", lambda out, cell: order.append("c"), cell, ("b",)),
        Task("a", lambda out, cell: order.append("a"), cell),
        Task("b", lambda out, cell: order.append("b"), cell, ("a",)),
        Task("never", lambda out, cell: order.append("never"), cell),
        Task("d", lambda out, cell: order.append("d"), cell, ("never", "elsewhere")),
        Task("e", lambda out, cell: order.append("e"), cell),
    ]
    stopped = run_tasks(
        tasks,
        Slow(),
        tmp_path,
        may_start=lambda task: task.name != "never",
        ended=lambda task, job: order.append(f"{task.name} ended"),
    )
    assert not stopped and "never" not in order
    assert order.index("a ended") < order.index("b") < order.index("b ended") < order.index("c")
    assert order[:2] == ["a", "e"] and {"c ended", "d ended", "e ended"} <= set(order)  # "d" waits for "never"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its debug jobs leave files open
def test_a_job_by_way_of_submitit(tmp_path: Path) -> None:
    executor = SubmititExecutor(tmp_path / "jobs", {"timeout_min": 5}, 3, "debug")
    answer = benchmark(recipe(tmp_path, methods=["random"], ipc=[1], options={}), tmp_path / "out", executor=executor)
    assert answer.done == 1
    with pytest.raises(UserError, match="--executor local"):
        SubmititExecutor(tmp_path / "jobs", {}, 3, "slurm")
    with pytest.raises(UserError, match="no_such"):
        SubmititExecutor(tmp_path / "jobs", {"no_such": 1}, 3, "debug")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("score.json", "[]"),
        ("score.json", "null"),
        ("score.json", "[" * 100_000),
        ("recipe.json", '{"data": null}'),
        ("recipe.json", "[1]"),
        ("labels.json", "{}"),
    ],
)
def test_a_damaged_file_of_a_cell_stops_nothing(copy: Path, name: str, content: str) -> None:
    """Contents of another kind stopped the whole benchmark."""
    for file in (copy / "out").rglob(name):
        file.write_text(content)
    if name == "recipe.json" and content.startswith("{"):
        with pytest.raises(UserError, match="was made by another recipe; choose another --out, or remove that folder"):
            report(copy / "out")
        return
    told = report(copy / "out")
    assert told.done == (8 if name == "labels.json" else 0)


def test_a_score_that_lacks_a_key_is_missing(copy: Path) -> None:
    """A score.json lacking a key stopped the whole benchmark."""
    files_of_scores = sorted((copy / "out").rglob("score.json"))
    for file, key in zip(files_of_scores, ("sha256", "network", "accuracies", "mean", "std", "ci95"), strict=False):
        score = json.loads(file.read_text())
        del score[key]
        file.write_text(json.dumps(score))
    last = files_of_scores[-1]
    last.write_text(last.read_text().replace('"mean": ', '"mean": "high", "was": '))
    assert report(copy / "out").done == 8 - 6 - 1
