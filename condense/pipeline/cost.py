"""The cost of a plan before it runs: images passed through networks, counted as in a set's cost."""

from __future__ import annotations

import math

import torch

from condense.classifiers.cross import FoldOptions
from condense.data.splits import held_out
from condense.data.types import TrainingSet
from condense.generator.labels import labeller
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.one_classifier import counted_labels
from condense.generator.model import DEFAULT_SCHEDULE, Generator, build_denoiser
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.prerequisites import finds_volume, foreseen_evaluations, opinion_views
from condense.generator.training.schedules import cold_steps
from condense.generator.training.two_stage import BELIEFS, BELIEVE_LABELS
from condense.json_values import JSON
from condense.methods import _refine
from condense.methods._generate import DrawOptions, GeneratorOptions, drawn_per_class, pool_size
from condense.pipeline.clean_first import fold_evaluations, foreseen, labeller_seed
from condense.pipeline.plan import Plan
from condense.run import Run

CLASSIFIER_PASSES = 2 * len(DEFAULT_SCHEDULE.sigmas)  # one antithetic pair per noise level


def describe(plan: Plan, *, draws: bool) -> dict[str, JSON]:
    """The resolved recipe, image shape, number of parameters and network evaluations of a plan.

    Args:
        plan: the plan.
        draws: whether images are finally drawn from the generator (`condense`) or not (`train`).

    Returns:
        recipe, image_shape [H, W, C], images, classes, parameters (of generators, None without one) and
        network_evaluations (None for a method that does not predict them). Not predicted: redrawing classes whose
        first pool has too few agreeing samples, and evaluations that `train.eliminate` saves, or a second opinion
        that alone counts.
    """
    parameters: int | None = None
    costs: list[int | None] = []
    for options in (plan.labeller, plan.options):
        if isinstance(options, GeneratorOptions):
            networks, cost = _generator(options, plan, draws=draws and options is plan.options)
            coherent = options.train.objective == "cad"
            parameters = sum(num_parameters(network, plan.train, coherent=coherent) for network in networks)
            costs.append(cost)
        elif isinstance(options, LabellerOptions):
            costs.append(labeller.foreseen(plan.train, options))
        elif isinstance(options, FoldOptions):
            costs.append(fold_evaluations(options, len(plan.train)))
        elif options is plan.options:
            costs.append(_foretold(plan))
    known = [cost for cost in costs if cost is not None]
    return _told(plan, parameters, sum(known) if len(known) == len(costs) else None)


def describe_relabelling(plan: Plan, options: GeneratorOptions) -> dict[str, JSON]:
    """As `describe`, for `dmis relabel`: a labeller, or a generator, trained if none is given, judges every image."""
    if isinstance(plan.labeller, LabellerOptions):
        return _told(plan, None, labeller.foreseen(plan.train, plan.labeller))
    network, cost = options.network, 0
    if options.generator is not None:
        generator = Generator.load(Run(options.generator))
        network, views = generator.network, _views(generator) if options.train.second_opinion else 0
    else:
        cost = training_evaluations(network, options.train, plan.train, plan.recipe.seed)
        views = opinion_views(plan.train, options.train)
    cost += belief_evaluations(network, plan.train, "dmis", views)
    return _told(plan, num_parameters(network, plan.train), cost)


def describe_without_networks(plan: Plan) -> dict[str, JSON]:
    """As `describe`, for relabelling without a network; it takes seconds, which are not predicted."""
    return {**_told(plan, None, 0), "minutes": None, "minutes_by_stage": {}, "memory_gib": None}


def _foretold(plan: Plan) -> int | None:
    """The method's own prediction; None if it gives none."""
    foretell = getattr(plan.method, "evaluations", None)
    return None if foretell is None else int(foretell(foreseen(plan), plan.recipe.ipc, plan.options))


def _told(plan: Plan, parameters: int | None, evaluations: int | None) -> dict[str, JSON]:
    return {
        "recipe": plan.written(),
        "image_shape": list(plan.train.images.images.shape[1:]),
        "images": len(plan.train),
        "classes": plan.train.images.num_classes,
        "parameters": parameters,
        "network_evaluations": evaluations,
    }


def num_parameters(network: NetworkOptions, train: TrainingSet, *, coherent: bool = False) -> int:
    """Number of weights of the denoiser for these images; `coherent` as in `build_denoiser`."""
    with torch.device("meta"):
        denoiser = build_denoiser(network, train.images.image_shape, train.images.num_classes, 0, coherent=coherent)
    return sum(weight.numel() for weight in denoiser.parameters())


def training_evaluations(network: NetworkOptions, options: TrainOptions, train: TrainingSet, seed: int) -> int:
    """Images passed through all networks in a whole training: prerequisites, all steps, final fitting."""
    passes = _passes(network, train.images.num_classes)
    _, held = held_out(train.supervision, options.held_out, seed)
    cold = cold_steps(options)
    steps = options.batch_size * (
        cold * _loss_passes(network, options, passes, cold=True)
        + (options.steps - cold) * _loss_passes(network, options, passes, cold=False)
    )
    refreshed = math.ceil(options.refresh_share * options.batch_size) * 2 * len(options.posterior_sigmas)
    refreshing = options.steps - (cold if train.supervision.trusted.all() else 0)
    refreshes = refreshing * refreshed * passes if options.objective == "dmis" else 0
    looks = 1 + (math.ceil(options.steps / options.select_every) if options.select == "best" else 0)
    opinion = opinion_views(train, options) if finds_volume(train, options) else 0
    settling = opinion * (len(counted_labels(train)) + len(held))
    passed = steps + refreshes + looks * len(held) * CLASSIFIER_PASSES * passes
    return foreseen_evaluations(train, options) + passed + settling


def belief_evaluations(network: NetworkOptions, train: TrainingSet, objective: str, views: int) -> int:
    """Images passed through networks to compute the beliefs about all labels, see `suggest`.

    `views`: views per image of the second opinion, 0 without one.
    """
    if objective == "vanilla":
        return 0
    if objective == "tdsm":  # its classifier makes one pass
        return len(train)
    return len(train) * (CLASSIFIER_PASSES * _passes(network, train.images.num_classes) + views)


def drawing_evaluations(
    judge: NetworkOptions, drawer: NetworkOptions, draw: DrawOptions, ipc: int, num_classes: int
) -> int:
    """Images passed through the networks to draw every class's pool once and to classify it."""
    sampling = (2 * draw.sampler_steps - 1) * (_passes(drawer, num_classes) if draw.guidance else 1)
    return num_classes * pool_size(ipc, draw) * (sampling + CLASSIFIER_PASSES * _passes(judge, num_classes))


def _generator(options: GeneratorOptions, plan: Plan, *, draws: bool) -> tuple[list[NetworkOptions], int]:
    """The networks of one of the plan's generators and its cost; a trained one is only drawn from."""
    seed = labeller_seed(plan.recipe.seed) if options is plan.labeller else plan.recipe.seed
    num_classes, known = plan.train.images.num_classes, False
    if options.generator is None:
        networks, views = [options.network], opinion_views(plan.train, options.train)
        cost = training_evaluations(options.network, options.train, plan.train, seed)
        if options.second_stage is not None and options is not plan.labeller:
            second = options.second_stage
            networks.append(second.network)
            cost += second.train.steps * second.train.batch_size
            if second_stage_asks(options, plan):
                cost += belief_evaluations(options.network, plan.train, options.train.objective, views)
                known = True
    else:
        generator, cost = Generator.load(Run(options.generator)), 0
        views = _views(generator)
        networks = [generator.network] + ([generator.second.network] if generator.second else [])
        known = (options.generator / f"{BELIEFS}.safetensors").exists()
    if options is plan.labeller:
        cost += belief_evaluations(networks[0], plan.train, options.train.objective, views)
    if draws:
        if asks_beliefs(options, plan) and not known:
            cost += belief_evaluations(networks[0], plan.train, options.train.objective, views)
        pictures = drawn_per_class(plan.recipe.ipc, options)
        cost += drawing_evaluations(networks[0], networks[-1], options.draw, pictures, num_classes)
        if options.refine is not None:
            cost += sum(seen for _, _, seen in _refine.parts(plan.train, plan.recipe.ipc, options.refine))
    return networks, cost


def second_stage_asks(options: GeneratorOptions, plan: Plan) -> bool:
    """Whether a second stage is trained on beliefs that the first one computes: unless labels or given ones do."""
    return options.train.objective not in BELIEVE_LABELS and not plan.beliefs_are_given


def asks_beliefs(options: GeneratorOptions, plan: Plan) -> bool:
    """Whether the generator computes beliefs about every image before or after drawing: unless they are given."""
    return not plan.beliefs_are_given and (options.draw.prototype_sigma is not None or options.refine is not None)


def _views(generator: Generator) -> int:
    if generator.opinion is None:
        return 0
    return generator.opinion.judge.num_views


def _passes(network: NetworkOptions, num_classes: int) -> int:
    """Evaluations per image for the denoised images of all classes."""
    return 1 if network.kind == "all-class" else num_classes


def _loss_passes(network: NetworkOptions, options: TrainOptions, passes: int, *, cold: bool) -> int:
    """Evaluations per image for the loss of one step, see `condense.generator.training.batch_loss`."""
    drawn = options.objective == "dmis" and options.form == "sampled" and options.classification_weight == 0
    if drawn or options.objective in ("vanilla", "cad"):
        return 1
    top_k = options.top_k if passes > 1 else None
    if options.objective == "tdsm":
        return (passes if top_k is None else min(top_k, passes)) + 1  # the classifier's own pass
    mixture = options.form == "mixture" and not cold
    loss = passes if top_k is None else passes + min(top_k, passes)
    return loss + (2 * passes if mixture else 0)  # p(y | x_t) takes a pair of noises
