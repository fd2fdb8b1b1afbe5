"""FRePo: learned images from which ridge regression on a network's features predicts the classes of real ones.

With φ the features of a network θ, F of them, S the learned images with centred one-hot targets Y (1 - 1/c, -1/c), and
X a batch of real images with beliefs q = p(y | x, z), one step of Adam on S goes along

    ½ mean ‖ K_XS (K_SS + λ I)⁻¹ Y - (q - 1/c) ‖²,   K_AB = φ(A) φ(B)ᵀ / F,   λ = ridge · tr(K_SS) / m.

θ comes from a pool of networks in training on S: after each use one takes a step of Adam on ½ ‖f(S) - Y‖², and at a
random age of at most `max_age` steps a fresh one takes its place. Source: Zhou, Nezhadarya & Ba (2022), "Dataset
Distillation using Neural Feature Regression", Eq. 6 and Algorithm 1, https://arxiv.org/abs/2206.00719.

With `learn_labels` the labels Y + 1/c of the learned images take a step of an Adam of their own along the same loss, at
the rate of the images, and are then replaced by the nearest probabilities.

Departures: targets of real images are beliefs instead of labels, so wrong, partial and missing labels are treated
alike; the learned images keep hard labels by default. The paper's learned labels are regression targets without bounds;
a set stores probabilities, and projecting only the last ones would store others than were learned. Networks are
ConvNets with instance norm, all layers of one width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.optim import Adam

from condense import augment, rng
from condense.classifiers.fit import half_cosine
from condense.classifiers.networks import Network
from condense.data.types import Beliefs, TrainingSet
from condense.methods._augmentation import NONE, augmentation_for, check_augmentation
from condense.methods._believed import known_images
from condense.methods._learn import Learned, Learning, PackedOptions, Synthetic, identity
from condense.methods._matching import features_of
from condense.methods._pairs import check_finite
from condense.methods._pixels import RealImages, to_unit_pixels
from condense.methods._pool import Pool, PoolOptions
from condense.precision import arithmetic, autocast, wants_bf16, widest_float
from condense.run import JSON, Run, pack_optimizer, part_of, unpack_optimizer


class RidgeOptions(PoolOptions, PackedOptions):
    """Options of learning images by ridge regression on beliefs."""

    QUICK: ClassVar[Mapping[str, Any]] = {"iterations": 20, "real_batch": 64, "pool": 2, "width": 16}

    iterations: int = Field(400, ge=1, description="steps on the images")
    lr_img: float = Field(0.01, gt=0, description="learning rate of Adam on normalised images; falls along a cosine")
    real_batch: int = Field(256, ge=1, description="real images per step")
    learn_labels: bool = Field(
        False, description="learn the labels of the images too; the set stores them as soft labels"
    )
    ridge: float = Field(1e-3, gt=0, description="strength of the ridge, as a multiple of the kernel's mean diagonal")
    lr_net: float = Field(1e-3, gt=0, description="learning rate of Adam on the networks")
    augment: Annotated[str, AfterValidator(check_augmentation)] = Field(
        NONE, description="operations, joined by _, of which one is drawn per step, alike for real and learned images"
    )


def ridge_prediction(real: Tensor, learned: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """K_XS (K_SS + λ I)⁻¹ Y, differentiable.

    Solved in float64 where the device has it, since the kernel of similar images is nearly singular.

    Args:
        real: features of real images, float [B, F].
        learned: features of learned ones, float [m, F].
        targets: Y, float [m, c].
        ridge: λ as a multiple of the mean diagonal of K_SS.

    Returns:
        [B, c] of the type of `learned`.
    """
    exact, count = widest_float(learned.device), learned.shape[1]
    own = (learned @ learned.T).to(exact) / count  # [m, m]
    strength = ridge * own.diagonal().mean()
    weights = torch.linalg.solve(
        own + strength * torch.eye(len(own), dtype=exact, device=own.device), targets.to(exact)
    )
    predicted: Tensor = (real @ learned.T).to(exact) / count @ weights
    return predicted.to(learned.dtype)


def nearest_probabilities(x: Tensor) -> Tensor:
    """The rows' projections on the probability simplex: max(x - θ, 0), with θ such that each row sums to 1.

    Source: Duchi et al. (2008), "Efficient Projections onto the l1-Ball", Fig. 1,
    https://doi.org/10.1145/1390156.1390191.

    Args:
        x: float [m, c].

    Returns:
        [m, c], non-negative.
    """
    largest_first = x.sort(1, descending=True).values
    ranks = torch.arange(1, x.shape[1] + 1, device=x.device)
    thetas = (largest_first.cumsum(1) - 1) / ranks  # θ if the first 1, 2, … entries stay above 0
    kept = (largest_first > thetas).sum(1, keepdim=True)
    return (x - thetas.gather(1, kept - 1)).clamp_min(0)


def evaluations_of(train: TrainingSet, ipc: int, options: RidgeOptions) -> int:
    """Images that will pass through networks: real ones, and learned ones once as support and once as training data."""
    batch = min(options.real_batch, len(known_images(train.believed())))
    return options.iterations * (batch + 2 * train.images.num_classes * ipc * options.pack**2)


def learn(
    train: TrainingSet,
    reals: RealImages,
    start: Tensor,
    ipc: int,
    options: RidgeOptions,
    seed: int,
    run: Run,
    method: str,
) -> Learned:
    """Learn images by ridge regression on the beliefs of `train`, or on its labels without any.

    Args:
        train: images, labels, beliefs.
        reals: the same images on the device.
        start: the initial learned images, normalised, class-major, [c * ipc, C, H, W] on the device.
        ipc: images per class.
        options: options of the regression.
        seed: seed of batches and networks.
        run: keeps checkpoints.
        method: name of the method in checkpoints.

    Raises:
        UserError: the checkpoint is another run's, or nothing is known of any image.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """
    synthetic = Synthetic(start, ipc, options.lr_img, optimizer="adam", pack=options.pack)
    beliefs, strategy = train.believed(), augmentation_for(options.augment, train.images)
    whose = identity(train, ipc, options, seed, method, start)
    regression = RidgeRegression(reals, synthetic, beliefs, options, strategy, seed)
    learning = Learning(
        run,
        whose,
        synthetic,
        regression,
        steps=options.iterations,
        checkpoint_every=options.checkpoint_every,
    )
    learning.finish()
    computed = arithmetic(options.precision, reals.device)
    notes: dict[str, JSON] = {
        "believed": train.beliefs is not None,
        "augmentation": strategy,
        "arithmetic": computed.to_json(),
    }
    soft_labels = regression.labels.detach().cpu().numpy() if options.learn_labels else None
    return Learned(to_unit_pixels(synthetic.images, reals.preprocessing), learning.cost(), notes, soft_labels)


class RidgeRegression:
    """One step: a batch of real images, a network of the pool, a step on the images, a step of the network on them.

    Attributes:
        labels: probabilities of the classes for each learned image, float32 [c * ipc, c]; one-hot unless learned.
    """

    def __init__(
        self,
        reals: RealImages,
        synthetic: Synthetic,
        beliefs: Beliefs,
        options: RidgeOptions,
        strategy: str | None,
        seed: int,
    ) -> None:
        self.reals, self.synthetic, self.options = reals, synthetic, options
        self.strategy, self.seed = strategy, seed
        self.known = torch.from_numpy(known_images(beliefs))
        self.share = 1 / reals.num_classes
        self.beliefs = (torch.from_numpy(beliefs) - self.share).to(reals.device)  # [n, c]
        self.labels = F.one_hot(synthetic.labels[:: synthetic.pack**2], reals.num_classes).float()
        self.labels.requires_grad_(options.learn_labels)
        self.label_optimizer = Adam([self.labels], lr=options.lr_img) if options.learn_labels else None
        self.pool = Pool(reals, options, lambda network: Adam(network.parameters(), lr=options.lr_net), seed)
        self.bf16 = wants_bf16(options.precision, reals.device)

    @property
    def targets(self) -> Tensor:
        """Y, those of the learned pictures: float32 [m, c]."""
        return (self.labels - self.share).repeat_interleave(self.synthetic.pack**2, 0)

    def step(self, step: int) -> dict[str, float]:
        """Do step `step`; returns the loss before it."""
        places = self.batch(step)
        loss = self.loss(step, places, self.synthetic.pictures())
        loss.backward()  # type: ignore[no-untyped-call]
        check_finite(value := loss.item(), self.synthetic, step)
        self.synthetic.optimizer.param_groups[0]["lr"] = self.learning_rate(step)
        self.synthetic.update()
        if self.label_optimizer is not None:
            self._update_labels(self.label_optimizer, self.learning_rate(step))
        self.pool.train(step, self._fitting_loss)
        self.synthetic.count(len(places), 2 * len(self.synthetic.labels))
        return {"loss": value}

    def _fitting_loss(self, network: Network) -> Tensor:
        """½ ‖f(S) - Y‖², by which networks of the pool are trained; a scalar."""
        with autocast(self.reals.device, self.bf16):
            logits = network(self.synthetic.pictures().detach()).float()
        loss: Tensor = 0.5 * (logits - self.targets.detach()).square().sum(1).mean()
        return loss

    @torch.no_grad()
    def _update_labels(self, optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.labels.copy_(nearest_probabilities(self.labels))

    def loss(self, step: int, places: Tensor, learned: Tensor) -> Tensor:
        """The loss of learned images [m, C, H, W] on the real ones at `places` [B], by the network of `step`."""
        network, real = self.pool.at(step), self.reals[places]
        if self.strategy is not None:
            change = augment.draw(self.strategy, 1, rng.generator(self.seed, "siamese", step))
            real, learned = change(real), change(learned)
        network.requires_grad_(False)
        with torch.no_grad():
            seen = features_of(network, real, bf16=self.bf16)
        with autocast(self.reals.device, self.bf16):
            own = network.features(learned).float()
        predicted = ridge_prediction(seen, own, self.targets, self.options.ridge)
        return 0.5 * (predicted - self.beliefs[places]).square().sum(1).mean()

    def batch(self, step: int) -> Tensor:
        """Indices of the real images of a step, without replacement, on their device."""
        drawn = torch.randperm(len(self.known), generator=rng.generator(self.seed, "real batch", step))
        return self.known[drawn[: self.options.real_batch]].to(self.reals.device)

    def learning_rate(self, step: int) -> float:
        """Learning rate of the images, from `lr_img` down to 0 along half a cosine."""
        return self.options.lr_img * half_cosine(step, self.options.iterations)

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """The pool, and learned labels with their optimiser."""
        tensors, meta = self.pool.state()
        if self.label_optimizer is None:
            return tensors, meta
        moments, packed = pack_optimizer(self.label_optimizer.state_dict())
        tensors |= {"labels": self.labels, **{f"label_optimizer.{name}": moment for name, moment in moments.items()}}
        return tensors, {**meta, "label_optimizer": packed}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], step: int) -> None:
        """Restore what `state` holds."""
        self.pool.restore(tensors, meta)
        if self.label_optimizer is not None:
            with torch.no_grad():
                self.labels.copy_(tensors["labels"])
            moments = part_of(tensors, "label_optimizer")
            self.label_optimizer.load_state_dict(unpack_optimizer(moments, meta["label_optimizer"]))
