"""The cost of a training step with a hundred classes: time and memory, c = 100 against c = 10.

    python benchmarks/many_classes.py [--size 28] [--batch 64] [--classes 10 100] [--rounds 3] [--threads 2]

Random images. Each way to train is a process of its own; the processes take steps in turn, so that drift of the machine
affects all alike and the memory of each can be measured. Prints seconds per step by the clock and of the process's CPU
time (medians), images passed through the network for each image of the batch, the most memory that steps took beyond
what was in use before the first (activations, gradients, optimiser), and the ratio to the same way with the first
number of classes (of CPU time; on a GPU of time by the clock). Ways that would not fit into memory, estimated from
their memory with fewer classes, are left out.

With early elimination, the layers that start near zero are redrawn and the embedding is scaled up, since a fresh
network does not tell classes apart: most drop out after the first level (see the images passed).
experiments/elimination.py measures the savings of a trained network.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from condense.data.types import ImageData, Supervision, TrainingSet
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.trainer import Trainer
from condense.machine import machine
from condense.run import peak_memory_bytes

WAYS: list[tuple[str, str, dict[str, Any]]] = [
    ("AllClass vanilla", "all-class", {"objective": "vanilla"}),
    ("AllClass DMIS", "all-class", {}),
    ("Conditional vanilla", "conditional", {"objective": "vanilla"}),
    ("Conditional DMIS", "conditional", {"eliminate": None}),
    ("Conditional DMIS, elimination", "conditional", {"eliminate": 3.0}),
    ("Conditional DMIS, top-3", "conditional", {"top_k": 3, "eliminate": None}),
    ("Conditional DMIS, top-3, elimination", "conditional", {"top_k": 3, "eliminate": 3.0}),
    ("Conditional DMIS, generative term alone", "conditional", {"form": "sampled", "classification_weight": 0.0}),
]


def noisy_images(size: int, num_classes: int, n: int = 512) -> TrainingSet:
    """Random images with random noisy labels: a step costs the same on any pixels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (n, size, size, 1), dtype=np.uint8)
    labels = random.permutation(np.arange(n) % num_classes)
    data = ImageData(images, tuple(f"class {y}" for y in range(num_classes)), "random", "train")
    return TrainingSet(data, Supervision.from_labels(labels, num_classes, trusted=False))


def trainer_of(kind: str, options: dict[str, Any], size: int, batch: int, num_classes: int) -> Trainer:
    """One way to train, ready for its first step."""
    network = NetworkOptions.model_validate(
        {"kind": kind, "channels": 48, "multipliers": (1, 2), "blocks": 1, "patch": 2}
    )
    train = TrainOptions.model_validate({"steps": 10_000, "batch_size": batch, "cold_start": 0.0, **options})
    trainer = Trainer(noisy_images(size, num_classes), network, train, seed=0)
    if train.eliminate is not None:
        for denoiser in (trainer.denoiser, trainer.ema_denoiser):
            for name, weight in denoiser.named_parameters():
                if weight.ndim > 1 and weight.std() < 1e-3:
                    torch.nn.init.xavier_uniform_(weight)
                if "embed" in name:
                    weight.data *= 10
    return trainer


def resident_bytes() -> int:
    """Memory this process has now, by the same measure as `peak_memory_bytes`."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        resident = int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident + (torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)


def work(ask: Connection, threads: int, *how: Any) -> None:
    """A process: a step for each request, answered with seconds, CPU seconds, evaluations per image and bytes."""
    torch.set_num_threads(threads)
    trainer = trainer_of(*how)
    steps, before = trainer.steps(), resident_bytes()
    while ask.recv():
        evaluations, started, spent = trainer.evaluations, time.perf_counter(), time.process_time()
        next(steps)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        seen = (trainer.evaluations - evaluations) / trainer.options.batch_size
        ask.send((seconds, time.process_time() - spent, seen, peak_memory_bytes() - before))


@dataclass
class Worker:
    """One way with one number of classes, and the cost of its steps."""

    name: str
    num_classes: int
    ask: Connection
    process: Any
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    evaluations: float = 0.0
    memory: int = 0

    def step(self) -> None:
        """Have it make a step."""
        self.ask.send(True)
        seconds, cpu_seconds, self.evaluations, self.memory = self.ask.recv()
        self.seconds.append(seconds)
        self.cpu_seconds.append(cpu_seconds)

    @property
    def cost(self) -> float:
        """The quantity compared in ratios, without the first step."""
        return statistics.median((self.seconds if torch.cuda.is_available() else self.cpu_seconds)[1:])


def free_bytes() -> int:
    """Memory available for one more way."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Time every way, interleaved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="ways with this in their names")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    chosen = [way for way in WAYS if arguments.only in way[0]]
    context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    workers: dict[tuple[str, int], Worker] = {}
    too_large: dict[tuple[str, int], float] = {}
    for num_classes in arguments.classes:
        for name, kind, options in chosen:
            fewer = workers.get((name, arguments.classes[0]))
            foreseen = 0.0 if fewer is None or kind == "all-class" else fewer.memory * num_classes / fewer.num_classes
            if foreseen > 0.8 * free_bytes() and "top_k" not in options:
                too_large[name, num_classes] = foreseen
                continue
            mine, theirs = context.Pipe()
            how = (theirs, arguments.threads, kind, options, arguments.size, arguments.batch, num_classes)
            process = context.Process(target=work, args=how, daemon=True)
            process.start()
            workers[name, num_classes] = Worker(name, num_classes, mine, process)
            workers[name, num_classes].step()  # warms up, and gives the memory
    for _ in range(arguments.rounds):
        for worker in workers.values():
            worker.step()
    for worker in workers.values():
        worker.ask.send(False)
        worker.process.join()
    print(f"{machine()}  size {arguments.size}  batch {arguments.batch}  threads {arguments.threads}")
    print(f"{'step':40} {'c':>4} {'seconds':>8} {'CPU s':>8} {'evaluations':>12} {'memory, GB':>11} {'ratio':>7}")
    for name, _, _ in chosen:
        for num_classes in arguments.classes:
            if (name, num_classes) in too_large:
                print(f"{name:40} {num_classes:4} not run: about {too_large[name, num_classes] / 1e9:.0f} GB")
                continue
            worker, first = workers[name, num_classes], workers[name, arguments.classes[0]]
            seconds, cpu_seconds = statistics.median(worker.seconds[1:]), statistics.median(worker.cpu_seconds[1:])
            print(
                f"{name:40} {num_classes:4} {seconds:8.3f} {cpu_seconds:8.3f} {worker.evaluations:12.1f} "
                f"{worker.memory / 1e9:11.2f} {worker.cost / first.cost:7.2f}"
            )


if __name__ == "__main__":
    main()
