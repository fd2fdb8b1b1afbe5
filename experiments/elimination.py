"""Early elimination of classes: how often the winner stays, and how many evaluations are saved, by margin.

    python experiments/elimination.py RUN [--data digits] [--noise sym:0.4] [--images 500] [--levels 4]
    python experiments/elimination.py --mixture 100 [--partial 0.5] [--images 500]

With RUN: images held out from the generator's training, labels as given. With --mixture: exact denoisers of a Gaussian
mixture with this many classes in 64 dimensions. Every class is evaluated once at every level, and elimination is
simulated on these errors; the temperature is fitted on the same labels. Prints for several orders of the levels:
evaluations in percent of all, images in percent whose argmax p(y | x) and argmax p(y | x, z) stay, the mean total
variation between p(y | x) with and without elimination, likewise p(y | x, z), and the bias: the change of the mean
p(y | x, z) over all images in the class where it is largest. With --partial each wrong class joins the label's
candidate set with that probability.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from condense.data.batches import to_unit
from condense.data.splits import held_out
from condense.generator.classifier import NoisyView, centred_schedule, draw_views, fit_temperature
from condense.generator.denoiser import Denoiser, squared_errors
from condense.generator.elimination import Race
from condense.generator.labels.posterior import given_label, supervision_likelihood
from condense.generator.model import Generator
from condense.pipeline.plan import Request, make_plan
from condense.run import Run

MARGINS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
ORDERS: dict[str, Callable[[float], float]] = {
    "highest first": lambda sigma: -sigma,
    "lowest first": lambda sigma: sigma,
    "median outwards": lambda sigma: abs(math.log(sigma) + 1.2),
}


@dataclass(frozen=True)
class Seen:
    """Weighted errors of every view [views, n, c], the labels' candidates and likelihood [n, c], the log prior [c]."""

    looks: list[NoisyView]
    errors: Tensor
    candidates: Tensor
    likelihood: Tensor
    log_prior: Tensor
    guess: float


@torch.no_grad()
def look_errors(denoiser: Denoiser, x_0: Tensor, looks: list[NoisyView], batch: int = 200) -> Tensor:
    """Weighted squared errors of every class in every view, [views, n, c]."""
    rows = []
    for look in looks:
        parts = [
            look.weight * squared_errors(denoiser.all_classes(x + look.noise, torch.full((len(x),), look.sigma)), x)
            for x in x_0.split(batch)
        ]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def of_generator(arguments: argparse.Namespace) -> Seen:
    """The errors of a trained generator on images it was not trained on."""
    generator = Generator.load(Run(arguments.run))
    data = {"name": arguments.data, "noise": arguments.noise}
    plan = make_plan(Request(named={"data": data, "seed": arguments.seed}))
    _, held = held_out(plan.train.supervision, arguments.held_out, arguments.seed)
    part = plan.train.take(held[: arguments.images])
    x_0 = to_unit(torch.from_numpy(part.images.images).permute(0, 3, 1, 2))
    looks = draw_views(x_0, centred_schedule(arguments.levels), torch.Generator().manual_seed(arguments.seed), 1)
    candidates = torch.from_numpy(part.supervision.candidates)
    likelihood = supervision_likelihood(part.supervision, generator.transition)
    errors = look_errors(generator.denoiser, x_0, looks, 200 if generator.denoiser.one_pass else 20)
    return Seen(looks, errors, candidates, likelihood, generator.log_prior, generator.temperature)


def of_mixture(arguments: argparse.Namespace) -> Seen:
    """The errors of exact denoisers on their own samples, which come with true labels."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from oracles import MixtureDenoiser

    c, random = arguments.mixture, torch.Generator().manual_seed(arguments.seed)
    oracle = MixtureDenoiser(
        torch.ones(c, 1), 0.3 * torch.randn(c, 1, 1, 8, 8, generator=random), torch.full((c, 1), 0.7)
    )
    labels = torch.arange(arguments.images) % c
    x_0 = oracle.draw(labels, random)
    looks = draw_views(x_0, centred_schedule(arguments.levels), random, 1)
    candidates = torch.ones(len(labels), c, dtype=torch.bool)
    if arguments.partial is not None:
        candidates = torch.rand(len(labels), c, generator=random) < arguments.partial
        candidates[torch.arange(len(labels)), labels] = True
    likelihood = candidates.float()
    bayes = oracle.posterior(x_0, torch.full((c,), 1 / c)).argmax(1)
    print(f"Bayes is right about {100 * float((bayes == labels).float().mean()):.1f} %")
    known = torch.nn.functional.one_hot(labels, c).float()
    errors = look_errors(oracle, x_0, looks)
    log_prior = torch.full((c,), 1 / c).log()
    return Seen(looks, errors, candidates, likelihood, log_prior, fit_temperature(errors.sum(0), known, log_prior, 1.0))


def raced(seen: Seen, temperature: float, margin: float, order: Callable[[float], float]) -> tuple[Tensor, float]:
    """Posterior [n, c], and evaluations as a share of all."""
    race, evaluations = Race(seen.errors.shape[1], seen.log_prior, margin, seen.candidates), 0
    for first in sorted(range(0, len(seen.looks), 2), key=lambda i: order(seen.looks[i].sigma)):
        rows, classes = race.running.nonzero(as_tuple=True)
        race.note(seen.errors[first : first + 2, rows, classes] / temperature, rows, classes)
        evaluations += 2 * len(rows)
    return race.logits().softmax(1), evaluations / seen.errors.numel()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--noise", default="sym:0.4")
    parser.add_argument("--held-out", type=float, default=0.05, help="train.held_out of the run")
    parser.add_argument("--mixture", type=int, metavar="CLASSES")
    parser.add_argument("--partial", type=float, metavar="RATE", help="of the mixture; no labels when left out")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seen = of_mixture(arguments) if arguments.run is None else of_generator(arguments)
    whole = seen.errors.sum(0)
    temperature = seen.guess
    if arguments.run is not None:
        temperature = fit_temperature(whole, seen.likelihood, seen.log_prior, seen.guess)
    exact = (seen.log_prior - whole / temperature).softmax(1)
    belief = given_label(exact, seen.likelihood)
    sure = float(exact.max(1).values.mean())
    print(f"{list(seen.errors.shape)} errors, temperature {temperature:.3g}, mean largest posterior {sure:.2f}")
    print(
        f"{'levels':18} {'margin':>7} {'evaluations':>12} {'argmax':>8} {'with label':>11} {'variation':>10} "
        f"{'with label':>11} {'bias':>8}"
    )
    for name, order in ORDERS.items():
        for margin in MARGINS:
            posterior, share = raced(seen, temperature, margin, order)
            stays = float((posterior.argmax(1) == exact.argmax(1)).float().mean())
            weighed = given_label(posterior, seen.likelihood)
            labelled = float((weighed.argmax(1) == belief.argmax(1)).float().mean())
            variation = float((posterior - exact).abs().sum(1).mean() / 2)
            with_label = float((weighed - belief).abs().sum(1).mean() / 2)
            bias = float((weighed - belief).mean(0).abs().max())
            print(
                f"{name:18} {margin:7.1f} {100 * share:11.1f}% {100 * stays:7.2f}% {100 * labelled:10.2f}% "
                f"{variation:10.4f} {with_label:11.4f} {bias:8.5f}"
            )


if __name__ == "__main__":
    main()
