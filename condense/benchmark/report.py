"""Collects the contents of a benchmark's report from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from condense.benchmark.cell import learner_folder, read_labels, whole_set
from condense.benchmark.grid import WHOLE, Cell
from condense.benchmark.grid_recipe import BenchmarkRecipe, GenerationRecipe
from condense.benchmark.samples_cell import first_samples
from condense.data.types import Images
from condense.evaluate.benchmark_report import BenchmarkReport, Confusion, SetPictures
from condense.evaluate.protocols import protocol
from condense.evaluate.results import Result
from condense.json_values import JSON
from condense.machine import machine
from condense.pipeline.plan import as_yaml
from condense.recipe import EvaluateRecipe
from condense.sets.condensed_set import CondensedSet

MOST_SHOWN = 10  # images per class in the report


def gather(out: Path, recipe: BenchmarkRecipe, cells: Sequence[Cell], results: Sequence[Result]) -> BenchmarkReport:
    """The report's contents: results, pictures of one set per method and setting, confusions of learned labels."""
    everything = [(cell, result) for cell, result in zip(cells, results, strict=True) if result.status == "done"]
    sets = [(cell, result) for cell, result in everything if cell.task == "condensation" and WHOLE not in cell.recipe]
    done = [(cell, result) for cell, result in sets if cell.set_of is None]
    drawn = [(cell, result) for cell, result in everything if cell.task == "generation"]
    names = list(dict.fromkeys(cell.setting for cell in cells))
    return BenchmarkReport(
        title=recipe.title or f"Benchmark: {', '.join(dict.fromkeys(data.name for data in recipe.settings))}",
        settings=_settings(recipe, cells),
        results=results,
        pictures=[*_pictures(out, done), *_samples(out, drawn)],
        confusions=[found for name in names for found in _confusions(out, [d for d in done if d[0].setting == name])],
        recipe=as_yaml(_asked(recipe)),
        commands=["dmis benchmark RECIPE --out DIR", "dmis report DIR"],
    )


def _asked(recipe: BenchmarkRecipe) -> dict[str, JSON]:
    """The recipe without values at their default, but with the name of every data set."""
    settings = [{"name": data.name, **data.model_dump(mode="json", exclude_defaults=True)} for data in recipe.settings]
    return {**recipe.model_dump(mode="json", exclude_defaults=True), "settings": settings}


def _settings(recipe: BenchmarkRecipe, cells: Sequence[Cell]) -> list[tuple[str, str]]:
    judged = {} if not recipe.ipc else {"the others" if recipe.judged else "": recipe.evaluate, **recipe.judged}
    here = machine()
    return [
        ("data and labels", "; ".join(dict.fromkeys(cell.setting for cell in cells))),
        *([("methods", ", ".join(recipe.methods))] if recipe.methods else []),
        *([("images per class", ", ".join(map(str, recipe.ipc)))] if recipe.ipc else []),
        *([] if recipe.generation is None else [("samples", _measured_how(recipe.generation))]),
        *([("classifiers", _trained_how(recipe, cells))] if recipe.classifiers else []),
        ("seeds", ", ".join(map(str, recipe.seeds))),
        ("labels repaired by", ", ".join(recipe.clean_first)),
        ("budgets", _budgets(recipe)),
        *((f"{name} judged by".strip(), _judge(wanted)) for name, wanted in reversed(judged.items())),
        ("report written on", f"{here['device']} ({here['cpu']}, {here['cores']} cores), torch {here['torch']}"),
    ]


def _measured_how(wanted: GenerationRecipe) -> str:
    return f"{wanted.samples} per generator against at most {wanted.real} real images, space {wanted.space}"


def _trained_how(recipe: BenchmarkRecipe, cells: Sequence[Cell]) -> str:
    names = dict.fromkeys(cell.method for cell in cells if cell.task == "weak-supervision")
    return f"{', '.join(names)}; {recipe.fit.network}, {recipe.fit.epochs} epochs except for generators"


def _budgets(recipe: BenchmarkRecipe) -> str:
    """Default budgets, and the methods for which the recipe sets others."""
    own = "the smallest of each method (quick)" if recipe.quick else "each method's own"
    methods = [name for name in recipe.methods if name in recipe.options]
    changed = [*methods, *(name for name in recipe.options if name not in methods)]
    told = own + (f"; as the recipe sets them for {', '.join(changed)}" if changed else "")
    taken = [recipe.generators[data.name] for data in recipe.settings if data.name in recipe.generators]
    return told + (f"; generators of the recipe {', '.join(dict.fromkeys(taken))}" if taken else "")


def _judge(wanted: EvaluateRecipe) -> str:
    rules = protocol(wanted.protocol)
    network = wanted.network or rules.network
    return f"{wanted.repeats} x {network} per set, protocol {rules.name}, version {rules.version}: {rules.source}"


def _pictures(out: Path, done: Sequence[tuple[Cell, Result]]) -> Iterator[SetPictures]:
    """The first seed's set of each method and setting: the largest that can be shown whole, else the smallest."""
    for setting, label in dict.fromkeys((cell.setting, result.label) for cell, result in done):
        own = [both for both in done if (both[0].setting, both[1].label) == (setting, label)]
        ipcs = {result.ipc for _, result in own if result.ipc is not None}
        shown = max((ipc for ipc in ipcs if ipc <= MOST_SHOWN), default=min(ipcs))
        cell = next(cell for cell, result in own if result.ipc == shown)
        condensed = whole_set(out, cell)
        if condensed is not None and condensed.images.shape[3] in (1, 3):
            yield SetPictures(setting, label, shown, condensed.classes, _first_of_each_class(condensed))


def _samples(out: Path, drawn: Sequence[tuple[Cell, Result]]) -> Iterator[SetPictures]:
    """The first samples of each generator and setting, for the first seed."""
    for setting, label in dict.fromkeys((cell.setting, result.label) for cell, result in drawn):
        cell = next(cell for cell, result in drawn if (cell.setting, result.label) == (setting, label))
        found = first_samples(cell.folder(out), MOST_SHOWN)
        if found is not None and found[0].shape[3] in (1, 3):
            yield SetPictures(setting, label, None, found[1], found[0])


def _first_of_each_class(condensed: CondensedSet) -> Images:
    """At most `MOST_SHOWN` images per class: uint8 [c·k, H, W, C]."""
    pictures = condensed.pictures()
    by_class = pictures.reshape(condensed.num_classes, condensed.ipc, *pictures.shape[1:])[:, :MOST_SHOWN]
    return by_class.reshape(-1, *pictures.shape[1:])


def _confusions(out: Path, done: Sequence[tuple[Cell, Result]]) -> Iterator[Confusion]:
    """Confusion of each generator of one setting that learned the labels as given, for the first seed."""
    seen: set[str] = set()
    for cell, result in done:
        folder = learner_folder(out, cell)
        found = None if folder is None else read_labels(folder)
        by = cell.recipe["clean_first"]
        label = result.method if cell.labeller is None else f"{by}, to repair labels"
        if found is not None and found.recovered is not None and label not in seen:
            seen.add(label)
            yield Confusion(cell.setting, label, found.classes, found.given, found.recovered)
