"""Kept results: every table again from small files alone, and the documents' figures held to them."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import pytest
from browser import CHROMIUM, DRIVER, Browser
from pages import Page

from condense.benchmark.runner import report_kept
from condense.errors import UserError
from condense.evaluate.benchmark_report import MARKDOWN, write_tables
from condense.evaluate.kept import Kept, read_kept, write_kept
from condense.evaluate.leaderboard import SHOWS, SHOWS_NOT, render_leaderboard
from condense.evaluate.results import Measured, Result, entries, read_csv
from condense.evaluate.tables import markdown_report

ROOT = Path(__file__).parents[2]
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
    seconds=90.0,
    worst_class=12.5,
    coverage=0.25,
    training_bytes=4321,
    sha256="ab12",
)


def kept(method: str, *means: float, **changed: object) -> list[Kept]:
    """Cells of a method, one per seed."""
    found = []
    for seed, mean in enumerate(means):
        told = {"cell": f"{method}-{seed}{changed.get('ipc', '')}", "method": method, "seed": seed} | changed
        result = dataclasses.replace(DONE, accuracies=(mean - 0.5, mean + 0.5), **told)  # type: ignore[arg-type]
        found.append(Kept(result, {"method": method, "steps": 7}, {"machine": {"cpu": "ours"}, "created": "today"}))
    return found


def test_what_is_kept_comes_back_and_makes_the_same_tables(tmp_path: Path) -> None:
    measured = dataclasses.replace(DONE, cell="s", task="generation", measured=(Measured("FD", "FD (a)", None),))
    drawn = Kept(measured, {}, {})
    given = [*kept("random", 60.0, 61.0, 62.0), *kept("dm", 70.0, 71.5, 72.0), drawn]
    assert len(write_kept(tmp_path / "kept", given)) == len(given)
    found = read_kept(tmp_path / "kept")
    assert {one.result for one in found} == {one.result for one in given}
    assert found[0].recipe == {"method": "dm", "steps": 7} and found[0].origin["created"] == "today"
    for name, some in (("a", given), ("b", found)):
        (tmp_path / name).mkdir()
        write_tables(tmp_path / name, "T", sorted((one.result for one in some), key=lambda result: result.cell))
    assert (tmp_path / "a" / MARKDOWN).read_text() == (tmp_path / "b" / MARKDOWN).read_text()


def test_results_of_several_machines_are_merged_but_never_overwritten(tmp_path: Path) -> None:
    write_kept(tmp_path, kept("random", 60.0))
    before = (tmp_path / "random-0.json").read_bytes()
    assert [path.name for path in write_kept(tmp_path, [*kept("random", 60.0), *kept("dm", 70.0)])] == ["dm-0.json"]
    assert (tmp_path / "random-0.json").read_bytes() == before
    with pytest.raises(UserError, match="has a different result for random-0"):
        write_kept(tmp_path, kept("random", 61.0))
    for damage in ('{"schema": "dmis-result/2"}', "{}", "[", '{"schema": "dmis-result/1", "result": {"cell": "x"}}'):
        (tmp_path / "dm-0.json").write_text(damage)
        with pytest.raises(UserError, match=r"dm-0\.json"):
            read_kept(tmp_path)


def test_data_of_one_name_from_two_places_are_not_averaged(tmp_path: Path) -> None:
    for place, mean in (("a", 90.0), ("b", 40.0)):
        found = [
            Kept(
                dataclasses.replace(one.result, cell=f"{one.result.cell}{place}", setting="photos none"),
                {"data": {"name": f"/{place}/photos"}},
                one.origin,
            )
            for one in kept("random", mean, mean + 1)
        ]
        write_kept(tmp_path / place, found)
    report_kept([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    made = entries(read_csv(tmp_path / "out" / "results.csv"))
    assert [(entry.setting, entry.summary.mean) for entry in made] == [
        ("photos none (/a/photos)", 90.5),
        ("photos none (/b/photos)", 40.5),
    ]
    assert "photos none (/a/photos)" in (tmp_path / "out" / "leaderboard.html").read_text()


HUGE = "9" * 400


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        *(("seconds", value) for value in ('"abc"', "true", "-1", HUGE, "Infinity", "[1]")),
        *(("accuracies", value) for value in ("[50, NaN]", "[101]", f"[{HUGE}]", "70", '["a"]', "null")),
        *(("seed", value) for value in ("null", "0.5", '"0"')),
        *(("training_bytes", value) for value in (HUGE, "1.5")),
        *(("measured", value) for value in ("[7]", '[{"metric": "FD", "name": "FD", "value": "low"}]')),
        ("measured", f'[{{"metric": "FD", "name": "FD", "value": {HUGE}}}]'),
        ("method", "3"),
        ("status", '"finished"'),
        ("task", '"other"'),
        ("unknown", '"x"'),
    ],
)
def test_a_value_of_another_kind_is_one_sentence(tmp_path: Path, entry: str, value: str) -> None:
    (file,) = write_kept(tmp_path, kept("random", 60.0))
    told = json.loads(file.read_text())
    told["result"][entry] = "HERE"
    file.write_text(json.dumps(told).replace('"HERE"', value))
    with pytest.raises(UserError, match=r"random-0\.json is not a kept result \(\w+Error: .*\); remove it\.$"):
        read_kept(tmp_path)


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "[]", "3", '{"schema": "dmis-result/1", "result": 3}'])
def test_a_file_of_another_kind_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json is not a kept result"):
        read_kept(tmp_path)


def test_deep_nesting_is_one_sentence(tmp_path: Path) -> None:
    (file,) = write_kept(tmp_path, kept("random", 60.0))
    deep = '{"a": ' * 50_000 + "1" + "}" * 50_000
    file.write_text(file.read_text().replace('"recipe": {', f'"deep": {deep}, "recipe": {{'))
    with pytest.raises(UserError, match=r"is not a kept result \(RecursionError"):
        read_kept(tmp_path)


def test_the_leaderboard_holds_everything_inside_and_every_cell_one_click_away() -> None:
    given = [*kept("random", 60.0, 61.0, 62.0), *kept("dm", 80.0, 81.5, 82.0), *kept("dm", 90.0, ipc=50)]
    given += kept("rded", 95.0, protocol="soft", labels="online")
    html = render_leaderboard("A <title>", given)
    page = Page(html)
    text = " ".join("".join(page.texts).split())
    assert page.open == [] and page.links == [] and "http" not in html and "url(" not in html
    assert SHOWS in text and SHOWS_NOT in text and "A <title>" in text
    rows = [attributes for tag, attributes in page.tags if tag == "tbody"]
    assert [(row["data-label"], row["data-ipc"]) for row in rows] == [
        ("rded", "10"),
        ("dm", "50"),
        ("dm", "10"),
        ("random", "10"),
    ]
    dots = [attributes for tag, attributes in page.tags if attributes.get("class") == "dot"]
    assert [dot["data-judged"] for dot in dots] == [row["data-judged"] for row in rows]
    choices = [attributes["name"] for tag, attributes in page.tags if tag == "select"]
    assert choices == ["setting", "ipc", "judged"]
    for one in given:
        assert one.result.cell in text
    assert text.count("SHA-256 of the set: ab12") == len(given) and text.count('"steps": 7') == len(given)
    starred = [tag for tag, attributes in page.tags if attributes.get("class") == "star"]
    assert len(starred) == 1  # random, below dm


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver")
def test_names_of_dots_lie_beside_each_other_and_come_back_with_the_filter(tmp_path: Path) -> None:
    """Methods of similar minutes and accuracy were printed over each other."""
    near = [cell for place in range(12) for cell in kept(f"method {place}", 80.0 + place / 50)]
    (tmp_path / "page.html").write_text(render_leaderboard("A", [*near, *kept("far", 70.0), *kept("dm", 80.0, ipc=50)]))
    boxes = """return [...document.querySelectorAll(".dot")].filter(dot => dot.style.display !== "none")
        .map(dot => [dot.querySelector("text"), dot.querySelector("circle")].map(part => part.getBoundingClientRect()))
        .map(pair => pair.map(box => [box.left, box.right, box.top + 3, box.bottom, box.width]))"""
    with Browser(tmp_path / "browser") as browser:
        browser.open(tmp_path / "page.html")
        found = browser.run(boxes)
        assert len(found) == 13 and 2 <= sum(text[4] > 0 for text, _ in found) < 13
        names, circles = [text for text, _ in found if text[4] > 0], [circle for _, circle in found]
        for a, b in [*itertools.combinations(names, 2), *itertools.product(names, circles)]:
            assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2], (a, b)
        browser.run("""const field = document.querySelector("[name=ipc]");
            field.value = "50"; field.dispatchEvent(new Event("change"))""")
        ((text, _),) = browser.run(boxes)
        assert text[4] > 0 and browser.complaints() == []


MARK = re.compile(r"<!-- results: (\S+?)(?: ([^>]+?))? -->\n(.*?)<!-- end of results -->", re.DOTALL)


def told_tables(text: str, root: Path) -> list[tuple[str, list[str], list[str]]]:
    """Of each table marked in a document: the folder of its results, its lines, and those the results make."""
    found = []
    for folder, setting, block in MARK.findall(text):
        results = [one.result for one in read_kept(root / folder)]
        own = [result for result in results if setting in ("", result.setting)]
        made = markdown_report("", [], entries(own), []).splitlines()
        lines = [line for line in block.splitlines() if line.startswith("|")]
        found.append((folder, lines, [line for line in made if line.startswith("|")]))
    return found


def test_figures_in_the_documents_are_those_of_the_kept_results() -> None:
    for document in sorted((ROOT / "docs").glob("*.md")):
        for folder, told, made in told_tables(document.read_text(encoding="utf-8"), ROOT / "docs"):
            assert told, f"{document.name} has an empty table of {folder}"
            strange = [line for line in told if line not in made]
            assert not strange, f"{document.name} quotes what {folder} does not hold: {strange[0]}"


def test_a_figure_that_is_not_in_the_results_is_noticed(tmp_path: Path) -> None:
    write_kept(tmp_path / "results" / "one", kept("random", 60.0))
    made = markdown_report("", [], entries([one.result for one in kept("random", 60.0)]), [])
    marked = f"<!-- results: results/one -->\n{made}\n<!-- end of results -->"
    ((_, told, right),) = told_tables(marked, tmp_path)
    assert told == right and told
    ((_, told, right),) = told_tables(marked.replace("60.0", "61.0"), tmp_path)
    assert told != right
    assert json.loads((tmp_path / "results/one/random-0.json").read_text())["result"]["accuracies"] == [59.5, 60.5]
