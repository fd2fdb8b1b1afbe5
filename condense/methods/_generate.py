"""Condensing with a generator: draw a pool a class, drop what the generator itself disowns, choose representatives.

Shared by `dmis` and `vanilla`, which differ in how their generator is trained.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field

from condense import rng
from condense.condensed_set import CondensedSet, Cost
from condense.data.types import Images, Labels, TrainingSet
from condense.errors import UserError
from condense.generator.model import Generator
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.session import train_generator
from condense.machine import best_device
from condense.methods._assemble import assemble, check_ipc
from condense.methods._select import Choice, Features, choose
from condense.options import Options
from condense.run import JSON, Run, peak_memory_bytes

MAX_ROUNDS = 4


class DrawOptions(Options):
    """How images are drawn from a trained generator and chosen."""

    pool: float = Field(5.0, ge=1, description="samples drawn a class, as a multiple of ipc")
    sampler_steps: int = Field(18, ge=2, description="steps N of Heun's sampler (2N-1 evaluations)")
    guidance: float = Field(0.0, ge=0, description="strength of class guidance; 0 is plain conditional sampling")
    agree: bool = Field(True, description="drop samples that the generator's classifier gives to another class")
    choose: Choice = Field("kmeans", description="none, surest, kmeans or herding among the samples left")
    features: Literal["pixels", "network"] = Field(
        "network", description="space of kmeans and herding: pixels, or a random ConvNet-3's outputs"
    )


class GeneratorOptions(Options):
    """Options of a generator-based method."""

    QUICK: ClassVar[Mapping[str, Any]] = {"train": {"steps": 40}, "draw": {"pool": 2, "sampler_steps": 6}}

    generator: Path | None = Field(None, description="run folder of a trained generator; trained when empty")
    network: NetworkOptions = NetworkOptions()
    train: TrainOptions = TrainOptions()
    draw: DrawOptions = DrawOptions()

    def train_options(self, objective: Literal["dmis", "vanilla"]) -> TrainOptions:
        """`train` with the method's own objective: the method decides it, not the recipe."""
        return self.train.model_copy(update={"objective": objective})


def condense_with_generator(
    train: TrainingSet,
    ipc: int,
    options: GeneratorOptions,
    seed: int,
    run: Run,
    method: Literal["dmis", "vanilla"],
) -> CondensedSet:
    """Train or load the generator, then draw and choose.

    Raises:
        UserError: the generator was made for other classes or image sizes, or with another objective.
    """
    check_ipc(ipc)
    if options.generator is None:
        generator = train_generator(train, options.network, options.train_options(method), seed, run)
    else:
        generator = _reused(options.generator, method)
    generator.check_data(train.images)
    before, started = generator.denoiser.evaluations, time.perf_counter()
    images, notes = draw_and_choose(generator, ipc, options.draw, seed, run)
    return assemble(
        train,
        images,
        ipc,
        method=method,
        options=options,
        seed=seed,
        cost=_cost(generator, generator.denoiser.evaluations - before, time.perf_counter() - started),
        notes={**notes, "generator": dict(generator.meta)},
    )


def _reused(folder: Path, method: str) -> Generator:
    if not folder.is_dir():
        raise UserError(f"There is no run folder {folder}; give the folder of a `dmis train`.")
    generator = Generator.load(Run(folder), best_device())
    if generator.meta["objective"] != method:
        raise UserError(
            f"The generator in {folder} was trained with objective {generator.meta['objective']!r}, "
            f"the method is {method!r}; use the method of that name or train another generator."
        )
    return generator


def _cost(generator: Generator, drawn: int, seconds: float) -> Cost:
    """What drawing took plus the generator's training, also when that was reused or done in several sittings."""
    training = cast(Mapping[str, float], generator.meta)
    return Cost(
        seconds=training["seconds"] + seconds,
        network_evaluations=int(training["evaluations"]) + drawn,
        peak_memory_bytes=max(peak_memory_bytes(), int(training["peak_memory_bytes"])),
        images_seen=int(training["images_seen"]),
    )


def draw_and_choose(
    generator: Generator, ipc: int, options: DrawOptions, seed: int, run: Run
) -> tuple[Images, dict[str, JSON]]:
    """`ipc` images a class: uint8 [c * ipc, H, W, C] in class-major order, and notes for the record.

    Classes whose pool has fewer than `ipc` agreeing samples are drawn again, up to three times; if that does not
    suffice the surest disowned samples fill the gap (their number is noted).
    """
    num_classes = len(generator.classes)
    size = max(ipc, round(options.pool * ipc))
    pools: list[Images] = [np.empty((0, *generator.image_shape[1:], generator.image_shape[0]), np.uint8)] * num_classes
    sureness = [np.empty((0, num_classes), np.float32)] * num_classes
    needed = list(range(num_classes))
    with run.track(num_classes, "sampling") as tracker:
        for attempt in range(MAX_ROUNDS):
            for y in needed:
                labels: Labels = np.full(size, y, dtype=np.int64)
                drawn = generator.sample(
                    labels,
                    rng.derive(seed, "pool", y, attempt),
                    num_steps=options.sampler_steps,
                    guidance=options.guidance,
                )
                pools[y] = np.concatenate([pools[y], drawn])
                sureness[y] = np.concatenate([sureness[y], generator.posterior(drawn)])
                tracker.update(y + 1)
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
    features = embed(pool[kept], options.features, seed)
    return kept[choose(features, belief[kept, y], ipc, options.choose, seed)]


def embed(images: Images, space: str, seed: int) -> Features:
    """Features [m, F] of uint8 images: flattened pixels, or outputs of a randomly initialised ConvNet-3.

    Random ConvNets are the feature space of distribution matching (Zhao & Bilen 2023,
    https://arxiv.org/abs/2110.04181); they need no labels, so nothing imprecise can enter.
    """
    pixels = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    if space == "pixels":
        return pixels
    from condense.classifiers import networks

    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    network = networks.build(
        "convnet3",
        in_channels=x.shape[1],
        image_size=x.shape[2],
        num_classes=2,
        seed=rng.derive(seed, "features"),
    )
    with torch.no_grad():
        return np.asarray(network.features((x - x.mean()) / x.std().clamp_min(1e-6)).numpy(), dtype=np.float32)
