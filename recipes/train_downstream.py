"""Train a ConvNet on a condensed set, with torch and our reader only: a start for your own training code.

    python recipes/train_downstream.py set.h5                    # accuracy on the set itself
    python recipes/train_downstream.py set.h5 --data digits      # and on the test images of a data set

`dmis evaluate` is the way to figures for a paper: it augments, repeats, and gives intervals.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from condense.sets.hdf5 import read


def convnet(channels: int, size: int, classes: int) -> nn.Sequential:
    """Three blocks of convolution, instance norm, ReLU and pooling, then one linear layer."""
    layers: list[nn.Module] = []
    for inputs in (channels, 128, 128):
        layers += [nn.Conv2d(inputs, 128, 3, padding=1), nn.GroupNorm(128, 128), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * (size // 8) ** 2, classes))


def train(network: nn.Module, images: Tensor, targets: Tensor, epochs: int, batch_size: int = 64) -> None:
    """Fit `network` to float32 images [n, C, H, W] and int64 labels [n] or soft float32 labels [n, c]."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(images)), batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images[batch]), targets[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent of the images whose largest logit is that of their label."""
    predictions = torch.cat([network(part).argmax(1) for part in torch.split(images, 1000)])
    return 100 * (predictions == labels).float().mean().item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, train, print the accuracies."""
    parser = argparse.ArgumentParser(description="Train a ConvNet on a condensed set.")
    parser.add_argument("set", type=Path, help="condensed set, an .h5 file")
    parser.add_argument("--data", help="data set whose test images to score on, a name or a path")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    condensed = read(options.set)
    images, targets = condensed.tensors()  # normalised, ready for a network
    torch.manual_seed(options.seed)
    network = convnet(images.shape[1], images.shape[2], condensed.num_classes)
    train(network, images, targets, options.epochs)
    print(f"training accuracy {accuracy(network, images, torch.from_numpy(condensed.labels)):.1f} %")

    if options.data:
        from condense.data.sources import load

        source = load(options.data, image_size=images.shape[2])
        if source.test is None or source.test_truth is None:
            raise SystemExit(f"{options.data} has no test images")
        pixels = torch.from_numpy(source.test.images).permute(0, 3, 1, 2).float() / 255
        labels = torch.from_numpy(source.test_truth.labels)
        score = accuracy(network, condensed.preprocessing.normalise(pixels), labels)
        print(f"test accuracy     {score:.1f} %")


if __name__ == "__main__":
    main()
