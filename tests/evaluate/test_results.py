"""A benchmark's lines and its table: nothing lost on the way through CSV, means and best over the right cells."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from condense.errors import UserError
from condense.evaluate.results import COLUMNS, Result, comparisons, entries, read_csv, write_comparisons, write_csv
from condense.evaluate.stats import compare_paired
from condense.evaluate.tables import DETAILS, ORACLE, accuracy_table, latex_table, markdown_report, shown

DONE = Result(
    cell="fm_random_ipc10_seed0",
    setting="fashion-mnist sym:0.4",
    method="random",
    data="fashion-mnist",
    noise="sym:0.4",
    ipc=10,
    seed=0,
    clean_first="none",
    protocol="hard",
    network="convnet3",
    status="done",
    accuracies=(50.0, 1 / 3, 70.25),
    mean=40.1,
    std=None,
    ci95=2.5,
    seconds=1.25,
    peak_memory_bytes=123456789,
    bytes=4321,
    labels_recovered=99.5,
)
MISSING = dataclasses.replace(
    DONE, status="missing", accuracies=(), mean=None, ci95=None, seconds=None, bytes=None, labels_recovered=None
)


def line(**changed: object) -> Result:
    return dataclasses.replace(DONE, **changed)  # type: ignore[arg-type]


def test_csv_gives_back_what_was_written(tmp_path: Path) -> None:
    failed = dataclasses.replace(MISSING, status="failed", error='a "quoted", sentence;\nof two lines – ±', seed=3)
    results = [DONE, MISSING, failed]
    write_csv(tmp_path / "results.csv", results)
    assert read_csv(tmp_path / "results.csv") == results
    head = (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()[0]
    assert head.split(",") == list(COLUMNS) == [field.name for field in dataclasses.fields(Result)]
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", None])
def test_another_file_is_not_a_result(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "results.csv").write_text(content)
    with pytest.raises(UserError, match="make it again"):
        read_csv(tmp_path / "results.csv")


def test_a_damaged_number_is_reported(tmp_path: Path) -> None:
    write_csv(tmp_path / "results.csv", [DONE])
    text = (tmp_path / "results.csv").read_text()
    (tmp_path / "results.csv").write_text(text.replace("123456789", "12 3"))
    with pytest.raises(UserError, match="cannot be read"):
        read_csv(tmp_path / "results.csv")


def test_entries_hold_all_seeds_and_mark_the_best_of_each_column() -> None:
    results = [
        line(accuracies=(50.0, 52.0), seconds=1.0),
        line(accuracies=(54.0, 56.0), seconds=3.0, seed=1),
        line(method="dmis", accuracies=(60.0, 61.0)),
        line(method="dmis", clean_first="oracle", accuracies=(60.0, 60.0)),
        line(method="dm", status="failed", accuracies=(), error="no"),
        line(ipc=50, accuracies=(70.0,)),
        line(ipc=50, seed=1, status="missing", accuracies=()),
    ]
    random, dmis, cleaned, failed, large = entries(results)
    means = np.array([51.0, 55.0])  # the set is the unit, not the network
    half = stats.t.ppf(0.975, 1) * means.std(ddof=1) / 2**0.5
    assert random.summary is not None and random.summary.mean == 53.0
    assert random.summary.ci95 == pytest.approx(half) and (random.num_sets, random.seconds) == (2, 2.0)
    alone = np.array([60.0, 61.0])
    assert dmis.summary is not None
    assert dmis.summary.ci95 == pytest.approx(stats.t.ppf(0.975, 1) * alone.std(ddof=1) / 2**0.5)
    assert [entry.best for entry in (random, dmis, cleaned, failed, large)] == [False, True, False, False, True]
    assert (cleaned.label, cleaned.method) == ("dmis, labels by oracle", "dmis")
    assert (failed.summary, failed.num_failed, large.num_sets) == (None, 1, 1)
    published = [entry.published.mean if entry.published else None for entry in (random, dmis, cleaned, failed, large)]
    assert published == [34.42, 70.18, None, 57.06, 52.36]
    assert [shown(entry) for entry in (random, failed, large, None)] == ["53.0", "failed", "70.0", "–"]
    shown_dmis = f"60.5 ± {dmis.summary.ci95:.1f}"
    assert shown(dmis).rstrip("*") == shown_dmis
    assert accuracy_table([random, large])[1] == {
        **{"setting": large.setting, "judged": large.judged, "method": "random", "ipc": 50},
        "accuracy": "70.0",
    }


def test_tables_say_the_same_in_markdown_and_latex() -> None:
    table = entries(
        [
            line(accuracies=(50.0,)),
            line(method="d_m&", accuracies=(80.0,)),
            line(method="d_m&", ipc=1, status="failed", accuracies=()),
            line(setting="digits 50%", data="digits", accuracies=(90.0,)),
        ]
    )
    markdown = markdown_report("A | title", [("seeds", "0")], table, [("cell", "why")])
    assert "| method | IPC 1 | IPC 10 | published |" in markdown
    assert "| random | – | 50.0 | 34.4 |" in markdown and "| d_m& | failed | **80.0** | – |" in markdown
    assert "- `cell`: why" in markdown and "several points" in markdown
    rows = [row for row in markdown.splitlines() if row.startswith("|")]
    # three columns and the method, or one and the method; and what accuracies hide
    assert {row.count("|") for row in rows} == {5, 3, 3 + len(DETAILS)}
    assert "| random | 10 | – | – | 0.02 | 123 MB | – | 1 | hard |" in markdown
    latex = latex_table(table)
    assert r"d\_m\& & \textbf{80.0} & failed & -- \\" in latex
    assert r"\multicolumn{2}{c}{fashion-mnist sym:0.4} & \multicolumn{1}{c}{digits 50\%}" in latex
    assert latex.count("{") == latex.count("}") and r"\begin{tabular}{lccc}" in latex


def seeds(method: str, *means: float, **changed: object) -> list[Result]:
    """Cells of a method, one per seed, of two networks per set that are 1 apart."""
    return [
        line(method=method, seed=seed, accuracies=(mean - 0.5, mean + 0.5), **changed)
        for seed, mean in enumerate(means)
    ]


def test_methods_are_compared_seed_by_seed() -> None:
    """dsa is below dmis by about one on every seed, though their intervals overlap; dm is not shown to be."""
    dmis, dsa, dm = (70.0, 60.0, 80.0, 75.0), (69.0, 58.9, 79.1, 74.0), (70.0, 59.8, 79.9, 74.9)
    found = entries([*seeds("dm", *dm), *seeds("dmis", *dmis), *seeds("dsa", *dsa)])
    below = [entry.against_best for entry in found]
    assert [entry.best for entry in found] == [False, True, False]
    assert below[0] is not None and below[1] is None and below[2] is not None
    assert below[2].paired == compare_paired(dsa, dmis) and below[2].paired.p_t < 0.001
    assert below[0].residual == below[2].residual and below[0].residual.num_methods == 3 and below[0].p > 0.05
    assert [shown(entry).endswith("*") for entry in found] == [False, False, True]
    markdown = markdown_report("", [], found, [])
    assert markdown.count(r"\*") == 2  # dsa, and what the star means
    assert "studentised range" in markdown and ORACLE not in markdown
    assert "% * lower than the highest" in latex_table(found) and "*" not in markdown_report("", [], found[:0], [])


def test_only_what_is_judged_alike_is_compared() -> None:
    """rded by soft labels is neither the best of those judged by hard ones nor starred by them."""
    hard = [*seeds("dmis", 70.0, 71.0, 73.0), *seeds("dm", 60.0, 61.5, 63.0)]
    soft = seeds("rded", 90.0, 91.0, 92.5, protocol="soft", network="convnet3-bn", labels="soft")
    other = seeds("dm", 50.0, 51.0, 53.0, network="resnet18")
    packed = seeds("idc", 80.0, 81.0, 83.5, packing=4)
    older = seeds("herding", 75.0, 76.0, 78.5, protocol_version=0)
    found = entries([*hard, *soft, *other, *packed, *older])
    assert [entry.best for entry in found] == [True, False, True, True, True, True]
    assert [entry.against_best is not None for entry in found] == [False, True, False, False, False, False]
    assert [(pair["a"], pair["b"]) for pair in comparisons([*hard, *soft, *other, *packed])] == [("dmis", "dm")]
    markdown, latex = markdown_report("", [], found, []), latex_table(found)
    assert markdown.count("Judged by ") == latex.count("% judged by ") == latex.count(r"\begin{tabular}") == 5
    assert "convnet3, soft" not in markdown and "convnet3-bn by protocol soft (version 1), soft labels." in markdown
    assert "4 pictures packed into each image" in markdown


def test_a_missing_cell_stands_with_the_done_ones_of_its_method() -> None:
    done = line(method="rded", protocol="soft", labels="online", packing=4)
    missing = line(method="rded", protocol="soft", labels="soft", seed=1, status="missing", accuracies=())
    (entry,) = entries([missing, done])
    assert (entry.labels, entry.packing, entry.num_sets) == ("online", 4, 1)


def test_intervals_state_what_they_are_over() -> None:
    """Draws of the noise hold sets, sets hold networks: the unit is the outermost that varies."""
    one = line(accuracies=(50.0, 52.0))
    sets = [line(accuracies=(50.0, 52.0), noise_seed=0), line(accuracies=(55.0, 57.0), noise_seed=0, seed=1)]
    draws = [*sets, line(accuracies=(60.0, 62.0), noise_seed=1, seed=2), line(accuracies=(61.0,), noise_seed=1, seed=3)]
    assert [entries(some)[0].over for some in ([one], sets, draws)] == ["networks", "sets", "noise"]
    summary = entries(draws)[0].summary
    means = np.array([(51.0 + 56.0) / 2, (61.0 + 61.0) / 2])  # a draw each, whatever its sets
    assert summary is not None and summary.mean == means.mean()
    assert summary.ci95 == pytest.approx(stats.t.ppf(0.975, 1) * means.std(ddof=1) / 2**0.5)
    three = [*sets, line(accuracies=(50.0, 52.0), noise_seed=0, seed=2)]
    told = [markdown_report("", [], entries(some), []) for some in ([one], sets, three, draws)]
    assert ["over the networks" in text for text in told] == [True, False, False, False]
    assert ["For two seeds only the mean" in text for text in told] == [False, True, False, False]
    assert ["under one draw" in text for text in told] == [False, False, True, False]
    assert ["over draws of the label noise" in text for text in told] == [False, False, False, True]


def test_no_verdict_without_three_common_seeds() -> None:
    """Two equal differences would make the t test sure of itself; a seed that one of them lacks does not count."""
    two = entries([*seeds("dmis", 70.0, 80.0), *seeds("dm", 60.0, 70.0)])
    assert [entry.against_best for entry in two] == [None, None]
    (found,) = comparisons([*seeds("dmis", 70.0, 80.0), *seeds("dm", 60.0, 70.0)])
    assert (found["a"], found["b"], found["difference"], found["num_pairs"]) == ("dmis", "dm", 10.0, 2)
    assert (found["p_t"], found["p_permutation"]) == (0.0, 0.5)
    gaps = [*seeds("dmis", 70.0, 80.0, 75.0), *seeds("dm", 60.0, 70.0), line(method="dm", seed=7, accuracies=(61.0,))]
    assert [entry.against_best for entry in entries(gaps)] == [None, None]
    failed = dataclasses.replace(gaps[1], status="failed", accuracies=())
    assert comparisons([gaps[0], failed, gaps[3], gaps[4]]) == []


def test_the_oracle_is_compared_but_never_the_best() -> None:
    oracle = seeds("dm", 90.0, 91.0, 92.0, clean_first="oracle")
    best, bound = entries([*seeds("dmis", 70.0, 71.0, 73.0), *oracle])
    assert (best.best, bound.best) == (True, False)
    assert bound.against_best is not None and bound.against_best.paired.difference > 0
    assert not shown(bound).endswith("*")
    assert ORACLE in markdown_report("", [], [best, bound], []) and f"% {ORACLE}" in latex_table([best, bound])
    assert not any(entry.best for entry in entries(oracle))


def test_every_pair_goes_into_a_file(tmp_path: Path) -> None:
    results = [*seeds("dmis", 70.0, 60.0, 80.0), *seeds("dm", 69.0, 58.9, 79.5), *seeds("mtt", 10.0, 11.0, 12.5)]
    results += seeds("dmis", 50.0, 51.0, ipc=1) + seeds("dm", 40.0, 42.0, ipc=1, setting="other")
    write_comparisons(tmp_path / "pairs.csv", results)
    head, *lines = (tmp_path / "pairs.csv").read_text().splitlines()
    assert head == "setting,judged,ipc,a,b,difference,ci95,p_t,p_permutation,num_pairs"
    pairs = [[row["ipc"], row["a"], row["b"]] for row in csv.DictReader([head, *lines])]
    assert pairs == [["10", "dmis", "dm"], ["10", "dmis", "mtt"], ["10", "dm", "mtt"]]
    assert len(lines) == len(comparisons(results))


@pytest.mark.parametrize("name", ["=1+1", "@SUM(A1)", "+x", "-cmd|' /C calc'!A0", "'=x", "-1"])
def test_cells_are_never_formulas(tmp_path: Path, name: str) -> None:
    """Names of data and errors come from elsewhere."""
    write_csv(tmp_path / "results.csv", [line(data=name, error=name)])
    assert read_csv(tmp_path / "results.csv") == [line(data=name, error=name)]
    cells = (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()[1].split(",")
    assert not any(cell.strip('"')[:1] in ("=", "@", "+") for cell in cells)


@pytest.mark.parametrize("row", ["a", "a,b", "x," * 30, '"', "\0"])
def test_rows_of_another_width_are_a_sentence(tmp_path: Path, row: str) -> None:
    (tmp_path / "results.csv").write_text(",".join(COLUMNS) + f"\n{row}\n")
    with pytest.raises(UserError, match="make it again"):
        read_csv(tmp_path / "results.csv")
