"""The command line `dmis`: parses, calls one function in `condense.commands`, prints what it returns.

Exit codes: 0 done, 1 failed, 2 usage, recipe or input error, 130 interrupted. With `--json` stdout holds one
object and everything else goes to stderr. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from condense import __version__, console
from condense.allocator import keep_freed_memory
from condense.errors import DmisError, Interrupted, WorkerDone, in_short
from condense.machine import num_processes
from condense.rng import MOST_SEEDS

if TYPE_CHECKING:
    from condense.commands._plan import Request
    from condense.recipe import DataRecipe

Result = TypeVar("Result")

DEBUG = "DMIS_DEBUG"
MOST_SEED = MOST_SEEDS - 1
METHODS = "cad, dc, dm, dmis, dsa, herding, kcenter, mtt, random, rded, sre2l, tdsm, vanilla"
CONTEXT = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help="Condense image data sets with wrong, ambiguous or missing labels.",
    epilog="Start with: dmis demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich would triple the time of `dmis -h`
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)

# options of several commands
Config = Annotated[
    str | None, typer.Option("-c", "--config", help="Recipe: a YAML file, or the name of one that ships.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="One value of the recipe; wins over all else; repeatable."),
]
Data = Annotated[
    str | None, typer.Option("--data", metavar="NAME|PATH", help="Data set by name, or a folder, .npz or .h5.")
]
Root = Annotated[Path | None, typer.Option("--root", help="Where a named data set lies.")]
ImageSize = Annotated[int | None, typer.Option("--image-size", help="Side in pixels to bring the images to.")]
Download = Annotated[bool, typer.Option("--download", help="Let a named data set be fetched.")]
Noise = Annotated[
    str | None,
    typer.Option("--noise", metavar="KIND:RATE", help="Make clean labels imprecise first, e.g. sym:0.4."),
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="FILE[::NAME]", help="Take the given labels from a file, e.g. CIFAR-10N's."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=MOST_SEED, help="Seed of everything. [default: 0]")]
RunFolder = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="Run folder, for checkpoints. [default: runs/NAME-seedN]"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run folder's checkpoint.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be done and cost; write nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress bars.")]
Set = Annotated[Path, typer.Argument(metavar="SET", help="A condensed set (.h5).")]


def main() -> None:
    """Entry of the console script."""
    keep_freed_memory()
    console.prepare()
    code = run(sys.argv[1:])
    if num_processes() > 1:
        # threads of torch's process groups may outlive the interpreter; C++ then aborts a process whose work is done
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; every error becomes a sentence on stderr. Returns the exit code."""
    debug = "--debug" in arguments or os.environ.get(DEBUG, "0") not in ("", "0")
    try:
        return _invoked(arguments)
    except WorkerDone:
        return 0
    except DmisError as error:
        console.complain(str(error), "" if isinstance(error, Interrupted) else "error: ")
        return error.exit_code
    except BrokenPipeError:
        # nobody reads any more; the interpreter's own flush at exit must not complain either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if console.is_out_of_memory(error) and not debug:
            console.complain(
                "the memory does not suffice; use fewer or smaller images (--image-size), a smaller batch or network, "
                "fewer --jobs, or a machine with more (--resume goes on from the last checkpoint)."
            )
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            console.complain("no space left on the disk; free some, then run again (--resume goes on).")
        elif debug:
            raise
        else:
            told = in_short(error)
            console.complain(f"{type(error).__name__}: {told} (dmis --debug COMMAND … shows where)")
        return 1


def _invoked(arguments: Sequence[str]) -> int:
    try:
        app(list(arguments), prog_name="dmis")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        if code == 130:
            console.complain("interrupted.", "")
        if sys.stdout is not None:
            with contextlib.suppress(ValueError):  # a closed stdout is no news here
                sys.stdout.flush()
        return code
    return 0


def _answer(command: Callable[[], Result], as_json: bool, show: Callable[[Result], None]) -> None:
    """Call the command; print its result as JSON, with stdout kept clean of anything else, or for people."""
    with contextlib.redirect_stdout(sys.stderr):
        result = command()
    console.deliver(json.dumps(result, default=_plain) + "\n" if as_json else console.gathered(lambda: show(result)))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return value.to_json()


def _version(asked: bool) -> None:
    if asked:
        print(f"dmis {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show where an unforeseen error happened (or set {DEBUG}=1).")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the report.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED)] = 0,
    ipc: Annotated[int, typer.Option("--ipc", min=1, help="Images per class.")] = 10,
    settings: Settings = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on noisy digits (3 minutes)."""
    from condense.commands import _show
    from condense.commands.demo import demo as command

    def show(result: dict[str, Any]) -> None:
        lines = [
            [method, _show.accuracy(value["mean"], value["ci95"])]
            for method, value in result["condensed_accuracy"].items()
        ]
        _show.rows([["condensed by", "test accuracy"], *lines])
        as_classifier = result["classifier_accuracy"]
        print(
            f"As classifiers: DMIS {as_classifier['dmis']:.1f} %, vanilla {as_classifier['vanilla']:.1f} %. "
            f"{result['labels_recovered']:.1f} % of the training labels are right after recovery.\n"
            f"{result['seconds']:.0f} s. Report: {out / 'report.html'}"
        )

    _answer(
        lambda: command(out, seed=seed, ipc=ipc, settings=settings or (), force=force, progress=not quiet),
        as_json,
        show,
    )


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="[RECIPE]")] = Path("recipe.yaml"),
    data: Data = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    method: Annotated[str | None, typer.Option("--method", help="Whose options. [default: dmis]")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a recipe with every option explained."""
    from condense.commands.init import init as command

    request = _request(None, None, _named(_data(data, root, image_size, download), method=method))
    _answer(
        lambda: command(path, request, force=force),
        as_json,
        lambda result: print(f"Wrote {path}. Next: dmis condense -c {shlex.quote(str(path))} --dry-run"),
    )


@app.command()
def inspect(
    target: Annotated[str, typer.Argument(metavar="SET|DATA", help="A condensed set, or a data set.")],
    grid: Annotated[Path | None, typer.Option("--grid", help="Write a picture, a class a row (.png).")] = None,
    columns: Annotated[int, typer.Option("--columns", min=1, help="Images a row.")] = 10,
    noise: Noise = None,
    labels: Labels = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Of the noise.")] = 0,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Describe a condensed set or a data set."""
    from condense.commands import _show
    from condense.commands.inspect import inspect as command

    recipe = _data_recipe(_data(target, root, image_size, download, noise, labels))
    _answer(lambda: command(recipe, grid_png=grid, columns=columns, seed=seed, force=force), as_json, _show.facts)


@app.command()
def corrupt(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Data set by name, or a folder, .npz or .h5.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.npz", help="What to write.")],
    noise: Annotated[
        str | None, typer.Option("--noise", metavar="KIND:RATE", help="E.g. sym:0.4, partial:0.5.")
    ] = None,
    labels: Labels = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED)] = 0,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make clean labels imprecise, into a file."""
    from condense.commands import _show
    from condense.commands.corrupt import corrupt_labels as command

    recipe = _data_recipe(_data(data, root, image_size, download, noise, labels))
    _answer(lambda: command(recipe, seed=seed, out=out, force=force), as_json, _show.facts)


@app.command()
def train(
    config: Config = None,
    data: Data = None,
    noise: Noise = None,
    labels: Labels = None,
    method: Annotated[
        str | None, typer.Option("--method", help="Objective: dmis, vanilla, tdsm or cad. [default: dmis]")
    ] = None,
    run_folder: RunFolder = None,
    seed: Seed = None,
    settings: Settings = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a generator only."""
    from condense.commands import _show
    from condense.commands import train as commands

    named = _named(_data(data, root, image_size, download, noise, labels), method=method, seed=seed)
    request = _request(config, settings, named)
    if dry_run:
        _answer(lambda: commands.dry_run(request), as_json, _show_dry_run)
        return
    _answer(
        lambda: commands.train(request, run_folder=run_folder, resume=resume, force=force, progress=not quiet),
        as_json,
        _show.facts,
    )


@app.command()
def condense(
    config: Config = None,
    data: Data = None,
    noise: Noise = None,
    labels: Labels = None,
    method: Annotated[
        str | None, typer.Option("--method", help=f"How to condense: {METHODS}, or a module of yours. [default: dmis]")
    ] = None,
    ipc: Annotated[int | None, typer.Option("--ipc", help="Images per class. [default: 10]")] = None,
    generator: Annotated[
        Path | None, typer.Option("--generator", metavar="RUN", help="Run folder of a trained generator.")
    ] = None,
    clean_first: Annotated[
        str | None,
        typer.Option(
            "--clean-first",
            metavar="none|dmis|cleanlab|oracle",
            help="Repair the labels first: by a DMIS generator (--generator, else trained), by cleanlab, by the truth.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The smallest budget that runs every stage: a first try.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.h5", help="The set. [default: DATA-METHOD-ipcN.h5]")
    ] = None,
    run_folder: RunFolder = None,
    seed: Seed = None,
    settings: Settings = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a condensed set from imprecise labels.

    Trains the generator if none is given.
    """
    from condense.commands import _show
    from condense.commands import condense as commands

    named = _named(
        _data(data, root, image_size, download, noise, labels),
        method=method,
        ipc=ipc,
        clean_first=clean_first,
        seed=seed,
        quick=quick or None,
    )
    if generator is not None:
        named |= {"labeller": {"generator": generator}} if clean_first == "dmis" else {"generator": generator}
    request = _request(config, settings, named)
    if dry_run:
        _answer(lambda: commands.dry_run(request), as_json, _show_dry_run)
        return

    def show(result: dict[str, Any]) -> None:
        _show.facts(result)
        print(f"Next: dmis evaluate {shlex.quote(result['path'])}")

    _answer(
        lambda: commands.condense(
            request, out=out, run_folder=run_folder, resume=resume, force=force, progress=not quiet
        ),
        as_json,
        show,
    )


@app.command()
def evaluate(
    paths: Annotated[list[Path], typer.Argument(metavar="SET …", help="Condensed sets (.h5) of one method.")],
    config: Config = None,
    data: Data = None,
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", help="How to train: hard, hard-quick, soft, dmis, quick. [default: hard]"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The protocol hard-quick: a first look, in less than a third.")
    ] = False,
    network: Annotated[
        list[str] | None,
        typer.Option("--network", metavar="A,B,…", help="What to train; repeatable. [default: the protocol's]"),
    ] = None,
    cross: Annotated[bool, typer.Option("--cross", help="Train one network of every kind.")] = False,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", metavar="RUN", help="Run folder of a teacher that gives soft labels."),
    ] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", help="Networks trained of each. [default: 5]")] = None,
    seed: Seed = None,
    settings: Settings = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train networks on a set, test on real images.

    Several sets of one method, made with different seeds, are scored together.
    """
    from condense.commands import _show
    from condense.commands.evaluate import evaluate as command
    from condense.commands.evaluate import evaluate_sets

    how = _given(protocol="hard-quick" if quick else protocol, repeats=repeats)
    named = _named(_data(data, root, image_size, download), evaluate=how or None, seed=seed)
    request = _request(config, settings, named)
    names = [name.strip() for part in network or () for name in part.split(",")]
    options: dict[str, Any] = {"network_names": names, "cross": cross, "teacher": teacher, "progress": not quiet}

    def answer(scores: Callable[[], list[Result]], show: Callable[[list[Result]], None]) -> None:
        if as_json and len(names) < 2 and not cross:
            _answer(lambda: scores()[0], True, lambda result: show([result]))
        else:
            _answer(scores, as_json, show)

    if len(paths) > 1:
        answer(lambda: evaluate_sets(paths, request, **options), _show.sets_scores)
    else:
        answer(lambda: command(paths[0], request, **options), _show.scores)


@app.command()
def rank(
    paths: Annotated[list[Path], typer.Argument(metavar="SET …", help="Condensed sets (.h5) of one data set.")],
    data: Data = None,
    protocol: Annotated[
        str, typer.Option("--protocol", help="How to train on hard labels: hard, hard-quick, dmis, quick.")
    ] = "hard",
    quick: Annotated[bool, typer.Option("--quick", help="The protocol hard-quick.")] = False,
    network: Annotated[str | None, typer.Option("--network", help="What to train. [default: the protocol's]")] = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Networks on each set, and random draws.")] = 5,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Batches of 128 on all real images. [default: 2000]")
    ] = None,
    real_accuracy: Annotated[
        float | None,
        typer.Option("--real-accuracy", metavar="0…1", help="In place of training on all real images."),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", metavar="RUN", help="Gives random images their soft labels.")
    ] = None,
    hard_labels: Annotated[bool, typer.Option("--hard-labels", help="Leave the soft labels of the sets out.")] = False,
    lrs_weight: Annotated[float, typer.Option("--lrs-weight", help="Of IOR against HLR, 0 to 1.")] = 0.5,
    ars_weight: Annotated[float, typer.Option("--ars-weight", help="Of augmented training, 0 to 1.")] = 0.5,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED)] = 0,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank sets by the scores of DD-Ranking.

    Accuracy against all real images (HLR) and against random ones (IOR), together (LRS), and without augmentation too
    (ARS); size and cost beside them.
    """
    from condense.commands import _show
    from condense.commands.rank import RankOptions
    from condense.commands.rank import rank as command

    recipe = _data_recipe(_data(data, root, image_size, download))

    def measure() -> dict[str, Any]:
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
            **_given(steps=steps),
        )
        return command(paths, recipe, options, progress=not quiet)

    _answer(measure, as_json, _show.ranking)


@app.command()
def benchmark(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A benchmark's recipe: a file, or one that ships.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the report and a folder a cell.")],
    settings: Settings = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Cells at once. [default: one with a GPU, else one a core, at most 4]"),
    ] = None,
    hours: Annotated[float | None, typer.Option("--limit-hours", min=0, help="Start no more cells after this.")] = None,
    executor: Annotated[str, typer.Option("--executor", metavar="local|slurm", help="Where cells run.")] = "local",
    slurm: Annotated[
        list[str] | None,
        typer.Option("--slurm", metavar="KEY=VALUE", help="For submitit, e.g. slurm_partition=gpu; repeatable."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a grid of methods, settings, sizes and seeds.

    Run again, it does what is missing.
    """
    from condense.commands import _show
    from condense.commands import benchmark as commands
    from condense.commands._jobs import choose_executor

    if dry_run:
        _answer(lambda: commands.dry_run(recipe, out, settings or ()), as_json, _show.cells)
        return

    def tell(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr)

    _answer(
        lambda: commands.benchmark(
            recipe,
            out,
            settings=settings or (),
            executor=choose_executor(executor, out, jobs, slurm or ()),
            hours=hours,
            tell=tell,
        ),
        as_json,
        _show.benchmarked,
    )


@app.command()
def report(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a benchmark.")],
    as_json: AsJson = False,
) -> None:
    """Write a benchmark's report anew."""
    from condense.commands import _show
    from condense.commands.benchmark import report as command

    _answer(lambda: command(out), as_json, _show.benchmarked)


@app.command()
def relabel(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Data set by name, or a folder, .npz or .h5.")],
    config: Config = None,
    noise: Noise = None,
    labels: Labels = None,
    generator: Annotated[
        Path | None, typer.Option("--generator", metavar="RUN", help="Run folder of a trained generator.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the results. [default: NAME-relabelled]")
    ] = None,
    run_folder: RunFolder = None,
    seed: Seed = None,
    settings: Settings = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find wrong labels and suggest better ones.

    Writes labels.csv, posteriors.npz and a page of the most suspicious images. Trains the generator if none is given.
    """
    from condense.commands import _show
    from condense.commands import relabel as commands

    named = _named(_data(data, root, image_size, download, noise, labels), generator=generator, seed=seed)
    request = _request(config, settings, named)
    if dry_run:
        _answer(lambda: commands.dry_run(request), as_json, _show_dry_run)
        return
    _answer(
        lambda: commands.relabel_data(
            request, out=out, run_folder=run_folder, resume=resume, force=force, progress=not quiet
        ),
        as_json,
        _show.relabelling,
    )


@app.command()
def classify(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Data set by name, or a folder, .npz or .h5.")],
    config: Config = None,
    noise: Noise = None,
    labels: Labels = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm", metavar="NAME|all", help="What to train; repeatable. [default: all that take the labels]"
        ),
    ] = None,
    generator: Annotated[
        list[Path] | None,
        typer.Option("--generator", metavar="RUN", help="Run folder of a trained generator; one an objective."),
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="What the arms train. [default: convnet3-bn]")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="For how long. [default: 40]")] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=MOST_SEED, help="Of labels, networks and generators; the first one.")
    ] = 0,
    seeds: Annotated[int, typer.Option("--seeds", help="How many.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keep results; what is there is not done again.")
    ] = None,
    settings: Settings = None,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare classifiers that learn from imprecise labels.

    Arms are ce, mixup, gce, elr, co-teaching, cc, proden, pseudo-label, mean-teacher, fixmatch; vanilla and dmis, the
    diffusion classifiers; dmis-ce, trained on what DMIS draws. --set takes fit.KEY=… for all arms, ARM.KEY=… for one,
    and anything else for the generators.
    """
    from condense.commands import _show
    from condense.commands import classify as commands

    def asked() -> tuple[Request, commands.Asked]:
        given = _given(network=network, epochs=epochs)
        own = [f"fit.{name}={value}" for name, value in given.items()]
        return (
            _request(config, None, _named(_data(data, root, image_size, download, noise, labels))),
            commands.Asked(arm or [commands.ALL], seed, seeds, generator or (), [*(settings or ()), *own]),
        )

    if dry_run:
        _answer(lambda: commands.dry_run(*asked(), out=out), as_json, _show.facts)
        return
    _answer(lambda: commands.classify(*asked(), out=out, progress=not quiet), as_json, _show.classification)


@app.command()
def generate(
    generator: Annotated[Path, typer.Option("--generator", metavar="RUN", help="Run folder of a trained generator.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Images per class.")],
    out: Annotated[Path, typer.Option("--out", help="An .h5 or .npz file, or a folder of pictures.")],
    agree: Annotated[
        bool, typer.Option("--agree", help="Replace samples that the generator's classifier gives to another class.")
    ] = False,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Steps of the sampler.")] = 18,
    guidance: Annotated[float, typer.Option("--guidance", min=0.0, help="Strength of class guidance.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the images drawn before a stop.")] = False,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw any number of images a class from a trained generator."""
    from condense.commands import _show
    from condense.commands.generate import Wanted
    from condense.commands.generate import generate as command

    wanted = Wanted(count, agree, steps, guidance, seed)
    _answer(
        lambda: command(generator, wanted, out, resume=resume, force=force, progress=not quiet),
        as_json,
        _show.facts,
    )


@app.command()
def export(
    path: Set,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File or folder to write.")],
    format: Annotated[str, typer.Option("--format", "-f", help="folder, npz, vico, ddranking or parquet.")] = "folder",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a set in another program's file form."""
    from condense.commands import _show
    from condense.commands.export import export as command

    _answer(lambda: command(path, out, format, force=force), as_json, _show.facts)


@app.command()
def audit(
    target: Annotated[str, typer.Argument(metavar="SET|DATA", help="A condensed set, or a data set.")],
    data: Data = None,
    labels: Labels = None,
    noise: Noise = None,
    classifier: Annotated[
        str, typer.Option("--classifier", metavar="NETWORK|none", help="Judges what the truth does not tell.")
    ] = "convnet3",
    steps: Annotated[
        int | None, typer.Option("--steps", help="Batches of 128 it is trained for. [default: 400]")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a report.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED)] = 0,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Are the labels right, the images copies?"""
    from condense.commands import _show
    from condense.commands.audit import audit as command

    recipe = _data_recipe(_data(data, root, image_size, download, noise, labels))
    _answer(
        lambda: command(
            target,
            recipe,
            classifier=classifier,
            seed=seed,
            html=html,
            force=force,
            progress=not quiet,
            **_given(steps=steps),
        ),
        as_json,
        _show.audit,
    )


@app.command()
def metrics(
    paths: Annotated[list[Path], typer.Argument(metavar="SET", help="Condensed sets (.h5) of one size.")],
    data: Data = None,
    space: Annotated[
        str | None, typer.Option("--space", help="Features: convnet, efflite0, inception. [default: convnet]")
    ] = None,
    inception_weights: Annotated[
        Path | None, typer.Option("--inception-weights", metavar="FILE", help="For the true FID.")
    ] = None,
    k: Annotated[list[int] | None, typer.Option("--k", help="Neighbours; repeatable. [default: 3 and 5]")] = None,
    reference: Annotated[
        int | None, typer.Option("--reference", help="Most real images to compare with. [default: 10000]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Batches of 128 for the space convnet. [default: 400]")
    ] = None,
    cas: Annotated[
        str, typer.Option("--cas", metavar="PROTOCOL|none", help="How to train on the set, to test on real images.")
    ] = "hard-quick",
    repeats: Annotated[int | None, typer.Option("--repeats", help="Networks trained for it. [default: 3]")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED)] = 0,
    root: Root = None,
    image_size: ImageSize = None,
    download: Download = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Hold sets against real images (FID and kin)."""
    from condense.commands import _show
    from condense.commands.metrics import MetricsOptions
    from condense.commands.metrics import metrics as command

    recipe = _data_recipe(_data(data, root, image_size, download))

    def measure() -> dict[str, Any]:
        options = MetricsOptions(
            space=space or ("inception" if inception_weights else "convnet"),
            inception_weights=inception_weights,
            cas=None if cas == "none" else cas,
            seed=seed,
            **_given(ks=tuple(sorted(set(k))) if k else None, reference=reference, steps=steps, repeats=repeats),
        )
        return command(paths, recipe, options, progress=not quiet)

    _answer(measure, as_json, _show.metrics)


@app.command()
def validate(path: Set, as_json: AsJson = False) -> None:
    """Check that a set is whole (exit code 0 or 2)."""
    from condense.commands import _show
    from condense.commands.validate import validate as command

    _answer(lambda: command(path), as_json, _show.facts)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Tell what this machine offers."""
    from condense.commands import _show
    from condense.commands.doctor import doctor as command

    _answer(command, as_json, _show.facts)


def _show_dry_run(result: dict[str, Any]) -> None:
    from condense.commands import _show
    from condense.commands._plan import as_yaml

    print(as_yaml(result["recipe"]))
    _show.facts({name: value for name, value in result.items() if name != "recipe"})


def _given(**values: Any) -> dict[str, Any]:
    """The values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _data(
    name: str | None,
    root: Path | None,
    image_size: int | None,
    download: bool,
    noise: str | None = None,
    labels: str | None = None,
) -> dict[str, Any]:
    """The recipe's section on data, as far as options give it."""
    return _given(name=name, root=root, image_size=image_size, download=download or None, noise=noise, labels=labels)


def _named(data: dict[str, Any], **values: Any) -> dict[str, Any]:
    return _given(data=data or None, **values)


def _data_recipe(values: dict[str, Any]) -> DataRecipe:
    from condense.recipe import DataRecipe, parse

    return parse(DataRecipe, values, "option for data")


def _request(config: str | None, settings: list[str] | None, named: dict[str, Any]) -> Request:
    from condense.commands._plan import Request

    return Request(config, named, settings or ())
