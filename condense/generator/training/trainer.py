"""The training loop of a generator, any objective: a `Trainer` whose `steps()` yields after every optimiser step.

The caller saves, shows and stops. All randomness is a function of (seed, step), so a run restored from `state()`
goes on bit for bit as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from condense import rng
from condense.changes import changes
from condense.data.batches import LabelledBatches, ResidentImages
from condense.data.splits import held_out
from condense.data.types import TrainingSet
from condense.errors import RunFailed, UserError
from condense.generator.augment import augment
from condense.generator.classifier import (
    EDM_NOISE,
    Schedule,
    centred_interval,
    fit_temperature,
    held_out_loss,
    logits_from_errors,
)
from condense.generator.denoiser import Denoiser, NoiseDistribution
from condense.generator.elimination import class_logits
from condense.generator.labels.posterior import (
    PosteriorBank,
    class_prior,
    estimate_transition,
    given_label,
    label_likelihood,
    supervision_likelihood,
)
from condense.generator.labels.second_opinion import form_opinion
from condense.generator.model import Generator, build_denoiser
from condense.generator.options import NetworkOptions, TrainOptions, check_top_k
from condense.generator.selection import BestWeights
from condense.generator.training.batch_loss import Batch, ClassifierSettings, Losses
from condense.generator.training.objectives import TrainingStep, objective_of
from condense.generator.training.prerequisites import Aids, given_transition
from condense.machine import best_device, num_processes
from condense.precision import arithmetic, autocast
from condense.run import JSON, pack_optimizer, part_of, unpack_optimizer

INTERVAL_WIDTH = 6.4
FITTED_TEMPERATURE_SHARE = 0.3  # where fitted temperatures are expected, as a share of that of training
LEAST_COLD, LEAST_COLD_SHARE = 60, 0.1  # steps of the cold start, and of a run
PRIOR_HALF_LIFE = 0.1  # of the moving average of the class prior, as a share of the steps
READ_EVERY = 10  # steps between looks at the losses on a GPU, which must be waited for


@dataclass(frozen=True)
class Step:
    """What one optimiser step reports. `step` counts finished steps; losses are means over the batch.

    On a GPU losses and sharpness are those of the last step they were read at, see `READ_EVERY`.
    """

    step: int
    loss: float
    generative: float
    classification: float
    sharpness: float
    evaluations: int


def cold_steps(options: TrainOptions) -> int:
    """Steps that trust the labels as given: a share of all, but enough of a short run that beliefs can begin.

    After 12 steps of 64 (0.02 of 600) on Fashion-MNIST with 40 % wrong labels the beliefs collapsed onto one class.
    """
    asked = options.cold_start * options.steps
    return math.ceil(max(asked, min(LEAST_COLD, LEAST_COLD_SHARE * options.steps))) if asked else 0


def default_accelerator() -> Accelerator:
    """One process, or as many as torchrun started, on `best_device`."""
    on_cpu = best_device().type == "cpu"
    return Accelerator(mixed_precision="no", cpu=on_cpu and (num_processes() > 1 or torch.accelerator.is_available()))


class Trainer:
    """Everything that changes while a generator is trained.

    Args:
        data: images and imprecise labels.
        network: size and kind of the network.
        options: objective and schedule.
        seed: seed of weights, batches and noise.
        accelerator: device and processes; made when None.
        beliefs: p(y | x, z) of every image [n, c], known and kept: labels are drawn from them and nothing is learnt
            about the classes. None to learn them on the way.
        aids: what was prepared for the objective (see `prepare`).
    """

    def __init__(
        self,
        data: TrainingSet,
        network: NetworkOptions,
        options: TrainOptions,
        seed: int,
        accelerator: Accelerator | None = None,
        beliefs: Tensor | None = None,
        aids: Aids | None = None,
    ) -> None:
        self.accelerator = accelerator or default_accelerator()
        self.device = self.accelerator.device
        self.options, self.network, self.seed = options, network, seed
        self.aids = aids or Aids()
        self.objective = objective_of(options, self.aids, believed=beliefs is not None)
        self.arithmetic = arithmetic(options.precision, self.device)
        self.bf16 = self.arithmetic.bf16
        if options.batch_size % self.accelerator.num_processes:
            raise UserError(
                f"batch_size {options.batch_size} does not divide among {self.accelerator.num_processes} processes."
            )

        check_top_k(network, options)
        train_indices, self.held_indices = held_out(data.supervision, options.held_out, seed)
        if not self.objective.uses_unlabelled:
            train_indices = train_indices[~data.supervision.unlabelled[train_indices]]
            if not len(train_indices):
                raise UserError(
                    f"The {options.objective} objective needs labels, and every image is unlabelled; use dmis."
                )
        self.data = data
        self.train_indices = torch.from_numpy(train_indices)
        self.images = ResidentImages(data.images, self.device)
        self.candidates = torch.from_numpy(data.supervision.candidates).to(self.device)
        self.trusted = torch.from_numpy(data.supervision.trusted).to(self.device)
        self.all_trusted = bool(data.supervision.trusted.all())
        self.has_sets = bool((~data.supervision.trusted & ~data.supervision.single).any())
        self.beliefs = None if beliefs is None else beliefs.to(self.device)
        labelled = torch.from_numpy(~data.supervision.unlabelled[train_indices])
        share = options.labelled_share if self.objective.uses_beliefs else 0.0
        self.batches = LabelledBatches(labelled, options.batch_size, share, seed)
        self.epoch_steps = max(1, len(train_indices) // options.batch_size)

        self.augment_options = options.augment(may_flip=data.images.may_flip)
        self.noise = NoiseDistribution(EDM_NOISE.mean, EDM_NOISE.std, options.high_noise_share)
        self.interval = centred_interval(INTERVAL_WIDTH)
        self.temperature = options.temperature

        denoiser = build_denoiser(
            network, data.images.image_shape, data.images.num_classes, seed, coherent=self.objective.coherent
        ).to(self.device)
        self.ema = AveragedModel(denoiser, multi_avg_fn=self._average, use_buffers=False)
        self.ema.eval().requires_grad_(False)
        fused = True if self.device.type == "cuda" else None
        optimizer = torch.optim.Adam(denoiser.parameters(), options.learning_rate, betas=(0.9, 0.999), fused=fused)
        self.denoiser = denoiser
        self.model, self.optimizer = self.accelerator.prepare(denoiser, optimizer)
        if options.compile:  # the networks inside: counting evaluations outside of them changes no graph
            denoiser.network.compile()
            self.ema_denoiser.network.compile()

        self.step = 0
        self.best = BestWeights()
        self.bank = PosteriorBank(self.candidates, self.trusted, options.bank_momentum)
        self.transition = self._first_transition()
        self.first_transition = self.transition.cpu()
        # steps not yet looked at, each with its loss, the loss's two terms and the sharpness, [4]
        self._unread: list[tuple[int, Tensor]] = []
        self._read = [math.nan] * 4
        self.log_prior = torch.full((data.images.num_classes,), -math.log(data.images.num_classes), device=self.device)

    @property
    def ema_denoiser(self) -> Denoiser:
        """The averaged network, in eval mode."""
        module = self.ema.module
        assert isinstance(module, Denoiser)
        return module

    @property
    def evaluations(self) -> int:
        """Images passed so far through either network by this process, and through those that help it."""
        helped = 0 if self.aids.classifier is None else self.step * self.options.batch_size
        return self.denoiser.evaluations + self.ema_denoiser.evaluations + self.aids.images_seen + helped

    def steps(self) -> Iterator[Step]:
        """Train from the current step to the last, yielding after each. Raises `RunFailed` on a NaN loss."""
        while self.step < self.options.steps:
            yield self._one_step()

    def _one_step(self) -> Step:
        step, options, rank = self.step, self.options, self.accelerator.process_index
        random = rng.generator(self.seed, "step", step, rank, device=self.device)
        torch.manual_seed(rng.derive(self.seed, "dropout", step, rank))
        labelled_only = self._cold and self.objective.uses_beliefs
        picked = self.batches.only_labelled(step) if labelled_only else self.batches[step]
        indices = self.train_indices[picked[rank :: self.accelerator.num_processes]].to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(step)

        batch = self._batch(indices, random)
        self.model.train()
        with autocast(self.device, self.bf16):
            losses = self._losses(batch, random)
        loss = (losses.generative + options.classification_weight * losses.classification).mean()
        parts = loss, losses.generative.mean(), losses.classification.mean(), batch.pi.max(1).values.mean()
        self._unread.append((step, torch.stack(parts).detach()))
        if self.device.type == "cpu" or (step + 1) % READ_EVERY == 0 or step + 1 == options.steps:
            self.check_losses()
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.ema.update_parameters(self.denoiser)
        self.step += 1
        if self.objective.uses_beliefs and self.step % self.epoch_steps == 0:
            self._update_label_model()
        if options.select == "best" and (self.step % options.select_every == 0 or self.step == options.steps):
            self._offer_weights()
        loss_read, generative, classification, sharpness = self._read
        return Step(self.step, loss_read, generative, classification, sharpness, self.evaluations)

    def check_losses(self) -> None:
        """Look at the losses of the steps since the last look; all processes must call this at the same step.

        Raises:
            RunFailed: one of them is not finite, in any of the processes: one that stopped alone would leave the
                others waiting for ever.
        """
        if not self._unread:
            return
        steps, parts = zip(*self._unread, strict=True)
        mine = torch.stack(parts)[None]  # [1, steps, 4]
        found = self.accelerator.gather(mine) if self.accelerator.num_processes > 1 else mine
        read = found.tolist()
        self._unread, self._read = [], read[self.accelerator.process_index][-1]
        for place, step in enumerate(steps):
            lost = [of_process[place][0] for of_process in read if not math.isfinite(of_process[place][0])]
            if lost:
                raise RunFailed(
                    f"The loss became {lost[0]} at step {step}; lower train.learning_rate "
                    f"(now {self.options.learning_rate}) or set train.precision to fp32, and start over with --force."
                )

    def _offer_weights(self) -> None:
        loss = self.generator().meta.get("held_out_loss")
        if isinstance(loss, float):
            self.best.offer(loss, self.step, self.ema_denoiser.network.state_dict())

    def _losses(self, batch: Batch, random: torch.Generator) -> Losses:
        elr_strength = self.options.elr_strength if self.options.noisy_loss == "elr" else None
        settings = ClassifierSettings(
            self.temperature, self.log_prior, self.interval, elr_strength, self.options.unlabelled_weight
        )
        at = TrainingStep(self.model, self.ema_denoiser, batch, settings, random, cold=self._cold)
        return self.objective.losses(at)

    def _batch(self, indices: Tensor, random: torch.Generator) -> Batch:
        """Look the beliefs up (refreshing a share of them first), augment, add noise."""
        x_0 = self.images[indices]
        candidates, trusted = self.candidates[indices], self.trusted[indices]
        trusting = self._cold and self.objective.uses_beliefs
        if trusting:
            likelihood = candidates.float()
        else:
            likelihood = label_likelihood(candidates, trusted, self.transition, has_sets=self.has_sets)
        if self.objective.uses_beliefs and not (self._cold and self.all_trusted):
            count = math.ceil(self.options.refresh_share * len(indices))
            self._refresh(self.bank.most_overdue(indices, count, self._waiting), random)
        target = self.bank[indices]
        if self.beliefs is not None:
            pi = self.beliefs[indices].float()
        elif self.objective.uses_beliefs and not trusting:
            pi = given_label(target, likelihood)
        else:
            pi = candidates / candidates.sum(1, keepdim=True)
        seen, labels = augment(x_0, self.augment_options, random)
        sigma = self.noise.sample(len(seen), random, self.device)
        noise = torch.randn(seen.shape, generator=random, device=random.device).to(self.device)
        x_t = seen + sigma[:, None, None, None] * noise
        return Batch(seen, x_t, sigma, labels, pi, target, candidates, trusted, likelihood, indices)

    @torch.no_grad()
    def _refresh(self, indices: Tensor, random: torch.Generator) -> None:
        """Average the EMA network's present posterior of these images into the bank, on every process alike."""
        x_0 = self.images[indices]
        sigmas = self.options.posterior_sigmas
        schedule = Schedule(sigmas, (1 / len(sigmas),) * len(sigmas))
        with autocast(self.device, self.bf16):
            logits = class_logits(
                self.ema_denoiser,
                x_0,
                schedule,
                random,
                temperature=self.temperature,
                log_prior=self.log_prior,
                margin=self.options.eliminate,
                candidates=self.candidates[indices],
            )
        posterior = logits.softmax(1)
        if self.accelerator.num_processes > 1:
            indices, posterior = self.accelerator.gather((indices, posterior))
        self.bank.update(indices, posterior, ~self._waiting[indices])

    def _update_label_model(self) -> None:
        """Once an epoch: transition matrix and class prior from the banked beliefs, on the CPU as the labels are."""
        visited = self.bank.visited.cpu()
        if not bool(visited.any()):
            return
        known = self.data.supervision.take(np.flatnonzero(visited.numpy()))
        posterior = self.bank.posterior.cpu()[visited].float()
        if self.aids.transition is None and isinstance(self.options.transition, str):
            transition = estimate_transition(posterior, known, self.first_transition)
            self.transition = transition.to(self.device)
        else:
            transition = self.first_transition
        keep = 0.5 ** (self.epoch_steps / (PRIOR_HALF_LIFE * self.options.steps))
        prior = class_prior(known, posterior, transition, self.log_prior.cpu().exp(), keep)
        self.log_prior = prior.log().to(self.device)

    @property
    def _cold(self) -> bool:
        return self.step < cold_steps(self.options)

    @property
    def _waiting(self) -> Tensor:
        """Images that beliefs are not yet kept of, bool [n]: during the cold start those whose label is trusted.

        Several candidates, or no label, leave room for what a network believes that has learnt nothing yet.
        """
        return self.trusted if self._cold else torch.zeros_like(self.trusted)

    def _learning_rate(self, step: int) -> float:
        """Linear rise over `warmup`, constant, linear fall over `cooldown`."""
        done = (step + 1) / self.options.steps
        rise = min(1.0, done / self.options.warmup) if self.options.warmup else 1.0
        fall = min(1.0, (1 - done) / self.options.cooldown + 1e-3) if self.options.cooldown else 1.0
        return self.options.learning_rate * rise * fall

    def _average(self, average: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        """One EMA update with EDM's half-life: beta = 0.5^(B / min(half-life, share of the images seen))."""
        seen = (self.step + 1) * self.options.batch_size
        half_life = min(float(self.options.ema_half_life), self.options.ema_share * seen)
        beta = 0.5 ** (self.options.batch_size / max(half_life, 1e-8))
        torch._foreach_lerp_(list(average), list(current), 1 - beta)

    def _first_transition(self) -> Tensor:
        """The given or prepared matrix, or before any estimate the identity mixed with 20 % uniform."""
        c = self.data.supervision.num_classes
        if self.aids.transition is not None:
            return self.aids.transition.to(self.device)
        if isinstance(self.options.transition, str):
            return (0.8 * torch.eye(c) + 0.2 / c).to(self.device)
        return given_transition(self.options.transition, self.data.supervision).to(self.device)

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """Tensors and JSON from which `restore` continues bit for bit."""
        optimizer, optimizer_meta = pack_optimizer(self.optimizer.state_dict())
        tensors = {f"model.{k}": v for k, v in self.denoiser.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimizer.items()}
        tensors |= {f"best.{k}": v for k, v in self.best.weights.items()}
        tensors |= {"bank": self.bank.posterior, "visited": self.bank.visited}
        tensors |= {"transition": self.transition, "log_prior": self.log_prior}
        meta: dict[str, JSON] = {
            "step": self.step,
            "best": {"step": self.best.step, "loss": self.best.loss if self.best.weights else None},
            "optimizer": optimizer_meta,
            "evaluations": [self.denoiser.evaluations, self.ema_denoiser.evaluations],
            "options": self.options.model_dump(mode="json"),
            "network": self.network.model_dump(mode="json"),
            "seed": self.seed,
            "data": self.data.images.fingerprint(),
            "labels": self.data.supervision.fingerprint(),
            "beliefs": None if self.beliefs is None else sha256(self.beliefs.cpu().numpy().tobytes()).hexdigest(),
        }
        return tensors, meta

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Continue from `state()`. Raises `UserError` if that was another run's."""
        _, mine = self.state()
        theirs = {**meta, **_completed(meta)}
        compared = ("options", "network", "seed", "data", "labels", "beliefs")
        changed = changes(theirs, {key: mine[key] for key in compared})
        if changed:
            raise UserError(
                f"The checkpoint is of a run with other {', '.join(changed)}; use the same or start afresh."
            )

        part = partial(part_of, tensors)
        self.denoiser.load_state_dict(part("model"))
        self.ema.load_state_dict(part("ema"))
        self.optimizer.load_state_dict(unpack_optimizer(part("optimizer"), meta["optimizer"]))
        self.bank.posterior = tensors["bank"].to(self.device)
        self.bank.visited = tensors["visited"].to(self.device)
        self.transition = tensors["transition"].to(self.device)
        self.log_prior = tensors["log_prior"].to(self.device)
        if part("best"):
            self.best.offer(float(meta["best"]["loss"]), int(meta["best"]["step"]), part("best"))
        self.step = int(meta["step"])
        self.denoiser.evaluations, self.ema_denoiser.evaluations = meta["evaluations"]

    def finish(self) -> Generator:
        """The generator a finished training yields: `select: best` puts the best weights in the last ones' place."""
        if self.best.weights:
            self.ema_denoiser.network.load_state_dict(self.best.weights)
        generator, held_logits = self._fitted()
        generator.meta["selected_step"] = self.best.step if self.best.weights else self.step
        if self.aids.clean_classifier is not None:
            generator.opinion = form_opinion(
                self.aids.clean_classifier,
                self.transition,
                self.data,
                self.held_indices,
                None if held_logits is None else np.asarray(held_logits.softmax(1).numpy(), dtype=np.float32),
                self.log_prior,
                mirrored=self.augment_options.mirrors,
                bf16=self.bf16,
            )
        return generator

    def generator(self) -> Generator:
        """The EMA network with its label model; the temperature is fitted on the held-out images, if there are any.

        With given beliefs it stays as it was: such a generator draws, and is not asked for classes.
        """
        generator, _ = self._fitted()
        return generator

    def _fitted(self) -> tuple[Generator, Tensor | None]:
        """`generator`, and its logits [m, c] of the held-out images where they fitted the temperature."""
        generator = Generator(
            self.ema_denoiser,
            self.network,
            self.data.images.image_shape,
            self.data.images.classes,
            self.log_prior,
            self.transition,
            FITTED_TEMPERATURE_SHARE * self.temperature,
            self.bf16,
            {"objective": self.options.objective, "seed": self.seed, "steps": self.step},
            eliminate=self.options.eliminate,
        )
        if self.beliefs is not None or not len(self.held_indices):  # with a few images there is nothing to fit on
            return generator, None
        errors = generator.errors(self.data.images.images[self.held_indices])
        likelihood = supervision_likelihood(self.data.supervision.take(self.held_indices), self.transition)
        log_prior = self.log_prior.cpu()
        generator.temperature = fit_temperature(errors, likelihood, log_prior, generator.temperature)
        logits = logits_from_errors(errors, generator.temperature, log_prior)
        generator.meta["held_out_loss"] = held_out_loss(logits, likelihood)
        return generator, logits


def _completed(meta: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's options, those that came after it at their defaults; nothing where they cannot be read."""
    try:
        return {
            "options": TrainOptions.model_validate(meta["options"]).model_dump(mode="json"),
            "network": NetworkOptions.model_validate(meta["network"]).model_dump(mode="json"),
        }
    except (KeyError, ValueError):
        return {}
