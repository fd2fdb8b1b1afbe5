"""Time and memory against the number of images, classes, pixels and images per class, with slopes, in one table.

    python benchmarks/scale.py [--n 1000 10000 100000] [--classes 10 100 1000] [--side 8 16 32 64] [--ipc 1 10 100]
        [--rounds 3] [--only step] [--threads 2] [--json FILE]

Each size of each piece of work runs in a process of its own: once to warm up, then `--rounds` times. Seconds are
medians by the clock. Memory is the most the process held above what it had before the work was set up, so that what the
work keeps (all images, say) counts. Slopes are those of the logarithms: 1 means in proportion, 0 not at all. Beside
each size stands the slope from the size before, which shows where a curve bends; the last line of each piece of work is
the line of least squares through all of its sizes.

What does not vary has the size of --base: 2,000 images of 28x28 in 10 classes, 10 learned images per class. Folders
are written to a temporary place first; a million files take some minutes and 4 GB there.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from condense.allocator import keep_freed_memory
from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, Teaching, fit
from condense.data.types import ImageData, Supervision, TrainingSet
from condense.evaluate.protocols import HARD
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.trainer import Trainer
from condense.machine import best_device, machine
from condense.methods._distribution import DistributionMatching, DistributionOptions
from condense.methods._learn import Synthetic
from condense.methods._pairs import Pairs
from condense.methods._pixels import RealImages, initial_images
from condense.pipeline.data import load_source
from condense.precision import wants_bf16
from condense.preprocessing import standardisation
from condense.recipe import DataRecipe

Step = Callable[[], object]
BATCH = 32


@dataclass(frozen=True)
class Size:
    """Images, classes, side of an image in pixels, learned images per class."""

    n: int = 2000
    classes: int = 10
    side: int = 28
    ipc: int = 10


@dataclass(frozen=True)
class Cost:
    """Seconds of the work, and bytes held at most."""

    seconds: float
    memory: int


@dataclass(frozen=True)
class Work:
    """A piece of work: its name, the field of `Size` that varies, and what sets it up."""

    name: str
    varies: str
    prepare: Callable[[Size, Path], Step]


def pictures(size: Size) -> TrainingSet:
    """Random images, as many of each class, whose labels may be wrong."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (size.n, size.side, size.side, 1), dtype=np.uint8)
    data = ImageData(images, tuple(f"class {y}" for y in range(size.classes)), "random", "train")
    labels = np.arange(size.n) % size.classes
    return TrainingSet(data, Supervision.from_labels(labels, size.classes, trusted=False))


def write_folder(size: Size, folder: Path) -> None:
    """Random images as PNG in a folder per class, unless they are there."""
    if folder.exists():
        return
    random = np.random.default_rng(0)
    for y in range(size.classes):
        (folder / f"class {y}").mkdir(parents=True)
    for place in range(size.n):
        pixels = random.integers(0, 256, (size.side, size.side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"class {place % size.classes}" / f"{place:07d}.png", compress_level=0)


def reading(size: Size, scratch: Path) -> Step:
    """Reading a folder of images."""
    return lambda: load_source(DataRecipe(name=str(scratch / f"{size.n}-{size.classes}-{size.side}"), flip=False))


def training(kind: str, top_k: int | None, objective: str = "dmis") -> Callable[[Size, Path], Step]:
    """A training step of a generator of a fixed size."""

    def prepare(size: Size, _: Path) -> Step:
        network = NetworkOptions.model_validate(
            {"kind": kind, "channels": 48, "multipliers": (1, 2), "blocks": 1, "patch": 2}
        )
        options = {"steps": 10**6, "batch_size": BATCH, "cold_start": 0.0, "top_k": top_k, "objective": objective}
        steps = Trainer(pictures(size), network, TrainOptions.model_validate(options), 0).steps()
        return lambda: next(steps)

    return prepare


def matching(size: Size, _: Path) -> Step:
    """A step of DM with 32 real images per class."""
    train, steps = pictures(replace(size, n=max(size.n, size.classes * max(BATCH, size.ipc)))), iter(range(10**9))
    reals = RealImages(train, standardisation(train.images.images), size.ipc, best_device())
    synthetic = Synthetic(initial_images(reals, size.ipc, "real", 0), size.ipc, 0.1)
    task = DistributionMatching(
        Pairs(reals, synthetic, BATCH, None, 0), DistributionOptions.model_validate({"real_batch": BATCH})
    )
    return lambda: task.step(next(steps))


def scoring(size: Size, _: Path) -> Step:
    """An epoch of a ConvNet-3 on a set."""
    device, count = best_device(), size.classes * size.ipc
    network = networks.build("convnet3", in_channels=1, image_size=size.side, num_classes=size.classes, seed=0)
    images, labels = torch.randn(count, 1, size.side, size.side), torch.arange(count) // size.ipc
    options = FitOptions(10**6, HARD.batch_size, schedule="constant", bf16=wants_bf16("auto", device))
    epochs = fit(network, images, labels, options, seed=0, teaching=Teaching(HARD.augment()), device=device)
    return lambda: next(epochs)


WORKS = [
    Work("read a folder", "n", reading),
    Work("DMIS step, all-class", "n", training("all-class", None)),
    Work("DM step", "n", matching),
    Work("DMIS step, all-class", "classes", training("all-class", None)),
    Work("DMIS step, conditional, top 3", "classes", training("conditional", 3)),
    Work("vanilla step, conditional", "classes", training("conditional", None, "vanilla")),
    Work("DM step", "classes", matching),
    Work("scoring, an epoch", "classes", scoring),
    Work("DMIS step, all-class", "side", training("all-class", None)),
    Work("DM step", "side", matching),
    Work("scoring, an epoch", "side", scoring),
    Work("DM step", "ipc", matching),
    Work("scoring, an epoch", "ipc", scoring),
]


def held_bytes(name: str) -> int:
    """Resident memory of this process: "VmRSS" now, or "VmHWM" the most since `forget_peak`; and that of its GPU."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    resident = next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    on_gpu = torch.cuda.memory_allocated if name == "VmRSS" else torch.cuda.max_memory_allocated
    return resident + (on_gpu() if torch.cuda.is_available() else 0)


def forget_peak() -> None:
    """Begin the peak of `held_bytes` anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def alone(answer: Connection, place: int, size: Size, scratch: Path, rounds: int, threads: int) -> None:
    """A process: one size of one piece of work."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    best_device()
    before = held_bytes("VmRSS")
    forget_peak()
    step, seconds = WORKS[place].prepare(size, scratch), []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        step()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - started)
    answer.send(Cost(statistics.median(seconds[1:]), held_bytes("VmHWM") - before))


def cost_of(place: int, size: Size, scratch: Path, rounds: int, threads: int) -> Cost | None:
    """The cost of one size of `WORKS[place]`; None if its process died, most likely for want of memory."""
    if WORKS[place].prepare is reading:
        write_folder(size, scratch / f"{size.n}-{size.classes}-{size.side}")
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=alone, args=(theirs, place, size, scratch, rounds, threads))
    process.start()
    theirs.close()
    try:
        found: Cost = mine.recv()
    except EOFError:
        return None
    finally:
        process.join()
    return found


def slope(values: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the line of least squares through the logarithms; NaN with fewer than two points."""
    if len(values) < 2:
        return math.nan
    return float(np.polyfit(np.log(values), np.log(np.maximum(costs, 1e-12)), 1)[0])


@dataclass(frozen=True)
class Curve:
    """A piece of work over its sizes; costs are None where a process died."""

    name: str
    varies: str
    values: tuple[int, ...]
    costs: tuple[Cost | None, ...]

    def slopes(self, until: int | None = None, since: int = 0) -> tuple[float, float]:
        """Slopes of time and memory over the sizes numbered `since` to `until`."""
        points = [(value, cost) for value, cost in zip(self.values, self.costs, strict=True) if cost is not None]
        values = [value for value, _ in points[since:until]]
        costs = [cost for _, cost in points[since:until]]
        return slope(values, [cost.seconds for cost in costs]), slope(values, [cost.memory for cost in costs])


def curves(sizes: dict[str, list[int]], base: Size, only: str, rounds: int, threads: int) -> Iterator[Curve]:
    """Every piece of work with `only` in its name, over the sizes given."""
    with tempfile.TemporaryDirectory() as scratch:
        for place, work in enumerate(WORKS):
            if only in work.name and sizes[work.varies]:
                values = sorted(sizes[work.varies])
                costs = (
                    cost_of(place, replace(base, **{work.varies: v}), Path(scratch), rounds, threads) for v in values
                )
                yield Curve(work.name, work.varies, tuple(values), tuple(costs))


def shown(found: Sequence[Curve], title: str) -> Table:
    """The table."""
    table = Table(title=title, title_justify="left")
    for name in ("what", "against"):
        table.add_column(name)
    for name in ("size", "seconds", "memory, MiB", "slope, time", "slope, memory"):
        table.add_column(name, justify="right")
    for curve in found:
        done = 0
        for value, cost in zip(curve.values, curve.costs, strict=True):
            if cost is None:
                table.add_row(curve.name, curve.varies, f"{value:,}", "died", "", "", "")
                continue
            done += 1
            told = [f"{one:.2f}" for one in curve.slopes(done, done - 2)] if done > 1 else ["", ""]
            memory = f"{cost.memory / 2**20:,.0f}"
            table.add_row(curve.name, curve.varies, f"{value:,}", f"{cost.seconds:.3g}", memory, *told)
        table.add_row(
            curve.name, curve.varies, "all", "", "", *(f"{one:.2f}" for one in curve.slopes()), end_section=True
        )
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = {"n": [1000, 10_000, 100_000], "classes": [10, 100, 1000], "side": [8, 16, 32, 64], "ipc": [1, 10, 100]}
    for name, values in usual.items():
        parser.add_argument(f"--{name}", type=int, nargs="*", default=values)
    parser.add_argument(
        "--base", type=int, nargs=4, metavar=("N", "CLASSES", "SIDE", "IPC"), default=[*asdict(Size()).values()]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="work with this in its name")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    sizes, base = {name: getattr(arguments, name) for name in usual}, Size(*arguments.base)
    found = list(curves(sizes, base, arguments.only, arguments.rounds, arguments.threads))
    title = f"{machine()['cpu']}, {machine()['device']}, {arguments.threads} threads; base {base}"
    Console(width=120).print(shown(found, title))
    if arguments.json:
        told = {
            "machine": machine(),
            "base": asdict(base),
            "curves": [asdict(c) | {"slopes": c.slopes()} for c in found],
        }
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
