"""The twins of the paper's tables, really run on digits: every cell, its name, and the published number beside it."""

import csv
from pathlib import Path

import pytest

from condense.benchmark.grid import expand
from condense.benchmark.grid_recipe import layers_of, read_benchmark
from condense.benchmark.runner import benchmark
from condense.evaluate.reference import Published, published
from condense.evaluate.results import Result, beside, read_csv
from condense.evaluate.sample_results import PAPERS

TABLES = ("1", "2", "3", "8", "9", "11", "13")


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_a_twin_runs_from_end_to_end(table: str, tmp_path: Path) -> None:
    name = f"twin-table{table}"
    told = benchmark(name, tmp_path / "out")
    cells = expand(read_benchmark(layers_of(name)))
    results = read_csv(tmp_path / "out" / "results.csv")
    assert (told.done, told.failed, told.missing) == (len(cells), 0, 0)
    assert [result.cell for result in results] == [cell.name for cell in cells]
    with (tmp_path / "out" / "published.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    wanted = {
        (result.setting, result.method, "" if result.ipc is None else str(result.ipc), metric, number.mean)
        for result in results
        for metric, number in beside_each(result)
    }
    found = {
        (line["setting"], line["method"], line["ipc"], line["published_metric"], float(line["published"]))
        for line in lines
    }
    assert found == wanted and len(wanted) > 0
    assert all(line["ours"] for line in lines)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for result in results:
        check(result)
        assert all(measured.name in page for measured in result.measured)
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert all(f"{number:.1f}" in report or f"{number:g}" in report for *_, number in wanted)


def beside_each(result: Result) -> list[tuple[str, Published]]:
    """The published numbers that have to stand beside a cell, by the paper's name of the metric."""
    metrics = PAPERS.values() if result.task == "generation" else ["accuracy"]
    numbers = [(metric, beside(result, metric=metric)) for metric in metrics]
    return [(metric, number) for metric, number in numbers if number is not None]


def check(result: Result) -> None:
    """Values in their range, and no metric called as only the true one may be."""
    assert all(0 <= accuracy <= 100 for accuracy in result.accuracies)
    if result.task != "generation":
        assert result.accuracies and result.measured == ()
        return
    assert {measured.metric for measured in result.measured} >= set(PAPERS)
    for measured in result.measured:
        assert measured.name.endswith(" (convnet, 200 vs 1297)") and measured.value is not None
        assert measured.name.split(" ")[0] not in {"FID", "KID", "IS", "CW-FID", "CW-KID"}
        assert measured.value >= (-1 if "KD" in measured.metric else 0)


def test_the_tables_are_those_of_the_paper() -> None:
    assert {number.table for number in published() if number.paper == "arXiv 2510.03016"} <= set(TABLES)
