"""Condensing with a generator: draw a pool per class, drop samples its classifier rejects, choose representatives.

Shared by `dmis`, `vanilla`, `tdsm` and `cad`, which differ only in how their generator is trained. All four draw images
in the same way, with a second network for drawing, prototypes to start from, a pool, an agreement filter and a choice
(`drawn: alike`), or without any of these, as in the papers (`drawn: as-published`). The chosen images may be refined
by beliefs (`refine`, see `_refine.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from pydantic import Field, model_validator

from condense import rng
from condense.data.memory import check_fits
from condense.data.types import Beliefs, Images, Labels, TrainingSet
from condense.errors import UserError
from condense.generator.classifier import SIGMA_MAX
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.model import Generator
from condense.generator.options import NetworkOptions, ObjectiveName, SecondStage, TrainOptions, check_top_k
from condense.generator.record import TrainingRecord
from condense.generator.training.two_stage import beliefs, train_stages
from condense.machine import best_device
from condense.methods._refine import RefineOptions, refined
from condense.methods._select import Choice, Features, choose
from condense.options import Options
from condense.packing import pack
from condense.preprocessing import CONSTANT, planes
from condense.processes import leave_processes, of_all, share_of
from condense.run import JSON, Run, peak_memory_bytes
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet, Cost

MAX_ROUNDS = 4
REFINED = "refine"  # folder
EMBEDDER = "convnet3"
BY_FEATURES = ("kmeans", "herding")  # ways of choosing that compare features
SURE = 0.9  # least belief in its class of a representing image

Drawn: TypeAlias = Literal["alike", "as-published"]


class DrawOptions(Options):
    """How images are drawn from a trained generator and chosen."""

    pool: float = Field(5.0, ge=1, description="samples drawn per class, as a multiple of ipc")
    sampler_steps: int = Field(18, ge=2, description="steps N of Heun's sampler (2N-1 evaluations)")
    guidance: float = Field(0.0, ge=0, description="strength of class guidance; 0 is plain conditional sampling")
    prototype_sigma: float | None = Field(
        None,
        gt=0,
        le=SIGMA_MAX,
        description="noise level at which sampling starts from noised class prototypes; pure noise when empty",
    )
    agree: bool = Field(True, description="drop samples that the generator's classifier assigns to another class")
    choose: Choice = Field("kmeans", description="none, surest, kmeans or herding among the remaining samples")
    features: Literal["pixels", "network"] = Field(
        "network", description="space of kmeans and herding: pixels, or a random ConvNet-3's outputs"
    )


PLAIN: Mapping[str, Any] = {
    "second_stage": None,
    "draw": {"pool": 1.0, "agree": False, "choose": "none", "prototype_sigma": None},
    "refine": None,
}
"""What `drawn: as-published` stands for: samples of the trained network from pure noise, unselected, not refined."""


class GeneratorOptions(Options):
    """Options of a generator-based method."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "train": {"steps": 40, "helper": {"steps": 40}, "labeller": LabellerOptions.QUICK},
        "second_stage": None,
        "draw": {"pool": 2, "sampler_steps": 6, "prototype_sigma": None},
        "refine": None,
    }

    generator: Path | None = Field(None, description="run folder of a trained generator; trained when empty")
    network: NetworkOptions = NetworkOptions()
    train: TrainOptions = TrainOptions()
    drawn: Drawn = Field(
        "alike",
        description="what second_stage, draw and refine are unless set: alike, the same for every generator; "
        "as-published, plain samples of the network that was trained",
    )
    second_stage: SecondStage | None = Field(
        None, description="a network for drawing only, trained on the first one's beliefs; none when empty"
    )
    draw: DrawOptions = DrawOptions()
    refine: RefineOptions | None = Field(
        None, description="learn on from the chosen images by beliefs; they stay as drawn when empty"
    )

    @model_validator(mode="before")
    @classmethod
    def _laid_over_plain(cls, values: object) -> object:
        if not isinstance(values, dict) or values.get("drawn") != "as-published":
            return values
        draw = values.get("draw", {})
        return {**PLAIN, **values, "draw": {**PLAIN["draw"], **draw} if isinstance(draw, Mapping) else draw}

    @model_validator(mode="after")
    def _network_fits_training(self) -> GeneratorOptions:
        if self.generator is None:  # reported before any training
            check_top_k(self.network, self.train)
        return self

    def train_options(self, objective: ObjectiveName) -> TrainOptions:
        """`train` with the method's own objective, which the recipe cannot change."""
        return self.train.model_copy(update={"objective": objective})


def condense_with_generator(
    train: TrainingSet,
    ipc: int,
    options: GeneratorOptions,
    seed: int,
    run: Run,
    method: ObjectiveName,
) -> CondensedSet:
    """Train or load the generator, then draw and choose.

    Torchrun's processes train and draw together; only the main one returns.

    Raises:
        WorkerDone: in torchrun's workers, after drawing.
        UserError: the generator was made for other classes or image sizes, or with another objective.
    """
    check_ipc(ipc, train)
    pictures, factor = drawn_per_class(ipc, options), pack_of(options)
    pool = pool_size(pictures, options.draw)
    pooled_bytes = pool * train.images.num_classes * math.prod(train.images.image_shape)
    check_fits(pooled_bytes, f"A pool of {pool} per class", "lower ipc or draw.pool")
    if options.generator is None:
        home = run
        generator = train_stages(train, options.network, options.train_options(method), options.second_stage, seed, run)
    else:
        if not options.generator.is_dir():
            raise UserError(f"There is no run folder {options.generator}; give the folder of a `dmis train`.")
        home = Run(options.generator, progress=run.progress)
        generator = _reused(home, method)
    generator.check_data(train.images)
    before, started = generator.evaluations, time.perf_counter()
    prototypes, believing = None, train
    if train.beliefs is None and (options.draw.prototype_sigma is not None or options.refine is not None):
        believing = replace(train, beliefs=beliefs(generator, train, home).posterior)
    if options.draw.prototype_sigma is not None:
        prototypes = class_prototypes(train.images.images, believing.believed(), pool, seed)
    images, notes = draw_and_choose(generator, pictures, options.draw, seed, run, prototypes)
    evaluations = sum(of_all([generator.evaluations - before]))
    leave_processes()
    made = assemble(
        train,
        tiled(images, factor),
        Making(
            method,
            ipc,
            options,
            seed,
            cost=cost_of_stages(generator) + Cost(time.perf_counter() - started, evaluations, peak_memory_bytes()),
            notes={**notes, "generator": generator.record.to_json()}
            | ({"second_stage": generator.second.record.to_json()} if generator.second else {}),
            pack=factor,
        ),
    )
    if options.refine is None:
        return made
    return refined(made, believing, options.refine, seed, run.within(REFINED))


def _reused(folder: Run, method: str) -> Generator:
    generator = Generator.load(folder, best_device())
    if generator.record.objective != method:
        raise UserError(
            f"The generator in {folder.path} was trained with objective {generator.record.objective!r}, "
            f"the method is {method!r}; use the method of that name or train another generator."
        )
    return generator


def training_cost(record: TrainingRecord) -> Cost:
    """The cost of a generator's training, even if done in several sessions; what its record lacks counts as 0."""
    return Cost(record.seconds or 0.0, record.evaluations or 0, record.peak_memory_bytes or 0, record.images_seen or 0)


def cost_of_stages(generator: Generator) -> Cost:
    """The same of a generator and its second stage, if it has one."""
    first = training_cost(generator.record)
    return first if generator.second is None else first + training_cost(generator.second.record)


def pack_of(options: GeneratorOptions) -> int:
    """Pictures along a side of an image of the set; 1 unless refining packs them."""
    return 1 if options.refine is None else options.refine.pack


def drawn_per_class(ipc: int, options: GeneratorOptions) -> int:
    """Images drawn and chosen per class; pack² of them share an image of the set."""
    return ipc * pack_of(options) ** 2


def tiled(images: Images, factor: int) -> Images:
    """Images uint8 [n, H, W, C] of factor² consecutive ones of `images` each, see `condense.packing.pack`."""
    pixels = pack(planes(images).float(), factor).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())


def pool_size(ipc: int, options: DrawOptions) -> int:
    """Samples drawn per class in one round."""
    return max(ipc, round(options.pool * ipc))


def class_prototypes(images: Images, known: np.ndarray, count: int, seed: int) -> list[Images]:
    """For each class, `count` mean images of k-means clusters of the training images believed to be of it.

    Images count from a belief of 0.9, or at least the `count` likeliest ones do. Clusters are of pixels, the largest
    first; a class with fewer images than `count` repeats its own. Source: D4M, Su et al. (2024),
    https://arxiv.org/abs/2407.15138, Sec. 3.2, there in a latent space and with the labels as given.

    Args:
        images: uint8 [n, H, W, C].
        known: p(y | x, z) [n, c].
        count: prototypes per class.
        seed: seed of k-means.

    Returns:
        uint8 [count, H, W, C] for each class.
    """
    from sklearn.cluster import KMeans

    prototypes = []
    for y in range(known.shape[1]):
        members = np.flatnonzero((known.argmax(1) == y) & (known[:, y] >= SURE))
        if len(members) < count:
            members = np.argsort(-known[:, y], kind="stable")[:count]
        pixels = images[members].reshape(len(members), -1).astype(np.float32)
        random_state = rng.derive(seed, "prototypes", y) % 2**32
        model = KMeans(min(count, len(members)), n_init=1, random_state=random_state).fit(pixels)
        sizes = np.bincount(model.labels_, minlength=model.n_clusters)
        centres = model.cluster_centers_[np.argsort(-sizes, kind="stable")].round().clip(0, 255).astype(np.uint8)
        prototypes.append(centres[np.arange(count) % len(centres)].reshape(count, *images.shape[1:]))
    return prototypes


def draw_and_choose(
    generator: Generator,
    ipc: int,
    options: DrawOptions,
    seed: int,
    run: Run,
    prototypes: Sequence[Images] | None = None,
) -> tuple[Images, dict[str, JSON]]:
    """`ipc` images per class: uint8 [c * ipc, H, W, C] in class-major order, and notes for the record.

    Classes whose pool has fewer than `ipc` agreeing samples are drawn again, up to three times; if that does not
    suffice, the surest rejected samples fill the gap (their number is noted). `prototypes` are the images of each class
    that sampling starts from, noised to `options.prototype_sigma`; one image is drawn from each. Torchrun's processes
    share the classes, all of them must call, and all get the same images.
    """
    num_classes = len(generator.classes)
    size = pool_size(ipc, options)
    pools: list[Images] = [np.empty((0, *generator.image_shape[1:], generator.image_shape[0]), np.uint8)] * num_classes
    sureness = [np.empty((0, num_classes), np.float32)] * num_classes
    needed = list(range(num_classes))
    with run.track(num_classes, "sampling") as tracker:
        for attempt in range(MAX_ROUNDS):
            mine: list[tuple[int, Images, Beliefs]] = []
            for y in share_of(needed):
                labels: Labels = np.full(size, y, dtype=np.int64)
                drawn = generator.sample(
                    labels,
                    rng.derive(seed, "pool", y, attempt),
                    num_steps=options.sampler_steps,
                    guidance=options.guidance,
                    start=None if prototypes is None else prototypes[y],
                    start_sigma=options.prototype_sigma or SIGMA_MAX,
                )
                mine.append((y, drawn, generator.posterior(drawn)))
                tracker.update(y + 1)
            for y, drawn, sure in of_all(mine):
                pools[y] = np.concatenate([pools[y], drawn])
                sureness[y] = np.concatenate([sureness[y], sure])
            needed = [y for y in needed if options.agree and int((sureness[y].argmax(1) == y).sum()) < ipc]
            if not needed:
                break
    chosen = [_choose_class(pools[y], sureness[y], y, ipc, options, seed) for y in range(num_classes)]
    agreeing = [float((belief.argmax(1) == y).mean()) for y, belief in enumerate(sureness)]
    return np.concatenate([pool[index] for pool, index in zip(pools, chosen, strict=True)]), {
        "pool": sum(map(len, pools)),
        "dropped_share": 1 - float(np.mean(agreeing)) if options.agree else 0.0,
        "agreement_by_class": agreeing,
        "disowned_used": int(sum((sureness[y][chosen[y]].argmax(1) != y).sum() for y in range(num_classes))),
    }


def _choose_class(pool: Images, belief: np.ndarray, y: int, ipc: int, options: DrawOptions, seed: int) -> Labels:
    surest = np.argsort(-belief[:, y], kind="stable")
    agreeing = belief.argmax(1) == y if options.agree else np.ones(len(pool), dtype=np.bool_)
    if agreeing.sum() < ipc:
        return np.concatenate([surest[agreeing[surest]], surest[~agreeing[surest]]])[:ipc]
    kept = np.flatnonzero(agreeing)
    features = embed(pool[kept], options.features if options.choose in BY_FEATURES else "pixels", seed)
    return kept[choose(features, belief[kept, y], ipc, options.choose, seed)]


def check_features(options: DrawOptions, image_side: int) -> None:
    """Raise `UserError` unless images of `image_side` pixels can be embedded for the choice among them."""
    from condense.classifiers import networks

    if options.choose in BY_FEATURES and options.features == "network" and not networks.fits(EMBEDDER, image_side):
        raise UserError(
            f"draw.choose={options.choose} compares the outputs of a {EMBEDDER}, which needs larger images than "
            f"{image_side}x{image_side}; set draw.features=pixels, or enlarge the images (--image-size)."
        )


def embed(images: Images, space: str, seed: int) -> Features:
    """Features [m, F] of uint8 images: flattened pixels, or outputs of a randomly initialised ConvNet-3.

    Random ConvNets are the feature space of distribution matching (Zhao & Bilen 2023,
    https://arxiv.org/abs/2110.04181); they need no labels, so imprecise ones cannot matter.
    """
    pixels = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    if space == "pixels":
        return pixels
    from condense.classifiers import networks

    x = planes(images).float() / 255
    network = networks.build(
        EMBEDDER,
        in_channels=x.shape[1],
        image_size=x.shape[2],
        num_classes=2,
        seed=rng.derive(seed, "features"),
    )
    with torch.no_grad():
        deviation = x.std() if x.std() > CONSTANT else 1.0
        return np.asarray(network.features((x - x.mean()) / deviation).numpy(), dtype=np.float32)
