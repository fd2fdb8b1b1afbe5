"""Which rows of a table belong to which images: every way in which people name files."""

import csv
import random
import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from condense.data import label_file, sources
from condense.data.file_keys import matched
from condense.data.label_cells import write_candidates
from condense.data.types import ImageData, Source, Supervision
from condense.errors import UserError

FILES = ("ant/0.png", "ant/3.png", "bee/1.png", "bee/4.png", "cat/2.png", "cat/5.png")
LABELS = ("bee", "cat", "ant", "ant", "cat", "bee")
ORDER = (4, 0, 3, 5, 1, 2)


@pytest.fixture
def insects(tmp_path) -> Source:
    for value, name in enumerate(FILES):
        place = tmp_path / "insects" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), value).save(place)
    return sources.load(str(tmp_path / "insects"))


def names_of(source: Source, path: Path) -> list[str]:
    return [source.train.classes[y] for y in label_file.read(str(path), source).observed.tolist()]


def write(path: Path, header: str, named, delimiter: str = ",") -> Path:
    rows = [f"{named(FILES[row])}{delimiter}{LABELS[row]}" for row in ORDER]
    path.write_text("\n".join([header.replace(",", delimiter), *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    "column", ["file", "File", "filename", "path", "image", "id", "picture of", "", "Datei", "img_path"]
)
def test_a_column_of_the_files_is_the_key_whatever_it_is_called(tmp_path, insects, column):
    """Case 1: a key column not called exactly `file` was passed over, and labels went by row order."""
    assert names_of(insects, write(tmp_path / "l.csv", f"{column},label", str)) == list(LABELS)


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("dots", "./{}"),
        ("backslashes", lambda name: name.replace("/", "\\")),
        ("the folder above", "insects/{}"),
        ("an absolute path of another system", lambda name: "C:\\photos\\" + name.replace("/", "\\")),
        ("an absolute path", "/home/me/insects/{}"),
        ("the name alone", lambda name: name.rpartition("/")[2]),
        ("without ending", lambda name: name.removesuffix(".png")),
        ("the stem alone", lambda name: name.rpartition("/")[2].removesuffix(".png")),
        ("other case", str.upper),
        ("outer spaces", " {} "),
    ],
)
def test_files_may_be_written_in_many_ways(tmp_path, insects, what, named):
    """Cases 1 and 18: `./a.png`, backslashes and their kind."""
    way = named.format if isinstance(named, str) else named
    assert names_of(insects, write(tmp_path / "l.csv", "file,label", way)) == list(LABELS), what


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_and_tabs(tmp_path, insects, delimiter):
    """Cases 18 and 40."""
    path = write(tmp_path / "l.csv", "File,Label", str, delimiter)
    assert names_of(insects, path) == list(LABELS)
    path.write_text("sep=;\n" + path.read_text()) if delimiter == ";" else path.rename(tmp_path / "l.tsv")
    assert names_of(insects, path if delimiter == ";" else tmp_path / "l.tsv") == list(LABELS)
    (tmp_path / "wide.csv").write_bytes(write(tmp_path / "l.csv", "file,label", str).read_text().encode("utf-16"))
    assert names_of(insects, tmp_path / "wide.csv") == list(LABELS)


def test_a_row_number_is_not_a_key(tmp_path, insects):
    """A pandas index beside the files, and numbers in the order of the rows, change nothing."""
    rows = [f"{number},{FILES[row]},{LABELS[row]}" for number, row in enumerate(ORDER)]
    (tmp_path / "l.csv").write_text("\n".join([",file,label", *rows]))
    assert names_of(insects, tmp_path / "l.csv") == list(LABELS)
    (tmp_path / "l.csv").write_text(
        "\n".join(["id,label", *(f"{7 + 2 * n},{label}" for n, label in enumerate(LABELS))])
    )
    assert names_of(insects, tmp_path / "l.csv") == list(LABELS)


def test_numbers_in_another_order_that_name_no_image_are_refused(tmp_path, insects):
    (tmp_path / "l.csv").write_text("id,label\n" + "".join(f"{n + 20},{LABELS[n]}\n" for n in ORDER))
    with pytest.raises(UserError, match=r"no row for 'ant/0.png' \(6 of 6 .* have none\); '24' is none of them"):
        names_of(insects, tmp_path / "l.csv")


@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize("texts", [True, False])
def test_arrays_of_files_and_of_numbers_are_keys(tmp_path, ending, texts, insects):
    """Case 1: an integer `file` array in .h5 was passed over."""
    given = [insects.train.classes.index(LABELS[row]) for row in ORDER]
    keys = [FILES[row] for row in ORDER] if texts else list(ORDER)
    path, source = tmp_path / f"l.{ending}", insects
    if not texts:
        images = np.zeros((6, 4, 4), dtype=np.uint8)
        np.savez(tmp_path / "data.npz", images=images, labels=[0, 1, 2] * 2, class_names=["ant", "bee", "cat"])
        source = sources.load(str(tmp_path / "data.npz"))
    if ending == "npz":
        np.savez(path, files=np.array(keys), label=given)
    else:
        with h5py.File(path, "w") as file:
            file["file"] = np.array(keys, dtype=h5py.string_dtype()) if texts else np.array(keys)
            file["label"] = given
    assert names_of(source, path) == list(LABELS)


def test_ambiguous_columns_of_text_are_refused(tmp_path, insects):
    """Case 1: without a key, a column of unknown text may be meant as one."""
    (tmp_path / "l.csv").write_text("who,label\n" + "".join(f"anna{n % 2},{LABELS[n]}\n" for n in range(6)))
    with pytest.raises(UserError, match=r"column 'who' \(with 'anna0'\) holds neither the image files nor labels"):
        names_of(insects, tmp_path / "l.csv")
    (tmp_path / "l.csv").write_text(
        "file,who,label\n" + "".join(f"{FILES[n]},anna{n % 2},{LABELS[n]}\n" for n in range(6))
    )
    assert names_of(insects, tmp_path / "l.csv") == list(LABELS), "beside a key it does no harm"


def test_rows_of_other_images_are_left_out_and_repeats_refused(tmp_path, insects):
    path = write(tmp_path / "l.csv", "file,label", str)
    path.write_text(path.read_text() + "test/ant/9.png,ant\n")
    assert names_of(insects, path) == list(LABELS)
    path.write_text(path.read_text() + "ant/0.png,cat\n")
    with pytest.raises(UserError, match=r"lists 'ant/0\.png' twice, in rows 2 and 8"):
        names_of(insects, path)


def test_two_columns_that_disagree_are_refused(tmp_path, insects):
    rows = [f"{FILES[row]},{FILES[5 - row]},{LABELS[row]}" for row in ORDER]
    (tmp_path / "l.csv").write_text("\n".join(["file,source,label", *rows]))
    with pytest.raises(UserError, match="'file' and 'source' both name the images, and disagree"):
        names_of(insects, tmp_path / "l.csv")


def test_a_name_that_could_mean_several_files_is_not_matched():
    assert matched(["1.png", "b/2.png"], ["a/1.png", "b/1.png", "b/2.png"]) == [None, 2]
    assert matched(["../a/1.png"], ["a/1.png"]) == [None], "nothing above the folder"


def test_names_are_the_same_however_they_are_composed(tmp_path):
    """Case 2: `café` in form C and in form D, in folders, files and tables."""
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for value, name in enumerate([f"{apart}/{apart}1.png", "tea/2.png"]):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        Image.new("L", (4, 4), value).save(tmp_path / "data" / name)
    source = sources.load(str(tmp_path / "data"))
    assert source.train.classes == (composed, "tea")
    for form in (composed, apart):
        (tmp_path / "l.csv").write_text(f"file,label\ntea/2.png,{form}\n{form}/{form}1.png,tea\n")
        assert names_of(source, tmp_path / "l.csv") == ["tea", composed]
    (tmp_path / "data" / "labels.csv").write_text(f"file,label\ntea/2.png,{apart}\n{composed}/{composed}1.png,tea\n")
    assert sources.load(str(tmp_path / "data")).train.classes == (composed, "tea")


@pytest.mark.parametrize("column", ["Datei", "row", "image", ""])
def test_numbers_in_disorder_are_a_key_whatever_they_are_called(tmp_path, insects, column):
    """As case 1, for a shuffled table of data without files; row numbers beside them carry no information."""
    np.savez(tmp_path / "data.npz", images=np.zeros((6, 4, 4), np.uint8), labels=[0, 1, 2] * 2)
    source = sources.load(str(tmp_path / "data.npz"))
    rows = [f"{number},{row},{row % 3}" for number, row in enumerate(ORDER)]
    (tmp_path / "l.csv").write_text("\n".join([f"idx,{column},label", *rows]))
    assert label_file.read(str(tmp_path / "l.csv"), source).observed.tolist() == [0, 1, 2] * 2
    with pytest.raises(UserError, match="both name the images, and disagree"):  # here both are stems of the files
        label_file.read(str(tmp_path / "l.csv"), insects)


SPELLINGS = {
    "as it is": lambda file: file,
    "dots": lambda file: f"./{file}",
    "backslashes": lambda file: file.replace("/", "\\"),
    "absolute": lambda file: f"/home/x/{file}",
    "name": lambda file: file.rpartition("/")[2],
    "stem": lambda file: file.rpartition("/")[2].rpartition(".")[0],
    "apart": lambda file: unicodedata.normalize("NFD", file),
    "capitals": str.upper,
    "numbers": None,
}


@pytest.mark.parametrize("seed", range(200))
def test_a_table_gives_the_right_labels_or_none(tmp_path, seed):
    """Cases 1, 2, 18 and 40 at random: no table is read wrongly in silence."""
    rnd = random.Random(seed)
    classes = rnd.choice([("ant", "bee", "cat"), ("01", "02", "03"), ("café", "naïve", "a|b"), ("1", "2", "other")])
    count = rnd.choice([3, 6, 30])
    layout = rnd.choice(["{0}", "{1}/{0}", "train/{1}/{0}", ""])
    endings = [rnd.choice(["png", "jpg", "JPG"]) for _ in range(count)]
    pictures = [layout.format(f"{n:03}.{endings[n]}", classes[n % 3].replace("|", "_")) for n in range(count)]
    files = tuple(sorted(pictures)) if layout else None
    images = ImageData(np.zeros((count, 2, 2, 1), np.uint8), classes, "data", "train")
    source = Source(images, Supervision.from_labels(np.arange(count) % 3, 3, trusted=False), None, None, None, files)
    spelling, labels = SPELLINGS[rnd.choice([*SPELLINGS])], [rnd.randrange(3) for _ in range(count)]
    header = [rnd.choice(["file", "Path", "x", "", "label_id"]), rnd.choice(["label", "Class"])]
    header.append(rnd.choice(["note", "idx"]))
    rows = []
    for place, image in enumerate(rnd.sample(range(count), count)):
        key = str(image) if files is None or spelling is None else spelling(files[image])
        extra = str(place) if header[2] == "idx" else rnd.choice(["good", "bad"])
        rows.append([key, write_candidates([classes[labels[image]]]), extra])
    columns = rnd.sample(range(3), 3)
    with (tmp_path / "l.csv").open("w", newline="", encoding=rnd.choice(["utf-8", "utf-8-sig", "utf-16"])) as stream:
        table = csv.writer(stream, delimiter=rnd.choice(",;\t"))
        table.writerows([row[place] for place in columns] for row in [header, *rows])
    try:
        found = label_file.read(str(tmp_path / "l.csv"), source).observed.tolist()
    except UserError:
        assert files is None or spelling is None, "numbers that name no file, or notes without a key"
    else:
        assert found == labels
