"""Predicts a plan's time and memory on this machine from a few seconds of the work itself.

A generator is trained for a few steps, other networks process a few batches, and a method without a generator runs
until its first progress bar has moved, unless this takes long; the rest is extrapolated by the number of images (see
`stages`). The prediction assumes the machine's present load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.generator.labels.noisy_classifier import NoisyClassifier
from condense.generator.model import build_denoiser
from condense.generator.options import NetworkOptions
from condense.generator.training.prerequisites import Prerequisites
from condense.generator.training.schedules import cold_steps
from condense.generator.training.trainer import Trainer
from condense.json_values import JSON
from condense.machine import best_device, peak_memory_bytes
from condense.pipeline.clean_first import foreseen
from condense.pipeline.plan import Plan
from condense.pipeline.stages import LEARNT, Part, Passed, built
from condense.precision import autocast, frozen_autocast, wants_bf16
from condense.processes import default_accelerator
from condense.run import Run
from condense.watch import Tracker

SECONDS = 2.0
"""Time limit of one measurement, which takes at least two steps."""
PATIENCE = 15.0
"""Seconds for a method's first progress bar to move, which may do so only after an epoch of a large network."""
ROWS = 128  # assumed batch size if none is set


def foretold(plan: Plan, parts: Sequence[Part]) -> dict[str, JSON]:
    """Predicted time and memory, for `--dry-run`.

    Returns:
        minutes in total, minutes_by_stage (by progress bar; bars with one name added up) and memory_gib, the peak
        memory of this process during the measurement.
    """
    minutes: dict[str, float] = {}
    for part, seconds in zip(parts, measured(plan, parts), strict=True):
        minutes[part.name] = minutes.get(part.name, 0.0) + seconds / 60
    return {
        "minutes": round(sum(minutes.values()), 2),
        "minutes_by_stage": {name: round(value, 2) for name, value in minutes.items()},
        "memory_gib": round(peak_memory_bytes() / 2**30, 2),
    }


def measured(plan: Plan, parts: Sequence[Part]) -> list[float]:
    """Predicted seconds of each part on this machine."""
    own = [part for part in parts if part.by_method]
    bar, took = _first_bar(plan) if own else ("", 0.0)
    tried = sum(part.images for part in own if part.name == bar)
    per_image: dict[tuple[Passed, bool], float] = {}
    found = []
    for part in parts:
        if part.by_method and tried:
            found.append(took if part.name == bar else took * part.images / tried)
        elif part.options is not None:
            found.append(part.steps * _step_seconds(plan.train, part))
        else:
            key = part.network, part.learns
            if key not in per_image:
                per_image[key] = _image_seconds(plan.train, *key)
            found.append(part.images * per_image[key])
    return found


def _step_seconds(data: TrainingSet, part: Part) -> float:
    """Seconds of one training step of a generator, in the phase in which its classifier is used."""
    assert part.options is not None and isinstance(part.network, NetworkOptions)
    steps = max(part.options.steps, 100)
    options = part.options.model_copy(update={"select": "last", "compile": False, "steps": steps})
    num_classes = data.images.num_classes
    beliefs = torch.full((len(data), num_classes), 1 / num_classes) if part.believed else None
    trainer = Trainer(data, part.network, options, 0, default_accelerator(), beliefs, _stand_ins(data, part))
    going = trainer.steps()
    next(going)
    trainer.step = cold_steps(options)
    return _each(lambda: next(going))


def _stand_ins(data: TrainingSet, part: Part) -> Prerequisites:
    """The objective's prerequisites, untrained, which take as long to use as trained ones."""
    assert part.options is not None and isinstance(part.network, NetworkOptions)
    num_classes, channels, device = data.images.num_classes, data.images.channels, best_device()
    if part.options.objective == "cad":
        return Prerequisites(coherence=torch.ones(len(data), num_classes, device=device))
    if part.options.objective == "tdsm" and not part.believed:
        classifier = NoisyClassifier(part.network.shape(), channels, num_classes).to(device).eval()
        return Prerequisites(transition=0.8 * torch.eye(num_classes) + 0.2 / num_classes, classifier=classifier)
    return Prerequisites()


def _image_seconds(data: TrainingSet, network: Passed, learns: bool) -> float:
    """Seconds of one image's forward pass through a network, and of the backward pass if it learns."""
    device, shape, num_classes = best_device(), data.images.image_shape, data.images.num_classes
    bf16 = wants_bf16("auto", device)
    x = torch.randn(min(ROWS, len(data)), *shape, device=device)
    if isinstance(network, NetworkOptions):
        denoiser = build_denoiser(network, shape, num_classes, 0).to(device).eval().requires_grad_(False)
        sigma, classes = torch.ones(len(x), device=device), torch.zeros(len(x), dtype=torch.int64, device=device)
        with frozen_autocast(denoiser, device, bf16):
            look = _each(lambda: denoiser.one_class(x, sigma, classes)) / len(x)
        return LEARNT * look if learns else look
    classifier = built(network, shape, num_classes).train().to(device)
    optimizer = torch.optim.AdamW(classifier.parameters())
    labels = torch.zeros(len(x), dtype=torch.int64, device=device)

    def learn() -> None:
        with autocast(device, bf16):
            loss = F.cross_entropy(classifier(x), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    seconds = _each(learn) / len(x)
    return seconds if learns else seconds / LEARNT


def _each(step: Callable[[], object]) -> float:
    """Seconds of one call, the mean of several after a warm-up."""
    on_gpu = best_device().type != "cpu"

    def finished() -> None:
        step()
        if on_gpu:
            torch.accelerator.synchronize()

    finished()
    started, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - started < SECONDS:
        finished()
        done += 1
    return (time.perf_counter() - started) / done


class _Enough(Exception):
    """The first bar has moved for long enough."""


class _Probe(Run):
    """A run in memory that stops the work once its first bar shows the pace.

    Attributes:
        bar: the first bar's name.
        seconds: its predicted total time.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.bar, self.seconds = "", 0.0

    @contextmanager
    def track(self, total: int, description: str, initial: int = 0) -> Iterator[Tracker]:
        """End the block with `_Enough` after `SECONDS` and a step, or at its end."""
        first = not self.bar
        self.bar = self.bar or description
        started, probe = time.perf_counter(), self

        class Watching(Tracker):
            def update(self, done: int, **shown: float) -> None:
                spent = time.perf_counter() - started
                if not first or (spent < SECONDS and done < total):
                    return
                probe.seconds = spent * total / max(done, 1)
                raise _Enough

        yield Watching()


class _Late(Exception):
    """Nothing has moved for too long."""


class _Deadline(TorchFunctionMode):
    """Ends a block with `_Late` at its first operation after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.perf_counter() + seconds

    def __torch_function__(
        self,
        function: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if time.perf_counter() > self._end:
            raise _Late
        return function(*args, **(kwargs or {}))


def _first_bar(plan: Plan) -> tuple[str, float]:
    """Name of the first progress bar of a method and its predicted seconds; an empty name if it cannot be tried."""
    probe = _Probe()
    try:
        with _Deadline(PATIENCE):
            plan.method.condense(foreseen(plan), plan.recipe.ipc, plan.options, plan.recipe.seed, probe)
    except _Enough:
        pass
    except _Late:
        return "", 0.0
    except UserError:  # of a method that refuses these data
        return "", 0.0
    return probe.bar, probe.seconds
