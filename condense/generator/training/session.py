"""Drives a `Trainer` inside a `Run`: progress, metrics, checkpoints, resuming, Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace

from accelerate import Accelerator
from torch import Tensor

from condense.data.types import TrainingSet
from condense.generator.model import Generator
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.prerequisites import Prerequisites, prepare
from condense.generator.training.trainer import Trainer
from condense.json_values import JSON
from condense.precision import deterministic, float32_settings
from condense.processes import anywhere, default_accelerator, of_all
from condense.resumable import Loop, LoopPlan, State, Step
from condense.run import METRIC_EVERY, Run, peak_memory_bytes

CHECKPOINT = "checkpoint"


def train_generator(
    data: TrainingSet,
    network: NetworkOptions,
    options: TrainOptions,
    seed: int,
    run: Run,
    accelerator: Accelerator | None = None,
    beliefs: Tensor | None = None,
    prepared: Prerequisites | None = None,
) -> Generator:
    """Train a generator to its last step; the main process saves it in the run folder.

    Prerequisites of the objective are trained first (see `prepare`), unless given as `prepared`. A checkpoint in
    the folder is continued, bit for bit. On Ctrl-C the state is saved first. `beliefs` as in `Trainer`.
    Under torchrun every process returns the generator; commands use `train_stages`, after which only the main one
    goes on.

    Raises:
        Interrupted: stopped after saving; the same call resumes.
        RunFailed: the loss became NaN.
        UserError: the checkpoint belongs to other options or data.
    """
    with deterministic(options.deterministic):
        return _train_generator(
            data, network, options, seed, run, accelerator or default_accelerator(), beliefs, prepared
        )


def _train_generator(
    data: TrainingSet,
    network: NetworkOptions,
    options: TrainOptions,
    seed: int,
    run: Run,
    accelerator: Accelerator,
    beliefs: Tensor | None,
    prepared: Prerequisites | None,
) -> Generator:
    accelerator.wait_for_everyone()  # the main process has cleared the folder, if it was to
    if prepared is None:
        prepared = (
            prepare(data, network, options, seed, run, accelerator.device) if beliefs is None else Prerequisites()
        )
    trainer = Trainer(data, network, options, seed, accelerator, beliefs, prepared)
    loop = taken_up(trainer, run)
    loop.finish(_told(trainer), agree=lambda requested: anywhere(requested)[0])
    generator = trainer.finish()
    generator.noisy_classifier = prepared.classifier
    asked = generator.opinion.judge.evaluations if generator.opinion else 0
    generator.record = replace(
        generator.record,
        seconds=sum(prepared.seconds.values()) + loop.seconds,
        evaluations=sum(of_all([trainer.evaluations + asked])),
        images_seen=prepared.images_seen + options.steps * options.batch_size,
        peak_memory_bytes=peak_memory_bytes(),
        data=data.images.name,
        data_fingerprint=data.images.fingerprint(),
        labels_fingerprint=data.supervision.fingerprint(),
        held_out=options.held_out,
        corruption=data.corruption.spec,
        arithmetic={**trainer.arithmetic.to_json(), **float32_settings()},
        prepared_seconds=prepared.seconds or None,
    )
    if trainer.accelerator.is_main_process:
        generator.save(run)
    return generator


def taken_up(trainer: Trainer, run: Run) -> Loop:
    """The loop of a trainer, which resumes from the folder's checkpoint if there is one."""
    options = trainer.options
    loop = Loop(run, LoopPlan(options.objective, options.steps, options.checkpoint_every, METRIC_EVERY))
    loop.resume(CHECKPOINT, _Checked(trainer))
    return loop


def _told(trainer: Trainer) -> Iterator[Step]:
    for step in trainer.steps():
        metrics = {"step": step.step, **asdict(step.losses), "evaluations": step.evaluations}
        yield Step(step.step, {"loss": step.losses.loss}, metrics)


class _Checked:
    """A trainer whose states are checked for non-finite losses before they are saved."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def state(self) -> State:
        self.trainer.losses.check()  # all processes together
        return self.trainer.state()

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> int:
        self.trainer.restore(tensors, meta)
        return self.trainer.step
