"""Commands for data sets: make labels imprecise, or repair them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense.cli import complete, output
from condense.cli.options import (
    MOST_SEED,
    AsJson,
    Background,
    Config,
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
    data_recipe,
    data_values,
    make_request,
    picture_values,
    recipe_values,
)


def corrupt(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Data set: a name, a folder, .npz or .h5.",
            autocompletion=complete.data,
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.npz", help="File to write.")],
    noise: Annotated[
        str | None,
        typer.Option(
            "--noise",
            metavar="KIND:RATE",
            help="Kind and rate of the noise, e.g. sym:0.4, partial:0.5.",
            autocompletion=complete.noise,
        ),
    ] = None,
    labels: Labels = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Random seed.")] = 0,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make clean labels imprecise and write them."""
    from condense.commands.corrupt import corrupt_labels as command

    recipe = data_recipe(
        data_values(data, root, image_size, download, noise, labels)
        | picture_values(fit, background, skip_unreadable, flip)
    )
    output.answer(lambda: command(recipe, seed=seed, out=out, force=force), as_json, output.facts)


def relabel(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Data set: a name, a folder, .npz or .h5.",
            autocompletion=complete.data,
        ),
    ],
    config: Config = None,
    noise: Noise = None,
    labels: Labels = None,
    generator: Annotated[
        Path | None, typer.Option("--generator", metavar="RUN", help="Run folder of a trained generator.")
    ] = None,
    labeller: Annotated[
        bool, typer.Option("--labeller", help="Use quick strong classifiers instead of a generator; takes minutes.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Use a simple classifier instead of a generator; takes seconds.")
    ] = False,
    pred_probs: Annotated[
        str | None,
        typer.Option(
            "--pred-probs",
            metavar="FILE[::NAME]",
            help="Out-of-sample class probabilities of your own model, images x classes (.npy, .npz, .csv).",
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="FILE[::NAME]|efflite0",
            help="Features of your own model, images x values (.npy, .npz, .csv), or of "
            "EfficientNet-Lite0, as input of --fast.",
        ),
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option("--apply", metavar="FILE", help="Write the labels with the decisions saved by review.html."),
    ] = None,
    quick: Quick = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR|FILE.csv",
            help="Folder for the results, or with --apply the table. [default: NAME-relabelled, NAME-reviewed.csv]",
        ),
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
    """Find, review and correct wrong labels.

    Writes labels.csv, posteriors.npz and review.html, a page on which to accept, change or reject each suggestion;
    --apply applies the decisions it saves. Trains a generator unless given one, or --labeller, --fast,
    --pred-probs or --features.
    """
    from condense.commands import relabel as commands

    named = recipe_values(
        data_values(data, root, image_size, download, noise, labels)
        | picture_values(fit, background, skip_unreadable, flip),
        generator=generator,
        seed=seed,
        quick=quick or None,
        clean_first="labeller" if labeller else None,
    )
    request = make_request(config, settings, named)
    if apply is not None:
        output.answer(lambda: commands.apply_decisions(request, apply, out=out, force=force), as_json, output.applied)
        return
    evidence = commands.Evidence(fast, pred_probs, features)
    if dry_run:
        output.answer(lambda: commands.dry_run(request, evidence), as_json, output.dry_run)
        return
    output.answer(
        lambda: commands.relabel_data(
            request,
            evidence,
            out=out,
            run_folder=run_folder,
            resume=resume,
            force=force,
            progress=not quiet,
            log=log,
        ),
        as_json,
        output.relabelling,
    )
