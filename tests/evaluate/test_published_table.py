"""Classifiers and samples in the report's tables, and every published number beside ours in one file."""

import csv
import dataclasses
from pathlib import Path

import pytest
from pages import Page

from condense.evaluate.benchmark_report import BenchmarkReport, write_benchmark_report
from condense.evaluate.published_table import COLUMNS, published_lines, write_published
from condense.evaluate.reference import published
from condense.evaluate.results import Measured, Result, beside, comparisons, entries, read_csv, write_csv
from condense.evaluate.sample_results import PAPERS, sample_entries

SAMPLES = Result(
    cell="cifar10_dmis_samples_seed0",
    setting="cifar10 sym:0.4",
    method="dmis",
    data="cifar10",
    noise="sym:0.4",
    ipc=None,
    seed=0,
    clean_first="none",
    protocol="",
    network="inception",
    status="done",
    seconds=3.5,
    task="generation",
    measured=(
        Measured("FD", "FID", 4.5),
        Measured("KD", "KID", 0.5),
        Measured("Density k=5", "Density k=5", 0.875),
        Measured("IS", "IS", 9.5),
        Measured("CW-FD", "CW-FID", None),
    ),
)
ARM = dataclasses.replace(
    SAMPLES,
    cell="arm",
    method="co-teaching",
    network="resnet18-bn",
    task="weak-supervision",
    measured=(),
    accuracies=(80.0,),
    mean=80.0,
)
SET = dataclasses.replace(ARM, cell="set", method="dm", ipc=10, protocol="dmis", task="condensation")


def other(result: Result, **changed: object) -> Result:
    return dataclasses.replace(result, **changed)  # type: ignore[arg-type]


def test_lines_of_every_task_survive_csv(tmp_path: Path) -> None:
    mapped = other(SAMPLES, published_data="cifar10", published_noise="cifar10n", data="digits")
    results = [SAMPLES, ARM, SET, mapped, other(SAMPLES, status="missing", measured=(), seconds=None)]
    write_csv(tmp_path / "results.csv", results)
    assert read_csv(tmp_path / "results.csv") == results


def test_samples_are_summed_up_over_seeds_and_shares_are_in_percent() -> None:
    second = other(SAMPLES, seed=1, measured=tuple(other(m, value=1.0) for m in SAMPLES.measured))  # type: ignore[type-var]
    found = {entry.name: entry for entry in sample_entries([SAMPLES, ARM, second])}
    assert list(found) == ["FID", "KID", "Density k=5, %", "IS", "CW-FID"]
    assert found["FID"].summary is not None and found["FID"].summary.mean == pytest.approx((4.5 + 1) / 2)
    density = found["Density k=5, %"].summary
    assert density is not None and density.mean == pytest.approx((87.5 + 100) / 2)
    assert found["CW-FID"].summary is None  # the first seed has none
    assert sample_entries([other(SAMPLES, status="failed", measured=())]) == []


def test_metrics_of_other_features_or_numbers_of_images_have_no_common_mean() -> None:
    names = ("FD (convnet, 100 vs 200)", "FD (efficientnet-lite0, 50 vs 200)")
    seeds = [
        other(SAMPLES, seed=seed, measured=(Measured("KD", "KD", value), Measured("FD", names[which], value)))
        for seed, (which, value) in enumerate(((0, 1.0), (1, 99.0), (0, 3.0)))
    ]
    seeds.append(other(SAMPLES, seed=3, measured=seeds[0].measured[::-1]))
    found = {entry.name: entry.summary for entry in sample_entries(seeds)}
    means = {name: summary.mean for name, summary in found.items() if summary is not None}
    assert means == {"KD": 26.0, names[0]: pytest.approx(5 / 3), names[1]: 99.0}


def test_published_numbers_are_those_of_the_same_metric_and_column() -> None:
    found = {entry.metric: entry.published for entry in sample_entries([SAMPLES])}
    assert {metric: number.mean for metric, number in found.items() if number} == {
        "FD": 3.47,
        "Density k=5": 109.75,
        "IS": 9.68,
        "CW-FD": next(
            n.mean
            for n in published()
            if (n.metric, n.data, n.noise, n.method) == ("CW-FID", "cifar10", "sym:0.4", "DMIS")
        ),
    }
    assert {n.metric for n in published() if (n.table, n.task) == ("1", "generation")} == set(PAPERS.values())
    real = other(SAMPLES, noise="labels human.pt", published_noise="cifar10n")
    assert {n.mean for n in (beside(real, metric=m) for m in ("FID", "IS", "accuracy")) if n} == {3.22, 9.66, 93.21}
    twin = other(ARM, data="digits", published_data="fashion-mnist", published_noise="sym:0.4")
    assert (beside(ARM), beside(twin)) != (None, None) and beside(twin) != beside(ARM)
    assert beside(other(ARM, data="digits")) is None


def test_tasks_are_kept_apart() -> None:
    results = [SAMPLES, ARM, SET]
    assert [entry.method for entry in entries(results)] == ["dm"]
    (arm,) = entries(results, "weak-supervision")
    assert (arm.method, arm.ipc, arm.best) == ("co-teaching", None, True)
    two = [other(ARM, seed=seed, accuracies=(float(seed),), method=name) for seed in (1, 2) for name in ("ce", "elr")]
    assert [(line["ipc"], line["a"]) for line in comparisons([*two, SAMPLES])] == [(None, "ce")]


def test_one_line_for_each_published_number(tmp_path: Path) -> None:
    results = [SAMPLES, ARM, SET, other(ARM, method="gce"), other(SET, method="random", ipc=3)]
    lines = published_lines(results)
    told = [(line["method"], line["ipc"], line["ours_metric"], line["ours"], line["published"]) for line in lines]
    assert told[0] == ("dm", 10, "accuracy", 80.0, 23.71) and told[1] == ("co-teaching", None, "accuracy", 80.0, 86.54)
    assert ("dmis", None, "FID", 4.5, 3.47) in told and ("dmis", None, "Density k=5, %", 87.5, 109.75) in told
    assert not {"gce", "random"} & {line["method"] for line in lines} and len(lines) == 2 + 4
    write_published(tmp_path / "published.csv", results)
    with (tmp_path / "published.csv").open() as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == list(COLUMNS) and len(read) == len(lines)
    assert [float(row["published"]) for row in read] == [line["published"] for line in lines]


def test_the_report_shows_each_kind_of_table_with_published_numbers_beside(tmp_path: Path) -> None:
    failed = other(SAMPLES, method="vanilla", status="failed", measured=(), error="NaN <at> step 3")
    report = BenchmarkReport("Tables", [("seeds", "0")], [SAMPLES, failed, ARM, SET], [], [], "methods: []", ["dmis"])
    write_benchmark_report(tmp_path, report)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    text = " ".join("".join(page.texts).split())
    assert page.open == []
    for said in (
        "cifar10 sym:0.4: classifiers",
        "co-teaching",
        "cifar10 sym:0.4: samples",
        "FID 3.47",
        "87.5",
        "109.75",
    ):
        assert said in text
    assert "table 1 (cifar10 sym:0.4)" in text and "table 2 (cifar10 sym:0.4)" in text and "NaN <at> step 3" in text
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| metric | dmis | published |" in markdown and "| FID | 4.5 | FID 3.47 |" in markdown
    assert "| method | accuracy | published |" in markdown and "| method | IPC 10 | published |" in markdown
    latex = (tmp_path / "table.tex").read_text(encoding="utf-8")
    assert latex.count(r"\begin{tabular}") == 3 and latex.count("{") == latex.count("}")
    assert r"Density k=5, \% & 87.5 \\" in latex and latex.count("images per class") == 1


def test_a_report_without_sets_does_not_speak_of_them(tmp_path: Path) -> None:
    report = BenchmarkReport("Tables", [], [SAMPLES], [], [], "methods: []", ["dmis"])
    write_benchmark_report(tmp_path, report)
    text = " ".join("".join(Page((tmp_path / "report.html").read_text(encoding="utf-8")).texts).split())
    assert "Tiny training sets" not in text and "to train all" in text
    assert (tmp_path / "table.tex").read_text().count(r"\begin{tabular}") == 1
