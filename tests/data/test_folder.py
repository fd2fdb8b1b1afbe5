"""A user's folder: layouts, tables, and every mistake one makes with them."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense.data import sources
from condense.errors import UserError


def paint(file: Path, value: int = 0, size: tuple[int, int] = (6, 6), mode: str = "L") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode != "RGB" else (value, 0, 0)).save(file)


def load(path: Path, **options):
    return sources.load(str(path), **options)


def test_class_folders_without_test_images(tmp_path):
    for value, name in enumerate(["cat/2.png", "cat/1.png", "dog/deep/1.PNG", "ant/1.bmp"]):
        paint(tmp_path / name, value)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    source = load(tmp_path)
    assert source.train.classes == ("ant", "cat", "dog")
    assert source.train.images[:, 0, 0, 0].tolist() == [3, 1, 0, 2]
    assert source.supervision.observed.tolist() == [0, 1, 1, 2]
    assert source.supervision.kind == "noisy"
    assert (source.truth, source.test, source.test_truth) == (None, None, None)


@pytest.mark.parametrize("name", ["test", "val"])
def test_train_and_test_folders(tmp_path, name):
    for value, file in enumerate(["train/a/1.png", "train/b/1.png", f"{name}/b/1.png", f"{name}/a/1.png"]):
        paint(tmp_path / file, value)
    source = load(tmp_path)
    assert source.test is not None
    assert source.test_truth is not None
    assert source.test.images[:, 0, 0, 0].tolist() == [3, 2]
    assert source.test_truth.labels.tolist() == [0, 1]


def test_a_table_gives_noisy_partial_and_missing_labels(tmp_path):
    for value in range(5):
        paint(tmp_path / f"{value}.png", value)
    (tmp_path / "labels.csv").write_text("\ufefffile,label,note\n2.png,dog,x\n0.png,cat|dog,\n1.png,,\n3.png, eel ,\n")
    source = load(tmp_path)
    assert source.train.classes == ("cat", "dog", "eel")
    assert source.train.images[:, 0, 0, 0].tolist() == [2, 0, 1, 3]
    assert source.supervision.candidates.astype(int).tolist() == [[0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 0, 1]]
    assert source.supervision.trusted.tolist() == [False, True, True, False]
    assert source.supervision.kind == "mixture"


def test_a_table_can_name_the_test_images(tmp_path):
    for value in range(4):
        paint(tmp_path / "all" / f"{value}.png", value)
    (tmp_path / "labels.csv").write_text(
        "file,label,split\nall/0.png,b,test\nall/1.png,a,train\nall/2.png,b,train\nall/3.png,a,test\n"
    )
    source = load(tmp_path)
    assert source.test is not None
    assert source.test_truth is not None
    assert source.train.images[:, 0, 0, 0].tolist() == [1, 2]
    assert source.test.images[:, 0, 0, 0].tolist() == [3, 0]
    assert source.test_truth.labels.tolist() == [0, 1]


def test_test_folders_serve_a_table_of_training_images(tmp_path):
    for file in ("0.png", "1.png", "test/a/0.png", "test/b/0.png"):
        paint(tmp_path / file)
    (tmp_path / "labels.csv").write_text("file,label\n0.png,a|b\n1.png,b\n")
    assert load(tmp_path).test_truth.labels.tolist() == [0, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
@pytest.mark.parametrize("names", [[b"caf\xe9/1.png", b"tea/1.png"], [b"cafe/caf\xe9.png", b"tea/1.png"]])
def test_names_that_are_not_text_are_reported_when_loading(tmp_path, names):
    for name in names:
        paint(tmp_path / os.fsdecode(name))
    with pytest.raises(UserError, match="is not UTF-8; rename it"):
        load(tmp_path)


def test_a_root_is_for_named_data(tmp_path):
    paint(tmp_path / "cat" / "1.png")
    paint(tmp_path / "dog" / "1.png")
    with pytest.raises(UserError, match="--root is where a named data set lies"):
        load(tmp_path, root=tmp_path)


def test_sizes_that_differ_are_brought_to_one(tmp_path):
    """As case 41: different sizes are no error; the chosen size is reported, and another can be requested."""
    paint(tmp_path / "a/1.png", 50, (30, 20))
    paint(tmp_path / "b/1.png", 90, (40, 17))
    source = load(tmp_path)
    assert source.train.images.shape == (2, 16, 16, 1), "16 is the largest usual size up to the median short side"
    (note,) = source.reading.notes
    assert "have 2 different sizes: 30x20 (1), 40x17 (1)" in note and "brought to 16x16" in note
    assert "--image-size N" in note and "--fit" in note
    images = load(tmp_path, image_size=5).train.images
    assert images.shape == (2, 5, 5, 1)
    assert (images[0] == 50).all()
    assert (images[1] == 90).all()


def test_equal_sizes_that_are_not_square_are_brought_to_a_square(tmp_path):
    for name in "ab":
        paint(tmp_path / name / "1.png", 0, (10, 20))
    source = load(tmp_path)
    assert source.train.images.shape == (2, 8, 8, 1)
    assert "are not square: 10x20 (2); they are cut to the central square and brought to 8x8" in source.reading.notes[0]


def test_the_centre_is_kept_and_averaged(tmp_path):
    stripes = np.zeros((8, 16), dtype=np.uint8)
    stripes[:, 4:12] = 200
    stripes[::2, 4:12] = 100  # finer than the new size: picking rows would give 100 or 200
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(stripes).save(tmp_path / name / "1.png")
    images = load(tmp_path, image_size=2).train.images
    np.testing.assert_allclose(images, 150, atol=20)


def test_one_colour_image_makes_all_colour(tmp_path):
    paint(tmp_path / "a/1.png", 70)
    paint(tmp_path / "a/2.png", 1, mode="1")
    paint(tmp_path / "b/1.png", 1, mode="1")
    grey = load(tmp_path).train.images
    assert grey[:, 0, 0].tolist() == [[70], [255], [255]]
    paint(tmp_path / "b/2.png", 9, mode="RGB")
    assert load(tmp_path).train.images[:, 0, 0].tolist() == [[70] * 3, [255] * 3, [255] * 3, [9, 0, 0]]


def break_nothing_there(path: Path) -> None:
    for folder in ("a", "b"):
        for file in (path / folder).iterdir():
            file.unlink()
        (path / folder).rmdir()


def break_flat(path: Path) -> None:
    break_nothing_there(path)
    paint(path / "1.png")


def break_empty_class(path: Path) -> None:
    (path / "c").mkdir()


def break_one_class(path: Path) -> None:
    (path / "b" / "1.png").unlink()
    (path / "b").rmdir()


def break_image(path: Path) -> None:
    (path / "b" / "1.png").write_bytes(b"GIF89a? no.")


def break_cut_image(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)
    Image.fromarray(noise).save(path / "b" / "1.png")
    content = (path / "b" / "1.png").read_bytes()
    (path / "b" / "1.png").write_bytes(content[: len(content) // 2])


def break_test_only(path: Path) -> None:
    paint(path / "test/a/1.png")


def break_train_only_class(path: Path) -> None:
    break_nothing_there(path)
    for file in ("train/a/1.png", "train/b/1.png", "test/a/1.png"):
        paint(path / file)


def break_test_only_class(path: Path) -> None:
    break_nothing_there(path)
    for file in ("train/a/1.png", "test/b/1.png", "test/a/1.png"):
        paint(path / file)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (break_nothing_there, "holds no images and no class folders"),
        (break_flat, r"holds 1 images and no class folders.*labels.csv"),
        (break_empty_class, "class 'c'.*holds no images"),
        (break_one_class, r"only the class \['a'\]"),
        (break_image, "b/1.png cannot be read as an image"),
        (break_cut_image, "b/1.png cannot be read as an image"),
        (break_test_only, "no folder 'train'"),
        (break_train_only_class, "class 'b' has training images but no test images"),
        (break_test_only_class, "class 'b' has test images but no training images"),
    ],
)
def test_broken_folders_are_refused_in_one_sentence(tmp_path, breakage, message):
    paint(tmp_path / "a/1.png")
    paint(tmp_path / "b/1.png")
    breakage(tmp_path)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("person,kind\nanna,a\n", "has the columns person, kind"),
        ("", r"has the columns \(none\)"),
        ("file,label\n", "lists no files"),
        ("file,label\n0.png,a\n9.png,b\n", "line 3 names '9.png', but .* does not exist"),
        ("file,label\n0.png,a\n1.png,b\n0.png,b\n", "lists '0.png' twice, in lines 2 and 4"),
        ("file,label\n0.png,a\n./0.png,b\n", "lists './0.png' twice, in lines 2 and 3"),
        ("file,label\n0.png,a\n../secret.png,b\n", "give a path below"),
        ("file,label\n0.png,a\n/etc/passwd,b\n", "give a path below"),
        ("file,label\n0.png,a\n1.png,b||c\n", "has an empty entry"),
        ("file,label\n0.png,a\n1.png\n", "line 3 has 1 of 2 cells"),
        ("file,label\n0.png,a\n1.png,b,c\n", "line 3 has more cells than there are columns"),
        ("file,label,split\n0.png,a,\n1.png,b,dev\n", "the split 'dev'"),
        ("file,label,split\n0.png,a,test\n1.png,b,test\n", "lists no training images"),
        ("file,label,split\n0.png,a,train\n1.png,a|b,test\n", "1.png has 2 labels"),
        (
            "file,label,split\n0.png,a,train\n1.png,b,test\n",
            "line 2.* has the label 'a', a class that the test",
        ),
        ("file,label\n0.png,\n1.png,\n", "gives no training image a label"),
        ("file,label,split\n0.png,,train\n1.png,b,test\n", "gives no training image a label"),
        ("file,label\n0.png,a\n1.png,a\n", r"only the class \['a'\]"),
        (b"file,label\n0.png,\xff\n", "must be a UTF-8 table"),
    ],
)
def test_broken_tables_are_refused_in_one_sentence(tmp_path, table, message):
    for name in ("0.png", "1.png"):
        paint(tmp_path / "data" / name)
    path = tmp_path / "data" / "labels.csv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(UserError, match=message):
        load(tmp_path / "data")


def test_a_table_may_say_which_sets_are_sure(tmp_path):
    for value in range(4):
        paint(tmp_path / f"{value}.png", value)
    rows = "0.png,cat|dog,no\n1.png,cat|dog,\n2.png,cat,yes\n3.png,dog,\n"
    (tmp_path / "labels.csv").write_text("file,label,trusted\n" + rows)
    assert load(tmp_path).supervision.trusted.tolist() == [False, True, True, False]
    (tmp_path / "labels.csv").write_text("file,label,trusted\n" + rows.replace("no", "perhaps"))
    with pytest.raises(UserError, match="found 'perhaps'"):
        load(tmp_path)


def test_a_table_of_relabel_gives_the_suggested_labels(tmp_path):
    for value in range(2):
        paint(tmp_path / f"{value}.png", value)
    header = "file,given,suggested,confidence,likely_wrong\n"
    (tmp_path / "labels.csv").write_text(header + "0.png,cat,dog,0.9,yes\n1.png,,cat,0.6,no\n")
    source = load(tmp_path)
    assert source.supervision.observed.tolist() == [1, 0] and source.supervision.kind == "noisy"
    assert source.files == ("0.png", "1.png")


def test_splits_of_unusual_names_are_reported(tmp_path):
    for split in ("trn", "tst"):
        for value, kind in enumerate(("cat", "dog")):
            paint(tmp_path / split / kind / "1.png", 90 * value)
    source = load(tmp_path)
    (note,) = source.reading.notes
    assert source.train.classes == ("trn", "tst") and "trn, tst all hold the folders cat, dog" in note
    paint(tmp_path / "trn" / "eel" / "1.png")
    assert not load(tmp_path).reading.notes, "folders within classes are none of our business where they differ"
    whole = tmp_path / "whole" / "photos"
    for name in ("train/a", "train/b", "test/a", "test/b"):
        paint(whole / name / "1.png")
    with pytest.raises(UserError, match=r"holds only photos, which holds the splits; give .*photos"):
        load(tmp_path / "whole")


def test_shapes_that_vanish_on_the_background_are_reported(tmp_path):
    """A white shape whose ground is transparent is white on white."""
    paint(tmp_path / "a" / "1.png", 7)
    paint(tmp_path / "b" / "1.png", 9)
    shape = Image.new("LA", (6, 6), (255, 0))
    shape.paste((255, 255), (2, 2, 4, 4))
    shape.save(tmp_path / "a" / "logo.png")
    (note,) = load(tmp_path).reading.notes
    assert note == (
        "1 transparent picture shows one colour only, laid on white: a/logo.png; try --background grey or black."
    )
    dark = load(tmp_path, background="black")
    assert not dark.reading.notes and np.ptp(dark.train.images[1]) == 255
