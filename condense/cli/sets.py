"""Commands for condensed sets: inspect, export, import, validate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from condense.cli import complete, output
from condense.cli.options import (
    MOST_SEED,
    AsJson,
    Background,
    Download,
    Fit,
    Flip,
    Force,
    ImageSize,
    Labels,
    Noise,
    Out,
    Root,
    Set,
    SkipUnreadable,
    data_recipe,
    data_values,
    one_output,
    picture_values,
)


def inspect(
    target: Annotated[
        str,
        typer.Argument(
            metavar="SET|DATA",
            help="Condensed set or data set.",
            autocompletion=complete.data,
        ),
    ],
    grid: Annotated[Path | None, typer.Option("--grid", help="Write an image grid (.png), one row per class.")] = None,
    columns: Annotated[int, typer.Option("--columns", min=1, help="Images per row.")] = 10,
    noise: Noise = None,
    labels: Labels = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Seed of the noise.")] = 0,
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
    """Describe a condensed set or a data set."""
    from condense.commands.inspect import inspect as command

    recipe = data_recipe(
        data_values(target, root, image_size, download, noise, labels)
        | picture_values(fit, background, skip_unreadable, flip)
    )

    def show(result: Mapping[str, Any]) -> None:
        _inspected(result)
        if grid is not None:
            print(f"Wrote {grid}.")

    output.answer(lambda: command(recipe, grid_png=grid, columns=columns, seed=seed, force=force), as_json, show)


def _inspected(result: Mapping[str, Any]) -> None:
    told = {name: value for name, value in result.items() if name != "notes"}  # printed already
    if result["kind"] == "condensed set":
        made = result["provenance"]
        told["provenance"] = {name: value for name, value in made.items() if name not in ("recipe", "notes")}
    output.facts(told)
    if result["kind"] == "condensed set":
        print("For the recipe and the method's notes: --json.")


def export(
    path: Set,
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="File or folder to write.")] = None,
    to: Out = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="Format: folder, hf, webdataset, npz, vico, ddranking or parquet.",
            autocompletion=complete.formats,
        ),
    ] = "folder",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Convert a set to another file format.

    hf writes a folder for Hugging Face datasets; every format includes the datasheet of the set.
    """
    from condense.commands.export import export as command

    output.answer(lambda: command(path, one_output(out, to), format, force=force), as_json, output.facts)


def import_set(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File res_*.pt of VICO's DatasetCondensation, or an .npz.")
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            help="Data set the set was made from.",
            autocompletion=complete.data,
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.h5", help="Condensed set to write.")],
    method: Annotated[str, typer.Option("--method", help="Method that made the set, e.g. dsa.")] = "imported",
    noise: Noise = None,
    mean: Annotated[
        list[float] | None,
        typer.Option(
            "--mean",
            help="Channel mean used to normalise the images; repeat per channel. [default: the .npz's, or VICO's]",
        ),
    ] = None,
    std: Annotated[list[float] | None, typer.Option("--std", help="Channel standard deviation, likewise.")] = None,
    packing: Annotated[int, typer.Option("--packing", min=1, help="Pictures packed into one image, e.g. 4.")] = 1,
    root: Root = None,
    image_size: ImageSize = None,
    fit: Fit = None,
    background: Background = None,
    skip_unreadable: SkipUnreadable = False,
    flip: Flip = None,
    download: Download = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Convert another program's condensed set."""
    from condense.commands.import_set import ImportOptions
    from condense.commands.import_set import import_set as command

    recipe = data_recipe(
        data_values(data, root, image_size, download, noise) | picture_values(fit, background, skip_unreadable, flip)
    )
    output.answer(
        lambda: command(file, out, recipe, ImportOptions(method, mean or (), std or (), packing), force=force),
        as_json,
        output.facts,
    )


def validate(path: Set, as_json: AsJson = False) -> None:
    """Check a set's file (exit code 0 or 2)."""
    from condense.commands.validate import validate as command

    output.answer(lambda: command(path), as_json, output.facts)
