"""Compares classifiers that learn from imprecise labels, including the generators themselves.

`condense.pipeline.classify` lists them. All arms of a seed see the same images with the same labels. The score is the
accuracy on the test split after the last epoch or step, evaluated once; nothing is selected by it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from condense.changes import changes
from condense.classifiers import arms
from condense.classifiers.arm_training import ArmTraining
from condense.errors import UserError
from condense.evaluate.reference import find
from condense.evaluate.stats import summarise
from condense.files import atomic_write_text
from condense.generator.model import Generator
from condense.generator.training.two_stage import train_stages
from condense.json_values import JSON, number, section
from condense.machine import best_device
from condense.methods._generate import GeneratorOptions
from condense.notices import tell
from condense.pipeline.classify import (
    ALL,
    OBJECTIVES,
    OF_GENERATORS,
    REGENERATED,
    ArmOptions,
    arm_accuracy,
    check_name,
    check_test,
    labels_like,
    names,
    objective_of,
    read_options,
    why_not,
)
from condense.pipeline.plan import Plan
from condense.recipe import parse
from condense.rng import MOST_SEEDS
from condense.run import Run

TRAINING = "fit"  # the section of `Asked.options` about the budget of all arms

Plans: TypeAlias = Callable[[int], Plan]
"""Maps a seed to its data, with their labels, and the options of the method dmis for generators."""


@dataclass(frozen=True)
class Asked:
    """The classifiers to compare.

    Attributes:
        arms: names of arms; `ALL` for every arm that accepts the labels.
        seed: the first seed.
        seeds: number of seeds, each with its own networks and generators.
        generators: trained generators or run folders of them, at most one of each objective.
        options: options of arms by name, nested, and in the section "fit" (`ArmTraining`) the budget of all of them.
    """

    arms: Sequence[str]
    seed: int = 0
    seeds: int = 1
    generators: Sequence[Generator | Path] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UserError(f"seeds is {self.seeds}; give at least 1.")
        if not 0 <= self.seed <= MOST_SEEDS - self.seeds:
            raise UserError(f"the seeds from {self.seed} on leave the range 0 to 2^63 - 1; give a smaller seed.")
        if self.generators and self.seeds > 1:
            raise UserError("A trained generator belongs to the labels of one seed; give one seed, or no generator.")
        if not self.arms:
            raise UserError(f"There is no arm to train; give names of arms, or {ALL!r}.")
        for name in self.arms:
            if name != ALL:
                check_name(name)
        if foreign := self.options.keys() - set(with_options()):
            raise UserError(
                f"There are options for {sorted(foreign)[0]!r}; they can be given for {', '.join(with_options())}."
            )

    @property
    def each_seed(self) -> range:
        """The seeds, in order."""
        return range(self.seed, self.seed + self.seeds)


def with_options() -> tuple[str, ...]:
    """What `Asked.options` may hold: the section of the budget, and the arms that have options."""
    return (TRAINING, *arms.names(), REGENERATED)


@dataclass(frozen=True)
class ArmScore:
    """How an arm was tested.

    Attributes:
        arm: its name.
        accuracies: test accuracy in percent of each seed.
        mean: their mean.
        std: their standard deviation; None for one seed.
        ci95: half the width of the mean's 95 % interval over the seeds; None for one seed.
        seconds: that training and testing took, of all seeds together.
        published: accuracy in percent in the DMIS paper's Table 2; None if there is none.
    """

    arm: str
    accuracies: tuple[float, ...]
    mean: float
    std: float | None
    ci95: float | None
    seconds: float
    published: float | None


@dataclass(frozen=True)
class ArmScores:
    """Classifiers compared on one data set.

    Attributes:
        data: name of the data set.
        noise: the noise injected into its labels, e.g. "sym:0.4".
        seeds: the seeds, in the order of the accuracies.
        network: architecture of all arms but the generators.
        epochs: their training epochs.
        arms: a score for each arm.
        refused: why arms do not accept such labels, by name.
    """

    data: str
    noise: str
    seeds: tuple[int, ...]
    network: str
    epochs: int
    arms: tuple[ArmScore, ...]
    refused: Mapping[str, str]

    def to_json(self) -> dict[str, JSON]:
        """All of it as a JSON object."""
        return {
            "data": self.data,
            "noise": self.noise,
            "seeds": list(self.seeds),
            "network": self.network,
            "epochs": self.epochs,
            "arms": [{**asdict(score), "accuracies": list(score.accuracies)} for score in self.arms],
            "refused": dict(self.refused),
        }


@dataclass
class _SeedRun:
    """The data and generators of one seed."""

    plan: Plan
    options: ArmOptions
    folder: Run
    given: Mapping[str, Generator]
    progress: bool
    trained: dict[str, Generator] = field(default_factory=dict)


def score_arms(plans: Plans, asked: Asked, *, out: Path | None = None, progress: bool = False) -> ArmScores:
    """Train every requested arm with every seed, and test it.

    Args:
        plans: data and generators of a seed.
        asked: the classifiers to compare.
        out: folder for one result per arm and seed, and for the generators; existing ones are reused.
        progress: whether bars are drawn on stderr.

    Raises:
        UserError: the data have no test split, an arm requested by name does not accept the labels, an option cannot
            be used, or `out` holds results of another request.
        RunFailed: a training diverged.
        Interrupted: stopped by Ctrl-C; finished results are in `out`, and generators resume from their checkpoints.
    """
    options = _options(asked)
    given = _loaded(asked.generators)
    accuracies: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    chosen: list[str] = []
    refused: dict[str, str] = {}
    for seed in asked.each_seed:
        plan = _tested_plan(plans, seed)
        if not chosen:
            chosen, refused = _chosen(asked.arms, plan)
        bench = _SeedRun(plan, options, Run(out), given, progress)
        for name in chosen:
            found = _result(name, bench)
            accuracies.setdefault(name, []).append(found.accuracy)
            seconds[name] = seconds.get(name, 0.0) + found.seconds
    return ArmScores(
        data=plan.source.train.name,
        noise=plan.recipe.data.noise,
        seeds=tuple(asked.each_seed),
        network=options.training.network,
        epochs=options.training.epochs,
        arms=tuple(_score(name, accuracies[name], seconds[name], plan) for name in chosen),
        refused=refused,
    )


def foresee(plans: Plans, asked: Asked, *, out: Path | None = None) -> dict[str, JSON]:
    """The arms and generators that `score_arms` would train; nothing is written.

    Returns:
        data, noise, image_shape [H, W, C], images, classes, network, epochs, seeds; arms; left_out, arms that do not
        accept such labels; generators, given run folders or objectives that would be trained; results, the number
        requested; and kept, the number of those already in `out`. Labels are those of the first seed.

    Raises:
        UserError: as for `score_arms`, except for results of another request.
    """
    options = _options(asked)
    given = _loaded(asked.generators)
    plan = _tested_plan(plans, asked.seed)
    chosen, refused = _chosen(asked.arms, plan)
    needed = dict.fromkeys(objective_of(name) for name in chosen if name in OF_GENERATORS)
    files = [_file(name, seed) for name in chosen for seed in asked.each_seed]
    return {
        "data": plan.source.train.name,
        "noise": plan.recipe.data.noise,
        "image_shape": list(plan.train.images.images.shape[1:]),
        "images": len(plan.train),
        "classes": plan.train.images.num_classes,
        "network": options.training.network,
        "epochs": options.training.epochs,
        "seeds": list(asked.each_seed),
        "arms": chosen,
        "left_out": list(refused),
        "generators": [*map(str, asked.generators), *(name for name in needed if name not in given)],
        "results": len(files),
        "kept": 0 if out is None else sum((out / file).exists() for file in files),
    }


def _options(asked: Asked) -> ArmOptions:
    own = {name: {} if values is None else values for name, values in asked.options.items()}
    training = parse(ArmTraining, own.pop(TRAINING, {}), f"section {TRAINING!r}")
    return read_options(training, own, names() if ALL in asked.arms else asked.arms)


def _tested_plan(plans: Plans, seed: int) -> Plan:
    """Labels and generators of one seed. Raises `UserError` for data without a test split."""
    plan = plans(seed)
    check_test(plan)
    return plan


def _loaded(generators: Sequence[Generator | Path]) -> dict[str, Generator]:
    """Trained generators by objective."""
    found: dict[str, Generator] = {}
    for given in generators:
        if isinstance(given, Path) and not given.is_dir():
            raise UserError(f"There is no run folder {given}; give the folder of a `dmis train`.")
        generator = Generator.load(Run(given), best_device()) if isinstance(given, Path) else given
        objective = generator.record.objective
        if objective not in OBJECTIVES or objective in found:
            held = f"{given} holds" if isinstance(given, Path) else "There is"
            raise UserError(
                f"{held} a generator trained as {objective!r}; give at most one of {' and '.join(OBJECTIVES)}."
            )
        found[objective] = generator
    return found


def _chosen(asked: Sequence[str], plan: Plan) -> tuple[list[str], dict[str, str]]:
    """The arms to train, and why others are left out. Raises `UserError` if one requested by name cannot be trained.

    `ALL` are those that learn from the kind of labels that the noise makes: that chance makes all classes candidates of
    one image under some seed makes them no images without a label.
    """
    chosen: list[str] = []
    refused: dict[str, str] = {}
    given, data = plan.train.supervision, plan.recipe.data
    kind = given if data.noise == "none" or data.labels is not None else labels_like(data.noise)
    for name in dict.fromkeys(asked):
        for each in names() if name == ALL else (name,):
            reason = why_not(each, given) or (why_not(each, kind) if name == ALL else None)
            if reason is None:
                chosen.append(each)
            elif name == ALL:
                refused[each] = reason
            else:
                raise UserError(reason)
    return list(dict.fromkeys(chosen)), refused


def _score(name: str, accuracies: Sequence[float], seconds: float, plan: Plan) -> ArmScore:
    summary = summarise(accuracies)
    published = find(plan.source.train.name, plan.recipe.data.noise, name, task="weak-supervision")
    told = None if published is None else published.mean
    return ArmScore(name, tuple(accuracies), summary.mean, summary.std, summary.ci95, seconds, told)


@dataclass(frozen=True)
class _Tested:
    """Accuracy of an arm in percent, and the seconds that training and testing took."""

    accuracy: float
    seconds: float


def _result(name: str, bench: _SeedRun) -> _Tested:
    """The accuracy of an arm and the seconds it took, read from the folder if present."""
    request = _identity(name, bench)
    folder, file = bench.folder.path, _file(name, bench.plan.recipe.seed)
    if folder is not None and (folder / file).exists():
        kept = _kept(folder / file, request)
        if kept is not None:
            return kept
    started = time.perf_counter()
    found = _Tested(_accuracy(name, bench), time.perf_counter() - started)
    if folder is not None:
        atomic_write_text(folder / file, json.dumps({**asdict(found), "request": request}, indent=2) + "\n")
    return found


def _file(name: str, seed: int) -> str:
    """File name of the result of an arm and seed."""
    return f"{name}-{seed}.json"


def _identity(name: str, bench: _SeedRun) -> dict[str, JSON]:
    """Everything that the accuracy of an arm depends on, as JSON."""
    plan = bench.plan
    test, truth = plan.source.test, plan.source.test_truth
    assert test is not None and truth is not None
    identity: dict[str, JSON] = {
        "arm": name,
        "seed": plan.recipe.seed,
        "data": plan.train.images.fingerprint(),
        "labels": plan.train.supervision.fingerprint(),
        "flip": plan.train.images.may_flip,
        "test_images": test.fingerprint(),
        "test_labels": truth.fingerprint(),
    }
    if name in OF_GENERATORS:
        identity["generator"] = plan.written()
        given = bench.given.get(objective_of(name))
        identity["given"] = None if given is None else given.record.to_json()
    if name not in OBJECTIVES:
        identity["fit"] = bench.options.training.model_dump(mode="json")
        identity["options"] = bench.options.arms["ce" if name == REGENERATED else name].model_dump(mode="json")
    if name == REGENERATED:
        identity["regeneration"] = bench.options.regeneration.model_dump(mode="json")
    as_read: dict[str, JSON] = json.loads(json.dumps(identity))
    return as_read


def _kept(path: Path, request: Mapping[str, Any]) -> _Tested | None:
    """The result at `path`; None if an earlier version kept it without all that its accuracy depends on."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        found, before = _Tested(number(told, "accuracy"), number(told, "seconds")), section(told, "request")
        if not math.isfinite(found.accuracy + found.seconds):
            raise ValueError("numbers are missing")
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise UserError(f"{path} is not a result ({error}); remove it to train that arm again.") from error
    changed = changes(before, {key: value for key, value in request.items() if key in before})
    if changed:
        raise UserError(
            f"{path} belongs to a request with other {', '.join(changed)}; choose another folder (--out), or remove it."
        )
    unknown = request.keys() - before.keys()
    if unknown:
        tell(f"{path} does not record its {', '.join(sorted(unknown))}, so that arm is trained again.")
    return None if unknown else found


def _accuracy(name: str, bench: _SeedRun) -> float:
    """Test accuracy in percent."""
    return arm_accuracy(
        name, bench.plan, bench.options, lambda objective: _generator(objective, bench), progress=bench.progress
    )


def _generator(objective: str, bench: _SeedRun) -> Generator:
    """The generator of that objective: given, trained for another arm of this seed, or trained now."""
    if objective in bench.given:
        bench.given[objective].check_data(bench.plan.train.images)
        return bench.given[objective]
    if objective not in bench.trained:
        plan, out = bench.plan, bench.folder.path
        options = plan.options
        assert isinstance(options, GeneratorOptions)
        folder = None if out is None else out / "generators" / f"{objective}-{plan.recipe.seed}"
        bench.trained[objective] = train_stages(
            plan.train,
            options.network,
            options.train_options("vanilla" if objective == "vanilla" else "dmis"),
            options.second_stage if objective == "dmis" else None,
            plan.recipe.seed,
            Run(folder, progress=bench.progress),
        )
    return bench.trained[objective]
