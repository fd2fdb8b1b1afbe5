"""The noise levels of the diffusion classifier: Theorem 2's schedule against the uniform one (the paper's Figure 1a).

    python experiments/schedules.py RUN [--data digits] [--images 500] [--plot schedules.png]

One trained generator, T = 1, 2, 4, 8, 16 noise levels, an antithetic pair each, test accuracy in percent. The noise is
drawn with three seeds; mean and standard deviation over them are printed. Below it Theorem 3's ERR(l, r, y) of every
class, over test images of that class, in EDM's form of the interval and in DDPM's, both as a fraction of the mean of ħ
within the interval: near 0 if the two ends represent the interior (the paper's Figure 1c).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from condense.data import sources
from condense.generator.classifier import (
    Schedule,
    centred_interval,
    centred_schedule,
    logits_from_errors,
    uniform_schedule,
)
from condense.generator.model import Generator
from condense.generator.timesteps import (
    ddpm_interval,
    ddpm_look,
    ddpm_steps,
    edm_look,
    edm_steps,
    interval_error,
)
from condense.run import Run

STEPS = (1, 2, 4, 8, 16)
WIDTH, DDPM_WIDTH, INSIDE = 6.4, 0.6, 16  # of the intervals, and time steps that stand for their inside
SCHEDULES = {"centred (Theorem 2)": centred_schedule, "uniform": uniform_schedule}


def accuracy(generator: Generator, images: np.ndarray, labels: np.ndarray, schedule: Schedule, seed: int) -> float:
    """Percent of images whose most probable class is right."""
    errors = generator.errors(images, schedule, seed=seed)
    logits = logits_from_errors(errors, generator.temperature, generator.log_prior)
    return float((logits.argmax(1).numpy() == labels).mean() * 100)


def relative_errors(generator: Generator, images: np.ndarray, labels: np.ndarray, form: str) -> np.ndarray:
    """ERR(l, r, y) / E[ħ(τ, y) | τ in [l, r]] of each image under its own class: [n]."""
    edm = form == "EDM"
    left, right = centred_interval(WIDTH) if edm else ddpm_interval(DDPM_WIDTH)
    inside = edm_steps(left, right, INSIDE) if edm else ddpm_steps(left, right, INSIDE)
    look, own = edm_look if edm else ddpm_look, torch.from_numpy(labels)[:, None]

    def weighted_error(tau: float) -> torch.Tensor:
        return generator.errors(images, look(tau)).gather(1, own)[:, 0]

    error = interval_error(weighted_error, left, right, inside)
    mean = torch.stack([weighted_error(tau).double() for tau in inside]).mean(0)
    return np.asarray((error / mean).numpy())


def print_interval_errors(generator: Generator, images: np.ndarray, labels: np.ndarray) -> None:
    """A line per class: mean and standard deviation over its images, of both forms."""
    (left, right), (low, high) = centred_interval(WIDTH), ddpm_interval(DDPM_WIDTH)
    forms = {"EDM": f"EDM [{left:.4f}, {right:.4f}]", "DDPM": f"DDPM [{low:.2f}, {high:.2f}]"}
    found = {form: relative_errors(generator, images, labels, form) for form in forms}
    print("\nERR(l, r, y) in parts of the mean error within the interval")
    print(f"{'class':>12} " + " ".join(f"{name:>24}" for name in forms.values()))
    for y, name in enumerate(generator.classes):
        own = [errors[labels == y] for errors in found.values()]
        print(f"{name:>12} " + " ".join(f"{each.mean():+16.3f} ± {each.std():5.3f}" for each in own if each.size))


def main() -> None:
    """Print the tables and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    generator = Generator.load(Run(arguments.run))
    source = sources.load(arguments.data)
    assert source.test is not None and source.test_truth is not None
    picked = np.random.default_rng(0).permutation(len(source.test))[: arguments.images]
    images, labels = source.test.images[picked], source.test_truth.labels[picked]
    means: dict[str, list[float]] = {}
    print(f"{'T':>3} " + " ".join(f"{name:>24}" for name in SCHEDULES))
    for steps in STEPS:
        cells = []
        for name, schedule in SCHEDULES.items():
            scores = [accuracy(generator, images, labels, schedule(steps), seed) for seed in range(arguments.seeds)]
            means.setdefault(name, []).append(float(np.mean(scores)))
            cells.append(f"{np.mean(scores):16.1f} ± {np.std(scores):5.1f}")
        print(f"{steps:3} " + " ".join(cells), flush=True)
    print_interval_errors(generator, images, labels)
    if arguments.plot is not None:
        plot(means, arguments.plot)


def plot(means: dict[str, list[float]], path: Path) -> None:
    """Accuracy against T, one line per schedule."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for name, values in means.items():
        axes.plot(STEPS, values, marker="o", label=name)
    axes.set(xscale="log", xlabel="noise levels T", ylabel="test accuracy (%)", ylim=(0, 100))
    axes.set_xticks(STEPS, [str(steps) for steps in STEPS])
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
