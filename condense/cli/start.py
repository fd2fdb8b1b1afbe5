"""Commands to start with: a demonstration, a recipe to edit, the machine's capabilities."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense.cli import complete, output
from condense.cli.options import (
    MOST_SEED,
    AsJson,
    Background,
    Data,
    Device,
    Download,
    Fit,
    Flip,
    Force,
    ImageSize,
    Out,
    Quiet,
    Root,
    Settings,
    SkipUnreadable,
    data_values,
    make_request,
    one_output,
    picture_values,
    recipe_values,
)

if TYPE_CHECKING:
    from condense.commands.demo import DemoResult


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder for the report.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Random seed.")] = 0,
    ipc: Annotated[int, typer.Option("--ipc", min=1, help="Images per class.")] = 10,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a demo that was stopped.")] = False,
    force: Force = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on noisy digits (minutes)."""
    from condense.commands.demo import demo as command

    def show(result: DemoResult) -> None:
        lines = [
            [method, output.accuracy(value.mean, value.ci95)] for method, value in result.condensed_accuracy.items()
        ]
        output.rows([["condensed by", "test accuracy"], *lines])
        as_classifier = result.classifier_accuracy
        print(
            f"As classifiers: DMIS {as_classifier['dmis']:.1f} %, vanilla {as_classifier['vanilla']:.1f} %. "
            f"{result.labels_recovered:.1f} % of the training labels are right after recovery.\n"
            f"{result.seconds:.0f} s. Report: {out / 'report.html'}"
        )

    output.answer(
        lambda: command(
            out, seed=seed, ipc=ipc, settings=settings or (), resume=resume, force=force, progress=not quiet
        ),
        as_json,
        show,
    )


def init(
    path: Annotated[Path | None, typer.Argument(metavar="[RECIPE]", help="[default: recipe.yaml]")] = None,
    to: Out = None,
    data: Data = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="Method whose options to write. [default: dmis]",
            autocompletion=complete.methods,
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a recipe that explains every option."""
    from condense.commands.init import init as command

    request = make_request(
        None,
        None,
        recipe_values(
            data_values(data, root, image_size, download) | picture_values(fit, background, skip_unreadable, flip),
            method=method,
        ),
    )
    where = one_output(path, to, Path("recipe.yaml"))
    output.answer(
        lambda: command(where, request, force=force),
        as_json,
        lambda result: print(f"Wrote {where}. Next: dmis condense -c {shlex.quote(str(where))} --dry-run"),
    )


def doctor(device: Device = None, as_json: AsJson = False) -> None:
    """Print what this machine offers and how long the demo will take."""
    from condense.commands.doctor import doctor as command

    output.answer(command, as_json, output.facts)
