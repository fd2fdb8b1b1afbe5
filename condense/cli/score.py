"""Commands that measure: condensed sets, data sets, classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense.classifiers import arms
from condense.cli import complete, output
from condense.cli.options import (
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
    Noise,
    Quiet,
    Root,
    Seed,
    Settings,
    SkipUnreadable,
    data_recipe,
    data_values,
    given_values,
    make_request,
    picture_values,
    recipe_values,
)
from condense.json_values import JSON

if TYPE_CHECKING:
    from condense.pipeline.plan import Request

ARMS = ", ".join(("those above", *arms.installed()))

QuickScore = Annotated[bool, typer.Option("--quick", help="Smallest budget, for a first try: the protocol hard-quick.")]
Html = Annotated[
    Path | None, typer.Option("-o", "--out", "--html", metavar="FILE.html", help="Write a report to this file.")
]


def evaluate(
    paths: Annotated[list[Path], typer.Argument(metavar="SET …", help="Condensed sets (.h5) of one method.")],
    config: Config = None,
    data: Data = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="Protocol: hard, hard-quick, hard-adam, hard-as-learned, stored-labels, soft, soft-stored, dmis, "
            "quick. [default: hard]",
            autocompletion=complete.protocols,
        ),
    ] = None,
    quick: QuickScore = False,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            metavar="A,B,…",
            help="Networks to train; repeatable. [default: the protocol's]",
            autocompletion=complete.networks,
        ),
    ] = None,
    cross: Annotated[bool, typer.Option("--cross", help="Also train one network of every architecture.")] = False,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", metavar="RUN", help="Run folder of the teacher for soft labels."),
    ] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", help="Networks trained on each set. [default: 5]")] = None,
    seed: Seed = None,
    settings: Settings = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train networks on a set and test them.

    Several sets of one method, made with different seeds, are scored together.
    """
    from condense.commands.evaluate import evaluate as command

    how = given_values(protocol="hard-quick" if quick else protocol, repeats=repeats)
    named = recipe_values(
        data_values(data, root, image_size, download) | picture_values(fit, background, skip_unreadable, flip),
        evaluate=how or None,
        seed=seed,
    )
    request = make_request(config, settings, named)
    names = [name.strip() for part in network or () for name in part.split(",")]
    output.answer(
        lambda: command(paths, request, network_names=names, cross=cross, teacher=teacher, progress=not quiet),
        as_json,
        output.scores,
    )


def rank(
    paths: Annotated[list[Path], typer.Argument(metavar="SET …", help="Condensed sets (.h5) of one data set.")],
    data: Data = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="Protocol for hard labels: hard, hard-quick, hard-adam, dmis, quick.",
            autocompletion=complete.protocols,
        ),
    ] = "hard",
    quick: QuickScore = False,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            help="Network to train. [default: the protocol's]",
            autocompletion=complete.networks,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Networks per set, and number of random sets.")] = 5,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Training steps on all real images. [default: 2000]")
    ] = None,
    real_accuracy: Annotated[
        float | None,
        typer.Option("--real-accuracy", metavar="0…1", help="Accuracy to use instead of training on all real images."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", metavar="RUN", help="Run folder of the teacher for soft labels of random images."),
    ] = None,
    hard_labels: Annotated[bool, typer.Option("--hard-labels", help="Ignore the soft labels of the sets.")] = False,
    lrs_weight: Annotated[float, typer.Option("--lrs-weight", help="Weight of IOR against HLR, 0 to 1.")] = 0.5,
    ars_weight: Annotated[float, typer.Option("--ars-weight", help="Weight of augmented training, 0 to 1.")] = 0.5,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Random seed.")] = 0,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank sets by the scores of DD-Ranking.

    Compares accuracy with all real images (HLR) and with random ones (IOR), combined (LRS), and also without
    augmentation (ARS); shows size and cost.
    """
    from condense.commands.rank import RankOptions
    from condense.commands.rank import rank as command

    recipe = data_recipe(
        data_values(data, root, image_size, download) | picture_values(fit, background, skip_unreadable, flip)
    )

    def measure() -> dict[str, JSON]:
        options = RankOptions(
            protocol="hard-quick" if quick else protocol,
            network=network,
            repeats=repeats,
            real_accuracy=real_accuracy,
            teacher=teacher,
            hard_labels=hard_labels,
            lrs_weight=lrs_weight,
            ars_weight=ars_weight,
            seed=seed,
            **given_values(steps=steps),
        )
        return command(paths, recipe, options, progress=not quiet)

    output.answer(measure, as_json, output.ranking)


def metrics(
    paths: Annotated[list[Path], typer.Argument(metavar="SET", help="Condensed sets (.h5) of equal size.")],
    data: Data = None,
    space: Annotated[
        str | None, typer.Option("--space", help="Feature space: convnet, efflite0 or inception. [default: convnet]")
    ] = None,
    inception_weights: Annotated[
        Path | None, typer.Option("--inception-weights", metavar="FILE", help="Inception weights, for the true FID.")
    ] = None,
    k: Annotated[
        list[int] | None, typer.Option("--k", help="Number of neighbours; repeatable. [default: 3 and 5]")
    ] = None,
    reference: Annotated[
        int | None, typer.Option("--reference", help="Largest number of real images to compare with. [default: 10000]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Training steps of the convnet space, batches of 128. [default: 400]")
    ] = None,
    cas: Annotated[
        str,
        typer.Option("--cas", metavar="PROTOCOL|none", help="Protocol for the classification accuracy score (CAS)."),
    ] = "hard-quick",
    repeats: Annotated[int | None, typer.Option("--repeats", help="Networks trained for CAS. [default: 3]")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Random seed.")] = 0,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare sets with real images (FID etc.)."""
    from condense.commands.metrics import MetricsOptions
    from condense.commands.metrics import metrics as command

    recipe = data_recipe(
        data_values(data, root, image_size, download) | picture_values(fit, background, skip_unreadable, flip)
    )

    def measure() -> dict[str, JSON]:
        options = MetricsOptions(
            space=space or ("inception" if inception_weights else "convnet"),
            inception_weights=inception_weights,
            cas=None if cas == "none" else cas,
            seed=seed,
            **given_values(ks=tuple(sorted(set(k))) if k else None, reference=reference, steps=steps, repeats=repeats),
        )
        return command(paths, recipe, options, progress=not quiet)

    output.answer(measure, as_json, output.metrics)


def audit(
    target: Annotated[
        str,
        typer.Argument(
            metavar="SET|DATA",
            help="A condensed set, or a data set.",
            autocompletion=complete.data,
        ),
    ],
    data: Data = None,
    labels: Labels = None,
    noise: Noise = None,
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier", metavar="NETWORK|none", help="Classifier that judges labels whose true class is unknown."
        ),
    ] = "convnet3",
    steps: Annotated[
        int | None, typer.Option("--steps", help="Training steps of the classifier, batches of 128. [default: 400]")
    ] = None,
    html: Html = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Random seed.")] = 0,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    force: Force = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check for wrong labels and copied images.

    Only measures; use dmis relabel to review and correct the labels of a data set.
    """
    from condense.commands.audit import audit as command

    recipe = data_recipe(
        data_values(data, root, image_size, download, noise, labels)
        | picture_values(fit, background, skip_unreadable, flip)
    )
    output.answer(
        lambda: command(
            target,
            recipe,
            classifier=classifier,
            seed=seed,
            html=html,
            force=force,
            progress=not quiet,
            **given_values(steps=steps),
        ),
        as_json,
        output.audit,
    )


def classify(
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
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            metavar="NAME|all",
            help=f"Classifier to train: {ARMS}; repeatable. [default: all that accept the labels]",
            autocompletion=complete.arms,
        ),
    ] = None,
    generator: Annotated[
        list[Path] | None,
        typer.Option("--generator", metavar="RUN", help="Run folder of a trained generator; one per objective."),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            help="Network of the classifiers. [default: convnet3-bn]",
            autocompletion=complete.networks,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Training epochs. [default: 40]")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="First random seed.")] = 0,
    seeds: Annotated[int, typer.Option("--seeds", help="Number of seeds.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Folder for results; those it already holds are reused."),
    ] = None,
    settings: Settings = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    dry_run: DryRun = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare classifiers on imprecise labels.

    For all kinds of labels: ce, mixup. For one label per image: gce, elr, co-teaching, pencil. For candidate sets:
    cc, proden, idgp, pico, crdpll, dirk. Where some labels are missing: pseudo-label, mean-teacher, fixmatch, dash,
    comatch, flexmatch, simmatch, softmatch. Diffusion classifiers: vanilla, dmis. Trained on images drawn by DMIS:
    dmis-ce. --set takes fit.KEY=… for all classifiers, ARM.KEY=… for one, and anything else for the generators.
    """
    from condense.commands import classify as commands
    from condense.pipeline.classify import ALL

    def asked() -> tuple[Request, commands.Asked]:
        given = given_values(network=network, epochs=epochs)
        own = [f"fit.{name}={value}" for name, value in given.items()]
        return (
            make_request(
                config,
                None,
                recipe_values(
                    data_values(data, root, image_size, download, noise, labels)
                    | picture_values(fit, background, skip_unreadable, flip)
                ),
            ),
            commands.Asked(arm or [ALL], seed, seeds, generator or (), [*(settings or ()), *own]),
        )

    if dry_run:
        output.answer(lambda: commands.dry_run(*asked(), out=out), as_json, output.facts)
        return
    output.answer(lambda: commands.classify(*asked(), out=out, progress=not quiet), as_json, output.classification)
