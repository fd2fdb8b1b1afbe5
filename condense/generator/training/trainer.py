"""The training loop of a generator, any objective: a `Trainer` whose `steps()` yields after every optimiser step.

The caller saves, shows and stops. All randomness is a function of (seed, step), so a run restored from `state()`
goes on bit for bit as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from condense import rng
from condense.data.batches import LabelledBatches, UnitImages
from condense.data.splits import held_out
from condense.data.types import Labels, Supervision, TrainingSet
from condense.errors import UserError
from condense.generator.augment import augment
from condense.generator.classifier import EDM_NOISE, Calibration, Schedule, centred_interval
from condense.generator.denoiser import NoiseDistribution
from condense.generator.elimination import class_logits
from condense.generator.labels.one_classifier import settled
from condense.generator.model import Generator, build_denoiser
from condense.generator.options import NetworkOptions, TrainOptions, check_top_k
from condense.generator.record import TrainingRecord
from condense.generator.selection import BestWeights
from condense.generator.training.batch_loss import Batch, ClassifierSettings, Losses
from condense.generator.training.fitting import FITTED_TEMPERATURE_SHARE, ask_beside, fit_held_out
from condense.generator.training.identity import check_identity, identity
from condense.generator.training.label_model import LabelModel
from condense.generator.training.loss_reader import LossReader, ReadLosses
from condense.generator.training.objectives import TrainingStep, objective_of
from condense.generator.training.prerequisites import Prerequisites
from condense.generator.training.schedules import cold_steps, ema_decay, learning_rate
from condense.generator.training.sizes import check_training_fits
from condense.json_values import section, whole, wholes
from condense.precision import arithmetic, autocast
from condense.processes import default_accelerator, of_all
from condense.run import JSON, pack_optimizer, part_of, unpack_optimizer

INTERVAL = centred_interval(6.4)  # noise levels at which the classifier is trained


@dataclass(frozen=True)
class TrainedStep:
    """The report of one optimiser step; on a GPU the losses are those last read.

    Attributes:
        step: finished steps.
        losses: see `ReadLosses`.
        evaluations: images passed through the networks so far.
    """

    step: int
    losses: ReadLosses
    evaluations: int


class Trainer:
    """The state of a generator's training.

    Args:
        data: images and imprecise labels.
        network: size and kind of the network.
        options: objective and schedule.
        seed: seed of weights, batches and noise.
        accelerator: device and processes; made when None.
        beliefs: fixed p(y | x, z) of every image [n, c]: labels are drawn from them and no beliefs are learned. None
            to learn beliefs during training.
        prepared: the objective's prerequisites (see `prepare`).

    Attributes:
        denoiser: the trained network.
        ema_denoiser: its moving average, in eval mode.

    Raises:
        UserError: the options do not fit the data, the network or the processes.
    """

    def __init__(
        self,
        data: TrainingSet,
        network: NetworkOptions,
        options: TrainOptions,
        seed: int,
        accelerator: Accelerator | None = None,
        beliefs: Tensor | None = None,
        prepared: Prerequisites | None = None,
    ) -> None:
        self.accelerator = accelerator or default_accelerator()
        self.device = self.accelerator.device
        self.data, self.options, self.network, self.seed = data, options, network, seed
        self.prepared = prepared or Prerequisites()
        self.objective = objective_of(options, self.prepared, believed=beliefs is not None)
        self.arithmetic = arithmetic(options.precision, self.device)
        self.bf16 = self.arithmetic.bf16
        _check(network, options, self.accelerator)
        check_training_fits(network, options, data.images, believed=beliefs is not None)

        train_indices, self.held_indices = held_out(data.supervision, options.held_out, seed)
        if not self.objective.uses_unlabelled:
            train_indices = _with_label(train_indices, data.supervision, options.objective)
        self.train_indices = torch.from_numpy(train_indices)
        self.images = UnitImages(data.images, self.device)
        self.labels = LabelModel(data.supervision, options, self.prepared.transition, self.device)
        self.beliefs = None if beliefs is None else beliefs.to(self.device)
        labelled = torch.from_numpy(~data.supervision.unlabelled[train_indices])
        share = options.labelled_share if self.objective.uses_beliefs else 0.0
        self.batches = LabelledBatches(labelled, options.batch_size, share, seed)
        self.epoch_steps = max(1, len(train_indices) // options.batch_size)

        self.augment_options = options.augment(may_flip=data.images.may_flip)
        self.noise = NoiseDistribution(EDM_NOISE.mean, EDM_NOISE.std, options.high_noise_share)
        self.step, self.best = 0, BestWeights()
        self.losses = LossReader(self.accelerator, options.learning_rate)
        self._build()

    def _build(self) -> None:
        """Build the network, its EMA and the optimiser."""
        options, images = self.options, self.data.images
        denoiser = build_denoiser(
            self.network, images.image_shape, images.num_classes, self.seed, coherent=self.objective.coherent
        ).to(self.device)
        self.ema_denoiser = deepcopy(denoiser).eval().requires_grad_(False)
        fused = True if self.device.type in ("cpu", "cuda") else None
        optimizer = torch.optim.Adam(denoiser.parameters(), options.learning_rate, betas=(0.9, 0.999), fused=fused)
        self.denoiser = denoiser
        self.model, self.optimizer = self.accelerator.prepare(denoiser, optimizer)
        if options.compile:  # the inner networks: `Denoiser` counts evaluations, outside their graphs
            denoiser.network.compile()
            self.ema_denoiser.network.compile()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the average's weights towards those of the trained network, in the first step all the way."""
        decay = ema_decay(self.options, self.step) if self.step else 0.0
        torch._foreach_lerp_(list(self.ema_denoiser.parameters()), list(self.denoiser.parameters()), 1 - decay)

    @property
    def evaluations(self) -> int:
        """Images passed so far through either network by this process, and through helper networks.

        What trained these, together or alone, counts with the main process.
        """
        own = self.options.batch_size // self.accelerator.num_processes
        helped = 0 if self.prepared.classifier is None else self.step * own
        before = self.prepared.evaluations if self.accelerator.is_main_process else 0
        return self.denoiser.evaluations + self.ema_denoiser.evaluations + before + helped

    @property
    def cold(self) -> bool:
        """Whether an objective that learns beliefs still trusts the given labels."""
        return self.objective.uses_beliefs and self.step < cold_steps(self.options)

    def steps(self) -> Iterator[TrainedStep]:
        """Train from the current step to the last, yielding after each. Raises `RunFailed` on a NaN loss."""
        while self.step < self.options.steps:
            yield self._one_step()

    def _one_step(self) -> TrainedStep:
        step, options, rank = self.step, self.options, self.accelerator.process_index
        random = rng.generator(self.seed, "step", step, rank, device=self.device)
        torch.manual_seed(rng.derive(self.seed, "dropout", step, rank))
        picked = self.batches.only_labelled(step) if self.cold else self.batches[step]
        indices = self.train_indices[picked[rank :: self.accelerator.num_processes]].to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(options, step)

        batch = self.batch(indices, random)
        self.model.train()
        with autocast(self.device, self.bf16):
            losses = self._losses(batch, random)
        loss = (losses.generative + options.classification_weight * losses.classification).mean()
        parts = loss, losses.generative.mean(), losses.classification.mean(), batch.pi.max(1).values.mean()
        self.losses.add(step, parts, last=step + 1 == options.steps)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self._average()
        self.step += 1
        if self.objective.uses_beliefs and self.step % self.epoch_steps == 0:
            self.labels.update(self.epoch_steps)
        if options.select == "best" and (self.step % options.select_every == 0 or self.step == options.steps):
            self._offer_weights()
        return TrainedStep(self.step, self.losses.latest, self.evaluations)

    def _offer_weights(self) -> None:
        loss = self.generator().record.held_out_loss
        if loss is not None:
            self.best.offer(loss, self.step, self.ema_denoiser.network.state_dict())

    def _losses(self, batch: Batch, random: torch.Generator) -> Losses:
        options = self.options
        settings = ClassifierSettings(
            options.temperature,
            self.labels.log_prior,
            INTERVAL,
            options.elr_strength if options.noisy_loss == "elr" else None,
            options.unlabelled_weight,
        )
        at = TrainingStep(self.model, self.ema_denoiser, batch, settings, random, cold=self.cold)
        return self.objective.losses(at)

    def batch(self, indices: Tensor, random: torch.Generator) -> Batch:
        """Look up the beliefs about these images (refreshing a share of them first), augment, add noise."""
        labels, cold, learns = self.labels, self.cold, self.objective.uses_beliefs
        candidates, trusted = labels.candidates[indices], labels.trusted[indices]
        likelihood = candidates.float() if cold else labels.likelihood(indices)
        x_0 = self.images[indices]
        if learns and not (cold and labels.all_trusted):
            self._refresh(labels.to_refresh(indices, cold=cold), random)
        if self.beliefs is not None:
            pi = self.beliefs[indices].float()
        elif learns and not cold:
            pi = labels.believed(indices, likelihood)
        else:
            pi = labels.as_given[indices]
        seen, told = augment(x_0, self.augment_options, random)
        sigma = self.noise.sample(len(seen), random, self.device)
        noise = torch.randn(seen.shape, generator=random, device=random.device).to(self.device)
        x_t = seen + sigma[:, None, None, None] * noise
        return Batch(seen, x_t, sigma, told, pi, labels.bank[indices], candidates, trusted, likelihood, indices)

    @torch.no_grad()
    def _refresh(self, indices: Tensor, random: torch.Generator) -> None:
        """Average the EMA network's current posterior of these images into the bank, on every process alike."""
        sigmas = self.options.posterior_sigmas
        with autocast(self.device, self.bf16):
            logits = class_logits(
                self.ema_denoiser,
                self.images[indices],
                Schedule(sigmas, (1 / len(sigmas),) * len(sigmas)),
                random,
                Calibration(self.options.temperature, self.labels.log_prior),
                margin=self.options.eliminate,
                candidates=self.labels.candidates[indices],
            )
        posterior = logits.softmax(1)
        if self.accelerator.num_processes > 1:
            indices, posterior = self.accelerator.gather((indices, posterior))
        self.labels.keep(indices, posterior, cold=self.cold)

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """Tensors and JSON from which `restore` continues bit for bit; all processes call this together."""
        optimizer, optimizer_meta = pack_optimizer(self.optimizer.state_dict())
        tensors = {f"model.{k}": v for k, v in self.denoiser.state_dict().items()}
        tensors |= {f"ema.module.{k}": v for k, v in self.ema_denoiser.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimizer.items()}
        tensors |= {f"best.{k}": v for k, v in self.best.weights.items()}
        tensors |= self.labels.state()
        meta: dict[str, JSON] = {
            "step": self.step,
            "best": self.best.to_json(),
            "optimizer": optimizer_meta,
            "evaluations": [sum(of_all([net.evaluations])) for net in (self.denoiser, self.ema_denoiser)],
            **self._identity(),
        }
        return tensors, meta

    def _identity(self) -> dict[str, JSON]:
        return identity(self.data, self.network, self.options, self.seed, self.beliefs)

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> None:
        """Continue from `state()`. Raises `UserError` if that state is another run's."""
        check_identity(meta, self._identity())
        part = partial(part_of, tensors)
        self.denoiser.load_state_dict(part("model"))
        self.ema_denoiser.load_state_dict(part("ema.module"))
        self.optimizer.load_state_dict(unpack_optimizer(part("optimizer"), section(meta, "optimizer")))
        self.labels.restore(tensors)
        if part("best"):
            self.best.restore(part("best"), section(meta, "best"))
        self.step = whole(meta, "step")
        rank, number = self.accelerator.process_index, self.accelerator.num_processes
        own = (total // number + (rank < total % number) for total in wholes(meta, "evaluations"))
        self.denoiser.evaluations, self.ema_denoiser.evaluations = own

    def finish(self) -> Generator:
        """The generator of a finished training; with `select: best` the best weights replace the last ones."""
        if self.best.weights:
            self.ema_denoiser.network.load_state_dict(self.best.weights)
        generator, logits = self._fitted()
        selected = self.best.step if self.best.weights else self.step
        generator.record = replace(generator.record, selected_step=selected)
        held, prepared = self.held_indices, self.prepared
        if prepared.labeller is not None:
            found = prepared.labeller
            ask_beside(generator, found.networks, self.data, held, found.suggestions.from_image[held], logits)
        elif prepared.clean_classifier is not None:
            judge, beliefs = settled(
                prepared.clean_classifier,
                generator.transition,
                self.data,
                held,
                mirrored=self.augment_options.mirrors,
                bf16=self.bf16,
            )
            ask_beside(generator, judge, self.data, held, beliefs, logits)
        return generator

    def generator(self) -> Generator:
        """The EMA network with its label model; the temperature is fitted on the held-out images, if any.

        With given beliefs it is not fitted: such a generator only draws and never classifies.
        """
        return self._fitted()[0]

    def _fitted(self) -> tuple[Generator, Tensor | None]:
        """`generator`, and its logits [m, c] of the held-out images if they fitted the temperature."""
        generator = Generator(
            self.ema_denoiser,
            self.network,
            self.data.images.image_shape,
            self.data.images.classes,
            self.labels.log_prior,
            self.labels.transition,
            FITTED_TEMPERATURE_SHARE * self.options.temperature,
            self.bf16,
            TrainingRecord(self.options.objective, self.seed, self.step),
            eliminate=self.options.eliminate,
        )
        return generator, None if self.beliefs is not None else fit_held_out(generator, self.data, self.held_indices)


def _with_label(indices: Labels, supervision: Supervision, objective: str) -> Labels:
    """The indices of labelled images. Raises `UserError` if there are none."""
    found = indices[~supervision.unlabelled[indices]]
    if not len(found):
        raise UserError(f"The {objective} objective needs labels, and every image is unlabelled; use dmis.")
    return found


def _check(network: NetworkOptions, options: TrainOptions, accelerator: Accelerator) -> None:
    """Raise `UserError` unless the options fit the network and the processes."""
    if options.batch_size % accelerator.num_processes:
        raise UserError(f"batch_size {options.batch_size} does not divide among {accelerator.num_processes} processes.")
    check_top_k(network, options)
