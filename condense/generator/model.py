"""A trained generator: the EMA network with its label model, as a classifier, a sampler and a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense import rng
from condense.data.batches import to_pixels, to_unit
from condense.data.types import ImageData, Images, Mask, Supervision
from condense.errors import RunFailed, UserError
from condense.generator.classifier import SIGMA_MAX, Calibration, Schedule, centred_schedule, class_errors
from condense.generator.denoiser import Denoiser
from condense.generator.elimination import class_logits
from condense.generator.labels.noisy_classifier import NoisyClassifier
from condense.generator.labels.posterior import given_label, supervision_likelihood
from condense.generator.labels.second_opinion import SecondOpinion
from condense.generator.networks import AllClass, Conditional
from condense.generator.options import NetworkOptions
from condense.generator.passes import in_parts, rows_at_once
from condense.generator.record import TrainingRecord
from condense.generator.sampler import heun
from condense.precision import frozen_autocast
from condense.preprocessing import planes
from condense.run import Run

DEFAULT_SCHEDULE = centred_schedule(4)


def build_denoiser(
    network: NetworkOptions,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    *,
    coherent: bool = False,
) -> Denoiser:
    """A fresh denoiser for (C, H, W) images, its weights drawn from `seed` alone; `coherent` as in `UNet`."""
    kind: type[AllClass | Conditional] = AllClass if network.kind == "all-class" else Conditional
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.derive(seed, "network"))
        return Denoiser(kind(network.shape(), image_shape[0], num_classes, coherent))


def _finite(values: Tensor, what: str) -> Tensor:
    """Return `values`; raise `RunFailed` if one is NaN or infinite: images would be black and labels all alike."""
    if not bool(values.isfinite().all()):
        raise RunFailed(
            f"The generator gave NaN or infinity for {what}; it is damaged or its training had diverged: restore a "
            "copy of it, or train it again with a lower train.learning_rate."
        )
    return values


def _few(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:5]) + (f", … ({len(classes)})" if len(classes) > 5 else "")


def _run_of(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else Run(Path(run))


@dataclass
class Generator:
    """The result of training, used by every later command.

    Attributes:
        denoiser: the EMA network, in eval mode.
        network: options the network was built with.
        image_shape: (C, H, W).
        classes: class names.
        log_prior: log class prior [c].
        transition: label transition matrix [c, c], rows = true class.
        temperature: temperature of the diffusion classifier.
        bf16: whether the network runs under bf16 autocast; errors and posteriors stay float32.
        record: objective, seed, data and cost of the training, for provenance.
        eliminate: margin in nats of early elimination (see `elimination`); None to evaluate every class at every level.
        second: the generator of the second stage, which draws instead of this one; None without one.
        opinion: the second opinion on labels that `suggest` pools; None without one.
        noisy_classifier: TDSM's h, which gives the generator's beliefs; None if the denoiser gives them.
    """

    denoiser: Denoiser
    network: NetworkOptions
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    log_prior: Tensor
    transition: Tensor
    temperature: float
    bf16: bool
    record: TrainingRecord
    eliminate: float | None = None
    second: Generator | None = None
    opinion: SecondOpinion | None = None
    noisy_classifier: NoisyClassifier | None = None

    @property
    def evaluations(self) -> int:
        """Images passed through the networks since they were loaded or made."""
        beside = None if self.opinion is None else self.opinion.judge
        others = (self.second, beside, self.noisy_classifier)
        return self.denoiser.evaluations + sum(other.evaluations for other in others if other is not None)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.denoiser.parameters()).device

    def _pass_size(self, *, every_class: bool) -> int:
        """Images in one pass: few enough for a CPU's cache or a GPU's free memory.

        `every_class`: whether each image is evaluated for every class, for which `Conditional` needs c rows.
        """
        size = rows_at_once(self.denoiser, self.image_shape, self.device)
        return max(1, size // len(self.classes)) if every_class and not self.denoiser.one_pass else size

    def check_images(self, images: Images) -> None:
        """Raise `UserError` unless `images` [n, H, W, C] have the shape the generator was trained on."""
        channels, height, width = self.image_shape
        if images.shape[1:] != (height, width, channels):
            raise UserError(
                f"The generator makes images of {height}x{width}x{channels}, the data has "
                f"{'x'.join(map(str, images.shape[1:]))}; use data of the same size or train another generator."
            )

    def check_data(self, data: ImageData) -> None:
        """Raise `UserError` unless `data` has the classes and the image shape the generator was trained on."""
        if self.classes != data.classes:
            raise UserError(
                f"The generator knows the classes {_few(self.classes)}, {data.name} has {_few(data.classes)}; "
                "train one on this data."
            )
        self.check_images(data.images)

    @torch.no_grad()
    def errors(
        self,
        images: Images,
        schedule: Schedule = DEFAULT_SCHEDULE,
        *,
        pairs: int = 1,
        seed: int = 0,
    ) -> Tensor:
        """Class errors (see `class_errors`) of uint8 images [n, H, W, C]: float32 [n, c], on the CPU."""
        self.check_images(images)

        def found(part: slice) -> Tensor:
            noise = rng.generator(seed, "classifier")
            with frozen_autocast(self.denoiser, self.device, self.bf16):
                errors = class_errors(self.denoiser, self._unit(images[part]), schedule, noise, pairs=pairs)
            return _finite(errors, "the errors of its classes").cpu()

        return torch.cat(in_parts(found, len(images), self._looked_at(2 * len(schedule.sigmas) * pairs)))

    @torch.no_grad()
    def posterior(
        self,
        images: Images,
        schedule: Schedule = DEFAULT_SCHEDULE,
        *,
        pairs: int = 1,
        seed: int = 0,
        candidates: Mask | None = None,
    ) -> npt.NDArray[np.float32]:
        """p(y | x) of uint8 images [n, H, W, C]: float32 [n, c], rows summing to 1.

        With `eliminate` and a `Conditional` network, classes that cannot win are dropped on the way; `candidates` bool
        [n, c] are the classes allowed by a label that is combined later, see `surviving_logits`.
        """
        self.check_images(images)

        def found(part: slice) -> Tensor:
            allowed = None if candidates is None else torch.from_numpy(candidates[part])
            with frozen_autocast(self.denoiser, self.device, self.bf16):
                logits = class_logits(
                    self.denoiser,
                    self._unit(images[part]),
                    schedule,
                    rng.generator(seed, "classifier"),
                    Calibration(self.temperature, self.log_prior),
                    margin=self.eliminate,
                    candidates=None if allowed is None else allowed.to(self.device),
                    pairs=pairs,
                )
            return _finite(logits.softmax(1), "the classes of an image").cpu()

        looks = 2 * len(schedule.sigmas) * pairs if self.denoiser.one_pass or self.eliminate is None else 1
        rows = in_parts(found, len(images), self._looked_at(looks))
        return np.asarray(torch.cat(rows).numpy(), dtype=np.float32)

    def _looked_at(self, looks: int) -> int:
        """Images per pass with `looks` views of each."""
        return max(1, self._pass_size(every_class=True) // looks)

    def _unit(self, images: Images) -> Tensor:
        """Pixels [B, C, H, W] in [-1, 1] on the device, from uint8 [B, H, W, C]."""
        return to_unit(planes(images).to(self.device))

    def label_posterior(
        self,
        images: Images,
        supervision: Supervision,
        schedule: Schedule = DEFAULT_SCHEDULE,
        *,
        seed: int = 0,
        pairs: int = 1,
    ) -> npt.NDArray[np.float32]:
        """p(y | x, z), given image and label: float32 [n, c]."""
        likelihood = supervision_likelihood(supervision, self.transition)
        posterior = torch.from_numpy(
            self.posterior(images, schedule, seed=seed, pairs=pairs, candidates=supervision.candidates)
        )
        return np.asarray(given_label(posterior, likelihood).numpy(), dtype=np.float32)

    def noisy_posterior(self, images: Images) -> npt.NDArray[np.float32]:
        """p(y | x) by `noisy_classifier`, float32 [n, c]; combined with the label, TDSM's weights at sigma = 0.

        Source: Na et al. (2024), https://arxiv.org/abs/2402.17517, Eq. 9.
        """
        classifier = self.noisy_classifier
        assert classifier is not None
        self.check_images(images)

        def found(part: slice) -> Tensor:
            with frozen_autocast(classifier, self.device, self.bf16):
                return classifier.clean_posterior(self._unit(images[part])).cpu()

        posterior = torch.cat(in_parts(found, len(images), self._pass_size(every_class=False)))
        return np.asarray(posterior.numpy(), dtype=np.float32)

    @torch.no_grad()
    def sample(
        self,
        labels: npt.NDArray[np.int64],
        seed: int,
        *,
        num_steps: int = 18,
        guidance: float = 0.0,
        start: Images | None = None,
        start_sigma: float = SIGMA_MAX,
    ) -> Images:
        """One image for each label [n]: uint8 [n, H, W, C]. Image i depends on seed, i and its own label.

        Args:
            labels: int64 [n].
            seed: seed of the noise.
            num_steps: steps of the sampler, see `heun`.
            guidance: strength of class guidance, see `heun`.
            start: images [n, H, W, C] from which the sampler starts after adding noise of level `start_sigma`;
                pure noise when None. Source: D4M, Su et al. (2024), https://arxiv.org/abs/2407.15138, Sec. 3.3.
            start_sigma: the first noise level.
        """
        if self.second is not None:
            return self.second.sample(
                labels, seed, num_steps=num_steps, guidance=guidance, start=start, start_sigma=start_sigma
            )
        images = []
        noise_source = rng.generator(seed, "sampling")
        batch = self._pass_size(every_class=guidance != 0)
        for begin in range(0, len(labels), batch):
            classes = torch.from_numpy(labels[begin : begin + batch]).to(self.device)
            noise = torch.randn(len(classes), *self.image_shape, generator=noise_source).to(self.device)
            x = start_sigma * noise
            if start is not None:
                pixels = planes(start[begin : begin + batch])
                x = x + to_unit(pixels.to(self.device))
            drawn = partial(self._drawn, x, classes, num_steps, guidance, start_sigma)
            images += [part.numpy() for part in in_parts(drawn, len(x), len(x))]
        return np.concatenate(images)

    def _drawn(
        self, x: Tensor, classes: Tensor, num_steps: int, guidance: float, sigma_max: float, part: slice
    ) -> Tensor:
        """Part of the images sampled from x [B, C, H, W]: uint8 [b, H, W, C], on the CPU."""
        with frozen_autocast(self.denoiser, self.device, self.bf16):
            drawn = heun(
                self.denoiser, x[part], classes[part], num_steps=num_steps, guidance=guidance, sigma_max=sigma_max
            )
        return to_pixels(_finite(drawn, "a drawn image")).permute(0, 2, 3, 1).cpu()

    def save(self, run: Run | str | Path) -> None:
        """Write generator.safetensors into a run folder, and that of a second stage into the folder below it."""
        from condense.generator import generator_file

        generator_file.write(self, _run_of(run))

    @classmethod
    def load(cls, run: Run | str | Path, device: torch.device | str = "cpu") -> Generator:
        """Read what `save` wrote. Raises `UserError` if there is no generator or it does not match its description."""
        from condense.generator import generator_file

        if not isinstance(run, Run) and not Path(run).is_dir():
            raise UserError(f"There is no run folder {run}; make one with `dmis train` or `condense.train(…, run=…)`.")
        return generator_file.read(_run_of(run), device)
