"""Labels from separate files: how each form is read, real CIFAR-10N forms, and malicious files."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from condense.data import label_file, label_tables, sources
from condense.data.types import ImageData, Source, Supervision, Truth
from condense.errors import UserError

CLASSES = ("ant", "bee", "cat")
CLEAN = np.array([0, 1, 2, 0, 1, 2])
WORST = np.array([0, 2, 2, 1, 1, 0])


@pytest.fixture
def source() -> Source:
    images = ImageData(np.zeros((6, 2, 2, 1), dtype=np.uint8), CLASSES, "insects", "train")
    return Source(images, Supervision.from_labels(CLEAN, 3, trusted=True), Truth(CLEAN), None, None)


def observed(place: object, source: Source) -> list[int]:
    return label_file.read(str(place), source).observed.tolist()


def human(**changed: np.ndarray) -> dict[str, np.ndarray]:
    """What CIFAR-10_human.pt holds."""
    votes = {f"random_label{k}": np.roll(WORST, k) for k in (1, 2, 3)}
    return {"clean_label": CLEAN, "worse_label": WORST, "aggre_label": CLEAN, **votes, **changed}


def write_pt(path: Path, old: bool) -> Path:
    torch.save(human(), path, _use_new_zipfile_serialization=not old)
    if old:  # as numpy 1 named it
        path.write_bytes(
            path.read_bytes().replace(b"numpy._core.multiarray\n_reconstruct", b"numpy.core.multiarray\n_reconstruct")
        )
    return path


@pytest.mark.parametrize("old", [False, True])
def test_cifar_n_as_published_is_read_without_running_its_pickle(tmp_path, source, old):
    path = write_pt(tmp_path / "CIFAR-10_human.pt", old)
    given = label_file.read(f"{path}::worst", source)
    assert given.observed.tolist() == WORST.tolist() and given.kind == "noisy"
    assert observed(f"{path}::worse_label", source) == WORST.tolist()
    assert observed(f"{path}::aggre", source) == CLEAN.tolist()
    assert observed(f"{path}::rand2", source) == np.roll(WORST, 2).tolist()
    with pytest.raises(UserError, match=r"holds aggre_label, .*say which"):
        label_file.read(str(path), source)
    with pytest.raises(UserError, match=r"no labels 'best'; it holds aggre_label"):
        label_file.read(f"{path}::best", source)


def test_labels_of_another_order_are_noticed(tmp_path, source):
    np.savez(tmp_path / "a.npz", **human(clean_label=CLEAN[::-1]))
    with pytest.raises(UserError, match=r"'clean_label' differ .* for 4 of 6 images.*another order"):
        label_file.read(f"{tmp_path / 'a.npz'}::worst", source)


def test_clean_labels_may_be_texts(tmp_path, source):
    rows = [f"{CLASSES[noisy]},{CLASSES[clean]}" for noisy, clean in zip(WORST, CLEAN, strict=True)]
    (tmp_path / "own.csv").write_text("\n".join(["label,clean_label", *rows]))
    assert observed(tmp_path / "own.csv", source) == WORST.tolist()
    (tmp_path / "own.csv").write_text("\n".join(["label,clean_label", *rows[::-1]]))
    with pytest.raises(UserError, match="'clean_label' differ from the true labels"):
        observed(tmp_path / "own.csv", source)


def test_every_form_of_single_labels(tmp_path, source):
    np.save(tmp_path / "a.npy", WORST.astype(np.uint8)[:, None])
    np.savez(tmp_path / "a.npz", noisy_label=WORST, clean_label=CLEAN)
    torch.save(torch.from_numpy(WORST), tmp_path / "a.pt")
    torch.save({"noisy_label": WORST.tolist(), "other": CLEAN}, tmp_path / "b.pth")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"] = WORST
    (tmp_path / "a.csv").write_text("label\nant\ncat\n2\nbee\n1\nant\n")
    for name in ("a.npy", "a.npz", "a.pt", "b.pth", "a.h5", "a.csv"):
        assert observed(tmp_path / name, source) == WORST.tolist(), name
    assert observed(f"{tmp_path / 'a.npz'}::noisy100", source) == WORST.tolist()
    np.save(tmp_path / "some.npy", np.where(WORST == 2, -1, WORST))
    some = label_file.read(str(tmp_path / "some.npy"), source)
    assert some.unlabelled.tolist() == (WORST == 2).tolist() and some.trusted.tolist() == (WORST == 2).tolist()


def test_several_annotators_give_sets_that_may_miss_the_truth(tmp_path, source):
    votes = np.stack([np.roll(WORST, k) for k in (1, 2, 3)], axis=1)
    np.save(tmp_path / "votes.npy", votes)
    np.savez(tmp_path / "human.npz", **human())
    (tmp_path / "votes.csv").write_text(
        "anna,ben,cleo\n" + "".join(",".join(CLASSES[v] for v in row) + "\n" for row in votes)
    )
    expected = np.zeros((6, 3), dtype=bool)
    expected[np.arange(6)[:, None], votes] = True
    for place in ("votes.npy", "human.npz::rand1,rand2,rand3", "votes.csv::anna,ben,cleo"):
        given = label_file.read(str(tmp_path / place), source)
        np.testing.assert_array_equal(given.candidates, expected)
        assert not given.trusted[~expected.all(axis=1)].any()


def test_sets_are_trusted_unless_the_table_says_otherwise(tmp_path, source):
    cells = "ant|bee,bee,,cat,bee|cat,0|2".split(",")
    (tmp_path / "a.csv").write_text("label\n" + "".join(f'"{cell}"\n' for cell in cells))
    plain = label_file.read(str(tmp_path / "a.csv"), source)
    assert plain.candidates.astype(int).tolist() == [[1, 1, 0], [0, 1, 0], [1] * 3, [0, 0, 1], [0, 1, 1], [1, 0, 1]]
    assert plain.trusted.tolist() == [True, False, True, False, True, True]
    told = "label,trusted\n" + "".join(f"{c},{t}\n" for c, t in zip(cells, "no yes yes no no yes".split(), strict=True))
    (tmp_path / "b.csv").write_text(told)
    assert label_file.read(str(tmp_path / "b.csv"), source).trusted.tolist() == [False, True, True, False, False, True]
    np.savez(tmp_path / "c.npz", candidates=plain.candidates, trusted=np.zeros(6, dtype=bool))
    assert not label_file.read(str(tmp_path / "c.npz"), source).trusted.any()


@pytest.mark.parametrize("ending", ["json", "pkl"])
def test_plcifar_sets_of_annotators(tmp_path, source, ending):
    answers = {image: [[int(y)], [int(y), (int(y) + 1) % 3], [2]] for image, y in enumerate(WORST)}
    path = tmp_path / f"plcifar.{ending}"
    path.write_bytes(json.dumps(answers).encode() if ending == "json" else pickle.dumps(answers))
    union = np.eye(3, dtype=bool)[WORST] | np.eye(3, dtype=bool)[(WORST + 1) % 3]
    largest = label_file.read(f"{path}::vaguest", source)
    np.testing.assert_array_equal(largest.candidates, union)
    given = label_file.read(str(path), source)
    union[:, 2] = True
    np.testing.assert_array_equal(given.candidates, union)
    assert given.trusted.tolist() == union.all(axis=1).tolist()


def test_rows_are_matched_by_file(tmp_path):
    for number in range(6):
        place = tmp_path / "pictures" / CLASSES[CLEAN[number]] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(place)
    source = sources.load(str(tmp_path / "pictures"))
    assert source.files == ("ant/0.png", "ant/3.png", "bee/1.png", "bee/4.png", "cat/2.png", "cat/5.png")
    rows = [f"{CLASSES[CLEAN[n]]}/{n}.png,{CLASSES[WORST[n]]}\n" for n in (5, 0, 3, 4, 1, 2)]
    (tmp_path / "l.csv").write_text("file,label\n" + "".join(rows))
    assert observed(tmp_path / "l.csv", source) == WORST[[0, 3, 1, 4, 2, 5]].tolist()
    (tmp_path / "l.csv").write_text("file,label\n" + "".join(rows).replace("cat/5.png", "cat/6.png"))
    with pytest.raises(UserError, match=r"no row for 'cat/5.png' \(1 of 6"):
        label_file.read(str(tmp_path / "l.csv"), source)


def test_an_export_of_label_studio_is_read_as_it_is(tmp_path):
    for number in range(6):
        place = tmp_path / "pictures" / CLASSES[CLEAN[number]] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(place)
    source = sources.load(str(tmp_path / "pictures"))
    head = "annotation_id,annotator,choice,created_at,id,image,lead_time,updated_at\n"
    rows = [
        f"{40 + n},1,{CLASSES[WORST[n]]},2026-11-01T10:0{n}:00Z,{7 * n + 3},"
        f"/data/local-files/?d=pictures/{CLASSES[CLEAN[n]]}/{n}.png,3.{n},2026-11-01T10:1{n}:00Z\n"
        for n in (5, 0, 3, 4, 1, 2)
    ]
    (tmp_path / "l.csv").write_text(head + "".join(rows))
    assert observed(tmp_path / "l.csv", source) == WORST[[0, 3, 1, 4, 2, 5]].tolist()


def test_rows_of_data_without_files_go_by_number(tmp_path, source):
    (tmp_path / "l.csv").write_text(
        "file,given,suggested\n" + "".join(f"{n},0,{WORST[n]}\n" for n in (3, 1, 0, 2, 5, 4))
    )
    assert observed(tmp_path / "l.csv", source) == WORST.tolist(), "what relabel suggests"
    assert observed(f"{tmp_path / 'l.csv'}::given", source) == [0] * 6


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.append(WORST, 1), "7 entries, more than the 6 training images of insects"),
        (WORST[:5], "5 entries, fewer than the 6"),
        (WORST + 1, r"entry 1 is 3, outside 0..2"),
        (WORST - 2, r"entry 0 is -2, outside 0..2"),
        (np.stack([WORST, WORST + 1], 1), "Annotator 1 answers 3 for image 1"),
        (np.zeros((6, 3), dtype=bool), "empty candidate set"),
        (np.ones((6, 4), dtype=bool), r"is bool \[6, 4\].*bool \[n, 3\]"),
        (WORST / 2, r"is float64 \[6\]"),
        (np.array(3), "0 entries, fewer"),
    ],
)
def test_wrong_labels_are_refused_in_one_sentence(tmp_path, source, stored, message):
    np.save(tmp_path / "a.npy", stored)
    with pytest.raises(UserError, match=message):
        label_file.read(str(tmp_path / "a.npy"), source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "anna,ben\n" + "ant,ant\n" * 5 + "ant,Ameise\n",
            "'ben', row 6 names 'Ameise', which is not one of the classes",
        ),
        ("a.csv", "label\n" + "ant\n" * 5 + "ant||bee\n", "'label', row 6: the candidate list .* empty entry"),
        ("a.csv", "label,trusted\n" + "ant,yes\n" * 5 + "bee,maybe\n", "found 'maybe'"),
        ("a.csv", "label,note\nant\n", "line 2 has 1 of 2 cells"),
        ("a.csv", "", "holds nothing; say which"),
        ("a.json", '{"0": [[0]], "2": [[1]]}', "every image from 0 to 1"),
        ("a.json", json.dumps({n: [[0, 3]] for n in range(6)}), "image 0 has the candidate 3, outside 0..2"),
        ("a.json", json.dumps({n: [[]] for n in range(6)}), "empty candidate set"),
        ("a.json", '{"0": [["ant"]]}', "'ant' is not a class number"),
        ("a.json", "[0]", "not a mapping"),
        ("a.json", "{", "is not JSON"),
        ("a.txt", "0", "must end in .npy, .npz"),
        ("a.pt", "no checkpoint", "damaged, or holds more"),
        ("a.npy", "no array", "damaged or not an .npy"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(tmp_path, source, name, content, message):
    (tmp_path / name).write_text(content)
    wanted = "::anna,ben" if content.startswith("anna") else ""
    with pytest.raises(UserError, match=message):
        label_file.read(f"{tmp_path / name}{wanted}", source)


def test_no_file(tmp_path, source):
    with pytest.raises(UserError, match="There is no label file"):
        label_file.read(str(tmp_path / "a.npy"), source)


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["a.pt", "old.pt", "bare.pt", "a.npy", "a.npz", "a.pkl"])
def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path, source, name):
    mark, path = tmp_path / "code was run", tmp_path / name
    attack = {"worse_label": _Attack(mark)}
    held = np.empty(6, dtype=object)
    held[:] = [_Attack(mark)] * 6
    if name in ("a.pt", "old.pt"):
        torch.save(attack, path, _use_new_zipfile_serialization=name == "a.pt")
    elif name == "a.npy":
        np.save(path, held)
    elif name == "a.npz":
        np.savez(path, worst=held)
    else:
        path.write_bytes(pickle.dumps(attack))
    with pytest.raises(UserError, match=r"could run code|can run code"):
        label_file.read(str(path), source)
    assert not mark.exists()


def test_object_arrays_inside_a_checkpoint_are_refused(tmp_path, source):
    held = np.empty(6, dtype=object)
    held[:] = [[0]] * 6
    torch.save({"worst": held}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"could run code|not an array of numbers"):
        label_file.read(str(tmp_path / "a.pt"), source)


def test_a_pickle_cannot_waste_memory(tmp_path, source):
    """Eight bytes requested 4.6 GB through an index of the memo."""
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04]r\xff\xff\xff\x0f.")
    with pytest.raises(UserError, match="numbers what it holds beyond its length"):
        label_file.read(str(tmp_path / "a.pkl"), source)
    opcodes = b"\x80\x04]q\x00" + b"h\x00a" * 2  # a list in itself
    (tmp_path / "a.pkl").write_bytes(opcodes + b".")
    with pytest.raises(UserError):
        label_file.read(str(tmp_path / "a.pkl"), source)
    shared = [0, 1, 2] * 500
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({image: [shared] * 150_000 for image in range(6)}))
    with pytest.raises(UserError, match=r"holds more than 100,000,000 labels"):
        label_file.read(str(tmp_path / "a.pkl"), source)


@pytest.mark.parametrize("wrap", [lambda tensor: tensor, lambda tensor: {"noisy_label": tensor}])
def test_a_tensor_of_stride_zero_takes_no_memory(tmp_path, source, wrap):
    """A stride-0 .pt tried 44 GB."""
    torch.save(wrap(torch.zeros(1, dtype=torch.int64).expand(6, 10**9)), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"claims 48,000,000,000 bytes and stores fewer"):
        label_file.read(str(tmp_path / "a.pt"), source)


def test_a_packed_torch_file_is_refused(tmp_path, source):
    """What a zip would unpack is looked at first."""
    torch.save({"noisy_label": torch.zeros(10**6, dtype=torch.int64)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "a.pt", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(UserError, match="packed in a way torch does not"):
        label_file.read(str(tmp_path / "a.pt"), source)


def test_the_largest_number_does_not_mean_unknown(tmp_path, source):
    """A uint64 of 2^64 - 1 became "unknown"."""
    np.save(tmp_path / "a.npy", np.array([0, 1, 2, 0, 1, 2**64 - 1], dtype=np.uint64))
    with pytest.raises(UserError, match="18446744073709551615"):
        label_file.read(str(tmp_path / "a.npy"), source)


def test_of_two_columns_of_one_name_none_wins(tmp_path, source):
    """The last one won."""
    (tmp_path / "a.csv").write_text("label,label\n" + "ant,bee\n" * 6)
    with pytest.raises(UserError, match="has two columns 'label'"):
        label_file.read(str(tmp_path / "a.csv"), source)


def npy_of(header: str) -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i8', 'fortran_order': False, 'shape': (6,), }(",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (6,)",
        "{'descr': '<i8', 'fortran_order': False, 'shape': ('a',), }",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (-6,), }",
        "{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (2.5,), }",
        "{'descr': '<Q8Q', 'fortran_order': False, 'shape': (6,), }",
        "{'descr': {}, 'fortran_order': False, 'shape': (6,), }",
        "{'descr': None, 'fortran_order': 3, 'shape': None, }",
        "{[]: 1}",
        "1 +",
        "'''",
        "(" * 100,
        "",
    ],
)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_headers_of_all_sorts_are_a_sentence(tmp_path, source, header, ending):
    """TokenError, SyntaxError, TypeError, NotImplementedError."""
    file = tmp_path / f"a.{ending}"
    if ending == "npy":
        file.write_bytes(npy_of(header))
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("label.npy", npy_of(header))
    with pytest.raises(UserError, match=rf"a\.{ending}"):
        label_file.read(str(file), source)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("ending", sorted(label_tables.READERS))
def test_a_named_pipe_is_not_a_label_file(tmp_path, source, ending):
    """Opening a pipe hangs."""
    os.mkfifo(tmp_path / f"a{ending}")
    with pytest.raises(UserError):
        label_file.read(str(tmp_path / f"a{ending}"), source)


def test_a_table_without_a_header_is_refused(tmp_path):
    """Its first row was read as column names, and the error blamed a missing row."""
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (6, 6)).save(tmp_path / "photos" / name / "0.png")
    (tmp_path / "l.csv").write_text("a/0.png,a\nb/0.png,b\n")
    with pytest.raises(UserError, match=r"begins with 'a/0\.png', an image; its first line must name the columns"):
        label_file.read(str(tmp_path / "l.csv"), sources.load(tmp_path / "photos"))
