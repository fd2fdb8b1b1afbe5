import dataclasses

import numpy as np
import pytest
from pages import Page, picture

from condense.errors import UserError
from condense.evaluate import figures
from condense.evaluate.report import DemoReport, render_demo_report, write_demo_report

CLASSES = ("T-shirt/top", "<bag>", "shoe")


def report(**changed):
    generator = np.random.default_rng(0)
    plain = DemoReport(
        title="Demo & more",
        settings=[("noise", "sym:0.4 <40 %>")],
        classes=CLASSES,
        real_images=generator.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8),
        real_wrong=np.arange(12) % 4 == 1,
        synthetic={
            name: generator.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8) for name in ("random", "vanilla", "dmis")
        },
        ipc=2,
        given_confusion=np.array([[6, 2, 2], [1, 7, 2], [2, 3, 5]]),
        recovered_confusion=np.diag([10, 10, 10]),
        classifier_accuracy={"vanilla": 57.25, "dmis": 96.04},
        labels_recovered=98.13,
        condensed_accuracy={"random": (50.0, 2.0), "vanilla": (60.44, 3.0), "dmis": (92.46, 1.0)},
        seconds=171.4,
        commands=["dmis demo", "dmis evaluate a.h5 --quick && echo done"],
    )
    return dataclasses.replace(plain, **changed)


def test_report_is_one_file_without_outside_references(tmp_path):
    path = tmp_path / "report.html"
    write_demo_report(path, report())
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []  # every element closed
    assert len(page.links) == 3 + 3 * 3 + 3 and all(link.startswith("data:image/png") for link in page.links)
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.tags)
    assert "http" not in html and "url(" not in html and "@import" not in html
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert ("meta", viewport) in page.tags
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_report_holds_the_figures_given_and_escapes_text():
    html = render_demo_report(report())
    text = "".join(Page(html).texts)
    for shown in ("Demo & more", "57.2%", "96.0%", "98.1%", "171s", "40 % of the training labels"):
        assert shown in text
    assert "dmis demo\ndmis evaluate a.h5 --quick && echo done" in text
    assert "sym:0.4 <40 %>" in text and "<bag>" not in html
    bars = next(a["alt"] for tag, a in Page(html).tags if tag == "img")
    assert bars == "random 50.0 %, vanilla 60.4 %, dmis 92.5 %"


def test_intervals_are_explained_only_where_they_are():
    single = {"random": (50.0, None), "vanilla": (60.0, None), "dmis": (92.0, None)}
    assert "95 % intervals" in render_demo_report(report())
    assert "95 % intervals" not in render_demo_report(report(condensed_accuracy=single))


def test_pictures_in_the_report_are_the_images_given():
    given = report()
    shown = [a for tag, a in Page(render_demo_report(given)).tags if a.get("alt") == "dmis, class shoe"]
    side = 48 + 2 * 3  # 8 pixels six times as large, framed
    sheet = picture(shown[0]["src"])
    assert sheet.shape == (side + 2, 2 * side + 3, 3)
    first = sheet[4 : 4 + 48 : 6, 4 : 4 + 48 : 6, 0]
    np.testing.assert_array_equal(first, given.synthetic["dmis"][4, :, :, 0])


def test_only_wrong_pictures_are_framed_in_red():
    images = np.full((3, 48, 48, 1), 128, dtype=np.uint8)
    sheet = figures.picture_rows(images, 3, np.array([False, True, False]))
    red = (sheet == figures.RED).all(2)
    assert red.sum() == 54 * 54 - 48 * 48
    assert np.flatnonzero(red.any(0)).tolist() == list(range(56, 110))  # the second picture
    assert (figures.picture_rows(images, 3) == figures.picture_rows(images, 3, np.zeros(3, bool))).all()


def test_colour_pictures_keep_their_colours():
    images = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    images[..., 2] = 200
    assert (figures.picture_rows(images, 1)[4:-4, 4:-4] == (0, 0, 200)).all()


def test_methods_keep_their_colour_and_others_differ():
    names = ["rded", "dmis", "dc", "random"]
    colours = figures.colours(names)
    assert len(set(colours)) == 4
    assert colours[1] == figures.colours(["dmis"])[0] and colours[3] == figures.colours(["random"])[0]


def test_bars_have_the_lengths_and_intervals_given():
    axes = figures.accuracy_bars({"random": (40.0, 2.5), "dmis": (98.0, None)}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [40.0, 98.0]
    (interval,) = (line.get_segments()[0] for line in axes.collections)
    assert interval[:, 0].tolist() == [37.5, 42.5]
    assert [text.get_text() for text in axes.texts] == ["40.0 ± 2.5", "98.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["random", "dmis"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # first on top
    assert axes.get_xlabel() == "test accuracy (%)"


def test_confusion_shows_percents_of_each_row():
    axes = figures.confusion(np.array([[3, 1], [0, 2]]), ["a", "b"], across="given label").axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[75, 25], [0, 100]])
    assert [text.get_text() for text in axes.texts] == ["75", "25", "100"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("given label (% of each row)", "true class")


def test_confusion_of_an_absent_class_and_of_many_classes():
    empty = figures.confusion(np.array([[0, 0], [1, 1]]), ["a", "b"], across="x").axes[0]
    np.testing.assert_allclose(empty.images[0].get_array(), [[0, 0], [50, 50]])
    many = figures.confusion(np.eye(21, dtype=int), [str(i) for i in range(21)], across="x").axes[0]
    assert not many.texts


def test_report_to_an_impossible_place_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        write_demo_report(tmp_path / "file" / "report.html", report())
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", [r"$\frac{$", "$a$", "a$b", "\x1b[31m", "", "|", "$" * 300, "\udcff"])
def test_figures_take_any_class_name(name):
    """`$\\frac{$` broke the figure."""
    line = figures.Line(name, name, False, [(1, 50.0, None), (10, 60.0, 2.0)])
    for figure in (
        figures.confusion(np.eye(2, dtype=np.int64), (name, "b"), across="given label"),
        figures.accuracy_bars({name: (50.0, 1.0)}),
        figures.accuracy_lines([line], "images per class"),
    ):
        assert figures.figure_data_uri(figure).startswith("data:image/png")
