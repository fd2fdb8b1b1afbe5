"""Files in the folders of a benchmark's cells, and the generators and teachers that cells share."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from condense.benchmark.grid import SHARED, Cell, Trained
from condense.changes import changes
from condense.classifiers.teacher import load_teacher
from condense.errors import UserError
from condense.evaluate.results import Result
from condense.files import atomic_write_text
from condense.generator.generator_file import FILE as GENERATOR
from condense.generator.model import Generator
from condense.generator.options import ObjectiveName
from condense.generator.training.two_stage import train_stages
from condense.json_values import JSON, maybe, number, numbers, section, text, whole
from condense.machine import best_device
from condense.methods._generate import GeneratorOptions
from condense.pipeline.plan import Plan
from condense.run import Run

FIRST, RECIPE = "first-cell.txt", "recipe.json"


def has_trained(folder: Path, kind: Trained) -> bool:
    """Whether a folder holds an undamaged generator, or a fully trained teacher."""
    try:
        if kind == "teacher":
            load_teacher(folder)
            return True
        return folder.is_dir() and Run(folder).load(GENERATOR) is not None
    except UserError:
        return False


def is_first(shared: Path, cell: Cell) -> bool:
    """Whether this cell trained in the shared folder, so that its other checkpoints are there too."""
    file = shared / FIRST
    return file.is_file() and file.read_bytes().strip() == cell.name.encode()


def take_first(shared: Path, cell: Cell) -> None:
    """Record that this cell trains in the shared folder, and by which recipe."""
    shared.mkdir(parents=True, exist_ok=True)
    atomic_write_text(shared / FIRST, cell.name + "\n")
    write_json(shared / RECIPE, cell.trained_by)


def check_shared(out: Path, cell: Cell) -> None:
    """Raise `UserError` if what the cell shares with others was trained by another recipe than its own.

    Of folders without a recipe, made by an earlier version, nothing is known.
    """
    for name, mine in ((cell.shared, cell.trained_by), (cell.labeller, cell.repaired_by)):
        if name is None:
            continue
        theirs, asked = read_json(out / SHARED / name / RECIPE), json.loads(json.dumps(mine))
        if theirs is not None and theirs != asked:
            changed = ", ".join(changes(theirs, {**dict.fromkeys(theirs), **asked}))
            raise UserError(
                f"{out / SHARED / name} was trained by another recipe ({changed}); choose another --out, or remove "
                "that folder and the cells made with it."
            )


def shared_generator(out: Path, cell: Cell, plan: Plan) -> tuple[Generator, Path]:
    """The generator of a cell's method, setting and seed, trained now unless it exists; and its folder.

    Raises:
        UserError: the folder named in the recipe holds no generator, or one that does not fit the data.
        RunFailed: the training diverged.
        Interrupted: stopped by Ctrl-C; the state is saved.
    """
    options = plan.options
    assert isinstance(options, GeneratorOptions)
    if options.generator is not None:
        folder = options.generator
    else:
        assert cell.shared is not None
        folder = out / SHARED / cell.shared
        if not _is_whole(folder, options):
            take_first(folder, cell)
            drop_damaged(folder)
            train = options.train_options(cast(ObjectiveName, plan.recipe.method))
            train_stages(plan.train, options.network, train, options.second_stage, plan.recipe.seed, Run(folder))
    generator = Generator.load(Run(folder), best_device())
    generator.check_data(plan.train.images)
    return generator, folder


def _is_whole(folder: Path, options: GeneratorOptions) -> bool:
    """Whether the folder holds a generator, with its second stage if the options ask for one."""
    if not has_trained(folder, "generator"):
        return False
    return options.second_stage is None or Generator.load(Run(folder), best_device()).second is not None


def drop_damaged(folder: Path) -> None:
    """Remove saved states that cannot be read, so that they are made again."""
    for file in folder.glob("*.safetensors"):
        try:
            Run(folder).load(file.stem)
        except UserError as error:
            print(f"{now()} {error}")
            file.unlink()


def read_json(path: Path) -> dict[str, JSON] | None:
    """A JSON object; None if the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_score(path: Path, before: Result) -> Result | None:
    """`before` with the accuracies of a score.json; None if the file is missing, damaged or incomplete."""
    told = read_json(path)
    if told is None or not {"std", "ci95"} <= told.keys():
        return None
    try:
        found = dataclasses.replace(
            before,
            status="done",
            network=text(told, "network"),
            accuracies=numbers(told, "accuracies"),
            mean=number(told, "mean"),
            std=maybe(number, told, "std"),
            ci95=maybe(number, told, "ci95"),
            sha256=maybe(text, told, "sha256") or "",
            labels=maybe(text, told, "labels") or "hard",
            worst_class=maybe(number, told, "worst_class"),
            coverage=maybe(number, told, "coverage"),
            training_bytes=maybe(whole, told, "training_bytes"),
            protocol_version=whole(section(told, "protocol"), "version"),
        )
    except (KeyError, TypeError, OverflowError):
        return None
    measured = [value for value in (*found.accuracies, found.mean, found.std, found.ci95) if value is not None]
    return found if found.accuracies and all(map(math.isfinite, measured)) else None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object atomically."""
    atomic_write_text(path, json.dumps(values, indent=2) + "\n")


def now() -> str:
    """Local date and time, for logs."""
    return time.strftime("%Y-%m-%d %H:%M:%S")
