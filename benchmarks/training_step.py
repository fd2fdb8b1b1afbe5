"""The cost of a training step: DMIS against vanilla, same network, same run.

    python benchmarks/training_step.py [--size 28] [--batch 64] [--threads 2]

Prints seconds per step (median), network evaluations per image, and the ratio to the vanilla step of the same network.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from condense.data.types import ImageData, Supervision, TrainingSet
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.trainer import Trainer
from condense.machine import machine

ARMS: list[tuple[str, str, dict[str, object]]] = [
    ("AllClass vanilla", "all-class", {"objective": "vanilla"}),
    ("AllClass DMIS expected", "all-class", {"form": "expected"}),
    ("AllClass DMIS sampled", "all-class", {"form": "sampled"}),
    ("AllClass DMIS mixture", "all-class", {"form": "mixture"}),
    ("Conditional vanilla", "conditional", {"objective": "vanilla"}),
    ("Conditional DMIS literal", "conditional", {"form": "mixture", "eliminate": None}),
    ("Conditional DMIS expected", "conditional", {"form": "expected", "eliminate": None}),
    ("Conditional DMIS expected, top-3", "conditional", {"form": "expected", "top_k": 3, "eliminate": None}),
]


def noisy_images(size: int, n: int = 2048) -> TrainingSet:
    """Random images with random noisy labels: a step costs the same on any pixels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (n, size, size, 1), dtype=np.uint8)
    labels = random.integers(0, 10, n)
    data = ImageData(images, tuple("0123456789"), "random", "train")
    return TrainingSet(data, Supervision.from_labels(labels, 10, trusted=False))


def main() -> None:
    """Time every arm, interleaved, so that drift of the machine affects all alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = noisy_images(arguments.size)
    trainers = {}
    for name, kind, options in ARMS:
        network = NetworkOptions.model_validate(
            {"kind": kind, "channels": 48, "multipliers": (1, 2), "blocks": 1, "patch": 2}
        )
        train = TrainOptions.model_validate(
            {"steps": 10_000, "batch_size": arguments.batch, "cold_start": 0.0, **options}
        )
        trainers[name] = Trainer(data, network, train, seed=0)
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    evaluations = {}
    steps = {name: trainer.steps() for name, trainer in trainers.items()}
    for name in trainers:
        next(steps[name])
    for _ in range(arguments.rounds):
        for name, trainer in trainers.items():
            before, started = trainer.evaluations, time.perf_counter()
            next(steps[name])
            if trainer.device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
            evaluations[name] = (trainer.evaluations - before) / arguments.batch
    print(f"{machine()}  size {arguments.size}  batch {arguments.batch}  threads {arguments.threads}")
    print(f"{'step':34} {'seconds':>8} {'evaluations':>12} {'ratio':>7}")
    for name, _, _ in ARMS:
        reference = f"{name.split()[0]} vanilla"
        ratio = statistics.median(seconds[name]) / statistics.median(seconds[reference])
        print(f"{name:34} {statistics.median(seconds[name]):8.3f} {evaluations[name]:12.1f} {ratio:7.2f}")


if __name__ == "__main__":
    main()
