"""The way of a reviewer: `dmis relabel` writes the page, a browser decides on it, `--apply` writes the labels."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, DRIVER, Browser
from conftest import Answer, Dmis
from pages import Page
from PIL import Image

from condense.data import label_file, sources
from condense.pipeline.decisions import applied, identity, read_decisions

SIDE = 96


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Striped pictures that lie and that stand, 30 each: three misplaced, one of them twice; one odd."""
    random = np.random.default_rng(0)
    for name in ("lying", "standing"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    for number in range(60):
        stands = number >= 30
        shades = Image.fromarray(random.normal(110, 30, (6, 6)).clip(0, 255).astype(np.uint8))
        pixels = np.array(shades.resize((SIDE, SIDE)), float)[..., None] + random.normal(0, 3, (SIDE, SIDE, 3))
        width, start = random.integers((6, 0), (12, 12))
        stripes = ((np.arange(SIDE) + start) // width % 2 * 70)[:, None]
        pixels += np.broadcast_to(stripes.T if stands else stripes, (SIDE, SIDE))[..., None]
        wrong = number in (3, 40, 41)
        name = "standing" if stands != wrong else "lying"
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(tmp_path / "pictures" / name / f"{number:02d}.png")
        if number == 3:
            picture.resize((SIDE // 2, SIDE // 2)).save(
                tmp_path / "pictures" / "lying" / "again 3 & #1.jpg", quality=90
            )
    odd = np.zeros((SIDE, SIDE, 3), np.uint8)
    odd[: SIDE // 2] = (255, 0, 255)
    Image.fromarray(odd).save(tmp_path / "pictures" / "standing" / "odd.png")
    return tmp_path / "pictures"


ASK = ("relabel", "pictures", "--image-size", 32, "--fast", "--quiet")


def table(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def state_of(html: str) -> dict:
    """What the page's script works with."""
    page = Page(html)
    (place,) = (index for index, (tag, values) in enumerate(page.tags) if values.get("id") == "data")
    assert page.tags[place] == ("script", {"type": "application/json", "id": "data"})
    return next(json.loads(text) for text in page.texts if text.startswith('{"data":'))


def test_a_fast_answer_finds_the_wrong_ones_and_says_what_it_leaves_out(dmis: Dmis, folder: Path) -> None:
    answer = dmis(*ASK)
    assert answer.code == 0, answer.err
    assert "Limitations – fast: a linear classifier" in answer.out and "No generator is trained" in answer.out
    assert re.search(r"^asked +linear classifier$", answer.out, re.MULTILINE) and "\nfound" not in answer.out
    rows = {row["file"]: row for row in table("pictures-relabelled/labels.csv")}
    issues = {file for file, row in rows.items() if row["is_label_issue"] == "True"}
    assert issues >= {"standing/03.png", "lying/40.png", "lying/41.png"} and len(issues) <= 6
    assert rows["lying/40.png"]["given_label"] == "lying" and rows["lying/40.png"]["suggested"] == "standing"
    assert float(rows["lying/40.png"]["label_quality"]) < 0.3 < 0.7 < float(rows["lying/00.png"]["label_quality"])
    assert not Path("runs").exists()


def test_the_page_holds_originals_twins_outliers_and_the_classes(dmis: Dmis, folder: Path) -> None:
    assert dmis(*ASK).code == 0
    html = Path("pictures-relabelled/review.html").read_text(encoding="utf-8")
    page, state = Page(html), state_of(html)
    assert not page.links and "http" not in html.replace("http-equiv", "")
    items = {item["file"]: item for item in state["items"]}
    forty = items["lying/40.png"]
    assert forty["wrong"] and forty["given"] == [0] and forty["suggested"] == 1
    assert forty["original"] == "../pictures/lying/40.png" and forty["picture"].startswith("data:image/jpeg;base64,")
    again = items["lying/again 3 & #1.jpg"]
    assert again["original"] == "../pictures/lying/again%203%20%26%20%231.jpg"
    assert [state["items"][twin]["file"] for twin in again["twins"]] == ["standing/03.png"]
    assert [file for file, item in items.items() if item["outlier"]] == ["standing/odd.png"]
    assert [len(state["rows"]), len(state["items"])] == [62, len(items)] and len(items) < 12
    assert "Limitations – " in html and "near-duplicates that disagree" in html.lower()
    assert "dmis relabel pictures --image-size 32 --apply decisions.json" in html
    cells = [" ".join(text.split()) for text in page.texts]
    assert cells[cells.index("most often really") :].count("lying") >= 2


def test_nothing_of_a_file_or_class_can_leave_its_place(dmis: Dmis, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("</script><b>a", "=x|y"):
        place = tmp_path / "odd" / name.replace("/", "∕")
        place.mkdir(parents=True)
        for number in range(12):
            Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).save(place / f"<i>{number}.png")
    assert dmis("relabel", "odd", "--fast").code == 0
    html = Path("odd-relabelled/review.html").read_text(encoding="utf-8")
    assert "<b>a" not in html and "<i>1" not in html
    state = state_of(html)
    assert state["names"] == ["<∕script><b>a", "=x|y"] and state["cells"][1] == "'=x\\|y"


def decisions_about(folder: str, *decisions: dict) -> Path:
    """A file of decisions about a data set, as the page saves it."""
    source = sources.load(folder, image_size=32)
    file = Path("decisions.json")
    file.write_text(json.dumps({"format": "dmis-decisions/1", "data": identity(source), "decisions": decisions}))
    return file


def test_decisions_take_the_place_of_given_labels_and_are_trusted(dmis: Dmis, folder: Path) -> None:
    file = decisions_about(
        "pictures",
        {"file": "lying/40.png", "decision": "accepted", "label": "standing"},
        {"file": "standing/03.png", "decision": "changed", "label": "lying"},
        {"file": "standing/odd.png", "decision": "rejected"},
    )
    apply = ("relabel", "pictures", "--image-size", 32, "--apply", file)
    told = json.loads(dmis(*apply, "--json").out)
    assert told == {"labels": "pictures-reviewed.csv", "images": 62, "accepted": 1, "changed": 1, "rejected": 1}
    rows = {row["file"]: (row["label"], row["trusted"]) for row in table("pictures-reviewed.csv")}
    assert rows["lying/40.png"] == ("standing", "yes") and rows["standing/03.png"] == ("lying", "yes")
    assert rows["standing/odd.png"] == ("standing", "yes") and rows["lying/41.png"] == ("lying", "no")
    source = sources.load("pictures", image_size=32)
    read = label_file.read("pictures-reviewed.csv", source)
    ours = applied(read_decisions(file, source), source.supervision)
    np.testing.assert_array_equal(read.candidates, ours.candidates)
    np.testing.assert_array_equal(read.trusted, ours.trusted)
    assert read.trusted.sum() == 3
    again = dmis(*apply)
    assert again.code == 2 and "exists already" in again.err
    assert dmis(*apply, "--force").code == 0


def test_given_labels_are_never_written_over(dmis: Dmis, folder: Path) -> None:
    rows = "".join(f"{file.relative_to(folder)},{file.parent.name}\n" for file in sorted(folder.rglob("*.png")))
    (folder / "labels.csv").write_text("file,label\n" + rows)
    file = decisions_about("pictures", {"file": "lying/40.png", "decision": "accepted", "label": "standing"})
    before = (folder / "labels.csv").read_bytes()
    for place, more in (("pictures/labels.csv", ()), ("pictures/./labels.csv", ("--force",))):
        answer = dmis("relabel", "pictures", "--image-size", 32, "--apply", file, "--out", place, *more)
        assert answer.code == 2 and "holds the given labels, which are never overwritten" in answer.err
    assert (folder / "labels.csv").read_bytes() == before
    for out in ("pictures", "pictures/lying", "./pictures/../pictures"):
        answer = dmis(*ASK, "--out", out, "--force")
        assert answer.code == 2 and "lies in the data folder" in answer.err
    assert (folder / "labels.csv").read_bytes() == before and not list(folder.rglob("review.html"))
    (folder / "labels.csv").rename("mine.csv")
    assert dmis("relabel", "pictures", "--image-size", 32, "--labels", "mine.csv", "--apply", file).code == 2  # no twin
    assert dmis(*ASK, "--out", "out").code == 0
    before = Path("out/labels.csv").read_bytes()
    answer = dmis(*ASK, "--labels", "out/labels.csv", "--out", "out", "--force")
    assert answer.code == 2 and "never overwritten" in answer.err
    assert Path("out/labels.csv").read_bytes() == before


GOOD = {"file": "lying/40.png", "decision": "accepted", "label": "standing"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found["decisions"].append({**GOOD, "file": "cat/1.png"}), "no image 'cat/1.png'"),
        (
            lambda found: found["decisions"].append({**GOOD, "file": "lying/41.png", "label": "cat"}),
            "'cat' is not one of the classes",
        ),
        (
            lambda found: found["decisions"].append({**GOOD, "file": "lying/41.png", "label": 1}),
            "1 is not one of the classes",
        ),
        (lambda found: found["decisions"].append(GOOD), "'lying/40.png' was already decided"),
        (lambda found: found["decisions"].append({**GOOD, "decision": "maybe"}), "decision 2 is damaged"),
        (lambda found: found["decisions"].append("lying"), "decision 2 is damaged"),
        (lambda found: found["data"].update(images="0" * 64), "about other data (the images differ)"),
        (lambda found: found["data"].update(labels=None), "about other data (the given labels differ)"),
        (lambda found: found["data"].update(image_shape=[28, 28, 3]), "have the shape [28, 28, 3], not [32, 32, 3]"),
        (lambda found: found["data"].update(classes=["a", "b"]), "the classes differ"),
        (lambda found: found.update(format="dmis-decisions/9"), "is not a decisions file of this version"),
        (lambda found: found.update(decisions={}), "it lacks `data` or `decisions`"),
    ],
)
def test_bad_decisions_are_one_sentence_and_write_nothing(change, said: str, dmis: Dmis, folder: Path) -> None:
    file = decisions_about("pictures", GOOD)
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))
    refused(dmis("relabel", "pictures", "--image-size", 32, "--apply", file), said)


@pytest.mark.parametrize("text", ["", "[1", "\xff", "null", "[]", "[" * 100_000])
def test_damaged_decisions_are_one_sentence(text: str, dmis: Dmis, folder: Path) -> None:
    Path("decisions.json").write_text(text, encoding="latin-1")
    refused(dmis("relabel", "pictures", "--apply", "decisions.json"), "decisions.json")
    refused(dmis("relabel", "pictures", "--apply", "nowhere.json"), "There is no decisions file nowhere.json")
    refused(dmis("relabel", "pictures", "--apply", "decisions.json", "--out", "a.png"), "")


def refused(answer: Answer, said: str) -> None:
    *notes, sentence = answer.err.splitlines()
    assert answer.code == 2 and answer.out == "" and said in sentence and all(map(is_note, notes)), answer.err
    assert not list(Path().glob("*.csv"))


def is_note(line: str) -> bool:
    return line.startswith("note: ")


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver")
def test_a_person_reviews_by_keys_and_clicks_and_what_is_saved_is_what_was_decided(
    dmis: Dmis, folder: Path, tmp_path: Path
) -> None:
    assert dmis(*ASK).code == 0
    page = Path("pictures-relabelled/review.html")
    state = state_of(page.read_text(encoding="utf-8"))
    files = [item["file"] for item in state["items"]]
    wrong = [number for number, item in enumerate(state["items"]) if item["wrong"]]
    total, first = len(files), files[wrong[0]]
    with Browser(tmp_path / "browser") as browser:
        browser.open(page)
        assert browser.text("#count").startswith(f"0 of {total} decided") and f"{len(wrong)} in view" in browser.text(
            "#count"
        )
        assert first in browser.text("#where")
        browser.press("a")
        assert "1 accepted" in browser.text("#count") and files[wrong[1]] in browser.text("#where")
        browser.press("r", "u", "2")  # kept, undone, the second class
        browser.click("#reject")
        kinds = {0: "accepted", 1: kind_of(state, wrong[1], 1), 2: "rejected"}
        counts = [list(kinds.values()).count(kind) for kind in ("accepted", "changed", "rejected")]
        told = "3 of {} decided: {} accepted, {} changed, {} kept as given".format(total, *counts)
        assert browser.text("#count").startswith(told)
        # a class that is typed, of the outlier that a click brings to the front
        browser.click("#outliers .thumb")
        assert "odd.png" in browser.text("#where") and "outlier" in browser.text("#badges")
        browser.press("c", *"lying", "Enter")
        assert browser.text("#count").startswith("4 of")
        browser.press("s")
        saved = browser.downloaded("decisions.json")
        browser.click("#save-labels")
        labels = browser.downloaded("labels.csv")
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        # closed and opened again, on a telephone: decisions are there, filters work, nothing is wider than the screen
        browser.resize(390, 844)
        browser.open(page)
        assert browser.text("#count").startswith("4 of")
        browser.run("const f = document.getElementById('state'); f.value = 'open'; f.onchange()")
        left = [number for number in wrong[3:] if "odd.png" not in files[number]]
        assert f"{len(left)} in view" in browser.text("#count")
        for id, value in (("given", "1"), ("suggested", "0"), ("kind", "all"), ("state", "all")):
            browser.run(f"const f = document.getElementById('{id}'); f.value = '{value}'; f.onchange()")
        both = [item for item in state["items"] if item["given"] == [1] and item["suggested"] == 0]
        assert f"{len(both)} in view" in browser.text("#count") and both
        browser.run("const f = document.getElementById('confidence'); f.value = '100'; f.oninput()")
        sure = [item for item in both if dict(map(tuple, item["likeliest"]))[0] >= 1]
        assert f"{len(sure)} in view" in browser.text("#count")
        assert browser.run("return document.documentElement.scrollWidth") == 390
        assert browser.run("return [...document.images].every((i) => i.naturalWidth > 0 || !i.complete || i.hidden)")
        assert browser.complaints() == []
    decided = {one["file"]: (one["decision"], one["label"]) for one in json.loads(saved.read_text())["decisions"]}
    suggested = state["names"][state["items"][wrong[0]]["suggested"]]
    odd = next(item for item in state["items"] if item["file"] == "standing/odd.png")
    typed = "accepted" if state["names"][odd["suggested"]] == "lying" else "changed"
    assert decided[first] == ("accepted", suggested) and decided["standing/odd.png"] == (typed, "lying")
    assert decided[files[wrong[2]]][0] == "rejected" and len(decided) == 4
    assert dmis("relabel", "pictures", "--image-size", 32, "--apply", saved).code == 0
    assert Path("pictures-reviewed.csv").read_bytes() == labels.read_bytes()
    assert sum(row["trusted"] == "yes" for row in table(labels)) == 4
    told = json.loads(dmis("inspect", "pictures", "--image-size", 32, "--labels", labels, "--json").out)
    assert told["images"] == 62


def kind_of(state: dict, item: int, place: int) -> str:
    """What it is called when the class in a place of the list is chosen."""
    found = state["items"][item]
    label = found["likeliest"][place][0]
    return "rejected" if found["given"] == [label] else "accepted" if label == found["suggested"] else "changed"
