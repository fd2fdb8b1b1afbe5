"""The stages of a plan, in order, for the progress bars and for the timing of `--dry-run`.

A stage has the name of its progress bar. Its work is counted in operations of forward passes; an image used for
training counts as three passes. The numbers of images passed through networks are those of `cost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

from condense.classifiers import cross, networks
from condense.classifiers.cross import FoldOptions
from condense.classifiers.whitened import Whitened
from condense.evaluate.protocols import Protocol
from condense.generator.denoiser import Denoiser
from condense.generator.labels import labeller, noisy_classifier, volminnet
from condense.generator.labels.auxiliary import num_steps
from condense.generator.labels.fold_networks import NAME, divided
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.one_classifier import OneClassifier
from condense.generator.model import Generator, build_denoiser
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.prerequisites import (
    asks_labeller,
    finds_volume,
    foreseen_evaluations,
    foreseen_images,
    opinion_views,
)
from condense.generator.training.two_stage import BELIEFS
from condense.methods import _refine
from condense.methods._generate import GeneratorOptions, drawn_per_class
from condense.pipeline.clean_first import fold_evaluations, foreseen, labeller_seed
from condense.pipeline.cost import (
    asks_beliefs,
    belief_evaluations,
    drawing_evaluations,
    second_stage_asks,
    training_evaluations,
)
from condense.pipeline.plan import Plan
from condense.run import Run
from condense.watch import Stage


@dataclass(frozen=True)
class Narrowed:
    """A classifier by its name, its layers of another width than its own."""

    name: str
    width: int


Passed: TypeAlias = NetworkOptions | LabellerOptions | Narrowed | str
LEARNT = 3  # cost of a forward and a backward pass, in forward passes
CLASSIFIER = "convnet3"  # assumed for a method that names no network


@dataclass(frozen=True)
class Part:
    """A stage of a plan.

    Attributes:
        name: name of its bar.
        network: the network the images pass through: a generator's, a labeller's, or a classifier, by name.
        images: number of images passed through it.
        learns: whether it is trained on them.
        steps: optimiser steps of a generator; 0 for anything else.
        options: training options of a generator; None for anything else.
        believed: whether the generator's labels are drawn from known beliefs, as in a second stage.
        by_method: whether it belongs to a method without a generator.
    """

    name: str
    network: Passed
    images: int
    learns: bool = False
    steps: int = 0
    options: TrainOptions | None = None
    believed: bool = False
    by_method: bool = False


def stages(plan: Plan, parts: Sequence[Part]) -> list[Stage]:
    """`parts` as stages for the progress bars, each with its work."""
    shape, num_classes = plan.train.images.image_shape, plan.train.images.num_classes
    return [
        Stage(part.name, part.images * (LEARNT if part.learns else 1) * operations(part.network, shape, num_classes))
        for part in parts
        if part.images
    ]


def condensing(plan: Plan) -> list[Part]:
    """The parts of `dmis condense`."""
    parts = []
    if isinstance(plan.labeller, FoldOptions):
        parts += _judging(plan.labeller, fold_evaluations(plan.labeller, len(plan.train)))
    elif isinstance(plan.labeller, LabellerOptions):
        parts += _labelling_by_classifiers(plan, plan.labeller)
    elif isinstance(plan.labeller, GeneratorOptions):
        parts += relabelling(plan, plan.labeller, seed=labeller_seed(plan.recipe.seed))
    if isinstance(plan.options, GeneratorOptions):
        return parts + generating(plan, plan.options)
    teacher = getattr(plan.options, "teacher", None)
    network = getattr(plan.options, "backbone", None) or getattr(teacher, "network", None) or CLASSIFIER
    return parts + [Part(name, network, images, learns=True, by_method=True) for name, images in _told_by_method(plan)]


def _told_by_method(plan: Plan) -> Sequence[tuple[str, int]]:
    """Progress bars of a method without a generator, with the images passed through networks; empty if unknown."""
    for name in ("stages", "evaluations"):
        if foretell := getattr(plan.method, name, None):
            told = foretell(foreseen(plan), plan.recipe.ipc, plan.options)
            return [("learning images", told)] if isinstance(told, int) else list(told)
    return []


def training(plan: Plan, options: GeneratorOptions) -> list[Part]:
    """The parts of `dmis train`, including a second stage."""
    parts = _first_network(plan, options, plan.recipe.seed)
    if options.second_stage is not None:
        if second_stage_asks(options, plan):
            parts += _labelling(plan, options)
        second = options.second_stage
        train = second.train.model_copy(update={"objective": options.train.objective})
        images = train.steps * train.batch_size
        parts.append(Part(options.train.objective, second.network, images, True, train.steps, train, believed=True))
    return parts


def generating(plan: Plan, options: GeneratorOptions) -> list[Part]:
    """The parts of a method with a generator: training it if none is given, drawing from it."""
    return [*(training(plan, options) if options.generator is None else []), *drawing(plan, options)]


def drawing(plan: Plan, options: GeneratorOptions) -> list[Part]:
    """The parts of drawing from a generator, trained or given."""
    second = options.second_stage
    if options.generator is None:
        judge, drawer = options.network, options.network if second is None else second.network
        known = second is not None and second_stage_asks(options, plan)
    else:
        generator = Generator.load(Run(options.generator))
        judge, drawer = generator.network, (generator.second or generator).network
        known = (options.generator / f"{BELIEFS}.safetensors").exists()
    asked = asks_beliefs(options, plan) and not known and options.train.objective != "vanilla"
    pictures = drawn_per_class(plan.recipe.ipc, options)
    images = drawing_evaluations(judge, drawer, options.draw, pictures, plan.train.images.num_classes)
    parts = [*(_labelling(plan, options) if asked else []), Part("sampling", drawer, images)]
    if options.refine is not None:
        for name, width, seen in _refine.parts(plan.train, plan.recipe.ipc, options.refine):
            network = name if width is None else Narrowed(name, width)
            parts.append(Part("learning images", network, seen, learns=True))
    return parts


def relabelling(plan: Plan, options: GeneratorOptions, *, seed: int | None = None) -> list[Part]:
    """The parts of `dmis relabel`: training one network if none is given, or a labeller's, then judging every label."""
    if isinstance(plan.labeller, LabellerOptions):
        return _labelling_by_classifiers(plan, plan.labeller)
    parts = (
        _first_network(plan, options, plan.recipe.seed if seed is None else seed) if options.generator is None else []
    )
    return [*parts, *_labelling(plan, options)]


def _judging(options: FoldOptions, images: int) -> list[Part]:
    """The parts of out-of-fold classifiers through which so many images pass, one for each fold."""
    ends = [images * done // options.folds for done in range(options.folds + 1)]
    return [Part(cross.BAR, options.network, end - start, learns=True) for start, end in pairwise(ends)]


def _labelling_by_classifiers(plan: Plan, options: LabellerOptions) -> list[Part]:
    """The parts of a labeller: training a network and judging its fold, for every fold of every round."""
    return [
        part
        for learned, looks in labeller.foreseen_by_fold(plan.train, options)
        for part in (Part(NAME, options, learned, learns=True), Part("labelling", options, looks))
    ]


def scoring(rules: Protocol, network: str, images: int, repeats: int) -> Part:
    """Training and testing networks on a set of `images` images."""
    return Part(network, network, repeats * rules.epochs * images, learns=True)


def _first_network(plan: Plan, options: GeneratorOptions, seed: int) -> list[Part]:
    """The parts an objective needs beforehand, and training the network of the first stage."""
    train, data = options.train, plan.train
    own = training_evaluations(options.network, train, data, seed) - foreseen_evaluations(data, train)
    helped = train.helper.batch_size * num_steps(train)
    parts = []
    if train.objective == "cad":
        parts += _judging(train.coherence, foreseen_images(data, train))
    if asks_labeller(data, train):
        parts += _labelling_by_classifiers(plan, train.labeller)
    elif finds_volume(data, train):
        parts.append(Part(volminnet.NAME, volminnet.CLASSIFIER, helped, learns=True))
    if train.objective == "tdsm":
        parts.append(Part(noisy_classifier.NAME, options.network, helped, learns=True))
    return [*parts, Part(train.objective, options.network, own, True, train.steps, train)]


def _labelling(plan: Plan, options: GeneratorOptions) -> list[Part]:
    """The parts of judging every label: by the generator with VolMinNet's classifier, and by a labeller's networks."""
    train, folds, views = options.train, 0, opinion_views(plan.train, options.train)
    if options.generator is not None:
        opinion = Generator.load(Run(options.generator)).opinion if train.second_opinion else None
        views = 0 if opinion is None else opinion.judge.num_views
        folds = 0 if opinion is None or isinstance(opinion.judge, OneClassifier) else len(opinion.judge.networks)
    elif views and asks_labeller(plan.train, train):
        folds = labeller.num_folds(plan.train, train.labeller)
    judged = belief_evaluations(options.network, plan.train, train.objective, 0 if folds else views)
    inside = [len(fold.inside) for fold in divided(plan.train, folds, 0)] if folds else []
    return [
        Part("labelling", options.network, judged),
        *(Part("labelling", train.labeller, count * views) for count in inside),
    ]


@cache
def operations(network: Passed, shape: tuple[int, int, int], num_classes: int) -> float:
    """10^9 operations of one image's forward pass: 2 per use of a weight.

    Args:
        network: options of a generator's or labeller's network, or a classifier, by name.
        shape: shape of the image, (C, H, W).
        num_classes: number of classes, all of which an `all-class` network outputs at once.
    """
    counted = 0

    def count(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        places = out[0].numel() // layer.weight.shape[0]
        counted += 2 * layer.weight.numel() * places

    x, model = torch.zeros(1, *shape), built(network, shape, num_classes)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        if isinstance(model, Denoiser):
            model.one_class(x, torch.ones(1), torch.zeros(1, dtype=torch.int64))
        else:
            model(x)
    return counted / 1e9


def built(network: Passed, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """An untrained network for images of `shape` (C, H, W), in eval mode."""
    if isinstance(network, LabellerOptions):
        return Whitened(shape[0], shape[1], num_classes, network.width).eval()
    if isinstance(network, NetworkOptions):
        return build_denoiser(network, shape, num_classes, 0).eval()
    name, width = (network.name, network.width) if isinstance(network, Narrowed) else (network, None)
    return networks.build(
        name, in_channels=shape[0], image_size=shape[1], num_classes=num_classes, seed=0, width=width
    ).eval()
