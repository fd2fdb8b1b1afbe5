"""What users wait for, against plain float32 code, in one table.

    python benchmarks/against_plain.py [--rounds 5] [--only DM,labeller] [--threads 2] [--json FILE]

"Plain" is what one would write first: torch's own layers, whole batches, float32, one network after the other, on the
same batches. For a generator's training and `dmis relabel` it is our own code in float32. Each row runs both in turn,
after a warm-up of each, so that drift of the machine affects both alike; seconds are medians of the rounds by the
clock. Work that grows in proportion is measured on a part and multiplied (see "measured on").

"Ceiling" is the share of the speed at which this machine does one 3x3 convolution, forward and backward, in the type
our code runs in (`condense.precision.gflops`): operations of convolutions and matrix products in our code, as torch
counts them, per second. Work on small tensors, or in memory, lies far below it.

The row of `dmis relabel` is a prediction, that of its `--dry-run`, for 2,000 images of the size given.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.table import Table
from stacked_training import plain_convnet, plainly
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from condense import rng
from condense.allocator import keep_freed_memory
from condense.augment import DSA
from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, Teaching, fit
from condense.classifiers.stacked import fit_stacked, stacking_pays
from condense.data.batches import to_unit
from condense.data.types import ImageData, Supervision, TrainingSet
from condense.evaluate.protocols import HARD
from condense.generator.classifier import draw_views
from condense.generator.denoiser import squared_errors
from condense.generator.labels.labeller_training import LabellerOptions, Training
from condense.generator.labels.posterior import label_likelihood
from condense.generator.labels.volminnet import VolMinNet, fresh_classifier
from condense.generator.losses import forward_loss
from condense.generator.model import DEFAULT_SCHEDULE, Generator, build_denoiser
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.record import TrainingRecord
from condense.generator.training.trainer import Trainer
from condense.machine import best_device, machine
from condense.methods._distribution import DistributionMatching, DistributionOptions
from condense.methods._generate import class_prototypes
from condense.methods._gradient_matching import GradientMatching, GradientMatchingOptions, Loops
from condense.methods._learn import Synthetic
from condense.methods._matching import gradient_distance, matched_weights
from condense.methods._pairs import Pairs
from condense.methods._pixels import RealImages, initial_images
from condense.methods._unroll import match_trajectory, squared_distance
from condense.pipeline.plan import Request, make_plan
from condense.pipeline.relabelling import relabelling_options
from condense.pipeline.stages import relabelling, stages
from condense.pipeline.timing import measured
from condense.precision import arithmetic, autocast, gflops
from condense.preprocessing import standardisation
from condense.recipe import shipped

CLASSES = 10
Arm = Callable[[], object]
"""A piece of work. If it returns a `Predicted`, that is its time."""


@dataclass(frozen=True)
class Predicted:
    """Seconds not measured here but predicted, and the operations in 10^9."""

    seconds: float
    gigaoperations: float


@dataclass(frozen=True)
class Sizes:
    """Sizes of the work: side of the images, images per class, real images of a class in a step, and shares measured.

    `classes`, `beliefs` and `members` are what is measured of 10 classes, 60,000 images and 6,000 images of a class.
    """

    side: int = 28
    ipc: int = 10
    real_batch: int = 256
    classes: int = 2
    student_steps: int = 3
    batch: int = 128
    beliefs: int = 100
    members: int = 6000
    prototypes: int = 50
    folder: int = 2000


@dataclass(frozen=True)
class Row:
    """A line of the table: what is done, on which part of it, how many times that part makes the whole, both ways."""

    name: str
    part: str
    times: float
    ours: Arm
    plain: Arm
    gigaoperations: float | None = None
    """Of `ours`, where torch does not count them."""


@dataclass(frozen=True)
class Measured:
    """A row's figures: seconds of the whole, plain over ours, and the share of the ceiling, None if unknown."""

    name: str
    part: str
    ours_seconds: float
    plain_seconds: float
    ratio: float
    ceiling: float | None


class Operations(TorchDispatchMode):
    """Counts the operations of convolutions and matrix products, by torch's formulas.

    torch's own counter hooks into modules, which gradients of gradients do not allow.
    """

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """One operation."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def measure(row: Row, rounds: int, ceiling: float, clock: Callable[[], float] = time.perf_counter) -> Measured:
    """Both arms in turn, `rounds` times after a warm-up.

    Args:
        row: the work.
        rounds: rounds that count.
        ceiling: 10^9 operations per second.
        clock: seconds.
    """
    with Operations() as counted:
        first = row.ours()
    if isinstance(first, Predicted):
        operations = first.gigaoperations
    else:
        operations = row.gigaoperations or counted.total / 1e9
    row.plain()
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(rounds):
        arms = [("ours", row.ours), ("plain", row.plain)]
        for name, arm in arms if number % 2 == 0 else reversed(arms):
            seconds[name].append(_seconds(arm, clock))
    ours, plain = (statistics.median(seconds[name]) for name in ("ours", "plain"))
    share = operations / ours / ceiling if operations and ceiling else None
    return Measured(row.name, row.part, row.times * ours, row.times * plain, plain / ours, share)


def _seconds(arm: Arm, clock: Callable[[], float]) -> float:
    started = clock()
    found = arm()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return found.seconds if isinstance(found, Predicted) else clock() - started


def pictures(side: int, count: int, classes: int = CLASSES) -> TrainingSet:
    """Random images, as many of each class as of the others, whose labels may be wrong."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, side, side, 1), dtype=np.uint8)
    labels = np.arange(count) % classes
    data = ImageData(images, tuple(f"class {y}" for y in range(classes)), "random", "train")
    return TrainingSet(data, Supervision.from_labels(labels, classes, trusted=False))


def plain_copy(network: nn.Module, channels: int, side: int, *, batch_norm: bool = False) -> nn.Sequential:
    """A ConvNet-3 of torch's own layers with the weights of ours."""
    *_, head = network.parameters()
    plain = plain_convnet(channels, side, len(head), batch_norm=batch_norm)
    for own, weight in zip(plain.parameters(), network.parameters(), strict=True):
        own.data.copy_(weight.data)
    return plain.to(head.device)


def scoring(sizes: Sizes, device: torch.device) -> Row:
    """An epoch of the five networks that score a set."""
    count = CLASSES * sizes.ipc
    images = torch.randn(count, 1, sizes.side, sizes.side, generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(count) // sizes.ipc).to(device)
    built = [
        networks.build("convnet3", in_channels=1, image_size=sizes.side, num_classes=CLASSES, seed=i) for i in range(5)
    ]
    bf16 = arithmetic("auto", device).bf16
    options = FitOptions(10**6, HARD.batch_size, schedule="constant", bf16=bf16)
    how: dict[str, Any] = {"teaching": Teaching(HARD.augment()), "device": device}
    shape = (min(HARD.batch_size, count), 1, sizes.side, sizes.side)
    plain = [
        plainly(plain_copy(network, 1, sizes.side).to(device), images, labels, i) for i, network in enumerate(built)
    ]
    ours: list[Iterator[Any]]
    if stacking_pays(built[0], shape, device):
        ours = [fit_stacked(built, images, labels, options, seeds=range(5), **how)]
    else:
        ours = [fit(network, images, labels, options, seed=i, **how) for i, network in enumerate(built)]
    return Row(
        f"scoring, five ConvNet-3, ipc {sizes.ipc}",
        "an epoch",
        1,
        lambda: [*map(next, ours)],
        lambda: [*map(next, plain)],
    )


def pairs_of(sizes: Sizes, device: torch.device, strategy: str | None) -> Pairs:
    """The batches of a step of DM, DC or DSA."""
    train = pictures(sizes.side, sizes.classes * max(sizes.real_batch, sizes.ipc), sizes.classes)
    reals = RealImages(train, standardisation(train.images.images), sizes.ipc, device)
    synthetic = Synthetic(initial_images(reals, sizes.ipc, "real", 0), sizes.ipc, 0.1)
    return Pairs(reals, synthetic, sizes.real_batch, strategy, 0)


def plain_features(pairs: Pairs, step: int) -> Tensor:
    """A step of DM."""
    network = plain_copy(pairs.fresh_network("convnet3", step), 1, pairs.reals.image_shape[1])[:-1]
    total = torch.zeros((), device=pairs.reals.device)
    for _, real, learned in pairs.of_step(step):
        with torch.no_grad():
            target = network(real).mean(0)
        total = total + (network(learned).mean(0) - target).square().sum()
    total.backward()
    pairs.synthetic.update()
    return total.detach()


def plain_gradients(pairs: Pairs, step: int) -> Tensor:
    """A step of DC or DSA."""
    network = plain_copy(pairs.fresh_network("convnet3", step), 1, pairs.reals.image_shape[1])
    weights, total = matched_weights(network), torch.zeros((), device=pairs.reals.device)

    def gradients(x: Tensor, y: int, *, further: bool) -> Sequence[Tensor]:
        loss = F.cross_entropy(network(x), torch.full((len(x),), y, device=x.device))
        return torch.autograd.grad(loss, weights, create_graph=further)

    for y, real, learned in pairs.of_step(step):
        total = total + gradient_distance(gradients(learned, y, further=True), gradients(real, y, further=False))
    total.backward(inputs=[pairs.synthetic.images])
    pairs.synthetic.update()
    return total.detach()


def matching(sizes: Sizes, device: torch.device, *, precision: str = "auto") -> dict[str, tuple[Arm, Arm]]:
    """Steps of DM, DC and DSA: ours and plain, on images of their own and the same batches."""
    found: dict[str, tuple[Arm, Arm]] = {}
    for name, strategy in (("DM", DSA), ("DC", None), ("DSA", DSA)):
        own, other = pairs_of(sizes, device, strategy), pairs_of(sizes, device, strategy)
        options: dict[str, Any] = {"real_batch": sizes.real_batch, "precision": precision}
        if name == "DM":
            task: Any = DistributionMatching(own, DistributionOptions.model_validate(options))
            plain = plain_features
        else:
            task = GradientMatching(own, GradientMatchingOptions.model_validate(options), Loops(1, 1))
            plain = plain_gradients
        steps, others = itertools.count(), itertools.count()
        found[name] = (
            lambda task=task, steps=steps: task.step(next(steps))["loss"],
            lambda plain=plain, other=other, others=others: float(plain(other, next(others))),
        )
    return found


def matching_rows(sizes: Sizes, device: torch.device) -> list[Row]:
    """Steps of DM, DC and DSA with ten classes."""
    part = f"{sizes.classes} classes, {sizes.real_batch} real images each"
    return [
        Row(f"{name}, a step, ipc {sizes.ipc}", part, CLASSES / sizes.classes, *arms)
        for name, arms in matching(sizes, device).items()
    ]


def trajectories(sizes: Sizes, device: torch.device) -> tuple[Arm, Arm]:
    """Matching a student of a few steps: ours, and by the unrolled graph."""
    count = CLASSES * sizes.ipc
    random = torch.Generator().manual_seed(0)
    images = torch.randn(count, 1, sizes.side, sizes.side, generator=random).to(device)
    labels = (torch.arange(count) // sizes.ipc).to(device)
    network = networks.build(
        "convnet3", in_channels=1, image_size=sizes.side, num_classes=CLASSES, seed=0, device=device
    )
    plain, rate = plain_copy(network, 1, sizes.side), torch.tensor(0.01, device=device)
    moved = [0.01 * torch.randn(weight.shape, generator=random).to(device) for weight in network.parameters()]

    def ends(of: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        start = {name: weight.detach().clone() for name, weight in of.named_parameters()}
        return start, {name: weight + by for (name, weight), by in zip(start.items(), moved, strict=True)}

    def ours() -> list[float]:
        start, target = ends(network)
        found = match_trajectory(network, start, target, images, rate, lambda x, _: (x, labels), sizes.student_steps)
        return [float(found.loss), float(found.images.norm()), float(found.rate)]

    def unrolled() -> list[float]:
        start, target = ends(plain)
        x, a = images.clone().requires_grad_(), rate.clone().requires_grad_()
        theta = {name: weight.requires_grad_() for name, weight in start.items()}
        for _ in range(sizes.student_steps):
            loss = F.cross_entropy(functional_call(plain, theta, (x,)), labels)
            gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
            theta = {name: weight - a * g for (name, weight), g in zip(theta.items(), gradients, strict=True)}
        distance = squared_distance(theta, target) / squared_distance(ends(plain)[0], target)
        in_images, in_rate = torch.autograd.grad(distance, [x, a])
        return [float(distance.detach()), float(in_images.norm()), float(in_rate)]

    return ours, unrolled


def volume(sizes: Sizes, device: torch.device) -> tuple[Arm, Arm]:
    """A step of VolMinNet."""
    train = pictures(sizes.side, sizes.batch)
    x = to_unit(torch.from_numpy(train.images.images).permute(0, 3, 1, 2)).to(device)
    candidates = torch.from_numpy(train.supervision.candidates).to(device)
    bf16 = arithmetic("auto", device).bf16

    def stepping(classifier: nn.Module, bf16: bool) -> Arm:
        module = VolMinNet(classifier, CLASSES).to(device).train()
        adam = torch.optim.Adam(module.parameters(), lr=1e-3)

        def step() -> float:
            with autocast(device, bf16):
                loss = module.loss(x, candidates, 1e-4, has_sets=False)
            adam.zero_grad()
            loss.backward()
            adam.step()
            return float(loss.detach())

        return step

    network = fresh_classifier(train, 0)
    plain = plain_copy(network, 1, sizes.side, batch_norm=True)
    return stepping(network, bf16), stepping(plain, False)


def labelling(sizes: Sizes, device: torch.device) -> tuple[Arm, Arm]:
    """A step of a labeller's training, of 256 images."""
    train = pictures(sizes.side, 16 * 256)
    preprocessing, own = standardisation(train.images.images), np.arange(len(train))
    transition = 0.5 * torch.eye(CLASSES) + 0.5 / CLASSES

    def training() -> Training:
        made = Training(train, own, transition, LabellerOptions(), preprocessing, 0, device)
        made.budget = replace(made.budget, steps=1)
        return made

    ours, plain = training(), training()
    passes = itertools.chain.from_iterable(_endless(ours))
    network = plain.network.to(memory_format=torch.contiguous_format)
    images = preprocessing.normalise(torch.from_numpy(train.images.images[:256]).permute(0, 3, 1, 2).float() / 255)
    x, candidates = images.contiguous().to(device), plain.candidates[:256]

    def step() -> float:
        likelihood = label_likelihood(candidates, plain.trusted[:256], transition.to(device), has_sets=False)
        loss = forward_loss(network(x), likelihood).mean()
        plain.sgd.zero_grad()
        loss.backward()
        plain.sgd.step()
        return float(loss.detach())

    return lambda: next(passes), step


def _endless(training: Training) -> Iterator[Iterator[Any]]:
    """The passes of a training, again and again."""
    while True:
        training.done = 0
        yield training.passes("pass")


def believing(sizes: Sizes, device: torch.device, *, precision: str = "auto") -> tuple[Arm, Arm]:
    """p(y | x) of some images by the 28-pixel generator, untrained."""
    network = NetworkOptions.model_validate(shipped("generator-28px")["network"])
    images = pictures(sizes.side, sizes.beliefs).images
    denoiser = build_denoiser(network, images.image_shape, CLASSES, 0).to(device).eval().requires_grad_(False)
    log_prior = torch.full((CLASSES,), -np.log(CLASSES), device=device)
    bf16 = arithmetic(precision, device).bf16
    record = TrainingRecord("dmis", 0, 0)
    generator = Generator(
        denoiser, network, images.image_shape, images.classes, log_prior, torch.eye(CLASSES), 15.0, bf16, record
    )

    @torch.no_grad()
    def plain() -> np.ndarray:
        rows = []
        for start in range(0, len(images), 256):
            x_0 = to_unit(torch.from_numpy(images.images[start : start + 256]).permute(0, 3, 1, 2)).to(device)
            errors = torch.zeros(len(x_0), CLASSES, device=device)
            for view in draw_views(x_0, DEFAULT_SCHEDULE, rng.generator(0, "classifier"), 1):
                sigma = torch.full((len(x_0),), view.sigma, device=device)
                errors += view.weight * squared_errors(denoiser.all_classes(x_0 + view.noise, sigma), x_0)
            rows.append((log_prior - errors / 15.0).softmax(1))
        return torch.cat(rows).cpu().numpy()

    return lambda: generator.posterior(images.images), plain


def clustering(sizes: Sizes) -> Row:
    """k-means of the prototypes of one class; plain is scipy's, with as many iterations."""
    from scipy.cluster.vq import kmeans2
    from sklearn.cluster import KMeans

    random, count = np.random.default_rng(0), sizes.prototypes
    centres = random.uniform(0, 255, (3 * count, sizes.side, sizes.side, 1))
    noisy = centres[random.integers(len(centres), size=sizes.members)] + random.normal(
        0, 40, (sizes.members, sizes.side, sizes.side, 1)
    )
    images, known = noisy.clip(0, 255).astype(np.uint8), np.ones((sizes.members, 1))
    pixels = images.reshape(len(images), -1).astype(np.float32)
    seed = rng.derive(0, "prototypes", 0) % 2**32
    iterations = KMeans(count, n_init=1, random_state=seed).fit(pixels).n_iter_

    def plain() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty cluster
            return kmeans2(pixels, count, iter=iterations, minit="++", rng=np.random.default_rng(0))

    return Row(
        f"prototypes of 60,000 images, {count} per class",
        f"1 class of {sizes.members}",
        60_000 / sizes.members,
        lambda: class_prototypes(images, known, count, 0),
        plain,
        2 * iterations * pixels.size * count / 1e9,
    )


def generator_steps(sizes: Sizes) -> tuple[Arm, Arm]:
    """A training step of the 28-pixel generator."""
    found = shipped("generator-28px")
    network, train = NetworkOptions.model_validate(found["network"]), pictures(sizes.side, 2048)
    options = {**found["train"], "steps": 10**6, "cold_start": 0.0, "transition": "estimate"}
    ours, plain = (
        Trainer(train, network, TrainOptions.model_validate({**options, "precision": precision}), 0).steps()
        for precision in ("auto", "fp32")
    )
    return lambda: next(ours), lambda: next(plain)


def relabelled(sizes: Sizes, folder: Path) -> Row:
    """`dmis relabel` of a folder of images, predicted."""
    train = pictures(sizes.side, sizes.folder)
    for place, (image, y) in enumerate(zip(train.images.images, train.supervision.observed, strict=True)):
        (folder / f"{y}").mkdir(exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{y}" / f"{place}.png")

    def predicted(*settings: str) -> Arm:
        named = {"data": {"name": str(folder)}}
        plan = make_plan(Request(named=named, settings=settings))
        parts = relabelling(plan, relabelling_options(plan))
        work = sum(stage.work for stage in stages(plan, parts))
        return lambda: Predicted(sum(measured(plan, parts)), work)

    return Row(
        f"dmis relabel of a folder of {sizes.folder:,}", "predicted", 1, predicted(), predicted("train.precision=fp32")
    )


def rows(sizes: Sizes, device: torch.device, folder: Path, only: Sequence[str] = ()) -> Iterator[Row]:
    """The rows with one of `only` in their names, built one after the other; all of them without any."""
    students = f"MTT, a student of {sizes.student_steps} steps, ipc {sizes.ipc}"
    made: dict[str, Callable[[], Row | list[Row]]] = {
        "scoring": lambda: scoring(sizes, device),
        "DM, DC, DSA": lambda: matching_rows(sizes, device),
        students: lambda: Row(students, "all", 1, *trajectories(sizes, device)),
        "VolMinNet": lambda: Row(f"VolMinNet, a step of {sizes.batch}", "all", 1, *volume(sizes, device)),
        "labeller": lambda: Row("labeller, a step of 256", "all", 1, *labelling(sizes, device)),
        "generator": lambda: Row("generator, a step of 64", "all", 1, *generator_steps(sizes)),
        "beliefs": lambda: Row(
            "beliefs of 60,000 images", f"{sizes.beliefs} images", 60_000 / sizes.beliefs, *believing(sizes, device)
        ),
        "prototypes": lambda: clustering(sizes),
        "relabel": lambda: relabelled(sizes, folder),
    }
    for name, make in made.items():
        if not only or any(asked in name for asked in only):
            built = make()
            yield from [built] if isinstance(built, Row) else built


def shown(found: Sequence[Measured], title: str) -> Table:
    """The table."""
    table = Table(title=title, title_justify="left")
    table.add_column("what", overflow="fold")
    table.add_column("measured on", overflow="fold")
    for name in ("ours, s", "plain, s", "plain/ours", "ceiling"):
        table.add_column(name, justify="right")
    for row in found:
        share = "" if row.ceiling is None else f"{row.ceiling:.0%}"
        table.add_row(
            row.name, row.part, f"{row.ours_seconds:.3g}", f"{row.plain_seconds:.3g}", f"{row.ratio:.2f}", share
        )
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows with one of these in their names, joined by commas")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the figures here")
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    device = best_device()
    chosen = arithmetic("auto", device)
    ceiling = gflops(device.type, torch.bfloat16 if chosen.bf16 else torch.float32)
    sizes = Sizes(**{name: getattr(arguments, name) for name in asdict(Sizes())})
    with tempfile.TemporaryDirectory() as folder:
        only = [name for name in arguments.only.split(",") if name]
        found = [measure(row, arguments.rounds, ceiling) for row in rows(sizes, device, Path(folder), only)]
    where = {**machine(), "threads": arguments.threads, "precision": chosen.precision, "ceiling_gflops": ceiling}
    title = f"{machine()['cpu']}, {arguments.threads} threads, {chosen.precision}, ceiling {ceiling:.0f} GFLOP/s"
    Console(width=110).print(shown(found, title))
    if arguments.json:
        told = {
            "machine": where,
            "sizes": asdict(sizes),
            "rounds": arguments.rounds,
            "rows": [asdict(r) for r in found],
        }
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
