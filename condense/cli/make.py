"""Commands that make something: a generator, a condensed set, images."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from condense.cli import complete, output
from condense.cli.options import (
    METHODS,
    MOST_SEED,
    AsJson,
    Background,
    Config,
    Data,
    Device,
    Download,
    DryRun,
    Fit,
    Flip,
    Force,
    ImageSize,
    Labels,
    Log,
    Noise,
    Quick,
    Quiet,
    Resume,
    Root,
    RunFolder,
    Seed,
    Settings,
    SkipUnreadable,
    TrainedFolder,
    data_values,
    make_request,
    picture_values,
    recipe_values,
)


def train(
    config: Config = None,
    data: Data = None,
    noise: Noise = None,
    labels: Labels = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="Training objective: dmis, vanilla, tdsm or cad. [default: dmis]",
            autocompletion=complete.objectives,
        ),
    ] = None,
    quick: Quick = False,
    run_folder: TrainedFolder = None,
    seed: Seed = None,
    settings: Settings = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    device: Device = None,
    log: Log = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a generator only."""
    from condense.commands import train as commands

    named = recipe_values(
        data_values(data, root, image_size, download, noise, labels)
        | picture_values(fit, background, skip_unreadable, flip),
        method=method,
        seed=seed,
        quick=quick or None,
    )
    request = make_request(config, settings, named)
    if dry_run:
        output.answer(lambda: commands.dry_run(request), as_json, output.dry_run)
        return
    output.answer(
        lambda: commands.train(request, run_folder=run_folder, resume=resume, force=force, progress=not quiet, log=log),
        as_json,
        output.told,
    )


def condense(
    config: Config = None,
    data: Data = None,
    noise: Noise = None,
    labels: Labels = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help=f"Condensation method: {METHODS}, or a module of yours. [default: dmis]",
            autocompletion=complete.methods,
        ),
    ] = None,
    ipc: Annotated[int | None, typer.Option("--ipc", help="Images per class. [default: 10]")] = None,
    generator: Annotated[
        Path | None, typer.Option("--generator", metavar="RUN", help="Run folder of a trained generator.")
    ] = None,
    clean_first: Annotated[
        str | None,
        typer.Option(
            "--clean-first",
            metavar="none|dmis|labeller|cleanlab|oracle",
            help="Repair the labels first: by DMIS (--generator, or a new one), by quick classifiers (labeller), by "
            "cleanlab, or by the true labels (oracle).",
            autocompletion=complete.one_of("none", "dmis", "labeller", "cleanlab", "oracle"),
        ),
    ] = None,
    quick: Quick = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE.h5", help="Condensed set to write. [default: DATA-METHOD-ipcN.h5]"),
    ] = None,
    run_folder: RunFolder = None,
    seed: Seed = None,
    settings: Settings = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    device: Device = None,
    log: Log = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a condensed set from imprecise labels.

    Trains the generator if none is given.
    """
    from condense.commands import condense as commands

    named = recipe_values(
        data_values(data, root, image_size, download, noise, labels)
        | picture_values(fit, background, skip_unreadable, flip),
        method=method,
        ipc=ipc,
        clean_first=clean_first,
        seed=seed,
        quick=quick or None,
    )
    if generator is not None:
        named |= {"labeller": {"generator": generator}} if clean_first == "dmis" else {"generator": generator}
    request = make_request(config, settings, named)
    if dry_run:
        output.answer(lambda: commands.dry_run(request), as_json, output.dry_run)
        return

    def show(result: Mapping[str, Any]) -> None:
        output.facts(result)
        print(f"Next: dmis evaluate {shlex.quote(result['path'])}")

    output.answer(
        lambda: commands.condense(
            request, out=out, run_folder=run_folder, resume=resume, force=force, progress=not quiet, log=log
        ),
        as_json,
        show,
    )


def generate(
    generator: Annotated[Path, typer.Option("--generator", metavar="RUN", help="Run folder of a trained generator.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Images per class.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File (.h5, .npz) or folder of images to write.")],
    agree: Annotated[
        bool, typer.Option("--agree", help="Replace samples that the generator assigns to another class.")
    ] = False,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Steps of the sampler.")] = 18,
    guidance: Annotated[float, typer.Option("--guidance", min=0.0, help="Strength of class guidance.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Random seed.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue with the images drawn before a stop.")] = False,
    force: Force = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw images from a trained generator."""
    from condense.pipeline.generate import Wanted
    from condense.pipeline.generate import generate as command

    wanted = Wanted(count, agree, steps, guidance, seed)
    output.answer(
        lambda: command(generator, wanted, out, resume=resume, force=force, progress=not quiet),
        as_json,
        output.facts,
    )
