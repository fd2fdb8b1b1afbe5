"""A batch of real and the learned images of one class, seen through the same augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from condense import rng
from condense.augment import siamese
from condense.classifiers.networks import Network
from condense.methods._learn import Diverged, Synthetic
from condense.methods._pixels import RealImages


@dataclass(frozen=True)
class Pairs:
    """For one step, what is compared of each class.

    Attributes:
        reals: the training images.
        synthetic: the learned images.
        batch: real images a class.
        strategy: the augmentation, its parameters one draw for both batches of a class; None for none.
        seed: batches and augmentation depend on (seed, step, class) alone.
    """

    reals: RealImages
    synthetic: Synthetic
    batch: int
    strategy: str | None
    seed: int

    def of_step(self, step: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Class, real [B, C, H, W] and learned images [ipc, C, H, W]; gradients pass to the learned ones."""
        for y in range(self.reals.num_classes):
            real = self.reals.draw(y, self.batch, rng.generator(self.seed, "real batch", step, y))
            learned = self.synthetic.of_class(y)
            self.synthetic.count(len(real), len(learned))
            if self.strategy is not None:
                real, learned = (
                    siamese(x, self.strategy, rng.generator(self.seed, "siamese", step, y)) for x in (real, learned)
                )
            yield y, real, learned

    def for_batch_norm(self, count: int, step: int) -> Tensor:
        """`count` real images a class, to take batch statistics from."""
        images = self.reals.draw_each(count, rng.generator(self.seed, "batch norm", step))
        self.synthetic.count(len(images), 0)
        return images

    def fresh_network(self, backbone: str, iteration: int) -> Network:
        """The untrained network of an iteration, on the device of the images."""
        return self.reals.network(backbone, rng.derive(self.seed, "network", iteration))


def check_finite(loss: float, synthetic: Synthetic, step: int) -> None:
    """Raise `Diverged`, with the gathered gradients forgotten, where the loss is not a number to go on from."""
    if not math.isfinite(loss):
        synthetic.optimizer.zero_grad(set_to_none=True)
        rate = synthetic.optimizer.param_groups[0]["lr"]
        raise Diverged(
            f"The loss became {loss} in step {step}; lower lr_img (now {rate:g}) and start over with --force."
        )


def check_images(synthetic: Synthetic, step: int) -> None:
    """Raise `Diverged` where the images have left all bounds: then no network's rate is to blame, but theirs."""
    if not synthetic.usable():
        rate = synthetic.optimizer.param_groups[0]["lr"]
        raise Diverged(
            f"The learned images left all bounds in step {step}; lower lr_img (now {rate:g}) and start over with "
            "--force."
        )
