"""The cost of training the networks that score a condensed set: five ConvNet-3, plainly, by `fit`, and stacked.

    python benchmarks/stacked_training.py [--size 28] [--channels 1] [--ipc 10] [--networks 5] [--threads 2]

"plain" is ordinary torch code: torch's own layers, whole batches, float32, one network after the
other. Prints, for an epoch of all networks, seconds by the clock and of this process's CPU time (the fairer of the
two on a busy machine), each the least of all rounds, and the ratio of plain to each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, Teaching, fit
from condense.classifiers.stacked import fit_stacked, stacking_pays
from condense.evaluate.protocols import HARD
from condense.machine import best_device, machine

AUGMENT = HARD.augment()
NUM_CLASSES = 10


def plain_convnet(
    channels: int, size: int, num_classes: int = NUM_CLASSES, *, batch_norm: bool = False
) -> nn.Sequential:
    """ConvNet-3 from torch's own layers."""
    padding = 3 if (channels, size) == (1, 28) else 1
    layers: list[nn.Module] = []
    for place in range(3):
        layers.append(nn.Conv2d(128 if place else channels, 128, 3, padding=1 if place else padding))
        layers += [nn.BatchNorm2d(128) if batch_norm else nn.GroupNorm(128, 128), nn.ReLU(), nn.AvgPool2d(2)]
    side = (size + 2 * (padding - 1)) // 8
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * side**2, num_classes))


def plainly(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Iterator[None]:
    """Train endlessly, one epoch per step of the iterator."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(seed)
    while True:
        for batch in torch.split(torch.randperm(len(images), generator=generator).to(images.device), HARD.batch_size):
            loss = F.cross_entropy(network(AUGMENT(images[batch], generator)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield


def arms(images: Tensor, labels: Tensor, count: int, rounds: int) -> dict[str, list[Iterator[Any]]]:
    """Every way to train, as iterators; advancing each of a way once trains all networks for an epoch."""
    device = images.device
    channels, size = images.shape[1:3]

    def built() -> list[networks.Network]:
        return [
            networks.build("convnet3", in_channels=channels, image_size=size, num_classes=NUM_CLASSES, seed=seed)
            for seed in range(count)
        ]

    found: dict[str, list[Iterator[Any]]] = {
        "plain, float32": [plainly(plain_convnet(channels, size).to(device), images, labels, i) for i in range(count)]
    }
    for name, bf16 in (("float32", False), ("bfloat16", True)):
        options = FitOptions(rounds + 1, HARD.batch_size, schedule="constant", bf16=bf16)
        how: dict[str, Any] = {"teaching": Teaching(AUGMENT), "device": device}
        found[f"fit one by one, {name}"] = [
            fit(network, images, labels, options, seed=seed, **how) for seed, network in enumerate(built())
        ]
        found[f"stacked, {name}"] = [fit_stacked(built(), images, labels, options, seeds=range(count), **how)]
    return found


def main() -> None:
    """Time every arm, interleaved, so that drift of the machine affects all alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = best_device()
    generator = torch.Generator().manual_seed(0)
    shape = (NUM_CLASSES * arguments.ipc, arguments.channels, arguments.size, arguments.size)
    images = torch.randn(shape, generator=generator).to(device)
    labels = (torch.arange(len(images)) // arguments.ipc).to(device)
    ways = arms(images, labels, arguments.networks, arguments.rounds)
    wall, cpu = dict.fromkeys(ways, float("inf")), dict.fromkeys(ways, float("inf"))
    for round_number in range(arguments.rounds + 1):
        for name, iterators in ways.items():
            started, spent = time.perf_counter(), time.process_time()
            for iterator in iterators:
                next(iterator)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_number:  # the first one warms up
                wall[name] = min(wall[name], time.perf_counter() - started)
                cpu[name] = min(cpu[name], time.process_time() - spent)
    print(f"{machine()}  {list(shape)}  {arguments.networks} networks  {arguments.threads} threads")
    batch_shape = (min(HARD.batch_size, len(images)), *shape[1:])
    network = networks.build("convnet3", in_channels=shape[1], image_size=shape[2], num_classes=10, seed=0)
    print(f"`dmis evaluate` stacks these: {'yes' if stacking_pays(network, batch_shape, device) else 'no'}")
    print(f"{'an epoch of all':28} {'seconds':>8} {'CPU s':>8} {'plain/this':>11}")
    cost = wall if device.type == "cuda" else cpu
    for name in ways:
        print(f"{name:28} {wall[name]:8.3f} {cpu[name]:8.3f} {cost['plain, float32'] / cost[name]:11.2f}")


if __name__ == "__main__":
    main()
