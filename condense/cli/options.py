"""Options shared by several commands, and the parts of a recipe they set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condense import methods
from condense.cli import complete
from condense.errors import UserError
from condense.machine import DEVICE, check_device
from condense.rng import MOST_SEEDS
from condense.watch import LOGS, check_log

if TYPE_CHECKING:
    from condense.pipeline.plan import Request
    from condense.recipe import DataRecipe

MOST_SEED = MOST_SEEDS - 1
METHODS = ", ".join(methods.names())


def _use_device(name: str | None) -> str | None:
    """Compute on this device for the duration of the command."""
    if name is not None:
        check_device(name)
        os.environ[DEVICE] = name  # inherited by a benchmark's processes; `cli.run` restores it
    return name


def _checked_log(name: str | None) -> str | None:
    check_log(name)
    return name


Config = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--config",
        help="Recipe: a YAML file, or the name of a shipped one.",
        autocompletion=complete.recipes,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Set one value of the recipe; overrides all else; repeatable."),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|PATH",
        help="Data set: a name, a folder, .npz or .h5.",
        autocompletion=complete.data,
    ),
]
Root = Annotated[Path | None, typer.Option("--root", help="Folder of a named data set.")]
ImageSize = Annotated[int | None, typer.Option("--image-size", help="Resize images to this side, in pixels.")]
Fit = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="crop|pad|squash",
        help="Make images square: crop the middle, pad with a margin, or stretch. [default: crop]",
        autocompletion=complete.one_of("crop", "pad", "squash"),
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        metavar="white|grey|black",
        help="Colour behind transparent images and of the margin of --fit pad. [default: white]",
        autocompletion=complete.one_of("white", "grey", "black"),
    ),
]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help="Skip files that cannot be read.")]
Flip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip",
        help="Whether a mirrored image keeps its class. [default: guessed from the class names]",
        show_default=False,
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Allow a named data set to be downloaded.")]
Noise = Annotated[
    str | None,
    typer.Option(
        "--noise",
        metavar="KIND:RATE",
        help="Make the clean labels imprecise first, e.g. sym:0.4.",
        autocompletion=complete.noise,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="FILE[::NAME]", help="Read the given labels from a file, e.g. CIFAR-10N."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Smallest budget that runs every stage, for a first try.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=MOST_SEED, help="Random seed. [default: 0]")]
RunFolder = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="Run folder for checkpoints. [default: runs/NAME-seedN]"),
]
TrainedFolder = Annotated[
    Path | None,
    typer.Option(
        "--run",
        "-o",
        "--out",
        metavar="DIR",
        help="Run folder for the generator and checkpoints. [default: runs/NAME-seedN]",
    ),
]
Out = Annotated[Path | None, typer.Option("-o", "--out", hidden=True)]  # where the output is an argument
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the run folder's checkpoint.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; write nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        help=f"Device to compute on (or set {DEVICE}). [default: auto, a GPU if there is one]",
        callback=_use_device,
        autocompletion=complete.devices,
    ),
]
Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="|".join(LOGS),
        help="Also send the metrics to this service.",
        callback=_checked_log,
        autocompletion=complete.logs,
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Hide progress bars.")]
Set = Annotated[Path, typer.Argument(metavar="SET", help="A condensed set (.h5).")]


def one_output(argument: Path | None, option: Path | None, default: Path | None = None) -> Path:
    """The path to write, given as an argument or, as in other commands, with `-o`.

    Raises:
        UserError: the output is given twice, or is missing and there is no default.
    """
    if argument is not None and option is not None:
        raise UserError(f"There are two outputs, {argument} and {option}; give one.")
    found = argument or option or default
    if found is None:
        raise UserError("The output is missing; give it last, or with --out.")
    return found


def given_values(**values: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def data_values(
    name: str | None,
    root: Path | None,
    image_size: int | None,
    download: bool,
    noise: str | None = None,
    labels: str | None = None,
) -> dict[str, Any]:
    """The recipe's section `data`, as far as options set it."""
    return given_values(
        name=name, root=root, image_size=image_size, download=download or None, noise=noise, labels=labels
    )


def picture_values(fit: str | None, background: str | None, skip_unreadable: bool, flip: bool | None) -> dict[str, Any]:
    """The keys of the recipe's section `data` about reading images, as far as options set them."""
    return given_values(fit=fit, background=background, skip_unreadable=skip_unreadable or None, flip=flip)


def recipe_values(data: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The part of the recipe that options set: its section `data` and single values."""
    return given_values(data=data or None, **values)


def data_recipe(values: dict[str, Any]) -> DataRecipe:
    """The section `data` alone, validated.

    Raises:
        UserError: an option has an invalid value.
    """
    from condense.recipe import DataRecipe, parse

    return parse(DataRecipe, values, "option for data", options=True)


def make_request(config: str | None, settings: list[str] | None, named: dict[str, Any]) -> Request:
    """The request to a command that takes a whole recipe: the file, the options and --set."""
    from condense.pipeline.plan import Request

    return Request(config, named, settings or ())
