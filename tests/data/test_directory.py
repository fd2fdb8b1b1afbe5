"""The files of a folder that count: hidden and system names, links, endings, splits, and unused files."""

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from condense.data import sources
from condense.data.directory import walk
from condense.errors import UserError


def paint(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), len(file.name) % 256).save(file, format="PNG")


@pytest.fixture
def pets(tmp_path) -> Path:
    paint(tmp_path / "pets/cat/1.png", tmp_path / "pets/dog/1.png")
    return tmp_path / "pets"


@pytest.mark.parametrize(
    "hidden",
    [
        "cat/.ipynb_checkpoints/1-checkpoint.png",
        "cat/.trashed-0.png",
        "cat/@eaDir/1.png/thumb.png",
        "cat/._0.png",
        "__MACOSX/cat/1.png",
        "__MACOSX/cat/._1.png",
        ".thumbnails/1.png",
        "cat/deep/.hidden/1.png",
        "$RECYCLE.BIN/1.png",
        "cat/~$1.png",
    ],
)
def test_hidden_names_are_passed_over_at_every_level(pets, hidden):
    """Case 5: checkpoints of notebooks and trash were counted, and `._0.png` and `__MACOSX/` stopped the run."""
    plain = sources.load(str(pets)).train.fingerprint()
    paint(pets / hidden)
    source = sources.load(str(pets))
    assert source.train.fingerprint() == plain
    assert len(source.reading.skipped["hidden, or a system's"]) == 1 and source.reading.notes == ()


@pytest.mark.parametrize("ending", ["jfif", "jpe", "JPG", "pnm", "dib", "apng"])
def test_endings_are_known(pets, ending):
    """Case 5: `.jfif` and `.jpe` were dropped in silence."""
    paint(pets / "cat" / f"2.{ending}")
    assert sources.load(str(pets)).files == ("cat/1.png", f"cat/2.{ending}", "dog/1.png")


def test_other_files_are_counted(pets):
    (pets / "cat" / "notes.txt").write_text("")
    (pets / "README").write_text("")
    paint(pets / "cover.png")
    reading = sources.load(str(pets)).reading
    assert reading.skipped == {"in no class folder": ("cover.png",), "no picture": ("README", "cat/notes.txt")}
    assert reading.notes == ("1 file is left out (in no class folder): cover.png.",)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_followed_and_circles_refused(tmp_path, pets):
    """Case 5: symlinked subfolders were dropped in silence."""
    paint(tmp_path / "elsewhere/2.png", tmp_path / "elsewhere/3.png")
    (pets / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (pets / "eel").symlink_to(tmp_path / "elsewhere")
    assert sources.load(str(pets)).files == (
        *("cat/1.png", "cat/more/2.png", "cat/more/3.png", "dog/1.png", "eel/2.png", "eel/3.png"),
    )
    (tmp_path / "elsewhere" / "back").symlink_to(pets)
    with pytest.raises(UserError, match=r"The link .*back leads back to .*pets, a folder it lies in"):
        walk(pets)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_circle_of_two_links_is_noticed(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "other").symlink_to(tmp_path / other)
    with pytest.raises(UserError, match="leads back to"):
        walk(tmp_path / "a")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "up").symlink_to(tmp_path)
    with pytest.raises(UserError, match="leads back to"):
        walk(tmp_path / "c")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_to_nowhere_is_an_unreadable_file(pets):
    (pets / "cat" / "2.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=r"cat/2\.png cannot be read as an image \(a link to a file that does not"):
        sources.load(str(pets))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
def test_a_pipe_is_not_a_picture(pets):
    os.mkfifo(pets / "cat" / "2.png")
    assert sources.load(str(pets)).reading.skipped == {"no picture": ("cat/2.png",)}


@pytest.mark.parametrize("train", ["Train", "training", "TRAIN", "training_set", "train_images"])
@pytest.mark.parametrize("test", ["Test", "testing", "valid", "Validation", "val", "test-set"])
def test_splits_are_known_by_their_usual_names(tmp_path, train, test):
    """Case 3: `Train/ Test/` and `training/ testing/` became classes, `valid/` and `validation/` went unread."""
    paint(*(tmp_path / split / name / "1.png" for split in (train, test) for name in ("cat", "dog")))
    source = sources.load(str(tmp_path))
    assert source.train.classes == ("cat", "dog") and source.test is not None and len(source.test) == 2
    assert source.files == (f"{train}/cat/1.png", f"{train}/dog/1.png")


def test_unused_images_beside_train_are_refused(tmp_path):
    """Case 3: classes beside `train/` vanished."""
    paint(*(tmp_path / place / "1.png" for place in ("train/cat", "train/dog", "eel")))
    with pytest.raises(UserError, match="has a folder train, and beside it eel with images that nothing would use"):
        sources.load(str(tmp_path))
    (tmp_path / "eel" / "1.png").rename(tmp_path / "eel" / "notes.txt")
    assert len(sources.load(str(tmp_path)).train) == 2


def test_validation_images_beside_test_images_are_reported(tmp_path):
    paint(*(tmp_path / split / name / "1.png" for split in ("train", "val", "test") for name in ("cat", "dog")))
    source = sources.load(str(tmp_path))
    assert source.reading.skipped == {"in val/, beside test/": ("val/cat/1.png", "val/dog/1.png")}
    assert source.reading.notes == ("2 files are left out (in val/, beside test/): val/cat/1.png, val/dog/1.png.",)


def test_two_names_of_one_split_are_refused(tmp_path):
    paint(*(tmp_path / split / "cat" / "1.png" for split in ("train", "Training")))
    with pytest.raises(UserError, match="has Training and train, both of train images; keep one"):
        sources.load(str(tmp_path))


def test_one_folder_too_high_is_explained(tmp_path, pets):
    with pytest.raises(UserError, match=r"only the class \['pets'\].*should it be .*pets\?"):
        sources.load(str(tmp_path))


def test_images_that_a_table_does_not_list_are_reported(tmp_path):
    """Case 40: images not listed were dropped in silence (5 of 12 used)."""
    paint(*(tmp_path / f"{number}.png" for number in range(12)))
    (tmp_path / "Labels.csv").write_text("filename;class\n" + "".join(f"{n}.png;{'ab'[n % 2]}\n" for n in range(5)))
    source = sources.load(str(tmp_path))
    assert len(source.train) == 5 and source.train.classes == ("a", "b")
    (note,) = source.reading.notes
    assert note == ("7 files are left out (not listed in Labels.csv): 10.png, 11.png, 5.png, 6.png, 7.png and 2 more.")


@pytest.mark.parametrize("header", ["file,label", "File,Label", "filename,class", "image;category", "path\ttarget"])
def test_headers_of_labels_csv(tmp_path, header):
    """Case 40: `filename,class`, `File,Label` and semicolons were refused."""
    paint(tmp_path / "one/1.png", tmp_path / "two/2.png")
    delimiter = next(sign for sign in ",;\t" if sign in header)
    (tmp_path / "labels.csv").write_text(f"{header}\ntwo\\2.png{delimiter}b\n./one/1.png{delimiter}a\n")
    source = sources.load(str(tmp_path))
    assert source.files == ("two/2.png", "one/1.png") and source.supervision.observed.tolist() == [1, 0]


def test_blank_rows_of_spreadsheets_and_headless_tables(tmp_path):
    paint(tmp_path / "1.png", tmp_path / "2.png")
    (tmp_path / "labels.csv").write_text("file,label\n1.png,a\n2.png,b\n,\n,\n")
    assert len(sources.load(str(tmp_path)).train) == 2
    (tmp_path / "labels.csv").write_text("1.png,a\n2.png,b\n")
    with pytest.raises(UserError, match=r"begins with '1\.png', an image; its first line must name the columns"):
        sources.load(str(tmp_path))
    (tmp_path / "labels.csv").write_text("file,label,label\n1.png,a,b\n2.png,b,a\n")
    with pytest.raises(UserError, match="has two columns 'label'"):
        sources.load(str(tmp_path))


def test_a_table_of_another_name_is_pointed_out(tmp_path):
    paint(tmp_path / "1.png")
    (tmp_path / "metadata.csv").write_text("file,label\n1.png,a\n")
    with pytest.raises(UserError, match=r"holds 1 images and no class folders.*\(found metadata.csv: call it labels"):
        sources.load(str(tmp_path))


def test_splits_within_classes_are_refused(tmp_path):
    """Case 3's kind: `cat/train/` and `cat/test/` were thrown together."""
    paint(*(tmp_path / name / split / "1.png" for split in ("train", "test") for name in ("cat", "dog")))
    with pytest.raises(UserError, match=r"has the folders test, train within a class.*put the splits above"):
        sources.load(str(tmp_path))


def test_idx_files_are_pointed_out(tmp_path):
    """Case 18's kind."""
    (tmp_path / "train-images.idx3-ubyte").write_bytes(b"")
    with pytest.raises(UserError, match=r"its idx files are those of a named data set: --data NAME --root FOLDER"):
        sources.load(str(tmp_path))


def test_all_lines_without_a_file_are_reported(tmp_path):
    """Case 35's kind: one line per run."""
    paint(tmp_path / "1.png", tmp_path / "2.png")
    (tmp_path / "labels.csv").write_text("file,label\n1.png,a\n3.png,b\n2.png,b\n4.png,b\n5.png,a\n")
    with pytest.raises(UserError, match=r"line 3 names '3\.png'.*The same holds for 2 more lines: 5, 6\."):
        sources.load(str(tmp_path))


def test_two_columns_of_labels_are_refused(tmp_path):
    """Case 40's kind: of two likely columns none is taken in silence."""
    paint(tmp_path / "1.png", tmp_path / "2.png")
    (tmp_path / "labels.csv").write_text("file,class,category\n1.png,a,x\n2.png,b,x\n")
    with pytest.raises(UserError, match="has 'class' and 'category'; call the column of the labels 'label'"):
        sources.load(str(tmp_path))
    (tmp_path / "labels.csv").write_text("file,class,label\n1.png,a,x\n2.png,b,y\n")
    assert sources.load(str(tmp_path)).train.classes == ("x", "y")
