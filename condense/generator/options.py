"""Typed options of a generator: the network and its training. Unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from condense.classifiers.cross import FoldOptions
from condense.errors import UserError
from condense.generator.augment import AugmentOptions
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.networks import UNetShape
from condense.options import Options

ObjectiveName = Literal["dmis", "vanilla", "tdsm", "cad"]


class NetworkOptions(Options):
    """The generator's network."""

    kind: Literal["all-class", "conditional"] = Field(
        "all-class",
        description="all-class: every class in one pass; conditional: DDPM++ with a class embedding",
    )
    channels: int = Field(32, ge=4, le=4096, multiple_of=2, description="channels of the first level")
    multipliers: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (1, 2), min_length=1, max_length=10, description="channels of each level / channels"
    )
    blocks: int = Field(2, ge=1, le=64, description="residual blocks per level")
    attention: tuple[int, ...] = Field((), description="levels (0 = finest) with self-attention")
    dropout: float = Field(0.0, ge=0, lt=1)
    patch: int = Field(1, ge=1, le=64, description="side of the patches folded into channels by the stem")

    def shape(self) -> UNetShape:
        """The options as the dataclass that networks take."""
        return UNetShape(self.channels, self.multipliers, self.blocks, self.attention, self.dropout, self.patch)


class HelperOptions(Options):
    """The network trained beforehand: TDSM's classifier of noisy images, and VolMinNet."""

    steps: int | None = Field(None, ge=1, description="optimiser steps; as many as the generator's when empty")
    batch_size: int = Field(128, ge=1, description="images per step")
    learning_rate: float = Field(1e-3, gt=0, description="learning rate of Adam at the start; falls along a cosine")
    volume_weight: float = Field(1e-4, ge=0, description="weight of log det T in VolMinNet")
    matrix_learning_rate: float = Field(0.1, gt=0, description="learning rate of VolMinNet's matrix")
    look_every: int = Field(100, ge=1, description="steps between evaluations of the held-out loss, and checkpoints")


class TrainOptions(Options):
    """How a generator is trained."""

    objective: ObjectiveName = Field(
        "dmis", description="vanilla: EDM on the label as given; tdsm, cad: see the methods"
    )
    form: Literal["expected", "sampled", "mixture"] = Field("expected", description="form of DMIS's generative term")
    steps: int = Field(1000, ge=1, description="optimiser steps")
    batch_size: int = Field(128, ge=1, description="images per step, over all processes")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of Adam")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps in which the learning rate rises")
    cooldown: float = Field(0.2, ge=0, le=1, description="share of the steps, at the end, in which the rate falls to 0")
    ema_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="EMA half-life as a share of the images seen so far, so that short runs forget their start",
    )
    ema_half_life: int = Field(
        500_000, ge=1, description="longest EMA half-life, in images; applies to runs of 10 million images and more"
    )
    high_noise_share: float = Field(0.25, ge=0, le=1, description="share of noise levels log-uniform on [1, 80]")
    cold_start: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the steps, at the start, that trust the given labels; at least min(60 steps, a tenth), "
        "0 for none",
    )
    classification_weight: float = Field(1.0, ge=0, description="weight of the classification term")
    noisy_loss: Literal["elr", "forward"] = Field(
        "forward",
        description="classification term of labels that may be wrong: the likelihood of the label under the transition "
        "matrix, or early-learning regularisation, which harms generation",
    )
    elr_strength: float = Field(
        1.0,
        ge=0,
        description="weight of early-learning regularisation; 0 for none, if nearly all labels are right",
    )
    unlabelled_weight: float = Field(
        0.0, ge=0, description="weight of images without a label in the classification term (self-training)"
    )
    labelled_share: float = Field(
        0.25, ge=0, le=1, description="least share of labelled images in a batch, if some have no label"
    )
    temperature: float = Field(1.0, gt=0, description="temperature of the training classifier")
    posterior_sigmas: tuple[float, ...] = Field(
        (0.35, 0.8), min_length=1, description="noise levels that refresh the bank"
    )
    refresh_share: float = Field(
        0.25, gt=0, le=1, description="share of each batch whose banked posterior is refreshed"
    )
    bank_momentum: float = Field(0.7, ge=0, lt=1, description="moving average of the posterior bank")
    transition: Literal["estimate", "labeller", "volmin"] | tuple[tuple[float, ...], ...] = Field(
        "estimate",
        description="label transition matrix (rows = true class); estimate: from the beliefs; labeller: by quick "
        "classifiers trained beforehand, with few labels by VolMinNet; volmin: by VolMinNet",
    )
    top_k: int | None = Field(None, ge=1, description="classes evaluated with gradient per image; all when empty")
    eliminate: float | None = Field(
        3.0,
        ge=0,
        description="with a conditional network, the diffusion classifier drops classes early that "
        "together hold less than exp(-this) of the most probable one's posterior; none when empty",
    )
    held_out: float = Field(0.05, gt=0, lt=0.5, description="share of the images kept for temperature and selection")
    select: Literal["last", "best"] = Field(
        "last",
        description="weights kept: the last, or, for long runs on few images, those with the lowest held-out loss",
    )
    select_every: int = Field(250, ge=1, description="steps between evaluations of the held-out loss, for select: best")
    augment_probability: float = Field(0.0, ge=0, le=1, description="probability of each augmentation")
    flip: bool = Field(False, description="whether augmentation mirrors images, if data.flip allows it")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 if the machine is fast at it")
    compile: bool = Field(False, description="torch.compile the network")
    deterministic: bool = Field(False, description="only deterministic algorithms, also on a GPU; slower there")
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints")
    second_opinion: bool = Field(
        True, description="whether classifiers trained for the matrix also judge labels beside the generator"
    )
    helper: HelperOptions = HelperOptions()
    labeller: LabellerOptions = LabellerOptions()
    coherence: FoldOptions = FoldOptions()

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainOptions:
        if self.warmup + self.cooldown > 1:
            raise UserError(f"warmup {self.warmup} + cooldown {self.cooldown} exceed the whole run; lower one.")
        return self

    def augment(self, *, may_flip: bool) -> AugmentOptions:
        """The options as the dataclass that augmentation takes, without mirroring if the data forbid it."""
        return AugmentOptions(self.augment_probability, self.flip and may_flip)


def check_top_k(network: NetworkOptions, train: TrainOptions) -> None:
    """Raise `UserError` for `top_k` with a network that gives every class in one pass."""
    if train.top_k is not None and network.kind == "all-class":
        raise UserError(
            f"train.top_k {train.top_k} saves nothing with an all-class network, which gives every class in one pass; "
            "leave it out, or choose network.kind conditional."
        )


class SecondStage(Options):
    """A network for drawing only, trained after the first one on labels drawn from its beliefs."""

    network: NetworkOptions = NetworkOptions(kind="conditional")
    train: TrainOptions = TrainOptions()
