"""The effect of memory layout and `torch.compile` on this machine, and a step of DMIS against one of EDM.

    python benchmarks/layouts.py [--rounds 3] [--threads 1] [--only vanilla,channels,compile]

Three tables of ratios in float32; each arm's time is the least CPU time of this process over all rounds after a
warm-up (the fairer clock on a busy machine), arms interleaved:

vanilla   a training step of the 28-pixel generator, by DMIS against on the labels as given;
channels  forward and backward in channels_last against NCHW: the 28-pixel generator, ConvNet-3 on 100 images;
compile   the same step of the generator, compiled against plain, where a C++ compiler works.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from training_step import noisy_images

from condense.classifiers import networks
from condense.generator.model import build_denoiser
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.trainer import Trainer
from condense.machine import machine
from condense.recipe import shipped

SIDE, BATCH = 28, 64
Arm = Callable[[], object]


def recipe() -> tuple[NetworkOptions, dict[str, object]]:
    """Network and training options of the 28-pixel generator."""
    found = shipped("generator-28px")
    return NetworkOptions.model_validate(found["network"]), {**found["train"], "steps": 10_000, "cold_start": 0.0}


def stepping(**changed: object) -> Arm:
    """A training step, repeatedly."""
    network, options = recipe()
    train = TrainOptions.model_validate({**options, "precision": "fp32", **changed})
    steps = Trainer(noisy_images(SIDE), network, train, 0).steps()
    return lambda: next(steps)


def vanilla() -> Iterator[tuple[str, dict[str, Arm]]]:
    """DMIS and vanilla steps."""
    yield (
        "generator, a training step",
        {"vanilla": stepping(objective="vanilla", transition="estimate"), "DMIS": stepping(transition="estimate")},
    )


def channels() -> Iterator[tuple[str, dict[str, Arm]]]:
    """NCHW and channels_last."""
    for name, build in (("generator, 64 images", _generator_pass), ("ConvNet-3, 100 images", _convnet_pass)):
        arms = {"NCHW": build(torch.contiguous_format), "channels_last": build(torch.channels_last)}
        yield f"{name}, forward and backward", arms


def compiled() -> Iterator[tuple[str, dict[str, Arm]]]:
    """Plain and compiled."""
    arms = {
        "as it is": stepping(objective="vanilla", transition="estimate"),
        "compiled": stepping(objective="vanilla", transition="estimate", compile=True),
    }
    yield "generator, a training step", arms


def _generator_pass(layout: torch.memory_format) -> Arm:
    network, _ = recipe()
    denoiser = build_denoiser(network, (1, SIDE, SIDE), 10, 0).to(memory_format=layout)
    x, sigma = torch.randn(BATCH, 1, SIDE, SIDE).to(memory_format=layout), torch.ones(BATCH)
    return lambda: denoiser(x, sigma).square().mean().backward()


def _convnet_pass(layout: torch.memory_format) -> Arm:
    network = networks.build("convnet3", in_channels=1, image_size=SIDE, num_classes=10, seed=0)
    network = network.to(memory_format=layout)
    x, y = torch.randn(100, 1, SIDE, SIDE).to(memory_format=layout), torch.arange(100) % 10
    return lambda: F.cross_entropy(network(x), y).backward()


PARTS = {"vanilla": vanilla, "channels": channels, "compile": compiled}


def main() -> None:
    """Print the requested tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{machine()}  threads {arguments.threads}")
    for part in arguments.only.split(","):
        for title, arms in PARTS[part]():
            seconds = dict.fromkeys(arms, float("inf"))
            for round_number in range(arguments.rounds + 1):
                for name, arm in arms.items():
                    started = time.process_time()
                    arm()
                    if round_number:  # the first one warms up, and compiles
                        seconds[name] = min(seconds[name], time.process_time() - started)
            first = next(iter(seconds.values()))
            print(title)
            for name, spent in seconds.items():
                print(f"  {name:16} {spent:8.3f} CPU s {spent / first:6.2f}", flush=True)


if __name__ == "__main__":
    main()
