"""`dmis demo`: digits with 40 % wrong labels, condensed by three methods and compared, in one report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condense.classifiers.confident_learning import confusion
from condense.data.types import Images, Labels, Mask
from condense.errors import Interrupted, UserError
from condense.evaluate.protocols import protocol
from condense.evaluate.report import DemoReport, write_demo_report
from condense.evaluate.score import FreshNetworks, Score
from condense.generator.model import Generator
from condense.generator.training.two_stage import train_stages
from condense.grid import grid, save_png
from condense.json_values import JSON, number
from condense.methods._generate import GeneratorOptions
from condense.pipeline.label_scores import recovered_labels, test_accuracy
from condense.pipeline.make import make_set
from condense.pipeline.plan import GENERATOR_SECTIONS, Plan, Request, make_plan
from condense.pipeline.run_folder import open_run
from condense.pipeline.score import score_set, test_split
from condense.pipeline.stages import Part, drawing, scoring, stages, training
from condense.pipeline.timing import foretold
from condense.recipe import merge, parse_overrides
from condense.run import Run, prepare_folder
from condense.sets.condensed_set import CondensedSet
from condense.sets.hdf5 import write
from condense.watch import expected

TRAINED = ("vanilla", "dmis")
METHODS = ("random", *TRAINED)
REPORT, GENERATORS = "report.html", "generators"
RECIPE: Mapping[str, Any] = {
    "data": {"name": "digits", "noise": "sym:0.4"},
    "evaluate": {"protocol": "hard-quick", "network": "convnet3", "repeats": 3},
}
MOST_SHOWN = 12  # real images per class in the report
PICTURE_SCALE = 6


@dataclass(frozen=True)
class MeanAccuracy:
    """Test accuracy in percent: mean, and half width of the 95 % interval, None for one network."""

    mean: float
    ci95: float | None


@dataclass(frozen=True)
class DemoResult:
    """What a demo found; shares in percent.

    Attributes:
        classifier_accuracy: on test images, of each generator.
        labels_recovered: share of the training labels that are right after recovery.
        condensed_accuracy: of networks trained on the set of each method.
        seconds: time taken.
    """

    classifier_accuracy: Mapping[str, float]
    labels_recovered: float
    condensed_accuracy: Mapping[str, MeanAccuracy]
    seconds: float

    def to_json(self) -> dict[str, JSON]:
        """The same as a JSON object."""
        return dataclasses.asdict(self)


def demo(
    out: Path,
    *,
    seed: int = 0,
    ipc: int = 10,
    settings: Sequence[str] = (),
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
) -> DemoResult:
    """Train a vanilla and a DMIS generator, condense by random, vanilla and dmis, score, write the report.

    Args:
        out: folder for report.html, the sets, their grids and the generators.
        seed: random seed.
        ipc: images per class.
        settings: overrides `a.b=c` of the recipe, e.g. train.steps=100.
        resume: whether to continue a demo stopped in `out`; finished generators are not trained again.
        force: whether an earlier demo in `out` is replaced.
        progress: whether bars are drawn on stderr.

    Raises:
        UserError: `out` is in use, or a setting cannot be used or differs from that of the resumed demo.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C; what was trained so far is kept.
    """
    if not resume and not force and (out / GENERATORS).is_dir() and not (out / REPORT).exists():
        raise UserError(
            f"{out} holds a demo that was stopped; give --resume to continue it, --force to start over, or choose "
            "another name."
        )
    prepare_folder(out, force=force or resume)
    try:
        return _shown(out, seed, ipc, settings, resume=resume, progress=progress)
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped; the generators trained so far are kept in {out}: continue with --resume."
        ) from None


def _shown(out: Path, seed: int, ipc: int, settings: Sequence[str], *, resume: bool, progress: bool) -> DemoResult:
    started = time.perf_counter()
    plans = {method: _plan(method, seed, ipc, settings) for method in METHODS}
    with expected(stages(plans["dmis"], parts_of(plans)) if progress else []):
        generators = {method: _trained(plans[method], out, resume=resume, progress=progress) for method in TRAINED}
        made = {method: _condensed(plans[method], out, progress=progress) for method in METHODS}
        scores = _scores(plans["dmis"], made, progress=progress)
    truth = plans["dmis"].source.truth
    assert truth is not None
    found = recovered_labels(generators["dmis"], plans["dmis"].train, seed)
    tested = {method: test_accuracy(generator, plans[method]) for method, generator in generators.items()}
    result = DemoResult(
        {method: accuracy for method, accuracy in tested.items() if accuracy is not None},
        100 * float((found == truth.labels).mean()),
        {method: MeanAccuracy(score.mean, score.ci95) for method, score in scores.items()},
        time.perf_counter() - started,
    )
    write_demo_report(out / REPORT, _report(plans["dmis"], made, found, result, settings))
    return result


def _plan(method: str, seed: int, ipc: int, settings: Sequence[str]) -> Plan:
    asked = parse_overrides(settings)
    if method not in TRAINED:
        asked = {key: value for key, value in asked.items() if key not in GENERATOR_SECTIONS}
    return make_plan(Request(named=merge(RECIPE, {"method": method, "seed": seed, "ipc": ipc}, asked)))


def parts_of(plans: Mapping[str, Plan]) -> list[Part]:
    """The parts of a demo, in order."""
    found: list[Part] = []
    for parts in (training, drawing):
        for plan in (plans[method] for method in TRAINED):
            assert isinstance(plan.options, GeneratorOptions)
            found += parts(plan, plan.options)
    wanted, plan = plans["dmis"].recipe.evaluate, plans["dmis"]
    rules = protocol(wanted.protocol)
    network, images = wanted.network or rules.network, plan.recipe.ipc * plan.train.images.num_classes
    return found + [scoring(rules, network, images, wanted.repeats)] * len(METHODS)


def minutes_here() -> float:
    """Estimated minutes of `demo` with its defaults on this machine, from a short timing."""
    plans = {method: _plan(method, 0, 10, ()) for method in METHODS}
    return number(foretold(plans["dmis"], parts_of(plans)), "minutes")


def _folder(out: Path, method: str) -> Path:
    return out / GENERATORS / method


def _trained(plan: Plan, out: Path, *, resume: bool, progress: bool) -> Generator:
    assert isinstance(plan.options, GeneratorOptions)
    options, folder = plan.options, _folder(out, plan.recipe.method)
    with open_run(folder, plan, resume=resume, force=True, progress=progress) as run:
        return train_stages(plan.train, options.network, options.train, options.second_stage, plan.recipe.seed, run)


def _condensed(plan: Plan, out: Path, *, progress: bool) -> CondensedSet:
    """The set of one method, written with its grid."""
    method = plan.recipe.method
    if isinstance(plan.options, GeneratorOptions):
        reused = plan.options.model_copy(update={"generator": _folder(out, method)})
        plan = dataclasses.replace(plan, options=reused)
    made = make_set(plan, Run(None, progress=progress))
    write(out / f"{method}.h5", made, force=True)
    save_png(out / f"{method}.png", grid(made.pictures(), made.ipc, scale=PICTURE_SCALE))
    return made


def _scores(plan: Plan, made: Mapping[str, CondensedSet], *, progress: bool) -> dict[str, Score]:
    wanted = plan.recipe.evaluate
    test, truth = test_split(made["dmis"], plan.recipe.data)
    run = Run(None, progress=progress)
    rules = protocol(wanted.protocol)
    fresh = FreshNetworks(wanted.network, wanted.repeats, plan.recipe.seed)
    return {method: score_set(condensed, test, truth, rules, fresh, run) for method, condensed in made.items()}


def _report(
    plan: Plan,
    made: Mapping[str, CondensedSet],
    found: Labels,
    result: DemoResult,
    settings: Sequence[str],
) -> DemoReport:
    truth, recipe = plan.source.truth, plan.recipe
    assert truth is not None
    given, num_classes = plan.train.supervision.observed, plan.train.images.num_classes
    real, wrong = _real_rows(plan.train.images.images, given, truth.labels, num_classes)
    assert isinstance(plan.options, GeneratorOptions)
    extra = "".join(f" --set {setting}" for setting in settings)
    common = f"--noise {recipe.data.noise} --seed {recipe.seed} --ipc {recipe.ipc}{extra}"
    return DemoReport(
        title=f"Condensing {plan.source.train.name} with wrong labels",
        settings=[
            ("data", f"{plan.source.train.name}, {len(plan.train)} training images"),
            ("label noise", f"{recipe.data.noise}, seed {recipe.noise_seed}"),
            ("generator", f"{plan.options.train.steps} steps of {plan.options.train.batch_size} images"),
            ("generators draw from", _start(plan.options.draw.prototype_sigma)),
            ("images per class", str(recipe.ipc)),
            (
                "judged by",
                f"{recipe.evaluate.repeats} x {recipe.evaluate.network}, protocol {recipe.evaluate.protocol}",
            ),
            ("seed", str(recipe.seed)),
        ],
        classes=plan.train.images.classes,
        real_images=real,
        real_wrong=wrong,
        synthetic={method: condensed.pictures() for method, condensed in made.items()},
        ipc=recipe.ipc,
        given_confusion=confusion(truth.labels, given, num_classes),
        recovered_confusion=confusion(truth.labels, found, num_classes),
        classifier_accuracy=result.classifier_accuracy,
        labels_recovered=result.labels_recovered,
        condensed_accuracy={method: (value.mean, value.ci95) for method, value in result.condensed_accuracy.items()},
        seconds=result.seconds,
        commands=[
            f"dmis demo --seed {recipe.seed} --ipc {recipe.ipc}{extra}",
            f"dmis condense --data {plan.source.train.name} {common} --out dmis.h5",
            "dmis evaluate dmis.h5 --quick",
        ],
    )


def _start(sigma: float | None) -> str:
    return "pure noise" if sigma is None else f"prototypes noised to sigma {sigma}"


def _real_rows(images: Images, given: Labels, truth: Labels, num_classes: int) -> tuple[Images, Mask]:
    """The first k images of each given label, uint8 [c·k, H, W, C], and whether their label is wrong, bool [c·k]."""
    shown = min(MOST_SHOWN, *np.bincount(given, minlength=num_classes).tolist())
    chosen = np.concatenate([np.flatnonzero(given == y)[:shown] for y in range(num_classes)])
    return images[chosen], given[chosen] != truth[chosen]
