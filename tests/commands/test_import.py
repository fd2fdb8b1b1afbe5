"""`dmis import`: what others made comes in whole, is scored like ours, and cannot do harm."""

import dataclasses
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Dmis

from condense.evaluate import protocols
from condense.evaluate.soft import soft_targets
from condense.packing import unpack
from condense.sets.hdf5 import read, write

CLASSES, SIDE = 10, 8
MEAN, STD = 0.3, 0.35
IMPORT = ("--data", "digits", "--mean", MEAN, "--std", STD, "--json")


def tensors(ipc: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images, labels in no order."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(CLASSES * ipc, generator=generator)
    images = torch.rand(CLASSES * ipc, 1, SIDE, SIDE, generator=generator) * 2 - 0.5
    return images, torch.arange(CLASSES).repeat(ipc)[order]


def saved(path: Path, content: object, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_a_set_of_vico_comes_in_as_networks_saw_it(dmis: Dmis, zipped: bool) -> None:
    """The last of several sets; both of torch's forms; class by class, in the order within each."""
    images, labels = tensors()
    older = [torch.zeros_like(images), labels]
    saved(Path("res.pt"), {"data": [older, [images, labels]], "accs_all_exps": {}}, zipped=zipped)
    answer = dmis(
        "import", "res.pt", *IMPORT, "--out", "set.h5", "--method", "dsa", "--noise", "sym:0.4", "--packing", 4
    )
    assert answer.code == 0, answer.err
    made = read(Path("set.h5"))
    order = torch.argsort(labels, stable=True)
    whole = dataclasses.replace(made, provenance=dataclasses.replace(made.provenance, notes={}))
    torch.testing.assert_close(whole.tensors()[0], images[order], atol=1e-5, rtol=1e-5)
    assert made.labels.tolist() == labels[order].tolist() and (made.ipc, made.packing) == (2, 4)
    torch.testing.assert_close(made.tensors()[0], unpack(images[order], 2), atol=1e-5, rtol=1e-5)
    uneven = dmis("import", "res.pt", *IMPORT, "--out", "other.h5", "--packing", 3)
    assert uneven.code == 2 and "packing is 3; pictures are packed in a square: 1, 4, 9" in uneven.err
    assert (made.provenance.method, made.provenance.corruption) == ("dsa", "sym:0.4")
    assert json.loads(answer.out)["sha256"] == made.sha256()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("numpy_1", [True, False])
def test_accuracies_as_vico_stores_them_do_not_keep_a_set_out(dmis: Dmis, zipped: bool, numpy_1: bool) -> None:
    """Its `epoch` computes numpy.float64, which torch refuses to load by default; numpy 1 names it differently."""
    images, labels = tensors()
    images.requires_grad_()  # as the images being learned
    content = {"data": [[images, labels]], "accs_all_exps": {"ConvNet": [np.float64(0.5), np.float64(0.25)]}}
    saved(Path("res.pt"), content, zipped=zipped)
    if numpy_1:
        rename_in_pickle(Path("res.pt"), b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")
    answer = dmis("import", "res.pt", *IMPORT, "--out", "set.h5")
    assert answer.code == 0, answer.err
    made = read(Path("set.h5"))
    order = torch.argsort(labels, stable=True)
    torch.testing.assert_close(made.tensors()[0], images.detach()[order], atol=1e-5, rtol=1e-5)


def rename_in_pickle(path: Path, old: bytes, new: bytes) -> None:
    """Replace a name in the pickle of one of torch's files, zipped or not."""
    if not zipfile.is_zipfile(path):
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert any(old in content for content in members.values())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(old, new) if name.endswith("data.pkl") else content)


def test_what_we_export_comes_back_and_scores_the_same(dmis: Dmis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(protocols.PROTOCOLS, "quick", dataclasses.replace(protocols.QUICK, epochs=3))
    assert dmis("condense", "--method", "random", "--ipc", 2, "--out", "own.h5", "--run", "run").code == 0
    own = read(Path("own.h5"))
    soft = np.full((20, 10), 0.1, dtype=np.float32)
    write(Path("own.h5"), dataclasses.replace(own, soft_labels=soft), force=True)
    brief = ("--protocol", "quick", "--network", "mlp", "--repeats", 1, "--json")
    scores = {"own": json.loads(dmis("evaluate", "own.h5", *brief).out)["mean"]}
    vico = ("--mean", *own.preprocessing.mean, "--std", *own.preprocessing.std)
    for form, ending, scale in (("vico", "pt", vico), ("npz", "npz", ())):
        assert dmis("export", "own.h5", f"own.{ending}", "--format", form).code == 0
        back = dmis("import", f"own.{ending}", "--data", "digits", *scale, "--out", f"{form}.h5", "--json")
        assert back.code == 0, back.err
        scores[form] = json.loads(dmis("evaluate", f"{form}.h5", *brief).out)["mean"]
    assert scores["own"] == scores["npz"] == pytest.approx(scores["vico"], abs=0.5)
    np.testing.assert_array_equal(read(Path("npz.h5")).images, own.images)
    np.testing.assert_array_equal(read(Path("npz.h5")).soft_labels, soft)


def write_npz(**changed: object) -> None:
    """Write two images per class of digits as set.npz."""
    images, labels = tensors()
    pixels = images.permute(0, 2, 3, 1).numpy()
    np.savez("set.npz", **{"images": pixels, "labels": labels.numpy()} | changed)  # type: ignore[arg-type]


def test_an_npz_says_how_it_is_normalised_or_is_told(dmis: Dmis) -> None:
    npz = ("import", "set.npz", "--data", "digits", "--out", "set.h5", "--force", "--json")
    write_npz()
    assert dmis(*npz).code == 0 and read(Path("set.h5")).preprocessing.mean != (MEAN,)  # that of the data
    assert dmis(*npz, "--mean", MEAN, "--std", STD).code == 0
    assert (read(Path("set.h5")).preprocessing.mean, read(Path("set.h5")).preprocessing.std) == ((MEAN,), (STD,))
    whiten = np.diag(np.arange(1, 65, dtype=np.float32))
    zca = {"zca_mean": np.ones(64, np.float32), "zca_matrix": whiten, "zca_inverse": np.linalg.inv(whiten)}
    own = {"mean": np.array([0.25]), "std": np.array([0.5])}
    write_npz(**own, **zca)
    assert dmis(*npz).code == 0
    made = read(Path("set.h5"))
    expected = ((made.images.reshape(20, 64) - 0.25) / 0.5 - 1) * np.arange(1, 65)
    np.testing.assert_allclose(made.tensors()[0].flatten(1).numpy(), expected, rtol=1e-4, atol=1e-4)
    both = dmis(*npz, "--mean", MEAN, "--std", STD)
    assert both.code == 2 and "set.npz has its own mean and std; leave --mean and --std out" in both.err


def test_soft_labels_of_an_npz_keep_their_temperature(dmis: Dmis) -> None:
    soft = np.random.default_rng(0).dirichlet(np.ones(10), 20)
    write_npz(soft_labels=soft, soft_label_temperature=np.array(4.0))
    answer = dmis("import", "set.npz", "--data", "digits", "--out", "set.h5", "--json")
    assert answer.code == 0 and json.loads(answer.out)["labels"] == "hard and soft"
    made = read(Path("set.h5"))
    sharper = soft[np.argsort(tensors()[1].numpy(), kind="stable")] ** 4
    expected = sharper / sharper.sum(1, keepdims=True)
    np.testing.assert_allclose(soft_targets(made, 1.0).numpy(), expected, rtol=1e-4, atol=1e-7)
    assert dmis("export", "set.h5", "again.npz", "--format", "npz").code == 0
    with np.load("again.npz") as file:
        assert float(file["soft_label_temperature"]) == 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"soft_labels": np.full((10, 10), 0.1)}, "soft_labels float64 [10, 10] for 20 images"),
        ({"soft_labels": np.full(20, 0.1)}, "soft_labels float64 [20] for 20 images"),
        ({"soft_labels": np.full((20, 10), 0.1), "soft_label_temperature": 0.0}, "not a number above 0"),
        ({"soft_labels": np.full((20, 10), 0.1), "soft_label_temperature": "hot"}, "not a number above 0"),
        ({"mean": [0.5]}, "has mean but no std"),
        ({"zca_mean": np.zeros(64)}, "has zca_mean but no mean"),
        ({"mean": 0.5, "std": 0.5}, "mean float64 []; needed are numbers [C]"),
        ({"mean": [], "std": []}, "needed are numbers [C]"),
        ({"mean": ["a"], "std": [0.5]}, "mean <U1 [1]; needed are numbers [C]"),
        (
            {"mean": [0.5], "std": [0.5], "zca_matrix": np.zeros(64)},
            "zca_matrix float64 [64]; needed are numbers [d, d]",
        ),
        ({"mean": [0.5] * 3, "std": [0.5] * 3}, "1 channels, the preprocessing 3"),
        ({"mean": [0.5], "std": [0.5], "zca_mean": np.zeros(64)}, "ZCA needs float32 mean [d]"),
    ],
)
def test_arrays_of_an_npz_that_cannot_be_used_are_one_sentence(
    dmis: Dmis, changed: dict[str, object], said: str
) -> None:
    write_npz(**changed)
    answer = dmis("import", "set.npz", "--data", "digits", "--out", "set.h5")
    assert answer.code == 2 and len(answer.err.splitlines()) == 1 and said in answer.err, answer.err
    assert not Path("set.h5").exists()


def test_flipping_is_recorded_as_in_sets_made_here(dmis: Dmis, few_digits: Path) -> None:
    write_npz()
    with np.load(few_digits) as file:
        np.savez("named.npz", **file, class_names=np.array([f"kind {y}" for y in range(10)]))
    npz = ("import", "set.npz", "--data", "named.npz", "--out", "set.h5", "--force", "--json")
    score = ("evaluate", "set.h5", "--protocol", "quick", "--network", "mlp", "--repeats", 1, "--json")
    for flip, mirrored in (((), True), (("--no-flip",), False)):
        assert dmis(*npz, *flip).code == 0
        made = read(Path("set.h5")).provenance
        assert made.notes["flip"] is mirrored and made.notes["data_path"] == str(Path("named.npz").absolute())
        assert ("flip" in json.loads(dmis(*score).out)["protocol"]["augmentation"]) is mirrored


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("pwned"),)  # type: ignore[return-value]


class EvilNumber:
    """A number of numpy that runs code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return np.float64(0).__reduce__()[0], (np.dtype("O"), Evil())


def huge_storage(path: Path) -> Path:
    """torch's older form, whose storage claims 2**40 floats."""
    small = saved(path, {"data": [list(tensors())]}, zipped=False).read_bytes()
    count = CLASSES * 2 * SIDE * SIDE
    claimed = b"\x8a\x06" + (2**40).to_bytes(6, "little")  # LONG1
    path.write_bytes(small.replace(b"M" + struct.pack("<H", count), claimed))
    return path


def compressed(path: Path) -> Path:
    """torch's zip form with compressed members, which may be small and claim much."""
    whole = saved(Path("whole.pt"), {"data": [[torch.zeros(4096, 1, 8, 8), torch.zeros(4096)]]})
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return path


def test_a_file_of_a_stranger_cannot_do_harm(dmis: Dmis) -> None:
    images, labels = tensors()
    Path("evil.pt").write_bytes(pickle.dumps({"data": Evil()}))
    saved(Path("code.pt"), {"data": [[images, labels, Evil()]]})
    saved(Path("number.pt"), {"data": [[images, labels]], "accs_all_exps": {"ConvNet": [EvilNumber()]}})
    saved(Path("wide.pt"), {"data": [[torch.zeros(1).expand(10**9, 1, 8, 8), labels]]})
    huge_storage(Path("huge.pt"))
    compressed(Path("deflated.pt"))
    for name, said in (
        ("evil", "damaged"),
        ("code", "not a set of VICO"),
        ("number", "not a set of VICO"),
        ("wide", "but stores"),
        ("huge", "claims 1,099,511,627,776"),
        ("deflated", "is compressed"),
    ):
        answer = dmis("import", f"{name}.pt", *IMPORT, "--out", "set.h5")
        assert answer.code == 2 and said in answer.err, (name, answer.err)
    assert not Path("pwned").exists() and not Path("set.h5").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": []}, "not a set of VICO"),
        ({"images": 3}, "not a set of VICO"),
        ({"data": [[1, 2]]}, "int and int in place of tensors"),
        ({"data": [[torch.zeros(20, 8, 8), torch.zeros(20)]]}, "needed are [n, C, H, W], [n]"),
        ({"data": [[torch.zeros(20, 3, 8, 8), torch.zeros(20)]]}, "3 channels"),
        ({"data": [[torch.zeros(20, 1, 8, 8), torch.arange(20)]]}, "label"),
        ({"data": [[torch.zeros(20, 1, 8, 8), torch.arange(10).repeat(2) + 0.5]]}, "not whole numbers, as 0.5"),
        ({"data": [[torch.zeros(20, 1, 8, 8), torch.zeros(20, dtype=torch.int64)]]}, "the same number of images"),
        ({"data": [[torch.full((20, 1, 8, 8), torch.nan), torch.arange(10).repeat(2)]]}, "NaN"),
    ],
)
def test_a_file_that_is_not_a_set_of_the_data_is_one_sentence(dmis: Dmis, content: object, said: str) -> None:
    saved(Path("res.pt"), content)
    answer = dmis("import", "res.pt", *IMPORT, "--out", "set.h5")
    assert answer.code == 2 and len(answer.err.splitlines()) == 1 and said in answer.err, answer.err


def test_names_and_scales_are_required(dmis: Dmis) -> None:
    saved(Path("res.pt"), {"data": [list(tensors())]})
    for arguments, said in (
        (("res.pt", "--data", "digits", "--out", "set.h5"), "give --mean and --std"),
        (("res.pt", *IMPORT, "--out", "set.npz"), "ends in .h5"),
        (("none.pt", *IMPORT, "--out", "set.h5"), "does not exist"),
        ((".", *IMPORT, "--out", "set.h5"), "is a folder; give a .pt file"),
        (("res.pt", "--data", "digits", "--mean", 0.5, "--out", "set.h5"), "one positive std"),
    ):
        answer = dmis("import", *arguments)
        assert answer.code == 2 and said in answer.err, answer.err
    Path("res.txt").write_text("x")
    assert "neither .pt" in dmis("import", "res.txt", *IMPORT, "--out", "set.h5").err
