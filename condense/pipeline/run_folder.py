"""A command's run folder: starting, resuming or refusing it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condense.errors import UserError
from condense.files import check_name, sweep
from condense.generator.generator_file import FILE as GENERATOR
from condense.generator.generator_file import SECOND
from condense.machine import is_worker
from condense.methods._generate import REFINED
from condense.methods._refine import GRADIENTS
from condense.pipeline.clean_first import FOLDER as LABELLER
from condense.pipeline.plan import Plan
from condense.processes import join_processes
from condense.run import Run, atomic_write_text, locked
from condense.watch import logged

RECIPE = "recipe.json"
RUNS = Path("runs")


def derived_name(plan: Plan) -> str:
    """A file name made of data, method and label repair, e.g. "digits-dmis"."""
    repaired = {
        "none": "",
        "dmis": "-relabelled",
        "labeller": "-labelled",
        "cleanlab": "-cleanlab",
        "oracle": "-true-labels",
    }
    by = repaired[plan.recipe.clean_first]
    return re.sub(r"[^\w.-]+", "-", f"{plan.source.train.name}-{plan.recipe.method}{by}").strip("-.")


def run_name(plan: Plan, *parts: str) -> str:
    """Name of the run folder: `derived_name`, further parts, and the seed, so that seeds do not share a folder."""
    return "-".join([derived_name(plan), *parts, f"seed{plan.recipe.seed}"])


def check_run(path: Path, plan: Plan, *, resume: bool, force: bool) -> None:
    """Raise `UserError` unless `path` is free, or may be continued or replaced, and no other process works in it.

    Torchrun's workers skip the check, since the main process may already be working there.
    """
    if is_worker():
        return
    _check_folder(path)
    if path.is_dir():
        with locked(path, "run"):
            pass
    _check_run(path, plan, resume=resume, force=force)


def _check_folder(path: Path) -> None:
    check_name(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, but a folder is needed; choose another --run.")


def _check_run(path: Path, plan: Plan, *, resume: bool, force: bool) -> None:
    found = [file.name for file in _results(path)]
    if not found or (force and not resume):
        return
    if not resume:
        raise UserError(
            f"{path} holds the {found[0]} of an earlier run; give --resume to continue it, --force to start over, "
            "or --run for another folder."
        )
    if set(found) == {f"{GENERATOR}.safetensors"}:
        raise UserError(
            f"{path} holds a trained generator but no checkpoint to resume from; use it with --generator {path}."
        )
    changed = [item for item in _compared(path, plan) if item[1] != item[2]]
    for name, before, now in changed[:1]:
        raise UserError(
            f"{path} was started with {name} {json.dumps(before)}, now it is {json.dumps(now)}; give the same value "
            "to resume, or choose another --run."
        )


@contextmanager
def open_run(
    path: Path, plan: Plan, *, resume: bool, force: bool, progress: bool, log: str | None = None
) -> Iterator[Run]:
    """The run folder with the resolved recipe in it, locked against other processes while the block lasts.

    Results of an earlier run are removed unless it is resumed. Torchrun's workers get the folder once it is ready.
    `log` as in `condense.watch.logged`.

    Raises:
        UserError: as for `check_run`, or the folder cannot be written.
    """
    if is_worker():
        join_processes()
        yield Run(path)
        return
    _check_folder(path)
    with locked(path, "run"):
        _check_run(path, plan, resume=resume, force=force)
        for folder in _folders(path):
            sweep(folder, alone=True)
        if not resume:
            _clear(path)
        run = Run(path, progress=progress)
        atomic_write_text(path / RECIPE, json.dumps(plan.written(), indent=2) + "\n")
        join_processes()
        with logged(log, path):
            yield run


def _results(path: Path) -> list[Path]:
    """Saved results, in the folder and those below: all files written by `Run.save`."""
    return [file for folder in _folders(path) for file in sorted(folder.glob("*.safetensors"))]


def _folders(path: Path) -> tuple[Path, ...]:
    return path, path / SECOND, path / LABELLER, path / REFINED, path / REFINED / GRADIENTS


def _clear(path: Path) -> None:
    """Remove the files of an earlier run; anything else in the folder is kept."""
    metrics = [folder / "metrics.jsonl" for folder in _folders(path)]
    for file in [*_results(path), *metrics, path / RECIPE]:
        file.unlink(missing_ok=True)


def _compared(path: Path, plan: Plan) -> list[tuple[str, object, object]]:
    """(name, before, now) of values that must be equal; readers of checkpoints compare options and images."""
    try:
        before = json.loads((path / RECIPE).read_text(encoding="utf-8"))
        data = before["data"]
        if not isinstance(data, dict):
            raise TypeError("its data is not a mapping")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path / RECIPE} is missing or damaged, so the run cannot be resumed; start over with --force."
        ) from error
    now = plan.written()
    top = [(key, before.get(key), now[key]) for key in ("method", "seed", "clean_first")]
    return top + [(f"data.{key}", data.get(key), now["data"][key]) for key in ("labels", "noise", "noise_seed", "flip")]
