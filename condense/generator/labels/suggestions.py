"""A generator's suggested labels, and which given labels it considers wrong."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from condense.data.splits import held_out
from condense.data.types import Beliefs, Labels, Mask, Supervision, TrainingSet
from condense.generator.labels.one_classifier import labels_learned
from condense.generator.labels.posterior import given_label, supervision_likelihood
from condense.generator.model import Generator
from condense.processes import rows_of_all
from condense.run import Run

_AT_ONCE = 500  # images between two updates of the progress bar


@dataclass(frozen=True, eq=False)
class Suggestions:
    """Beliefs about every image; derived values are computed once.

    Attributes:
        supervision: the labels as given.
        from_image: p(y | x) [n, c], made without looking at the label.
        posterior: p(y | x, z) [n, c], given image and label.
        transition: the T [c, c] it uses, rows = true class.
    """

    supervision: Supervision
    from_image: Beliefs
    posterior: Beliefs
    transition: Beliefs

    @cached_property
    def suggested(self) -> Labels:
        """The most probable class given image and label, int64 [n]."""
        return np.asarray(self.posterior.argmax(1), dtype=np.int64)

    @cached_property
    def confidence(self) -> Beliefs:
        """p(suggested | x, z), float32 [n]."""
        return np.asarray(self.posterior.max(1), dtype=np.float32)

    @cached_property
    def suspicion(self) -> Beliefs:
        """Probability that none of the given labels is right, 1 - p(y in given | x, z): float32 [n]."""
        return np.asarray((self.posterior * ~self.supervision.candidates).sum(1), dtype=np.float32)

    @cached_property
    def likely_wrong(self) -> Mask:
        """Bool [n]: the most doubtful labels, as many as are expected to be wrong (the sum of all suspicions).

        Never true if a given label is surely right; the most probable class may still be a given one. Source:
        "prune by noise rate" of Northcutt et al. (2021), https://arxiv.org/abs/1911.00068, Sec. 3.2.
        """
        expected = round(float(self.suspicion.sum(dtype=np.float64)))
        found = np.zeros(len(self.posterior), dtype=np.bool_)
        found[np.argsort(-self.suspicion, kind="stable")[:expected]] = True
        return found

    @cached_property
    def changed(self) -> Mask:
        """Bool [n]: the suggestion differs from the single label given, or there was no label."""
        return np.asarray(self.suggested != self.supervision.observed)


def suggest(generator: Generator, train: TrainingSet, run: Run) -> Suggestions:
    """The beliefs of a generator, pooled with its second opinion if any (see `opinion`), about every image of `train`.

    `dmis relabel`, `--clean-first dmis`, a second stage's labels and the choice of prototypes all use this function.
    The noise comes from the generator's training seed, so that every caller gets the same answer. Torchrun's processes
    share the images, and all of them must call.

    Args:
        generator: the generator.
        train: images and their given labels.
        run: for the progress bar.

    Raises:
        UserError: the generator was made for other classes or image sizes.
    """
    generator.check_data(train.images)
    alone = generator.opinion is not None and generator.opinion.alone
    found = None if alone else diffusion_posterior(generator, train, run)
    return weighed(generator, train.supervision, found, second_opinion(generator, train, run))


def diffusion_posterior(generator: Generator, train: TrainingSet, run: Run) -> Beliefs:
    """f(x) [n, c] of every image by the generator, or by TDSM's classifier instead; as `suggest`."""
    generator.check_data(train.images)
    seed = generator.record.seed

    def look(share: slice) -> Tensor:
        starts, parts = range(share.start, share.stop, _AT_ONCE), []
        with run.track(len(starts), "labelling") as tracker:
            for done, start in enumerate(starts, 1):
                part = slice(start, min(start + _AT_ONCE, share.stop))
                images, candidates = train.images.images[part], train.supervision.candidates[part]
                if generator.noisy_classifier is None:
                    parts.append(generator.posterior(images, seed=seed, candidates=candidates))
                else:
                    parts.append(generator.noisy_posterior(images))
                tracker.update(done)
        return torch.from_numpy(np.concatenate(parts))

    return np.asarray(rows_of_all(look, len(train), _AT_ONCE).numpy(), dtype=np.float32)


def second_opinion(generator: Generator, train: TrainingSet, run: Run) -> Beliefs | None:
    """h(x) [n, c] of every image by the generator's second opinion; None without one. `run` shows the progress."""
    if generator.opinion is None:
        return None
    record, learned = generator.record, None
    of_these = train.images.fingerprint(), train.supervision.fingerprint()
    if (record.data_fingerprint, record.labels_fingerprint) == of_these and record.held_out is not None:
        learned = labels_learned(train.supervision, held_out(train.supervision, record.held_out, record.seed)[1])
    return generator.opinion.judge.beliefs(train, run, learned)


def weighed(
    generator: Generator, supervision: Supervision, from_generator: Beliefs | None, beside: Beliefs | None
) -> Suggestions:
    """Suggestions from `diffusion_posterior` and `second_opinion`, [n, c] each, and the n given labels.

    Either may be None: the second opinion if there is none, the other if that counts alone.
    """
    if generator.opinion is not None and beside is not None:
        from_image = generator.opinion.pooled(from_generator, beside, generator.log_prior)
        transition = generator.opinion.transition(generator.transition)
    else:
        assert from_generator is not None
        from_image, transition = from_generator, generator.transition.cpu()
    posterior = given_label(torch.from_numpy(from_image), supervision_likelihood(supervision, transition))
    return Suggestions(
        supervision, from_image, np.asarray(posterior.numpy(), dtype=np.float32), np.asarray(transition.numpy())
    )
