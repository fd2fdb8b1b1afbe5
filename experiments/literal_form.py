"""The paper's own objective in training, compared with its cheaper forms: one table and one plot.

    python experiments/literal_form.py OUT [--noise sym:0.4] [--seeds 3] [--row NAME] [--set train.steps=600]

For every way to train (`ROWS`) and seed: test accuracy of the diffusion classifier, training labels recovered, and the
share of samples from pure noise that a classifier trained on true labels assigns to the requested class; network
evaluations and seconds of training. Small results lie in OUT/results, one file per cell; another run computes missing
cells and resumes unfinished ones (OUT/runs); --show only prints existing results. The plot is OUT/plot.png.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from condense.evaluate.judge import Judge, train_judge
from condense.evaluate.stats import summarise
from condense.files import atomic_write_text
from condense.generator.model import Generator
from condense.generator.training.two_stage import train_stages
from condense.machine import machine
from condense.methods._generate import GeneratorOptions, cost_of_stages
from condense.pipeline.label_scores import labels_recovered, test_accuracy
from condense.pipeline.plan import Plan, Request, make_plan
from condense.run import Run

CONDITIONAL = "network.kind=conditional"
ONE_STAGE = "second_stage="
ELR = "train.noisy_loss=elr"
MIXTURE = "train.form=mixture"
TWO_DRAWN = "train.top_k=2"
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Conditional, vanilla": ("vanilla", (ONE_STAGE, CONDITIONAL)),
    "AllClass, expected": ("dmis", (ONE_STAGE,)),
    "AllClass, expected, ELR": ("dmis", (ONE_STAGE, ELR)),
    "AllClass, sampled": ("dmis", (ONE_STAGE, "train.form=sampled")),
    "AllClass, mixture": ("dmis", (ONE_STAGE, MIXTURE)),
    "AllClass, mixture, ELR": ("dmis", (ONE_STAGE, MIXTURE, ELR)),
    "AllClass, then Conditional": ("dmis", ("second_stage.network.kind=conditional",)),
    "Conditional, expected, 2 drawn": ("dmis", (ONE_STAGE, CONDITIONAL, TWO_DRAWN)),
    "Conditional, sampled, 2 drawn": ("dmis", (ONE_STAGE, CONDITIONAL, "train.form=sampled", TWO_DRAWN)),
    "Conditional, mixture, 2 drawn": ("dmis", (ONE_STAGE, CONDITIONAL, MIXTURE, TWO_DRAWN)),
    "Conditional, mixture, 2 drawn, ELR": ("dmis", (ONE_STAGE, CONDITIONAL, MIXTURE, TWO_DRAWN, ELR)),
    "Conditional, mixture, all": ("dmis", (ONE_STAGE, CONDITIONAL, MIXTURE)),
}
SAMPLES = 100  # per class


@dataclass(frozen=True)
class Cell:
    """The results of one training; shares in percent, of `scored` images at most."""

    row: str
    seed: int
    noise: str
    steps: int
    classifier: float | None
    recovered: float | None
    agreement: float
    judge: str
    judge_accuracy: float
    evaluations: int
    seconds: float
    settings: list[str]
    machine: dict[str, object]
    scored: int = 10000


def agreement(generator: Generator, judge: Judge, seed: int) -> float:
    """Share in percent of samples from pure noise that the judge assigns to the requested class."""
    labels = np.repeat(np.arange(len(generator.classes)), SAMPLES)
    drawn = generator.sample(labels, seed)
    return 100 * float((judge.probabilities(drawn).argmax(1) == labels).mean())


def trained_judge(plan: Plan) -> tuple[Judge, float]:
    """A ConvNet-3 trained on the true labels, and its test accuracy in percent."""
    source = plan.source
    assert source.truth is not None and source.test is not None and source.test_truth is not None
    judge = train_judge(source.train, source.supervision, source.truth)
    return judge, 100 * judge.accuracy(source.test, source.test_truth)


def measure(row: str, seed: int, data: str, noise: str, settings: list[str], most: int, folder: Path) -> Cell:
    """Train one generator, or resume its training, and score it."""
    method, own = ROWS[row]
    named = {"data": {"name": data, "noise": noise}, "method": method, "seed": seed}
    plan = make_plan(Request(named=named, settings=[*own, *settings]))
    options = plan.options
    assert isinstance(options, GeneratorOptions)
    generator = train_stages(
        plan.train, options.network, options.train_options(method), options.second_stage, seed, Run(folder)
    )
    judge, judge_accuracy = trained_judge(plan)
    cost = cost_of_stages(generator)
    return Cell(
        row,
        seed,
        noise,
        options.train.steps,
        test_accuracy(generator, plan, most),
        labels_recovered(generator, plan, most),
        agreement(generator, judge, seed),
        judge.describe(),
        judge_accuracy,
        cost.network_evaluations,
        cost.seconds,
        settings,
        machine(),
        most,
    )


def spread(values: list[float | None]) -> str:
    """Mean and 95 % interval."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    summary = summarise(known)
    return f"{summary.mean:.1f}" + ("" if summary.ci95 is None else f" ± {summary.ci95:.1f}")


def table(cells: list[Cell]) -> str:
    """Markdown, one line per way to train."""
    lines = [
        "| | seeds | classifier | labels recovered | samples of the class asked for | evaluations | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in ROWS:
        if mine := [cell for cell in cells if cell.row == row]:
            evaluations = np.mean([cell.evaluations for cell in mine]) / 1e6
            seconds = np.mean([cell.seconds for cell in mine])
            columns = (
                spread([getattr(cell, key) for cell in mine]) for key in ("classifier", "recovered", "agreement")
            )
            lines.append(f"| {row} | {len(mine)} | {' | '.join(columns)} | {evaluations:.2f} M | {seconds:.0f} |")
    return "\n".join(lines)


def plot(cells: list[Cell], path: Path) -> None:
    """Classifier accuracy and class agreement of samples against network evaluations."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for axis, key, title in zip(
        axes, ("classifier", "agreement"), ("classifier, test accuracy", "samples of the class asked for"), strict=True
    ):
        for index, row in enumerate(ROWS):
            if mine := [cell for cell in cells if cell.row == row and getattr(cell, key) is not None]:
                marker = "osD^v"[index // 10 % 5] if not row.startswith("Conditional") else "s"
                axis.plot(
                    [cell.evaluations for cell in mine],
                    [getattr(cell, key) for cell in mine],
                    marker,
                    label=row,
                    color=f"C{index % 10}",
                )
        axis.set(xscale="log", xlabel="network evaluations in training", ylabel="percent", title=title)
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count / 1e6:g} M"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def read(folder: Path) -> list[Cell]:
    """The finished cells."""
    return [Cell(**json.loads(file.read_text(encoding="utf-8"))) for file in sorted(folder.glob("*.json"))]


def main() -> None:
    """Make the cells that are missing, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--noise", default="sym:0.4")
    parser.add_argument("--seeds", type=int, default=3, help="0 to one less")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="these alone; may be given several times")
    parser.add_argument("--set", action="append", default=[], help="a.b=value of every recipe")
    parser.add_argument("--scored", type=int, default=10000, help="most test and most training images to classify")
    parser.add_argument("--show", action="store_true", help="print what is there")
    asked = parser.parse_args()
    results = asked.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    for seed in range(0 if asked.show else asked.seeds):
        for row in asked.row or ROWS:
            name = "".join(letter if letter.isalnum() else "-" for letter in f"{asked.noise} {row} {seed}")
            if not (file := results / f"{name}.json").exists():
                cell = measure(row, seed, asked.data, asked.noise, asked.set, asked.scored, asked.out / "runs" / name)
                atomic_write_text(file, json.dumps(asdict(cell), indent=1) + "\n")
                print(f"{row}, seed {seed}: {cell.classifier} {cell.recovered} {cell.agreement}", flush=True)
    cells = read(results)
    for noise in sorted({cell.noise for cell in cells}):
        print(f"\n{noise}\n\n{table([cell for cell in cells if cell.noise == noise])}")
    if cells:
        plot(cells, asked.out / "plot.png")


if __name__ == "__main__":
    main()
