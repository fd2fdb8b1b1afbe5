"""Learning images whose gradients resemble those of real ones in networks that train on real images.

With θ from a pool of networks in training on the real images X under their beliefs q = p(y | x, z), one step of Adam on
the learned images S goes along

    Σ_y Σ_l ‖ ∇_l L(A(S_y); θ) - ∇_l L(A(T_y); θ) ‖²

over the weights l of θ, biases and norms left out, with L the mean cross-entropy of class y, T_y a batch of real images
of class y and A one random augmentation for both. θ then takes a step of SGD on the cross-entropy of a batch of
augmented real images and their beliefs, and at a random age of at most `max_age` steps a fresh one takes its place.

Gradient matching in networks trained on the learned images (`_gradient_matching.py`) tells little once they know these
few images by heart: their gradients vanish. Source: Kim et al. (2022), "Dataset Condensation via Efficient
Synthetic-Data Parameterization", Sec. 4.1 and 4.2, https://arxiv.org/abs/2205.14959, whose IDC-I this is.

Departures: T_y is drawn in proportion to q_y and networks learn q, so that wrong, partial and missing labels are
treated alike (see `_distribution.py`); a pool of networks of mixed ages in place of one after the other; Adam along a
cosine; networks half as wide; all operations of DSA, no CutMix; the last layer's gradient is matched too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from condense import augment, rng
from condense.augment import DSA
from condense.classifiers.fit import half_cosine
from condense.classifiers.networks import Network
from condense.data.types import Beliefs, TrainingSet
from condense.methods._augmentation import augmentation_for, check_augmentation
from condense.methods._believed import known_images
from condense.methods._learn import Learned, Learning, Synthetic, identity
from condense.methods._matching import target_gradients, weight_gradients
from condense.methods._pairs import Pairs, update
from condense.methods._pixels import RealImages, to_unit_pixels
from condense.methods._pool import Pool, PoolOptions
from condense.precision import arithmetic, autocast, wants_bf16
from condense.run import JSON, Run

NET_MOMENTUM, NET_DECAY = 0.9, 5e-4  # of the networks, as in the authors' code
TOGETHER = 32  # steps whose batches for the networks are drawn, and copied to the device, at once


class RealGradientOptions(PoolOptions):
    """Options of matching gradients in networks trained on real images."""

    QUICK: ClassVar[Mapping[str, Any]] = {"iterations": 10, "real_batch": 16, "pool": 2, "width": 16, "net_batch": 16}

    iterations: int = Field(1000, ge=1, description="steps on the images")
    lr_img: float = Field(0.02, gt=0, description="learning rate of Adam on normalised images; falls along a cosine")
    real_batch: int = Field(64, ge=1, description="real images per class and step")
    pool: int = Field(4, ge=1, description="networks in training on real images, used in turn")
    max_age: int = Field(300, ge=1, description="most steps of such a network before a fresh one takes its place")
    net_batch: int = Field(64, ge=1, description="real images per step of a network")
    lr_net: float = Field(0.01, gt=0, description="learning rate of the networks, SGD with momentum 0.9")
    augment: Annotated[str, AfterValidator(check_augmentation)] = Field(
        DSA,
        description="operations, joined by _, of which one is drawn per class and step; flip only as data.flip allows",
    )


def evaluations_of(train: TrainingSet, ipc: int, options: RealGradientOptions, pack: int = 1) -> int:
    """Images that will pass through networks: real and learned ones compared, and real ones networks learn from."""
    compared = train.images.num_classes * (options.real_batch + ipc * pack**2)
    return options.iterations * (compared + min(options.net_batch, len(known_images(train.believed()))))


def squared_distance(learned: list[Tensor], real: list[Tensor]) -> Tensor:
    """Σ_l ‖a_l - b_l‖² over gradients of the same shapes, a scalar."""
    return torch.stack([(a - b).square().sum() for a, b in zip(learned, real, strict=True)]).sum()


def learn(
    train: TrainingSet,
    reals: RealImages,
    start: Tensor,
    options: RealGradientOptions,
    seed: int,
    run: Run,
    method: str,
    pack: int = 1,
) -> Learned:
    """Learn images by the beliefs of `train`, or by its labels without any.

    Args:
        train: images, labels, beliefs.
        reals: the same images on the device, their batches drawn by beliefs.
        start: the initial learned images, normalised, class-major, [c * ipc, C, H, W] on the device.
        options: options of the matching.
        seed: seed of batches, networks and augmentation.
        run: keeps checkpoints.
        method: name of the method in checkpoints.
        pack: pictures along a side of a learned image.

    Raises:
        UserError: the checkpoint is another run's, or nothing is known of any image.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """
    ipc = len(start) // reals.num_classes
    synthetic = Synthetic(start, ipc, options.lr_img, optimizer="adam", pack=pack)
    strategy, beliefs = augmentation_for(options.augment, train.images), train.believed()
    pairs = Pairs(reals, synthetic, options.real_batch, strategy, seed)
    whose = {**identity(train, ipc, options, seed, method, start), "pack": pack}
    learning = Learning(
        run,
        whose,
        synthetic,
        RealGradients(pairs, beliefs, options),
        steps=options.iterations,
        checkpoint_every=options.checkpoint_every,
    )
    learning.finish()
    notes: dict[str, JSON] = {
        "believed": train.beliefs is not None,
        "augmentation": strategy,
        "arithmetic": arithmetic(options.precision, reals.device).to_json(),
    }
    return Learned(to_unit_pixels(synthetic.images, reals.preprocessing), learning.cost(), notes)


class RealGradients:
    """One step: a network of the pool, a step on the images, a step of the network on real images.

    Args:
        pairs: the batches compared.
        beliefs: p(y | x, z) of the real images, float32 [n, c].
        options: options of the matching.
    """

    def __init__(self, pairs: Pairs, beliefs: Beliefs, options: RealGradientOptions) -> None:
        self.pairs, self.options = pairs, options
        self.known = torch.from_numpy(known_images(beliefs))
        self.beliefs = torch.from_numpy(beliefs).to(pairs.reals.device)
        self.bf16 = wants_bf16(options.precision, pairs.reals.device)
        self.pool = Pool(pairs.reals, options, self._optimizer, pairs.seed)
        self._drawn: tuple[int, Tensor, Sequence[augment.Drawn | None]] | None = None

    def step(self, step: int) -> dict[str, float]:
        """Do step `step`; returns the sum of the distances of all classes as "loss"."""
        network, synthetic = self.pool.at(step).requires_grad_(True), self.pairs.synthetic
        distances = []
        for y, real, learned in self.pairs.of_step(step):
            target = target_gradients(network, real, y, bf16=self.bf16)
            distance = squared_distance(weight_gradients(network, learned, y), target)
            # Class by class, so that only one graph is kept; a class's distance depends on its own images alone.
            torch.autograd.backward(distance, inputs=[synthetic.images])
            distances.append(distance.detach())
        synthetic.optimizer.param_groups[0]["lr"] = self.learning_rate(step)
        losses = update(self.pairs, distances, step)
        self.pool.train(step, lambda network: self.network_loss(network, step))
        synthetic.count(min(self.options.net_batch, len(self.known)), 0)
        return losses

    def network_loss(self, network: Network, step: int) -> Tensor:
        """Mean cross-entropy of a batch of augmented real images and their beliefs, a scalar."""
        places, change = self.batch(step)
        real = self.pairs.reals[places]
        with autocast(real.device, self.bf16):
            logits = network(real if change is None else change(real)).float()
        return -(self.beliefs[places] * F.log_softmax(logits, 1)).sum(1).mean()

    def batch(self, step: int) -> tuple[Tensor, augment.Drawn | None]:
        """Indices of the real images that the network of a step learns from, on their device, and their augmentation.

        Images are drawn without replacement, parameters of the augmentation for each of them.
        """
        first = step - step % TOGETHER
        if self._drawn is None or self._drawn[0] != first:
            self._drawn = (first, *self._batches(range(first, first + TOGETHER)))
        _, places, changes = self._drawn
        return places[step - first], changes[step - first]

    def _batches(self, steps: Iterable[int]) -> tuple[Tensor, Sequence[augment.Drawn | None]]:
        """Those of several steps: int64 [steps, B] and their augmentations, copied to the device at once."""
        seed, device, places, changes = self.pairs.seed, self.pairs.reals.device, [], []
        for step in steps:
            drawn = torch.randperm(len(self.known), generator=rng.generator(seed, "network batch", step))
            places.append(self.known[drawn[: self.options.net_batch]])
            if self.pairs.strategy is not None:
                source = rng.generator(seed, "network augmentation", step)
                changes.append(augment.draw(self.pairs.strategy, len(places[-1]), source))
        moved = augment.moved(changes, device) if changes else [None] * len(places)
        return torch.stack(places).to(device), moved

    def learning_rate(self, step: int) -> float:
        """Learning rate of the images, from `lr_img` down to 0 along half a cosine."""
        return self.options.lr_img * half_cosine(step, self.options.iterations)

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """The pool."""
        return self.pool.state()

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], step: int) -> None:
        """Go on with the pool of `state`."""
        self.pool.restore(tensors, meta)

    def _optimizer(self, network: Network) -> torch.optim.Optimizer:
        rate = self.options.lr_net
        return torch.optim.SGD(network.parameters(), lr=rate, momentum=NET_MOMENTUM, weight_decay=NET_DECAY)
