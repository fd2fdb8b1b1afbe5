"""How labels name classes: by name or number, one reading for a column."""

import json

import numpy as np
import pytest
from PIL import Image

from condense.data import label_file, sources
from condense.data.label_cells import parse_cells, split_candidates, write_candidates
from condense.data.types import ImageData, Source, Supervision
from condense.errors import UserError

TWELVE = tuple(sorted(map(str, range(12))))  # "0", "1", "10", "11", "2", …: as folders are sorted
MONTHS = tuple(f"{n:02}" for n in range(1, 13))


def source_of(classes: tuple[str, ...]) -> Source:
    images = ImageData(np.zeros((len(classes), 2, 2, 1), dtype=np.uint8), classes, "numbers", "train")
    given = Supervision.from_labels(np.arange(len(classes)), len(classes), trusted=False)
    return Source(images, given, None, None, None)


def read(tmp_path, source: Source, labels: np.ndarray) -> list[str]:
    np.save(tmp_path / "l.npy", labels)
    return [source.train.classes[y] for y in label_file.read(str(tmp_path / "l.npy"), source).observed.tolist()]


def test_integers_that_can_be_names_or_counts_are_refused_where_it_matters(tmp_path):
    """Case 2: folders 0 … 11 and a .npy of those numbers gave 10 of 12 labels wrong."""
    source = source_of(TWELVE)
    with pytest.raises(UserError, match=r"2 may mean the class '2' or, counted from 0, the class '10'.*in a \.csv"):
        read(tmp_path, source, np.arange(12))
    assert read(tmp_path, source, np.array([0, 1] * 6)) == ["0", "1"] * 6, "both readings agree"
    plain = source_of(tuple(map(str, range(12))))
    assert read(tmp_path, plain, np.arange(12)) == list(map(str, range(12)))


def test_integers_with_one_possible_reading_are_read(tmp_path):
    """Case 2: folders 01–12 with the numbers 1–12, and with 0–11."""
    source = source_of(MONTHS)
    assert read(tmp_path, source, np.arange(1, 13)) == list(MONTHS)
    assert read(tmp_path, source, np.arange(12)) == list(MONTHS)
    with pytest.raises(UserError, match="1 may mean the class '01' or, counted from 0, the class '02'"):
        read(tmp_path, source, np.array([1, 2] * 6))


@pytest.mark.parametrize(
    ("classes", "cells", "expected"),
    [
        (MONTHS, list(map(str, range(1, 13))), list(range(12))),
        (MONTHS, [f"{n}.0" for n in range(1, 13)], list(range(12))),
        (MONTHS, list(map(str, range(12))), list(range(12))),
        (TWELVE, list(TWELVE), list(range(12))),
        (("1", "2", "other"), ["1", "2", "other"], [0, 1, 2]),
        (("1", "2", "other"), ["0", "1", "2"], [0, 1, 2]),
        (("ant", "bee"), ["0", "bee", "nan", ""], [0, 1, -1, -1]),
        (("0", "1"), ["0", "1.0", "-1", "NaN", "01"], [0, 1, -1, -1, 1]),
        (("none", "some"), ["none", "some"], [0, 1]),
        ((" ant", "bee"), ["ant", " bee "], [0, 1]),
    ],
)
def test_a_column_is_read_in_one_way(classes, cells, expected):
    """Case 2: `1` was read as the class `02`; `01`/`1`, `1.0`/`1`, `nan` and `-1` as classes of their own."""
    assert parse_cells(np.array(cells), classes, "labels").tolist() == expected


def test_names_that_no_table_could_tell_apart_are_refused():
    for classes in (("1", "01"), ("ant", "ant "), ("caf\u00e9", "cafe\u0301")):
        with pytest.raises(UserError, match="cannot be told apart"):
            parse_cells(np.array(["x"]), classes, "labels")


def test_numbers_from_1_are_explained(tmp_path):
    """Case 14: "outside 0..2" said nothing of what is amiss."""
    source = source_of(("ant", "bee", "cat"))
    with pytest.raises(UserError, match="number the 3 classes from 1: subtract 1"):
        read(tmp_path, source, np.array([1, 2, 3]))
    with pytest.raises(UserError, match=r"there are 3 different values \(100, 200, 300\): number them"):
        read(tmp_path, source, np.array([100, 200, 300]))
    with pytest.raises(UserError, match=r"names '3', which is not one of the classes.*number the 3 classes from 1"):
        parse_cells(np.array(["1", "2", "3"]), source.train.classes, "labels")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(30) % 3 + 1, r"labels count from 1 to 3, and classes are counted from 0; store labels - 1"),
        ((np.arange(30) % 3 + 1) * 100, r"there are 3 different values \(100, 200, 300\): number them 0, 1, 2"),
        (np.where(np.arange(30) % 3, 7, 0), r"there are 2 different values \(0, 7\)"),
    ],
)
def test_numbers_of_a_data_set_that_do_not_count_from_0_are_explained(tmp_path, labels, message):
    """Case 14: 1-based labels were "no image is labelled '0'", 100/200/300 "outside 0..29"."""
    np.savez(tmp_path / "a.npz", images=np.zeros((30, 4, 4), dtype=np.uint8), labels=labels)
    with pytest.raises(UserError, match=message):
        sources.load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_one_hot_is_one_label_per_image(tmp_path, dtype):
    """Case 15: one-hot integers were taken for the answers of annotators."""
    source, right = source_of(("ant", "bee", "cat")), np.array([2, 0, 1])
    np.save(tmp_path / "l.npy", np.eye(3, dtype=dtype)[right])
    given = label_file.read(str(tmp_path / "l.npy"), source)
    assert given.observed.tolist() == right.tolist() and given.kind == "noisy"
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4), dtype=np.uint8), labels=np.eye(3, dtype=dtype)[right])
    assert sources.load(str(tmp_path / "a.npz")).supervision.observed.tolist() == right.tolist()


def test_sets_as_0_and_1_are_not_taken_for_answers(tmp_path):
    """As case 15, with several 1 in a row."""
    source = source_of(("ant", "bee", "cat"))
    np.save(tmp_path / "l.npy", np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]))
    with pytest.raises(UserError, match="may be sets of candidates or the answers of annotators; save sets as bool"):
        label_file.read(str(tmp_path / "l.npy"), source)
    np.save(tmp_path / "l.npy", np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]]))
    assert label_file.read(str(tmp_path / "l.npy"), source).candidates[1].tolist() == [True, False, False]


def test_names_with_bars_are_read_back(tmp_path):
    """Case 19: class names with `|` or outer spaces could not be read back from relabel's own table."""
    names = ("a|b", "a\\", " c", "d|")
    for chosen in (names, names[:1], names[1:2], names[2:], ()):
        cell = write_candidates(chosen)
        assert split_candidates(cell, "cell") == tuple(name.strip() for name in chosen)
        read_back = parse_cells(np.array([cell]), names, "cells")
        wanted = sorted(names.index(name) for name in chosen)
        found = [int(read_back[0])] if read_back.ndim == 1 else np.flatnonzero(read_back[0]).tolist()
        assert found == (wanted or [-1])
    assert parse_cells(np.array(["a|b"]), names, "cells").tolist() == [0], "as older tables have it"


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["01", "1", "2"], ("1", "2")),
        (["1.0", "1", "nan", "2", "-1"], ("1", "2")),
        (["01", "02"], ("01", "02")),
        (["cat", "nan", "dog"], ("cat", "dog")),
        (["none", "some"], ("none", "some")),
    ],
)
def test_one_class_for_each_number_in_a_table(tmp_path, cells, classes):
    """Case 2: labels.csv turned `01`/`1`, `1.0`/`1`, `nan` and `-1` into separate classes."""
    for number in range(len(cells)):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    rows = "".join(f"{number}.png,{cell}\n" for number, cell in enumerate(cells))
    (tmp_path / "labels.csv").write_text("file,label\n" + rows)
    source = sources.load(str(tmp_path))
    assert source.train.classes == classes
    assert source.supervision.unlabelled.tolist() == [cell in ("nan", "-1") for cell in cells]


def test_a_table_spells_numbers_as_the_test_folders_do(tmp_path):
    for name in ("1.png", "2.png", "test/01/a.png", "test/02/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("file,label\n2.png,1\n1.png,2\n")
    source = sources.load(str(tmp_path))
    assert source.train.classes == ("01", "02") and source.supervision.observed.tolist() == [0, 1]


def test_votes_and_sets_of_numbers_are_read_as_labels_are(tmp_path):
    """Case 2's kind: answers of annotators, and sets in JSON, of classes whose names are numbers."""
    source = source_of(MONTHS)
    np.save(tmp_path / "l.npy", np.arange(1, 13).repeat(2).reshape(12, 2))
    assert label_file.read(str(tmp_path / "l.npy"), source).observed.tolist() == list(range(12))
    (tmp_path / "l.json").write_text(json.dumps({n: [[n + 1]] for n in range(12)}))
    assert label_file.read(str(tmp_path / "l.json"), source).observed.tolist() == list(range(12))
    (tmp_path / "l.json").write_text(json.dumps({n: [[max(1, n)]] for n in range(12)}))
    with pytest.raises(UserError, match="1 may mean the class '01' or, counted from 0, the class '02'"):
        label_file.read(str(tmp_path / "l.json"), source)
