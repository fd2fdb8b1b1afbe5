"""Tables in the documentation agree with the files of results beside it."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from condense.evaluate.stats import summarise

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


def experiment(name):
    """A file of experiments/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def literal_form():
    return experiment("literal_form")


def test_the_tables_of_the_literal_form_are_those_of_their_files(literal_form):
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    folders = [RESULTS / name / "results" for name in ("literal-form", "literal-form-fashion")]
    cells, garments = map(literal_form.read, folders)
    assert literal_form.table(cells) in text and literal_form.table(garments) in text and len(garments) >= 4
    literal = [cell for cell in cells if cell.row == "Conditional, mixture, 2 drawn"]
    assert [cell.seed for cell in literal] == [0, 1, 2]
    assert min(cell.classifier for cell in literal) >= 97 and min(cell.agreement for cell in literal) >= 95


def test_the_table_of_classification_terms_is_that_of_its_files():
    section = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8").split("### Does the classification term")[1]
    rows = re.findall(
        r"^\| ([^|]+) \| (\d) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", section.split("\n### ")[0], re.MULTILINE
    )
    assert len(rows) >= 9
    for title, seeds, *shown in rows:
        name = title.replace("*", "").replace("form mixture", "").replace(",", "").replace(".", "").strip()
        name = ("mixture-" if "form mixture" in title else "") + name.replace(" ", "-")
        files = [RESULTS / "classification-term" / "results" / f"{name}-{seed}.json" for seed in range(int(seeds))]
        cells = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        for key, figure in zip(("classifier", "recovered", "agreement"), shown, strict=True):
            found = summarise([cell[key] for cell in cells])
            spread = "" if found.ci95 is None else f" ± {found.ci95:.1f}"
            assert f"{found.mean:.1f}{spread}" == figure.strip(), (title, key)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_table_of_digits_is_that_of_its_files(page):
    text, folder = (ROOT / page).read_text(encoding="utf-8"), RESULTS / "digits-sym40"
    demos = [json.loads((folder / f"demo-{seed}.json").read_text(encoding="utf-8")) for seed in range(3)]
    for seed, demo in enumerate(demos):
        drawn = [json.loads((folder / f"{name}-pure-noise-{seed}.json").read_text()) for name in ("vanilla", "dmis")]
        sets = demo["condensed_accuracy"]
        cells = [sets["random"], *drawn, sets["vanilla"], sets["dmis"]]
        (row,) = re.findall(rf"^\|[^|]*seed {seed} \|(.*)\|$", text, re.MULTILINE)
        shown = [cell.strip(" *") for cell in row.split("|")]
        assert shown == [f"{cell['mean']:.1f} ± {cell['ci95']:.1f}" for cell in cells]
    for name in ("vanilla", "dmis"):
        assert ", ".join(f"{demo['classifier_accuracy'][name]:.1f}" for demo in demos) in text
    assert ", ".join(f"{demo['labels_recovered']:.1f}" for demo in demos) in text


def test_the_table_of_digit_networks_is_that_of_its_files():
    section = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8").split("### How large a network")[1]
    rows = re.findall(r"^\| \**(32), (\d)\** \| (\d+) \|([^|]+)\|([^|]+)\|([^|]+)\|", section, re.MULTILINE)
    assert len(rows) == 3
    for channels, blocks, steps, *shown in rows:
        folder = RESULTS / "digits-network" / f"{channels}-{blocks}-{steps}" / "results"
        cells = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
        for key, figure in zip(("classifier", "recovered", "agreement"), shown, strict=True):
            found = summarise([cell[key] for cell in cells])
            assert f"{found.mean:.1f} ± {found.ci95:.1f}" == figure.strip(), (channels, blocks, steps, key)


ACCURACY_AND_WORST = r"\**([0-9.]+ ± [0-9.]+)\** \| ([0-9.]+) \|"


@pytest.mark.parametrize(
    ("heading", "folder", "row"),
    [
        ("### Today's defaults", "fashion-sym40", rf"^\| `([^`]+)` \|.*\| {ACCURACY_AND_WORST}$"),
        ("### Asymmetric noise", "fashion-asym40", rf"^\| `([^`]+)` \|[^|]*\| \d+ \| {ACCURACY_AND_WORST}"),
    ],
)
def test_the_tables_of_fashion_mnist_are_those_of_their_files(heading, folder, row):
    section = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").split(heading)[1].split("\n### ")[0]
    rows = re.findall(row, section, re.MULTILINE)
    files = {file.stem: json.loads(file.read_text()) for file in (RESULTS / folder).glob("*.json")}
    assert files.keys() == {name for name, *_ in rows}
    for name, accuracy, worst in rows:
        found = files[name]
        assert f"{found['mean']:.1f} ± {found['ci95']:.1f}" == accuracy, name
        assert f"{found['worst_class']:.1f}" == worst, name


def witness_rows(part):
    """The cells of each row of a table in "Peers' own code as witness"."""
    text = (ROOT / "docs" / "how-we-compare.md").read_text(encoding="utf-8")
    lines = text.split(f"<!-- witness: {part} -->")[1].split("<!-- end of witness -->")[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_of_peers_trainings_is_that_of_its_file():
    found = json.loads((RESULTS / "witness" / "step-by-step.json").read_text(encoding="utf-8"))
    shown = [
        [name, f"{one['logits, largest difference']:.2g}", f"{one['logits, standard deviation']:.2g}",
         str(one["same answers of 1000"])]
        for name, one in found["trainings"].items()
    ]  # fmt: skip
    assert witness_rows("trainings") == shown
    assert max(max(each.values()) for each in found["operations"].values()) < 2e-5


def with_interval(found):
    """Mean and interval; a single network has none."""
    return f"{found.mean:.1f} (one network)" if found.ci95 is None else f"{found.mean:.1f} ± {found.ci95:.1f}"


def test_the_table_of_peers_accuracies_is_that_of_its_files_and_their_intervals_overlap():
    rows = witness_rows("accuracies")
    files = {file.stem: json.loads(file.read_text()) for file in (RESULTS / "witness").glob("*.json")}
    assert files.keys() - {"step-by-step"} == {name for name, *_ in rows}
    for name, *shown in rows:
        columns = [files[name].get(key) for key in ("ours", "vico", "ddranking")]
        found = [None if one is None else summarise(one) for one in columns]
        assert shown == ["–" if one is None else with_interval(one) for one in found]
        ours = found[0]
        for peer in found[1:]:
            if peer is not None and peer.ci95 is not None:
                assert abs(ours.mean - peer.mean) <= (ours.ci95**2 + peer.ci95**2) ** 0.5, name


def test_the_tables_of_speed_are_those_of_their_files():
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    for row in json.loads((RESULTS / "speed" / "against-plain.json").read_text(encoding="utf-8"))["rows"]:
        ours, plain = (f"{row[key]:.3g}" for key in ("ours_seconds", "plain_seconds"))
        assert f"| {row['name']} | {row['part']} | {ours} | {plain} | {row['ratio']:.2f} |" in page
    for row in json.loads((RESULTS / "speed" / "levers.json").read_text(encoding="utf-8"))["rows"]:
        figures = f"{row['seconds']:.3g} | {row['ratio']:.2f} | {row['evaluations']:.1f}"
        assert f"| {row['network']} | {row['setting']} | {figures} |" in page
    for curve in json.loads((RESULTS / "speed" / "scale.json").read_text(encoding="utf-8"))["curves"]:
        seconds = ", ".join(f"{cost['seconds']:.3g}" for cost in curve["costs"])
        memory = ", ".join(f"{cost['memory'] / 2**20:,.0f}" for cost in curve["costs"])
        assert f"| {seconds} | {memory} | {curve['slopes'][0]:.2f} | {curve['slopes'][1]:.2f} |" in page


@pytest.mark.parametrize("noise", ["sym", "asym"])
def test_the_figures_of_the_labeller_are_those_of_its_files(noise):
    text = (ROOT / "docs" / "relabelling.md").read_text(encoding="utf-8").replace("\n", " ")
    file = RESULTS / "best-fashion-sym40" / f"labeller-anchors-{noise}.json"
    assert f"{100 * json.loads(file.read_text(encoding='utf-8'))['with_label']['right']:.1f} % " in text
    digits = [RESULTS / "relabelling" / f"digits-labeller-{noise}-{seed}.json" for seed in range(3)]
    found = [json.loads(file.read_text(encoding="utf-8"))["found"]["right_after"] for file in digits]
    assert (
        ", ".join(f"{100 * share:.1f}" for share in found) + f" % {'right ' * (noise == 'sym')}under `{noise}:0.4`"
        in text
    )


def test_the_table_of_weak_supervision_is_that_of_its_files():
    weak = experiment("weak_supervision")
    page = (ROOT / "docs" / "weak-supervision.md").read_text(encoding="utf-8")
    section = page.split("## Digits")[1].split("\n## ")[0]
    rows = {name: cells for name, *cells in weak_rows(section)}
    assert list(rows) == [*weak.ORDER, *weak.OF_GENERATORS]
    kept = RESULTS / "weak-supervision-digits"
    found = {(file.parent.name, file.stem.rsplit("-", 1)[0]) for file in kept.glob("*/*.json")}
    for setting, arm in found:
        shown = rows[arm][list(weak.SETTINGS).index(setting)]
        assert shown == weak.cell(weak.accuracies(kept / setting, arm, 3), 3), (setting, arm)
    for arm, cells in rows.items():
        for setting, shown in zip(weak.SETTINGS, cells, strict=True):
            assert (shown == "–") == ((setting, arm) not in found), (setting, arm)


def weak_rows(section):
    """The cells of each arm's row."""
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
