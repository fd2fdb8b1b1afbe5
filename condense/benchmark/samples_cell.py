"""The cell of a benchmark that draws images from a generator and measures them against real ones.

cells/NAME/  recipe.json  samples.h5  metrics.json  log.txt  (error.json if it failed)
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import numpy as np

from condense import rng
from condense.benchmark.grid import GENERATION, Cell
from condense.benchmark.grid_recipe import GenerationRecipe
from condense.benchmark.shared import now, read_json, shared_generator, write_json
from condense.data import sources
from condense.data.types import Images, Labels
from condense.errors import UserError
from condense.evaluate.features import metric_name
from condense.evaluate.judge import known_labels
from condense.evaluate.quality import quality, split_real
from condense.evaluate.results import Measured, Result
from condense.json_values import JSON, maybe, number, sections, text
from condense.methods._generate import GeneratorOptions, training_cost
from condense.pipeline.data import LoadedData
from condense.pipeline.feature_space import embedded, feature_space
from condense.pipeline.generate import Wanted, generate
from condense.pipeline.plan import Plan, Request, make_plan
from condense.recipe import parse
from condense.run import Run

SAMPLES, METRICS = "samples.h5", "metrics.json"


def run_samples_cell(out: Path, cell: Cell) -> None:
    """Train the generator unless it exists, draw samples, and measure them.

    Raises:
        UserError: the recipe or the data cannot be used, see `shared_generator` and `measure`.
        RunFailed: a training diverged.
        Interrupted: stopped by Ctrl-C; the state is saved.
    """
    folder, plan = cell.folder(out), make_plan(Request(named=cell.planned))
    options = parse(GenerationRecipe, cell.recipe[GENERATION], "benchmark's section generation")
    print(f"{now()} training the generator, unless it exists")
    generator, generator_folder = shared_generator(out, cell, plan)
    print(f"{now()} drawing samples")
    images, labels = _drawn(folder / SAMPLES, generator_folder, plan, options)
    print(f"{now()} measuring samples")
    started = time.perf_counter()
    recipe, train = plan.recipe, plan.train
    given = LoadedData(plan.source, train.corruption, recipe.data, recipe.noise_seed, len(train))
    told = measure(images, labels, given, options, recipe.seed)
    trained = training_cost(generator.record).seconds
    write_json(folder / METRICS, {**told, "training_seconds": trained, "seconds": time.perf_counter() - started})


def read_samples_cell(folder: Path, result: Result) -> Result:
    """`result` with the metrics from a cell's folder; unchanged if there are none."""
    told = read_json(folder / METRICS)
    try:
        if told is None:
            return result
        measured = tuple(
            Measured(text(entry, "metric"), text(entry, "name"), maybe(number, entry, "value"))
            for entry in sections(told, "metrics")
        )
        return dataclasses.replace(
            result,
            status="done",
            network=text(told, "space"),
            measured=measured,
            seconds=number(told, "training_seconds"),
        )
    except (KeyError, TypeError, OverflowError):
        return result


def first_samples(folder: Path, per_class: int) -> tuple[Images, tuple[str, ...]] | None:
    """Up to `per_class` samples of each class, uint8 [c·k, H, W, C] class-major, and class names; None if absent."""
    try:
        source = sources.load(str(folder / SAMPLES))
    except UserError:
        return None
    labels = source.supervision.observed
    each = [np.flatnonzero(labels == y)[:per_class] for y in range(source.train.num_classes)]
    return source.train.images[np.concatenate(each)], source.train.classes


def measure(images: Images, labels: Labels, given: LoadedData, options: GenerationRecipe, seed: int) -> dict[str, JSON]:
    """All generation metrics of drawn images against real training images.

    Args:
        images: uint8 [m, H, W, C].
        labels: class of each drawn image, int64 [m].
        given: the training data; the true labels if known, else the given ones, are the classes of the real images.
        options: feature space, and number of real images.
        seed: seed of the choice of real images, and of the classifier of the space convnet.

    Returns:
        space, network (its description), labels (which labels of the real images were used), samples and real (numbers
        of images), and metrics: the metric, name and value of each.

    Raises:
        UserError: packages, weights or labels are missing, or a class has too few real images.
        RunFailed: the classifier's training diverged.
    """
    run, train = Run(None), given.source.train
    space = feature_space(given, options.space, options.weights, steps=options.steps, seed=seed, run=run)
    known, whose = known_labels(given.source.supervision, given.source.truth)
    chosen, _ = split_real(known, train.num_classes, 0, options.real, seed)
    real = embedded(space, train.images[chosen], known[chosen], run)
    found = embedded(space, images, labels, run)
    values = quality(real, found, train.classes, ks=options.ks, device=space.device)
    return {
        "space": space.name,
        "network": space.description,
        "labels": whose,
        "samples": len(found),
        "real": len(real),
        "metrics": [
            dataclasses.asdict(Measured(metric, metric_name(metric, space, len(found), len(real)), value))
            for metric, value in values.items()
        ],
    }


def _drawn(path: Path, generator_folder: Path, plan: Plan, options: GenerationRecipe) -> tuple[Images, Labels]:
    """Samples of a generator; those of an earlier attempt if they are undamaged."""
    draw = plan.options.draw if isinstance(plan.options, GeneratorOptions) else None
    assert draw is not None
    wanted = Wanted(
        math.ceil(options.samples / plan.train.images.num_classes),
        steps=draw.sampler_steps,
        guidance=draw.guidance,
        seed=rng.derive(plan.recipe.seed, "samples"),
    )
    if path.exists():
        try:
            return _read(path)
        except UserError as error:
            print(f"{now()} {error}")
            path.unlink()
    generate(generator_folder, wanted, path, resume=True)
    return _read(path)


def _read(path: Path) -> tuple[Images, Labels]:
    source = sources.load(str(path))
    return source.train.images, source.supervision.observed
