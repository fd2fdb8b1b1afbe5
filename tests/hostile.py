"""Every reader on mutated files: `python -P tests/hostile.py FOLDER SEED COUNT SKIP` prints a JSON line each.

Started by test_hostile.py, which watches time and memory from outside. Mutations derive from (seed, kind, number): a
line can be made again alone. Kinds whose files carry a checksum are compared with the file they were made from. Some
files are made to run code: they must be refused, and `CANARY`, which the code would write, must stay absent whatever
they are mutated to.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tiny
import torch
from PIL import Image

from condense import methods, rng
from condense.benchmark import cell as _cell
from condense.benchmark import grid as _grid
from condense.benchmark import grid_recipe as _grid_recipe
from condense.benchmark import shared
from condense.classifiers.teacher import TeacherOptions, load_teacher
from condense.classifiers.teaching import teacher_for
from condense.data import hdf5, idx, label_file, sources
from condense.errors import DmisError
from condense.evaluate import results
from condense.generator.model import Generator
from condense.generator.training import session
from condense.generator.training.prerequisites import Prerequisites
from condense.generator.training.session import CHECKPOINT, train_generator
from condense.generator.training.trainer import Trainer
from condense.pipeline.decisions import identity, read_decisions
from condense.pipeline.fast_labels import read_features
from condense.pipeline.plan import resolve_options
from condense.pipeline.probabilities import read_probabilities
from condense.processes import default_accelerator
from condense.recipe import parse_overrides, read_yaml
from condense.run import Run
from condense.sets import condensed_set
from condense.sets import hdf5 as condensed
from condense.tensor_file import to_bytes

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = np.repeat(np.arange(3), 4)
CANARY = Path(tempfile.gettempdir(), f"dmis-executed-{os.getpid()}")
HUGE = (b"0", b"-1", b"99999999999999999999", b"1e400", b"nan", b"4294967295", b"18446744073709551615")
RECIPE = """\
data: {name: digits, noise: "sym:0.4", image_size: 8}
method: dmis
ipc: 2
seed: 1
network: {channels: 8, blocks: 1}
train: {steps: 20, batch_size: 16, learning_rate: 1e-3}
evaluate: {protocol: hard, repeats: 2}
"""
BENCHMARK = {
    "methods": ["random", "dm"],
    "settings": [{"name": "digits", "noise": "sym:0.4"}],
    "ipc": [1],
    "seeds": [0, 1],
    "options": {"dm": {"iterations": 3}},
}


@dataclass(frozen=True)
class Kind:
    """A sort of file: one to mutate, what reads it, and what it must give where a checksum vouches for it.

    An `evil` one would run code where it was read carelessly.
    """

    name: str
    seed: bytes
    read: Callable[[Path], Any]
    suffix: str
    sealed: bool = False
    text: bool = False
    evil: bool = False


def kinds(folder: Path) -> Iterator[Kind]:
    """All readers; files they need besides the mutated one are made in `folder`."""
    yield from _hdf5(folder)
    yield from _arrays(folder)
    yield from _labels(folder)
    yield from _pictures(folder)
    yield from _texts(folder)
    yield from _runs(folder)
    yield from _evil(folder)


def _hdf5(folder: Path) -> Iterator[Kind]:
    told = condensed_set.Provenance("dmis", 4, 0, {"a": [1]}, "d", "00", "noisy", "sym:0.4", 0.4, notes={"x": True})
    flat = condensed_set.Preprocessing((0.5,) * 3, (0.25,) * 3)
    made = condensed_set.CondensedSet(
        IMAGES, LABELS, ("a", "b", "c"), flat, told, soft_labels=np.eye(3, dtype="f4")[LABELS]
    )
    condensed.write(folder / "set.h5", made)
    content = (folder / "set.h5").read_bytes()
    yield Kind("condensed set", content, lambda path: condensed.read(path).seal(), ".h5", sealed=True)
    hdf5.write(folder / "own.h5", [(IMAGES, LABELS)], IMAGES.shape, ("a", "b", "c"))
    yield Kind("HDF5 of ours", (folder / "own.h5").read_bytes(), _load, ".h5")
    for version in ("earliest", "latest"):
        with h5py.File(folder / f"{version}.h5", "w", libver=version) as file:
            file.create_dataset("train_images", data=IMAGES, chunks=(2, 8, 8, 3), compression="gzip")
            file["train_labels"] = LABELS
            file["class_names"] = np.array(["a", "b", "c"], dtype=h5py.string_dtype())
            file.create_group("more").attrs["note"] = "text of variable length"
        yield Kind(f"HDF5 of others, {version}", (folder / f"{version}.h5").read_bytes(), _load, ".h5")


def _arrays(folder: Path) -> Iterator[Kind]:
    arrays = {"train_images": IMAGES, "train_labels": LABELS, "class_names": np.array(["a", "b", "c"])}
    for name, write in (("npz", np.savez), ("packed npz", np.savez_compressed)):
        write(folder / "arrays.npz", **arrays)
        yield Kind(name, (folder / "arrays.npz").read_bytes(), _load, ".npz")
    header = bytes([0, 0, 8, 3]) + np.array(IMAGES.shape[:3], ">u4").tobytes()
    plain = header + IMAGES[..., 0].tobytes()
    yield Kind("idx", plain, lambda path: idx.read(path, 3).sum(), "")
    yield Kind("packed idx", gzip.compress(plain), lambda path: idx.read(path, 3).sum(), ".gz")


def _labels(folder: Path) -> Iterator[Kind]:
    source = sources.load("digits")
    count = len(source.train)
    given = np.arange(count) % 10

    def read(path: Path) -> Any:
        return label_file.read(str(path), source).candidates.sum()

    np.save(folder / "labels.npy", given)
    yield Kind("labels npy", (folder / "labels.npy").read_bytes(), read, ".npy")
    torch.save({"noisy_label": torch.from_numpy(given)}, folder / "labels.pt")
    yield Kind("labels pt", (folder / "labels.pt").read_bytes(), read, ".pt")
    torch.save(given, folder / "old.pt", _use_new_zipfile_serialization=False)
    yield Kind("labels pt, older form", (folder / "old.pt").read_bytes(), read, ".pt")
    sets = {image: [{int(label)}, {int(label), 3}] for image, label in enumerate(given)}
    yield Kind("labels pkl", pickle.dumps(sets), read, ".pkl")
    plain = {str(image): [sorted(each) for each in several] for image, several in sets.items()}
    yield Kind("labels json", json.dumps(plain).encode(), read, ".json", text=True)
    rows = "".join(f"{row},{label}\n" for row, label in enumerate(given))
    nobody = [{"file": str(row), "decision": "changed", "label": str(label)} for row, label in enumerate(given[:50])]
    decided = {"format": "dmis-decisions/1", "data": identity(source), "decisions": nobody}
    yield Kind(
        "decisions", json.dumps(decided).encode(), lambda path: len(read_decisions(path, source)), ".json", text=True
    )
    np.savez(folder / "probabilities.npz", pred_probs=np.eye(10)[given], class_names=np.array(source.train.classes))
    judged = (folder / "probabilities.npz").read_bytes()
    yield Kind("probabilities npz", judged, lambda path: read_probabilities(str(path), source).sum(), ".npz")
    table = ",".join(source.train.classes) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in np.eye(10)[given])
    yield Kind(
        "probabilities csv",
        table.encode(),
        lambda path: read_probabilities(str(path), source).sum(),
        ".csv",
        text=True,
    )
    seen = np.random.default_rng(0).normal(size=(count, 6)).round(3)
    np.savez(folder / "features.npz", features=seen, class_names=np.arange(6))
    np.save(folder / "features.npy", seen)
    told = "".join(f"{row},{','.join(map(str, values))}\n" for row, values in enumerate(seen.tolist()))
    for suffix, content in (
        (".npz", (folder / "features.npz").read_bytes()),
        (".npy", (folder / "features.npy").read_bytes()),
        (".csv", f"id,a,b,c,d,e,f\n{told}".encode()),
    ):
        yield Kind(
            f"features {suffix[1:]}",
            content,
            lambda path: read_features(str(path), source).sum(),
            suffix,
            text=suffix == ".csv",
        )
    yield Kind("labels csv", f"file,label\n{rows}".encode(), read, ".csv", text=True)


def _pictures(folder: Path) -> Iterator[Kind]:
    for suffix in ("png", "jpg", "gif", "bmp", "tiff", "webp", "ppm"):
        Image.fromarray(IMAGES[0]).resize((24, 24)).save(folder / f"picture.{suffix}")
        content = (folder / f"picture.{suffix}").read_bytes()
        yield Kind(f"picture {suffix}", content, _beside(folder / f"pictures-{suffix}", f"a/0.{suffix}"), f".{suffix}")
    names = [f"{number}.png" for number in range(6)]
    table = "file,label,split\n" + "".join(f"{name},{'ab'[row % 2]},train\n" for row, name in enumerate(names))
    yield Kind("labels.csv", table.encode(), _beside(folder / "tabled", "labels.csv", names), ".csv", text=True)


def _beside(folder: Path, place: str, files: list[str] | None = None) -> Callable[[Path], Any]:
    """A reader of a folder of pictures in which one file is the mutated one."""
    for name in files or ["a/1.png", "a/2.png", "b/0.png", "b/1.png"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[1]).resize((24, 24)).save(folder / name)

    def read(path: Path) -> Any:
        (folder / place).write_bytes(path.read_bytes())
        return _load(folder)

    return read


def _recipe(path: Path) -> Any:
    layers = read_yaml(path)
    method = methods.load(str(layers.get("method", "dmis")))
    return resolve_options(layers, {}, method, 8)[0]


def _texts(folder: Path) -> Iterator[Kind]:
    def override(path: Path) -> Any:
        return parse_overrides([path.read_bytes().decode("utf-8", "replace")])

    yield Kind("recipe", RECIPE.encode(), _recipe, ".yaml", text=True)
    yield Kind("--set", b"train={steps: 20, rate: [1, 2.5, null, yes]}", override, ".txt", text=True)
    cells = _grid.expand(_grid_recipe.read_benchmark(BENCHMARK))
    out = folder / "benchmark"
    cell = cells[0]
    cell.folder(out).mkdir(parents=True)

    def benchmark(path: Path) -> Any:
        found = shared.read_json(path)
        return found and _grid.expand(_grid_recipe.read_benchmark(found))

    def of_cell(name: str) -> Callable[[Path], Any]:
        def read(path: Path) -> Any:
            (cell.folder(out) / name).write_bytes(path.read_bytes())
            return _cell.read_result(out, cell), _cell.read_labels(cell.folder(out))

        return read

    score = {"sha256": "0" * 64, "network": "n", "accuracies": [1.0], "mean": 1.0, "std": None, "ci95": None}
    learnt = {"classes": ["a", "b"], "labels_recovered": 1.0, "recovered": [[1, 2], [3, 4]], "given": None}
    yield Kind("benchmark.json", json.dumps(BENCHMARK).encode(), benchmark, ".json", text=True)
    yield Kind("a cell's recipe.json", json.dumps(cell.recipe).encode(), of_cell("recipe.json"), ".json", text=True)
    yield Kind("score.json", json.dumps(score).encode(), of_cell("score.json"), ".json", text=True)
    yield Kind("a benchmark's labels.json", json.dumps(learnt).encode(), of_cell("labels.json"), ".json", text=True)
    results.write_csv(folder / "results.csv", [each.result() for each in cells])
    yield Kind("results.csv", (folder / "results.csv").read_bytes(), results.read_csv, ".csv", text=True)


def _runs(folder: Path) -> Iterator[Kind]:
    data, run = tiny.training_set("noisy"), Run(folder / "run")
    options = tiny.train_options(steps=6, checkpoint_every=3, second_opinion=False)
    train_generator(data, tiny.NETWORK, options, 0, run)
    teacher_for(data, TeacherOptions(network="convnet1", epochs=1), 0, run)
    trainer = Trainer(data, tiny.NETWORK, options, 0, default_accelerator(), None, Prerequisites())
    readers: dict[str, Callable[[Run], Any]] = {
        "generator": lambda found: Generator.load(found).record.to_json(),
        CHECKPOINT: lambda found: session.taken_up(trainer, found).seconds,
        "teacher": lambda found: load_teacher(found.path or Path()).classes,
    }
    for name, read in readers.items():
        file = folder / "run" / f"{name}.safetensors"
        place = Run(folder / f"run-{name}")
        yield Kind(name, file.read_bytes(), _in_run(place, name, read), ".safetensors", sealed=True)
        yield Kind(f"{name}, sealed anew", file.read_bytes(), _in_run(place, name, read), ".safetensors")


class _Touch:
    """Whoever unpickles this runs a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {CANARY}",)


def _evil(folder: Path) -> Iterator[Kind]:
    """Files that would run code, which would create `CANARY`."""
    source = sources.load("digits")

    def read(path: Path) -> Any:
        return label_file.read(str(path), source)

    yield Kind("evil pkl", pickle.dumps({0: _Touch()}), read, ".pkl", evil=True)
    for name, zipped in (("evil pt", True), ("evil pt, older form", False)):
        torch.save({"labels": _Touch()}, folder / "evil.pt", _use_new_zipfile_serialization=zipped)
        yield Kind(name, (folder / "evil.pt").read_bytes(), read, ".pt", evil=True)
    np.save(folder / "evil.npy", np.array([_Touch()], dtype=object), allow_pickle=True)
    yield Kind("evil npy", (folder / "evil.npy").read_bytes(), read, ".npy", evil=True)
    np.savez(folder / "evil.npz", train_images=np.array([_Touch()], dtype=object))
    yield Kind("evil npz", (folder / "evil.npz").read_bytes(), _load, ".npz", evil=True)
    (folder / "mine.py").write_text(f"import os\nos.system('touch {CANARY}')\n")
    os.chdir(folder)
    call = f"data: {{name: !!python/object/apply:os.system ['touch {CANARY}']}}\nmethod: mine\n"
    yield Kind("evil recipe", call.encode(), _recipe, ".yaml", text=True, evil=True)
    (folder / "gs").write_text(f"#!/bin/sh\ntouch {CANARY}\n")
    (folder / "gs").chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n%%EndComments\n0 0 24 24 rectfill showpage\n%%EOF\n"
    yield Kind("evil picture", drawing, _beside(folder / "evil", "a/0.png"), ".png", evil=True)


def _in_run(place: Run, name: str, read: Callable[[Run], Any]) -> Callable[[Path], Any]:
    def reader(path: Path) -> Any:
        target = place.file(name)
        assert target is not None
        target.write_bytes(path.read_bytes())
        return read(place)

    return reader


def _load(path: Path) -> Any:
    return sources.load(path).train.fingerprint()


def mutated(kind: Kind, dice: random.Random, path: Path) -> bytes:
    """A few changes to the good file, drawn by `dice`."""
    if kind.name.endswith("sealed anew"):
        return _resealed(kind, dice, path)
    content = bytearray(kind.seed)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        place = dice.randrange(max(1, len(content)))
        match dice.choice(("bit", "bit", "byte", "cut", "insert", "repeat", "blank", "number", "swap")):
            case "bit" if content:
                content[place] ^= 1 << dice.randrange(8)
            case "byte" if content:
                content[place] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5B, 0x7B, 0x0A))
            case "cut":
                del content[place:]
            case "insert":
                content[place:place] = dice.randbytes(dice.choice((1, 4, 64)))
            case "repeat":
                content[place:place] = content[place : place + dice.choice((4, 64, 1024))] * dice.choice((1, 2, 50))
            case "blank":
                content[place : place + 8] = bytes(dice.choice((b"\0", b"\xff"))) * 8
            case "number":
                content[place : place + dice.choice((1, 2, 8))] = dice.choice(HUGE)
            case _:
                other = dice.randrange(max(1, len(content)))
                content[place : place + 16], content[other : other + 16] = (
                    content[other : other + 16],
                    content[place : place + 16],
                )
    return bytes(content)


def _resealed(kind: Kind, dice: random.Random, path: Path) -> bytes:
    """The file with its description or a tensor changed on purpose, and a seal that fits."""
    path.write_bytes(kind.seed)
    from condense.tensor_file import read

    tensors, meta = read(path)
    values = (None, -1, 0, 10**12, "x", [], {}, [[]], 1e400, True, "9" * 300, {"a": 1}, [1, 2, 3])
    for _ in range(dice.choice((1, 1, 2, 3))):
        if meta and (dice.random() < 0.7 or not tensors):
            place = meta
            key = dice.choice(sorted(place))
            while isinstance(place[key], dict) and place[key] and dice.random() < 0.7:
                place = place[key]
                key = dice.choice(sorted(place))
            if dice.random() < 0.2:
                del place[key]
            else:
                place[key] = dice.choice(values)
        elif tensors:
            name = dice.choice(sorted(tensors))
            match dice.choice(("drop", "shape", "nan", "kind", "empty")):
                case "drop":
                    del tensors[name]
                case "shape":
                    tensors[name] = tensors[name].reshape(-1)[:1]
                case "nan":
                    tensors[name] = torch.full_like(tensors[name].float(), float("nan"))
                case "kind":
                    tensors[name] = tensors[name].to(torch.int64)
                case _:
                    tensors[name] = torch.zeros(0)
    return to_bytes(tensors, meta)


def main(folder: Path, seed: int, count: int, skip: int) -> None:
    """Read `count` mutations of every kind, the first `skip` of all left out, and tell of each."""
    folder.mkdir(parents=True, exist_ok=True)
    number = -1
    for kind in kinds(folder):
        path = folder / f"mutated{kind.suffix}"
        path.write_bytes(kind.seed)
        good = None if kind.evil else kind.read(path)
        for index in range(count):
            number += 1
            if number < skip:
                continue
            dice = random.Random(rng.derive(seed, kind.name, index))
            unchanged = kind.evil and index == 0
            path.write_bytes(kind.seed if unchanged else mutated(kind, dice, path))
            print(json.dumps({"number": number, "kind": kind.name, "index": index}), flush=True)
            started, told = time.process_time(), ""
            try:
                found = kind.read(path)
                how = "changed" if kind.sealed and found != good else "read"
            except DmisError as error:
                how = "refused" if len(str(error)) < 4000 else "endless"
            except Exception:
                how, told = "traceback", traceback.format_exc()
            if CANARY.exists() or (unchanged and how == "read"):
                how = "executed"
                CANARY.unlink(missing_ok=True)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            spent = time.process_time() - started  # whatever else the machine is busy with
            print(json.dumps({"how": how, "seconds": spent, "peak_mb": peak, "told": told}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
