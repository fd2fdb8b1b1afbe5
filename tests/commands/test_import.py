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
    for form, ending in (("vico", "pt"), ("npz", "npz")):
        assert dmis("export", "own.h5", f"own.{ending}", "--format", form).code == 0
        scale = [value for name, values in (("--mean", own.preprocessing.mean), ("--std", own.preprocessing.std))
                 for value in (name, values[0])]  # fmt: skip
        back = dmis("import", f"own.{ending}", "--data", "digits", *scale, "--out", f"{form}.h5", "--json")
        assert back.code == 0, back.err
        scores[form] = json.loads(dmis("evaluate", f"{form}.h5", *brief).out)["mean"]
    assert scores["own"] == scores["npz"] == pytest.approx(scores["vico"], abs=0.5)
    np.testing.assert_array_equal(read(Path("npz.h5")).images, own.images)
    np.testing.assert_array_equal(read(Path("npz.h5")).soft_labels, soft)


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
        (("res.pt", "--data", "digits", "--mean", 0.5, "--out", "set.h5"), "one positive std"),
    ):
        answer = dmis("import", *arguments)
        assert answer.code == 2 and said in answer.err, answer.err
    Path("res.txt").write_text("x")
    assert "neither .pt" in dmis("import", "res.txt", *IMPORT, "--out", "set.h5").err
