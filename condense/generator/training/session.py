"""Drives a `Trainer` inside a `Run`: progress, metrics, checkpoints, resuming, Ctrl-C."""

from __future__ import annotations

import time
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from condense.data.types import TrainingSet
from condense.errors import Interrupted, WorkerDone
from condense.generator.model import Generator
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.prerequisites import Aids, prepare
from condense.generator.training.trainer import Step, Trainer, default_accelerator
from condense.machine import is_worker, num_processes
from condense.precision import deterministic, float32_settings
from condense.run import Run, as_described, interrupt_guard, peak_memory_bytes

Part = TypeVar("Part")

CHECKPOINT = "checkpoint"
METRIC_EVERY = 20


def train_generator(
    data: TrainingSet,
    network: NetworkOptions,
    options: TrainOptions,
    seed: int,
    run: Run,
    accelerator: Accelerator | None = None,
    beliefs: Tensor | None = None,
    aids: Aids | None = None,
) -> Generator:
    """Train a generator to its last step; the main process saves it in the run folder.

    What its objective needs beforehand is trained first (see `prepare`), unless it is given as `aids`. A checkpoint
    already in the folder is continued, bit for bit. On Ctrl-C the state is saved first. `beliefs` as in `Trainer`.
    Under torchrun every process returns the generator; commands use `train_stages`, after which only the main one
    goes on.

    Raises:
        Interrupted: stopped after saving; run the same again to go on.
        RunFailed: the loss became NaN.
        UserError: the checkpoint belongs to other options or data.
    """
    with deterministic(options.deterministic):
        return _train_generator(data, network, options, seed, run, accelerator or default_accelerator(), beliefs, aids)


def _train_generator(
    data: TrainingSet,
    network: NetworkOptions,
    options: TrainOptions,
    seed: int,
    run: Run,
    accelerator: Accelerator,
    beliefs: Tensor | None,
    aids: Aids | None,
) -> Generator:
    accelerator.wait_for_everyone()  # the main process has cleared the folder, if it was to
    if aids is None:
        aids = prepare(data, network, options, seed, run, accelerator.device) if beliefs is None else Aids()
    trainer = Trainer(data, network, options, seed, accelerator, beliefs, aids)
    seconds_before = _restore(trainer, run)
    started = time.perf_counter()
    main = trainer.accelerator.is_main_process
    if main:
        run.rewind(trainer.step)
    with (
        interrupt_guard() as guard,
        run.track(options.steps, options.objective, initial=trainer.step) as tracker,
    ):
        for step in trainer.steps():
            tracker.update(step.step, loss=step.loss)
            last = step.step == options.steps
            if main and (step.step % METRIC_EVERY == 0 or last):
                _record(run, step)
            stop = _any_process(trainer, guard.requested)
            if step.step % options.checkpoint_every == 0 or last or stop:
                _save(trainer, run, seconds_before + time.perf_counter() - started)
            if stop and not last:
                raise Interrupted(
                    f"Stopped at step {step.step} of {options.steps}; the state is saved"
                    + (f" in {run.path}: go on with --resume." if run.path else ".")
                )
    generator = trainer.finish()
    generator.noisy_classifier = aids.classifier
    asked = generator.opinion.evaluations if generator.opinion else 0
    generator.meta |= {
        "seconds": sum(aids.seconds.values()) + seconds_before + time.perf_counter() - started,
        "evaluations": sum(of_all_processes([trainer.evaluations + asked])),
        "images_seen": aids.images_seen + options.steps * options.batch_size,
        "peak_memory_bytes": peak_memory_bytes(),
        "data": data.images.name,
        "data_fingerprint": data.images.fingerprint(),
        "labels_fingerprint": data.supervision.fingerprint(),
        "held_out": options.held_out,
        "corruption": data.corruption.spec,
        "arithmetic": {**trainer.arithmetic.to_json(), **float32_settings()},
    }
    if aids.seconds:
        generator.meta["prepared_seconds"] = aids.seconds
    if main:
        generator.save(run)
    return generator


def of_all_processes(parts: list[Part]) -> list[Part]:
    """The parts that each process which torchrun started has found, together in all of them."""
    return list(gather_object(parts)) if num_processes() > 1 else parts


def leave_processes() -> None:
    """When all is trained the main process goes on alone; raises `WorkerDone` in those torchrun started beside it."""
    if num_processes() == 1:
        return
    default_accelerator().end_training()
    if is_worker():
        raise WorkerDone("trained")


def _any_process(trainer: Trainer, requested: bool) -> bool:
    """Whether any process was asked to stop: all of them must leave the loop at the same step."""
    if trainer.accelerator.num_processes == 1:
        return requested
    asked = torch.tensor([requested], device=trainer.device)
    return bool(trainer.accelerator.gather(asked).any())


def _record(run: Run, step: Step) -> None:
    run.metric(
        step=step.step,
        loss=step.loss,
        generative=step.generative,
        classification=step.classification,
        sharpness=step.sharpness,
        evaluations=step.evaluations,
    )


def _save(trainer: Trainer, run: Run, seconds: float) -> None:
    trainer.check_losses()  # nothing is saved that has lost its way
    if trainer.accelerator.is_main_process:
        tensors, meta = trainer.state()
        run.save(CHECKPOINT, tensors, {**meta, "seconds": seconds})


def _restore(trainer: Trainer, run: Run) -> float:
    """Continue from the folder's checkpoint, if there is one; returns the seconds already spent."""
    found = run.load(CHECKPOINT)
    if found is None:
        return 0.0
    tensors, meta = found
    with as_described(run.file(CHECKPOINT)):
        trainer.restore(tensors, meta)
        return float(meta["seconds"])
