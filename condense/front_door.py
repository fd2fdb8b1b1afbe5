"""The front door: what `import condense` gives, with the defaults and results of the commands of those names.

```python
import condense

data = condense.load_data("digits", noise="sym:0.4")
small = condense.condense(data, method="dm", ipc=1, quick=True, seed=0)
score = condense.evaluate(small, data, protocol="quick", repeats=1)
labels = condense.relabel(data, quick=True)
small.save("s.h5")
```

Nothing is written unless `run` names a folder; repeating an interrupted call with the same folder resumes it. A
benchmark is its folder, so `benchmark` and `report` write into `out`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic_core import to_jsonable_python

from condense.benchmark import runner
from condense.benchmark.executors import LocalExecutor
from condense.benchmark.outcome import Outcome
from condense.data.class_names import plain
from condense.data.types import ImageData, Source, Supervision, TrainingSet, Truth
from condense.errors import UserError, in_short
from condense.evaluate.protocols import protocol as protocol_named
from condense.evaluate.sets import Evaluation
from condense.generator.model import Generator
from condense.options import Options
from condense.pipeline import arm_scores, fast_labels
from condense.pipeline.arm_scores import ArmScores
from condense.pipeline.classify import ALL
from condense.pipeline.data import LoadedData, given_labels, load_source, own_data, source_of_arrays
from condense.pipeline.make import check_plan, make_set
from condense.pipeline.plan import Plan, Request, make_plan
from condense.pipeline.probabilities import checked
from condense.pipeline.relabelling import (
    Relabelling,
    ask,
    relabel_by,
    relabel_by_features,
    relabel_fast,
    relabel_plan,
    relabelling_options,
)
from condense.pipeline.run_folder import open_run
from condense.pipeline.score import HowToScore, evaluate_sets, test_split, tested
from condense.pipeline.train import train_plan, training_options
from condense.recipe import DataRecipe, merge, parse
from condense.rng import MOST_SEEDS
from condense.run import Run
from condense.sets.condensed_set import CondensedSet
from condense.text import shortened

Data = LoadedData | TrainingSet | str | Path
"""Loaded data, images with labels whose truth is unknown, or the name or path of a data set."""

RecipeLike = str | Path | Mapping[str, Any]
"""A recipe file, the name of one that ships, or the same as a nested mapping, e.g. {"train": {"steps": 2000}}."""

Array = npt.NDArray[Any]
_MISSING = ("nan", "<NA>", "NaT")  # what pandas and numpy have where a text is missing
GivenLabels = Array | Sequence[int] | Sequence[str] | Supervision


class _Numbers(Options):
    """Arguments that are numbers."""

    seed: int = Field(0, ge=0, lt=MOST_SEEDS)
    seeds: int = Field(1, ge=1)
    repeats: int = Field(1, ge=1)
    jobs: int | None = Field(None, ge=1)
    hours: float | None = Field(None, ge=0)


def load_data(
    name: str | Path | None = None,
    *,
    images: Array | None = None,
    labels: str | GivenLabels | None = None,
    classes: Sequence[str] | None = None,
    test_images: Array | None = None,
    test_labels: Array | Sequence[int] | Sequence[str] | None = None,
    noise: str = "none",
    seed: int = 0,
    image_size: int | None = None,
    root: str | Path | None = None,
    download: bool = False,
    reading: Mapping[str, Any] | None = None,
) -> LoadedData:
    """Load a data set: by name, from a path, or from arrays.

    Args:
        name: a named data set (`condense.data.sources.names()`), a folder of images, or an .npz or .h5 file, also as
            FILE::KEY; with `images`, the name given to the data.
        images: uint8 [n, H, W, C] or [n, H, W], instead of a stored data set.
        labels: with `images`: whole numbers [n], class names [n] (None, NaN or an empty name where the class is
            unknown), candidates bool [n, c], or a `Supervision`; otherwise FILE or FILE::NAME to take the given labels
            from.
        classes: class names [c] in the order of the label numbers; by default, for labels given as names, those
            found, sorted.
        test_images: test images as `images`.
        test_labels: their true labels.
        noise: kind and rate of the noise injected into clean labels, e.g. "sym:0.4"; labels in arrays count as clean.
        seed: seed of the noise.
        image_size: side in pixels to which images are cropped and resized.
        root: folder of a named data set.
        download: whether a named data set may be downloaded.
        reading: how images are read: fit, background, skip_unreadable and flip, see `condense.recipe.DataRecipe`.

    Raises:
        UserError: the data set does not exist or cannot be used; the message says what to do.
        RunFailed: a download failed.
    """
    seed = _numbers(seed=seed).seed
    if not isinstance(reading or {}, Mapping):
        raise UserError(f"reading is {shortened(repr(reading), 80)}; give a mapping, e.g. {{'fit': 'pad'}}.")
    if name is not None and not str(name):
        raise UserError("The name of the data set is empty; give the name or path of one.")
    asked = {"name": None if name is None else str(name), "noise": noise, "image_size": image_size, **(reading or {})}
    if images is not None:
        if root is not None or download:
            raise UserError("root and download are for stored data sets; leave them out where images are given.")
        recipe = _data_recipe({**asked, "name": str(name or "arrays")})
        contents = _arrays(images, labels, classes, test_images, test_labels)
        return given_labels(source_of_arrays(contents, recipe), recipe, seed)
    if (
        name is None
        or not isinstance(labels, str | None)
        or any(array is not None for array in (classes, test_images, test_labels))
    ):
        raise UserError(
            "Arrays of labels, classes and test images belong to an array of images; give images too, or the name or "
            "path of a data set alone."
        )
    recipe = _data_recipe({**asked, "labels": labels, "root": root, "download": download or None})
    return given_labels(load_source(recipe), recipe, seed)


def train(
    data: Data,
    *,
    method: str | None = None,
    seed: int | None = None,
    quick: bool = False,
    recipe: RecipeLike | None = None,
    run: str | Path | None = None,
    progress: bool = False,
) -> Generator:
    """Train a generator on images and imprecise labels, as `dmis train`.

    Args:
        data: what to train on.
        method: objective: dmis, vanilla, tdsm or cad; the recipe's, else dmis.
        seed: random seed; the recipe's, else 0.
        quick: whether defaults are the smallest budget that runs every stage, for a first try.
        recipe: what differs from the defaults for images of this size.
        run: folder for checkpoints, metrics and the generator.
        progress: whether bars are drawn on stderr.

    Raises:
        UserError: an argument, the recipe or the data cannot be used.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C; with a run folder the same call resumes.
    """
    plan = _plan(data, recipe, {"method": method, "seed": seed, "quick": quick or None})
    training_options(plan)
    with _opened(plan, run, progress) as kept:
        return train_plan(plan, kept)


def condense(
    data: Data,
    *,
    method: str | None = None,
    ipc: int | None = None,
    seed: int | None = None,
    quick: bool = False,
    clean_first: str | None = None,
    recipe: RecipeLike | None = None,
    run: str | Path | None = None,
    progress: bool = False,
) -> CondensedSet:
    """Make a condensed set of `ipc` images per class, as `dmis condense`.

    Args:
        data: images and imprecise labels.
        method: one of `condense.methods.names()`, or a module of yours; the recipe's, else dmis.
        ipc: images per class; the recipe's, else 10.
        seed: random seed; the recipe's, else 0.
        quick: whether defaults are the smallest budget that runs every stage, for a first try.
        clean_first: how the labels are repaired beforehand: none, dmis, labeller (quick classifiers), cleanlab or
            oracle (the truth).
        recipe: what differs from the method's defaults for images of this size.
        run: folder for checkpoints and metrics.
        progress: whether bars are drawn on stderr.

    Raises:
        UserError: an argument, the recipe or the data cannot be used.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C; with a run folder the same call resumes.
    """
    asked = {"method": method, "ipc": ipc, "seed": seed, "quick": quick or None, "clean_first": clean_first}
    plan = _plan(data, recipe, asked)
    check_plan(plan)
    with _opened(plan, run, progress) as kept:
        return make_set(plan, kept)


def evaluate(
    sets: CondensedSet | str | Path | Iterable[CondensedSet | str | Path],
    data: Data | None = None,
    *,
    protocol: str = "hard",
    network: str | Sequence[str] = (),
    repeats: int = 5,
    seed: int = 0,
    cross: bool = False,
    teacher: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Train networks on one set, or several of one method, and test them on real images, as `dmis evaluate`.

    Args:
        sets: sets or their files.
        data: whose test images are used; those the set was made from when None.
        protocol: name of the protocol, see `condense.evaluate.protocols`: hard, hard-quick, quick, soft, dmis, …
        network: architecture to train, one or several; the protocol's when empty.
        repeats: networks trained on each set.
        seed: seed of the networks.
        cross: whether one network of every architecture is trained too.
        teacher: run folder of the teacher for soft labels.
        progress: whether a bar is drawn on stderr.

    Raises:
        UserError: sets, test images, protocol and networks do not suit each other.
        RunFailed: the training diverged.
    """
    several = [sets] if isinstance(sets, CondensedSet | str | Path) or not isinstance(sets, Iterable) else list(sets)
    if not all(isinstance(one, CondensedSet | str | Path) for one in several):
        raise UserError(f"The sets are a {type(sets).__name__}; give condensed sets, or the paths of their files.")
    numbers = _numbers(seed=seed, repeats=repeats)
    named: dict[str, CondensedSet] = {}
    for number, given in enumerate(several):
        name = f"set {number + 1}" if isinstance(given, CondensedSet) else str(given)
        if name in named:
            raise UserError(f"{name} is given twice; counting it twice would narrow the interval.")
        named[name] = given if isinstance(given, CondensedSet) else CondensedSet.load(given)
    if not named:
        raise UserError("There is no set to evaluate; give at least one.")
    networks = [network] if isinstance(network, str) else list(network)
    kept = None if teacher is None else Path(teacher)
    how = HowToScore(protocol_named(protocol), networks, cross, kept, numbers.repeats, numbers.seed)
    if data is None or isinstance(data, str | Path):
        wanted = DataRecipe() if data is None else DataRecipe(name=str(data))

        def test(condensed: CondensedSet) -> tuple[ImageData, Truth]:
            return test_split(condensed, own_data(condensed, wanted) if data is None else wanted)

    else:
        source = _loaded(data).source

        def test(condensed: CondensedSet) -> tuple[ImageData, Truth]:
            return tested(source)

    return evaluate_sets(named, test, how, Run(None, progress=progress))


def relabel(
    data: Data,
    *,
    generator: Generator | str | Path | None = None,
    labeller: bool = False,
    fast: bool = False,
    pred_probs: Array | None = None,
    features: Array | Literal["efflite0"] | None = None,
    seed: int | None = None,
    quick: bool = False,
    recipe: RecipeLike | None = None,
    run: str | Path | None = None,
    progress: bool = False,
) -> Relabelling:
    """Find wrong labels and suggest better ones, as `dmis relabel`.

    Args:
        data: images and imprecise labels.
        generator: a DMIS generator, or the run folder of one; trained when None.
        labeller: whether quick strong classifiers judge the labels instead, see `condense.generator.labels`.
        fast: whether a simple classifier, trained in seconds, judges them instead.
        pred_probs: out-of-sample probabilities [n, c] of your own model, to judge them by instead.
        features: features [n, d] of your own model, or "efflite0" for those of EfficientNet-Lite0 with ImageNet
            weights, from which that simple classifier learns.
        seed: random seed; the recipe's, else 0.
        quick: whether defaults are the smallest budget that runs every stage, for a first try.
        recipe: what differs from the defaults for images of this size.
        run: folder for the generator that is trained.
        progress: whether bars are drawn on stderr.

    Raises:
        UserError: an argument, the recipe or the data cannot be used.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C; with a run folder the same call resumes.
    """
    folder = None if generator is None or isinstance(generator, Generator) else Path(generator)
    named = {"generator": folder, "seed": seed, "quick": quick or None}
    plan = _plan(data, recipe, {**named, "clean_first": "labeller" if labeller else None})
    relabelling_options(plan)
    asked = (generator is not None, plan.labeller is not None, fast or features is not None, pred_probs is not None)
    if asked.count(True) > 1:
        raise UserError("generator, labeller, pred_probs, and fast or features exclude each other; give one of them.")
    if pred_probs is not None:
        return relabel_by(checked(np.asarray(pred_probs), plan.source, "pred_probs"), plan, "given probabilities")
    if isinstance(features, str):
        found = fast_labels.features_of(features, plan.source, Run(None, progress=progress))
        return relabel_by_features(found, plan, f"features of {features}")
    if features is not None:
        found = fast_labels.checked(np.asarray(features), plan.source, "features")
        return relabel_by_features(found, plan, "given features")
    if fast:
        return relabel_fast(plan)
    if isinstance(generator, Generator):
        return ask(generator, plan, Run(None, progress=progress))
    with _opened(plan, run if folder is None else None, progress) as kept:
        return relabel_plan(plan, kept)


def classify(
    data: Data,
    *,
    arms: str | Sequence[str] = ALL,
    network: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    seeds: int = 1,
    generator: Generator | str | Path | Sequence[Generator | str | Path] = (),
    options: Mapping[str, Any] | None = None,
    recipe: RecipeLike | None = None,
    run: str | Path | None = None,
    progress: bool = False,
) -> ArmScores:
    """Train classifiers on imprecise labels and test each on the test images, as `dmis classify`.

    The labels are those of the data, for every seed; `dmis classify --seeds` draws the noise anew for each. For that,
    call it once per seed on `load_data(…, seed=seed)`, with the same `run`.

    Args:
        data: images and imprecise labels to train on, and test images.
        arms: classifier, one or several (`condense.pipeline.classify.names()`); "all" for those that accept the labels.
        network: their architecture, one of `condense.classifiers.networks.NAMES`; convnet3-bn when None.
        epochs: their training epochs; 40 when None.
        seed: the first random seed.
        seeds: number of seeds, each with networks and generators of its own.
        generator: a trained generator or the run folder of one, or one of each objective, for the arms vanilla, dmis
            and dmis-ce; trained when empty.
        options: options of a classifier by its name, e.g. {"gce": {"q": 0.5}}, and as "fit" of all of them, see
            `condense.classifiers.arm_training.ArmTraining`.
        recipe: what differs from the defaults of generators for images of this size.
        run: folder with a file for each arm and seed, and the generators; what it holds is not computed again.
        progress: whether bars are drawn on stderr.

    Raises:
        UserError: an argument or the recipe cannot be used, the data have no test images, an arm given by name does
            not accept such labels, or `run` holds results of another request.
        RunFailed: a training diverged.
        Interrupted: stopped by Ctrl-C; with a run folder the same call resumes.
    """
    numbers = _numbers(seed=seed, seeds=seeds)
    fit = _given({"network": network, "epochs": epochs})
    own = merge(options or {}, {arm_scores.TRAINING: fit} if fit else {})
    given = [generator] if isinstance(generator, Generator | str | Path) else _listed(generator, "generator")
    if strange := [one for one in given if not isinstance(one, Generator | str | Path)]:
        raise UserError(f"generator holds a {type(strange[0]).__name__}; give generators, or their run folders.")
    asked = arm_scores.Asked(
        arms=[arms] if isinstance(arms, str) else [str(name) for name in _listed(arms, "arms")],
        seed=numbers.seed,
        seeds=numbers.seeds,
        generators=[one if isinstance(one, Generator) else Path(one) for one in given],
        options=own,
    )
    loaded = _loaded(data)

    def plan_of(seed: int) -> Plan:
        return _plan(loaded, recipe, {"method": "dmis", "seed": seed})

    return arm_scores.score_arms(plan_of, asked, out=None if run is None else Path(run), progress=progress)


def benchmark(
    recipe: RecipeLike,
    out: str | Path,
    *,
    jobs: int | None = None,
    hours: float | None = None,
    progress: bool = False,
) -> Outcome:
    """Run the cells of a grid that its folder lacks, each in a process of its own, as `dmis benchmark`.

    The processes do not run the calling script again: it needs no `if __name__ == "__main__"`.

    Args:
        recipe: a benchmark's recipe, see `condense.benchmark.grid_recipe.BenchmarkRecipe`. A mapping may name your own
            methods, and "extends" another recipe: {"extends": "digits-generators", "seeds": [0, 1, 2]}.
        out: folder for the results, the report and one folder per cell.
        jobs: cells run at once; when None one per GPU, else one per core, at most 4.
        hours: time after which no more cells are started; no limit when None.
        progress: whether a line about each cell that ends is written to stderr.

    Raises:
        UserError: an argument or the recipe cannot be used, `out` holds cells of another recipe, or another process
            runs them.
        RunFailed: a cell failed; the others were run, and `condense.report` returns their results.
        Interrupted: stopped by Ctrl-C; the same call resumes.
    """
    numbers = _numbers(jobs=jobs, hours=hours)

    def tell(line: str) -> None:
        if progress:
            print(line, file=sys.stderr)

    return runner.benchmark(
        _grid(recipe),
        Path(out),
        executor=LocalExecutor(numbers.jobs),
        hours=numbers.hours,
        tell=tell,
    )


def report(out: str | Path, *, keep: str | Path | None = None) -> Outcome:
    """Rewrite the report of a benchmark's folder and return its results so far, as `dmis report`.

    Args:
        out: the folder.
        keep: folder for one small file per finished cell, from which `dmis report --out` can rebuild the tables.

    Raises:
        UserError: `out` is not a benchmark's folder, or `keep` has other results for a cell.
    """
    return runner.report(Path(out), None if keep is None else Path(keep))


def _grid(recipe: RecipeLike) -> str | dict[str, Any]:
    """A benchmark's recipe with texts for paths and lists for tuples, as a file would hold it."""
    if isinstance(recipe, str | Path):
        return str(recipe)
    if not isinstance(recipe, Mapping):
        raise UserError(f"The recipe is a {type(recipe).__name__}; give a mapping, a file, or the name of one.")
    try:
        plain_values: dict[str, Any] = to_jsonable_python(dict(recipe))
    except ValueError as error:
        raise UserError(f"The recipe cannot be written down ({in_short(error)}); give plain values.") from error
    return plain_values


def _listed(given: object, what: str) -> list[Any]:
    """Several values in a list. Raises `UserError` if there is only one thing."""
    if isinstance(given, Iterable):
        return list(given)
    raise UserError(f"{what} is {shortened(repr(given), 80)}; give one by name, or a list of several.")


def _arrays(
    images: Array,
    labels: str | GivenLabels | None,
    classes: Sequence[str] | None,
    test_images: Array | None,
    test_labels: Array | Sequence[int] | Sequence[str] | None,
) -> dict[str, Array]:
    """The arrays of a data set under the names they have in a file, labels by number."""
    if labels is None or isinstance(labels, str):
        raise UserError(f"images come with the labels {labels!r}; give an array with one label for each image.")
    contents = {"train_images": _array(images, "images")}
    if isinstance(classes, str):
        raise UserError(f"classes is the text {shortened(repr(classes), 80)}; give a list of names.")
    names = None if classes is None else [str(name) for name in classes]
    if isinstance(labels, Supervision):
        contents |= {"candidates": labels.candidates, "trusted": labels.trusted}
    else:
        given = _array(labels, "labels")
        unknown = np.array([not plain(str(label)) for label in given]) if given.dtype.kind == "U" else np.zeros(1, bool)
        if given.dtype.kind == "U" and names is None:
            names = sorted(set(given[~unknown].tolist()))
        if names is not None and unknown.any():
            contents["candidates"] = np.ones((len(given), len(names)), dtype=np.bool_)
            contents["candidates"][~unknown] = np.eye(len(names), dtype=np.bool_)[_numbered(given[~unknown], names)]
        else:
            contents["candidates" if given.dtype == np.bool_ else "train_labels"] = _numbered(given, names)
    if names is not None:
        contents["class_names"] = np.array(names)
    if test_images is not None:
        contents["test_images"] = _array(test_images, "test_images")
    if test_labels is not None:
        contents["test_labels"] = _numbered(_array(test_labels, "test_labels"), names)
    return contents


def _array(values: object, what: str) -> Array:
    """`values` as an array of numbers, or of texts [n] in which those that are missing are empty."""
    try:
        array = np.asarray(values)
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8")
    except (ValueError, TypeError) as error:
        raise UserError(f"{what} cannot be an array ({in_short(error)}); give values of one shape and type.") from error
    if array.dtype.kind not in "OUT":
        return array
    if array.ndim != 1:
        raise UserError(f"{what} holds {array.dtype} {list(array.shape)}; give numbers, or one name for each image.")
    if all(isinstance(value, int | np.integer) for value in array.tolist()):
        return np.array(array.tolist())
    texts = ["" if value is None or str(value) in _MISSING else value for value in array.tolist()]
    if strange := [value for value in texts if not isinstance(value, str)]:
        raise UserError(
            f"{what} holds the {type(strange[0]).__name__} {shortened(repr(strange[0]), 40)}; give whole numbers "
            "alone, or names alone."
        )
    return np.array(texts, dtype=np.str_)


def _numbered(labels: Array, names: Sequence[str] | None) -> Array:
    """Labels by name as int64 numbers in the order of the names; others as they are."""
    if labels.dtype.kind not in "US" or names is None:
        return labels
    numbers = {name: number for number, name in enumerate(names)}
    unknown = [label for label in labels.ravel().tolist() if label not in numbers]
    if unknown:
        raise UserError(f"the label {unknown[0]!r} is not one of the classes {', '.join(names)}; add it or correct it.")
    return np.array([numbers[label] for label in labels.tolist()], dtype=np.int64)


def _data_recipe(values: Mapping[str, Any]) -> DataRecipe:
    return parse(DataRecipe, _given(values), "option for data")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _numbers(**values: float | None) -> _Numbers:
    return parse(_Numbers, values, "arguments'")


def _loaded(data: Data) -> LoadedData:
    if isinstance(data, LoadedData):
        return data
    if not isinstance(data, TrainingSet | str | Path):
        raise UserError(
            f"The data are a {type(data).__name__}; give what load_data returns, or the name or path of a data set. "
            "Images in memory: load_data(images=…, labels=…)."
        )
    if isinstance(data, TrainingSet):
        source = Source(data.images, data.supervision, None, None, None)
        return LoadedData(source, data.corruption, DataRecipe(name=data.images.name), 0, len(data))
    return load_data(data)


def _plan(data: Data, recipe: RecipeLike | None, asked: Mapping[str, Any]) -> Plan:
    """The plan of `dmis` for a recipe overridden by the arguments."""
    config = None if recipe is None or isinstance(recipe, Mapping) else str(recipe)
    below = recipe if isinstance(recipe, Mapping) else {}
    return make_plan(Request(config, merge(below, _given(asked))), _loaded(data))


def _opened(plan: Plan, folder: str | Path | None, progress: bool) -> AbstractContextManager[Run]:
    """The run folder, locked while in use; without one nothing is kept."""
    if folder is None:
        return nullcontext(Run(None, progress=progress))
    return open_run(Path(folder), plan, resume=True, force=False, progress=progress)
