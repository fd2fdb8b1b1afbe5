"""What the copy test detects: held-out real images, planted averages of two training images, and prototypes.

    python experiments/copy_test.py [--data digits] [--count 300] [--seed 0]

Planted averages are of two different training images of one class, or of two classes, in 8 bits. Prototypes are the
k-means means of each class's training images under the true labels. Shares in percent; a few seconds on digits.
"""

from __future__ import annotations

import argparse

import numpy as np

from condense import rng
from condense.data import sources
from condense.data.types import Images, Labels
from condense.errors import UserError
from condense.evaluate.memorisation import memorisation
from condense.machine import best_device
from condense.methods._generate import class_prototypes


def main() -> None:
    """Print a line per kind of image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    source = sources.load(asked.data)
    if source.truth is None or source.test is None:
        raise UserError(f"{asked.data} lacks true labels or test images.")
    train, labels = source.train.images, source.truth.labels
    kinds: dict[str, Images] = {"held-out real images": source.test.images}
    for weight in (0.5, 0.7):
        for same in (True, False):
            name = f"{weight:.1f} / {1 - weight:.1f} of two images of {'one class' if same else 'two classes'}"
            kinds[name] = planted(train, labels, weight, asked.count, asked.seed, same=same)
    known = np.eye(source.train.num_classes)[labels]
    for ipc in (1, 10, 50):
        kinds[f"prototypes, {ipc} a class"] = np.concatenate(class_prototypes(train, known, ipc, asked.seed))
    print(f"{'':45} {'images':>6} {'copies':>7} {'averages':>9} {'p':>8}")
    for name, images in kinds.items():
        found = memorisation(images, train, seed=asked.seed, device=best_device())
        shares = (100 * found.copied.mean(), 100 * found.averaged.mean())
        print(f"{name:45} {len(images):6} {shares[0]:7.1f} {shares[1]:9.1f} {found.averaged_p_value:8.2g}", flush=True)


def planted(train: Images, labels: Labels, weight: float, count: int, seed: int, *, same: bool) -> Images:
    """`count` averages of two random training images, of one class if `same`, else of two."""
    random = np.random.default_rng(rng.derive(seed, "planted", int(100 * weight), int(same)))
    first = random.integers(0, len(labels), count)
    others = [
        np.flatnonzero(((labels == labels[i]) == same) & (np.arange(len(labels)) != i))  # never itself
        for i in first
    ]
    second = np.array([random.choice(other) for other in others])
    mixed = weight * train[first].astype(np.float64) + (1 - weight) * train[second]
    return mixed.round().astype(np.uint8)


if __name__ == "__main__":
    main()
