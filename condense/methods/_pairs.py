"""A batch of real images and the learned images of one class, under the same augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condense import augment, rng
from condense.classifiers.networks import Network
from condense.methods._learn import Diverged, Synthetic
from condense.methods._pixels import RealImages


@dataclass(frozen=True)
class Pairs:
    """The batches of each class compared in a step.

    Attributes:
        reals: the training images.
        synthetic: the learned images.
        batch: real images per class.
        strategy: the augmentation, with parameters drawn once for both batches of a class; None for none.
        seed: batches and augmentation depend only on (seed, step, class).
    """

    reals: RealImages
    synthetic: Synthetic
    batch: int
    strategy: str | None
    seed: int

    def of_step(self, step: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Class, real images [B, C, H, W] and learned pictures [ipc * pack², C, H, W], through which gradients pass."""
        classes, device = range(self.reals.num_classes), self.reals.device
        chosen = [self.reals.batch_of(y, self.batch, rng.generator(self.seed, "real batch", step, y)) for y in classes]
        places = torch.split(torch.cat(chosen).to(device), [len(own) for own in chosen])  # one copy for all classes
        alike: list[augment.Drawn] | list[None] = [None] * len(classes)
        if self.strategy is not None:
            drawn = [augment.draw(self.strategy, 1, rng.generator(self.seed, "siamese", step, y)) for y in classes]
            alike = augment.moved(drawn, device)
        for y, own, change in zip(classes, places, alike, strict=True):
            real, learned = self.reals[own], self.synthetic.of_class(y)
            self.synthetic.count(len(real), len(learned))
            yield (y, real, learned) if change is None else (y, change(real), change(learned))

    def for_batch_norm(self, count: int, step: int) -> Tensor:
        """`count` real images per class, to take batch statistics from."""
        images = self.reals.draw_each(count, rng.generator(self.seed, "batch norm", step))
        self.synthetic.count(len(images), 0)
        return images

    def fresh_network(self, backbone: str, iteration: int) -> Network:
        """The untrained network of an iteration, on the device of the images."""
        return self.reals.network(backbone, rng.derive(self.seed, "network", iteration))


def update(pairs: Pairs, distances: Sequence[Tensor], step: int) -> dict[str, float]:
    """Step along the gradients of the classes' `distances`, scalars; returns their sum as "loss".

    They are read once for all classes, since a GPU is waited for. Raises as `check_finite`.
    """
    loss = sum(torch.stack(list(distances)).tolist())
    check_finite(loss, pairs.synthetic, step)
    pairs.synthetic.update()
    return {"loss": loss}


def check_finite(loss: float, synthetic: Synthetic, step: int) -> None:
    """Clear the gradients and raise `Diverged` if the loss is not finite."""
    if not math.isfinite(loss):
        synthetic.optimizer.zero_grad(set_to_none=True)
        rate = synthetic.optimizer.param_groups[0]["lr"]
        raise Diverged(
            f"The loss became {loss} in step {step}; lower lr_img (now {rate:g}) and start over with --force."
        )


def check_images(synthetic: Synthetic, step: int) -> None:
    """Raise `Diverged` if the images are out of bounds: then their learning rate is to blame, not the network's."""
    if not synthetic.usable():
        rate = synthetic.optimizer.param_groups[0]["lr"]
        raise Diverged(
            f"The learned images left all bounds in step {step}; lower lr_img (now {rate:g}) and start over with "
            "--force."
        )
