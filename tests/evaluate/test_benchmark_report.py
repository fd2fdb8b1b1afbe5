"""The benchmark's page: everything inside one file, every method and cell listed, the given pictures shown."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from pages import Page, picture

from condense.errors import UserError
from condense.evaluate import figures
from condense.evaluate.benchmark_report import (
    BenchmarkReport,
    Confusion,
    SetPictures,
    render_benchmark_report,
    write_benchmark_report,
)
from condense.evaluate.results import Result

CLASSES = ("T-shirt/top", "<bag>")


MISSING = Result(
    cell="cell",
    setting="fashion-mnist sym:0.4",
    method="random",
    data="fashion-mnist",
    noise="sym:0.4",
    ipc=10,
    seed=0,
    clean_first="none",
    protocol="hard",
    network="convnet3",
    status="missing",
)
DONE = dataclasses.replace(
    MISSING, status="done", accuracies=(50.0, 1 / 3, 70.25), mean=40.1, std=36.0, ci95=2.5, seconds=1.25, bytes=4321
)


def line(method: str, **changed: object) -> Result:
    return dataclasses.replace(DONE, method=method, cell=f"cell {method}", **changed)  # type: ignore[arg-type]


def report() -> BenchmarkReport:
    generator = np.random.default_rng(0)
    results = [
        line("random"),
        line("dm", clean_first="dmis"),
        dataclasses.replace(line("dmis"), labels_recovered=98.25, classifier_accuracy=95.5),
        dataclasses.replace(MISSING, method="mtt", status="failed", error="NaN <at> step 3"),
        dataclasses.replace(MISSING, method="rded"),
        line("random", setting="digits none", data="digits", noise="none"),
    ]
    images = generator.integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    counts = np.array([[6, 4], [1, 9]])
    return BenchmarkReport(
        title="Bench & more",
        settings=[("seeds", "0 <1>")],
        results=results,
        pictures=[SetPictures("fashion-mnist sym:0.4", name, 2, CLASSES, images) for name in ("random", "dmis")],
        confusions=[
            Confusion("fashion-mnist sym:0.4", "dmis", CLASSES, counts, np.diag([10, 10])),
            Confusion("fashion-mnist sym:0.4", "vanilla", CLASSES, counts, np.diag([9, 9])),
        ],
        recipe="methods: all\n",
        commands=["dmis benchmark grid.yaml --out DIR"],
    )


def test_sets_of_unknown_cost_have_no_plot_against_minutes() -> None:
    """The report failed at an empty legend."""
    known = report()
    unknown = dataclasses.replace(known, results=[dataclasses.replace(line("random"), seconds=None)])
    plots = "Accuracy against images per class", "Accuracy against build minutes"
    assert [text in render_benchmark_report(known) for text in plots] == [True, True]
    assert [text in render_benchmark_report(unknown) for text in plots] == [True, False]


def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    write_benchmark_report(tmp_path, report())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md", "table.tex"]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []  # every element closed
    assert all(link.startswith("data:image/png") or link == "#failed" for link in page.links)
    assert len([link for link in page.links if link != "#failed"]) == 2 * 2 + 2 * 2 + 3  # plots, class rows, matrices
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.tags)
    assert "http" not in html and "url(" not in html and "@import" not in html
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    assert "@media print" in html and "overflow-x: auto" in html


def test_every_method_is_listed_and_text_is_escaped() -> None:
    html = render_benchmark_report(report())
    text = "".join(Page(html).texts)
    for said in ("random", "dm, labels by dmis", "dmis", "mtt", "rded", "Bench & more", "0 <1>", "NaN <at> step 3"):
        assert said in text
    for number in ("4of 6", "34.4 ± 0.7", "70.2 ± 0.4", "98.2", "95.5", "93.4"):  # ours, published, classifier
        assert number in text
    assert "several points" in text and "table 3, tested on resnet34 (fashion-mnist sym:0.4)" in text
    assert "<bag>" not in html and "<at>" not in html
    best = [a for tag, a in Page(html).tags if a.get("class") == "best"]
    assert len(best) == 4  # three that are equal, and the only one on digits


def test_differences_are_shown_from_three_seeds_on() -> None:
    def three(method: str, *means: float, **changed: object) -> list[Result]:
        return [line(method, seed=seed, accuracies=(mean,), **changed) for seed, mean in enumerate(means)]

    results = [*three("dmis", 70.0, 60.0, 80.0), *three("dm", 69.0, 58.9, 79.1), *three("dsa", 75.0, 50.0, 70.0)]
    results += three("dm", 90.0, 91.0, 93.0, clean_first="oracle")
    page = Page(render_benchmark_report(dataclasses.replace(report(), results=results)))
    text = " ".join("".join(page.texts).split())
    assert page.open == [] and ("details", {}) in page.tags
    assert "69.0 ± 25.1" in text and "\u22121.0 ± " in text and "+21.3 ± " in text
    assert (
        "studentised range" in text and "comparisons.csv" in text and "an upper bound, never marked as the best" in text
    )
    two = [result for result in results if result.seed < 2]
    plain = "".join(Page(render_benchmark_report(dataclasses.replace(report(), results=two))).texts)
    assert "differences are not tested" in plain and "studentised range" not in plain
    assert (
        "65.0" in plain
        and "±" not in plain.split("Settings")[0].split("published")[0]
        and "each judged by one network" in plain
    )


def test_pictures_are_the_images_given() -> None:
    given = report()
    shown = [a for tag, a in Page(render_benchmark_report(given)).tags if a.get("alt") == "dmis, class <bag>"]
    sheet = picture(shown[0]["src"])
    assert sheet.shape == (56 + 6 + 2, 2 * (56 + 6) + 3, 3)  # 28 pixels twice as large, framed
    np.testing.assert_array_equal(sheet[4:60:2, 4:60:2, 0], given.pictures[1].images[2, :, :, 0])


def test_lines_keep_colour_and_dash_and_show_intervals() -> None:
    lines = [
        figures.Line("dm", "dm", False, [(10.0, 60.0, 2.0), (1.0, 30.0, None)]),
        figures.Line("dm, labels by dmis", "dm", True, [(1.0, 50.0, 1.0)]),
        figures.Line("dmis", "dmis", False, [(1.0, 55.0, 1.0)]),
    ]
    axes = figures.accuracy_lines(lines, "images per class", ticks=[1, 10]).axes[0]
    drawn = [container.lines[0] for container in axes.containers]
    assert drawn[0].get_xdata().tolist() == [1.0, 10.0] and drawn[0].get_ydata().tolist() == [30.0, 60.0]
    assert drawn[0].get_color() == drawn[1].get_color() != drawn[2].get_color()
    assert [each.get_linestyle() for each in drawn] == ["-", "--", "-"]
    (bars,) = axes.containers[0].lines[2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[30.0, 30.0], [58.0, 62.0]]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10"]
    assert len({figures.COLOURS[name] for name in figures.COLOURS}) == len(figures.COLOURS)


def test_a_report_without_results_says_so() -> None:
    empty = dataclasses.replace(report(), results=[MISSING], pictures=[], confusions=[])
    text = "".join(Page(render_benchmark_report(empty)).texts)
    assert "0of 1" in text and "still to be run" in text


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    (tmp_path / "report.md" / "in the way").touch()
    with pytest.raises(UserError):
        write_benchmark_report(tmp_path, report())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]
