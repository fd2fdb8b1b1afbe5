"""`dmis generate`: any number of class-conditional samples, drawn in parts to limit memory and lost work."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from condense import rng
from condense.data.types import Images, Labels
from condense.errors import Interrupted, RunFailed, UserError
from condense.generator.generator_file import FILE
from condense.generator.model import Generator
from condense.json_values import JSON, whole
from condense.machine import best_device
from condense.pipeline.image_files import writer_of
from condense.run import Run, Tracker, as_described, interrupt_guard, locked, prepare_folder, prepare_output

PART = 500  # images drawn and saved at once; at most this many are lost on a stop
MOST_DRAWN = 10  # times the requested count are drawn before giving up on a class whose samples are rejected


@dataclass(frozen=True)
class Wanted:
    """The samples to draw.

    Attributes:
        count: images per class.
        agree: whether samples that the generator's own classifier assigns to another class are redrawn.
        steps: steps of Heun's sampler.
        guidance: strength of class guidance.
        seed: seed of all noise.
    """

    count: int
    agree: bool = False
    steps: int = 18
    guidance: float = 0.0
    seed: int = 0


@dataclass
class _Tally:
    """Samples drawn and kept so far, by class."""

    drawn: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)


def generate(
    generator_folder: Path,
    wanted: Wanted,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
) -> dict[str, JSON]:
    """Draw `wanted.count` images of every class and write them, class after class.

    Parts lie in a folder beside `out` until all are drawn; each depends only on (seed, class, number), so a
    resumed run gives the same images.

    Args:
        generator_folder: run folder of a trained generator.
        wanted: what to draw.
        out: an .h5, .hdf5 or .npz file that `--data` reads, or (without an ending) a folder with one folder per class.
        resume: whether to continue with the parts drawn before a stop.
        force: whether an existing file, or earlier parts, are replaced.
        progress: whether a bar is drawn on stderr.

    Returns:
        path, images, classes, drawn (total number of samples), agreement (for each class, the fraction of its samples
        that the classifier assigns to it; None without `agree`), seconds.

    Raises:
        UserError: there is no generator; `out` exists or has another suffix; there are parts of another request.
        RunFailed: nearly all samples of a class are rejected, or the disk is full.
        Interrupted: stopped by Ctrl-C; the parts are kept.
    """
    started = time.perf_counter()
    write, generator = writer_of(out), _read(generator_folder)
    _prepare(out, force=force)
    tally = _Tally()
    total = wanted.count * len(generator.classes)
    folder = out.with_name(f".{out.name}.parts")
    if folder.exists() and not (resume or force):
        raise UserError(
            f"{folder} holds images of a run that was stopped; give --resume to continue it, or --force to start over."
        )
    with ExitStack() as held:
        held.enter_context(locked(folder, "drawing"))
        parts = _parts_folder(folder, generator_folder, wanted, resume=resume, progress=progress)
        guard = held.enter_context(interrupt_guard())
        tracker = held.enter_context(parts.track(total, "drawing"))
        chunks = _labelled_parts(generator, wanted, parts, tally, guard, tracker)
        write(out, chunks, total, generator.image_shape, generator.classes)
    shutil.rmtree(folder)
    return {
        "path": str(out),
        "images": total,
        "classes": len(generator.classes),
        "drawn": sum(tally.drawn),
        "agreement": [k / d for k, d in zip(tally.kept, tally.drawn, strict=True)] if wanted.agree else None,
        "seconds": time.perf_counter() - started,
    }


def draw(generator: Generator, wanted: Wanted, *, progress: bool = False) -> tuple[Images, Labels]:
    """The images that `generate` would write: uint8 [m, H, W, C], and their labels int64 [m], class after class.

    Raises `RunFailed` if nearly all samples of a class are rejected.
    """
    parts, unguarded = Run(None, progress=progress), interrupt_guard()  # nothing to save on a stop
    with parts.track(wanted.count * len(generator.classes), "drawing") as tracker:
        pieces = list(_labelled_parts(generator, wanted, parts, _Tally(), unguarded, tracker))
    return np.concatenate([images for images, _ in pieces]), np.concatenate([labels for _, labels in pieces])


def _read(folder: Path) -> Generator:
    """The generator of a run folder."""
    if not folder.is_dir():
        raise UserError(f"There is no run folder {folder}; give the folder of a `dmis train`.")
    return Generator.load(Run(folder), best_device())


def _prepare(out: Path, *, force: bool) -> None:
    """Make room for the file or folder `out`. Raises `UserError` if it exists and may not be replaced."""
    if out.suffix:
        prepare_output(out, force=force)
        return
    prepare_folder(out, force=force)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is a folder that is not empty, so it is not replaced; choose another name.")


def _parts_folder(path: Path, generator_folder: Path, wanted: Wanted, *, resume: bool, progress: bool) -> Run:
    """The folder of parts, emptied unless the same request resumes."""
    weights = (generator_folder / f"{FILE}.safetensors").read_bytes()
    request = {**asdict(wanted), "generator": hashlib.sha256(weights).hexdigest()}
    if not resume:
        for file in path.glob("*.safetensors"):
            file.unlink()
    run = Run(path, progress=progress)
    before = run.load("request")
    if before is not None and before[1] != request:
        raise UserError(
            f"{path} holds images drawn from another generator or with other options; ask for the same, or give "
            "--force without --resume to start over."
        )
    run.save("request", {}, request)
    return run


def _labelled_parts(
    generator: Generator, wanted: Wanted, parts: Run, tally: _Tally, guard: interrupt_guard, tracker: Tracker
) -> Iterator[tuple[Images, Labels]]:
    """Images and labels, `wanted.count` of every class in class-major order, in pieces of at most `PART`."""
    done = 0
    for y in range(len(generator.classes)):
        tally.drawn.append(0)
        tally.kept.append(0)
        while tally.kept[y] < wanted.count:
            if tally.drawn[y] >= MOST_DRAWN * max(wanted.count, PART):
                raise RunFailed(
                    f"The generator's classifier assigns only {tally.kept[y]} of {tally.drawn[y]} samples of class "
                    f"{generator.classes[y]!r} to it; train longer, or leave --agree out."
                )
            if guard.requested:
                raise Interrupted(f"Stopped after {done} images; they are kept: continue with --resume.")
            images, drawn = _part(generator, wanted, parts, y, tally.drawn[y], wanted.count - tally.kept[y])
            tally.drawn[y] += drawn
            tally.kept[y] += len(images)
            wasted = max(0, tally.kept[y] - wanted.count)
            images = images[: len(images) - wasted]
            done += len(images)
            tracker.update(done)
            yield images, np.full(len(images), y, dtype=np.int64)


def _part(generator: Generator, wanted: Wanted, parts: Run, y: int, start: int, missing: int) -> tuple[Images, int]:
    """The kept samples of a part that begins at number `start`, and the number drawn; read from disk if saved."""
    name = f"class-{y}-from-{start}"
    found = parts.load(name)
    if found is None:
        size = min(PART, missing + (missing // 4 if wanted.agree else 0))
        images = generator.sample(
            np.full(size, y, dtype=np.int64),
            rng.derive(wanted.seed, "generate", y, start),
            num_steps=wanted.steps,
            guidance=wanted.guidance,
        )
        if wanted.agree:
            images = images[generator.posterior(images, seed=wanted.seed).argmax(1) == y]
        parts.save(name, {"images": torch.from_numpy(images)}, {"drawn": size})
        return images, size
    tensors, meta = found
    with as_described(parts.file(name)):
        images, drawn = np.asarray(tensors["images"].numpy()), whole(meta, "drawn")
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError("it holds no images")
        return images, drawn
