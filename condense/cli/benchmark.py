"""Commands for benchmarks: run a grid of cells, write its report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense.cli import complete, output
from condense.cli.options import (
    AsJson,
    Device,
    DryRun,
    Quiet,
    Settings,
)

if TYPE_CHECKING:
    from condense.benchmark.outcome import Outcome


def benchmark(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Benchmark recipe: a file, or the name of a shipped one.",
            autocompletion=complete.recipes,
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Folder for the report and one folder per cell.")
    ],
    settings: Settings = None,
    jobs: Annotated[
        str,
        typer.Option(
            "--jobs", metavar="N|auto", help="Cells run at once; auto: one per GPU, else one per core, at most 4."
        ),
    ] = "auto",
    hours: Annotated[
        float | None, typer.Option("--limit-hours", min=0, help="Start no more cells after this many hours.")
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            "--executor",
            metavar="local|slurm",
            help="Where the cells run.",
            autocompletion=complete.one_of("local", "slurm"),
        ),
    ] = "local",
    slurm: Annotated[
        list[str] | None,
        typer.Option("--slurm", metavar="KEY=VALUE", help="Option for submitit, e.g. slurm_partition=gpu; repeatable."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Run part I of N, e.g. 2/4; parts may share DIR.")
    ] = None,
    dry_run: DryRun = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a grid of methods, sizes and seeds.

    Run it again to compute missing results.
    """
    from condense.benchmark import runner
    from condense.benchmark.executors import choose_executor, slots_asked
    from condense.benchmark.shard import parse_shard

    slots = slots_asked(jobs)
    if dry_run:
        output.answer(lambda: runner.dry_run(recipe, out, settings or ()), as_json, output.cells)
        return

    def tell(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr)

    output.answer(
        lambda: runner.benchmark(
            recipe,
            out,
            settings=settings or (),
            executor=choose_executor(executor, out, slots, slurm or ()),
            hours=hours,
            tell=tell,
            shard=None if shard is None else parse_shard(shard),
        ),
        as_json,
        output.benchmarked,
    )


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR …", help="Folder of a benchmark, or folders of kept results.")
    ],
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="FOLDER", help="Also write a small JSON file per cell to this folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Folder for tables made from kept results.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rewrite a benchmark's report.

    With --out, make it from kept results alone, merging those of several folders.
    """
    from condense.benchmark import runner
    from condense.errors import UserError

    def command() -> Outcome:
        if out is not None:
            return runner.report_kept(folders, out)
        if len(folders) > 1:
            raise UserError("Several folders are merged from kept results; give the folder for the tables with --out.")
        return runner.report(folders[0], keep)

    output.answer(command, as_json, output.benchmarked)
