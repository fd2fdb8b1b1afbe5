"""What a generator suggests in place of the labels given, and which of those it takes for wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from condense.data.types import Labels, Mask, Supervision, TrainingSet
from condense.generator.model import Generator
from condense.generator.posterior import given_label, supervision_likelihood
from condense.run import Run

Beliefs = npt.NDArray[np.float32]

_AT_ONCE = 500  # images between two looks at the progress bar


@dataclass(frozen=True, eq=False)
class Suggestions:
    """What is believed of every image.

    Attributes:
        supervision: the labels as given.
        from_image: p(y | x) [n, c], made without looking at the label.
        posterior: p(y | x, z) [n, c], which weighs the given label in.
    """

    supervision: Supervision
    from_image: Beliefs
    posterior: Beliefs

    @property
    def suggested(self) -> Labels:
        """The likeliest class given image and label, int64 [n]."""
        return np.asarray(self.posterior.argmax(1), dtype=np.int64)

    @property
    def confidence(self) -> Beliefs:
        """p(suggested | x, z), float32 [n]."""
        return np.asarray(self.posterior.max(1), dtype=np.float32)

    @property
    def suspicion(self) -> Beliefs:
        """Probability that none of the given labels is right, 1 - p(y in given | x, z): float32 [n]."""
        return np.asarray((self.posterior * ~self.supervision.candidates).sum(1), dtype=np.float32)

    @property
    def likely_wrong(self) -> Mask:
        """Bool [n]: the likeliest class is none of the given ones. Never true of labels that are surely right."""
        return ~self.supervision.candidates[np.arange(len(self.posterior)), self.suggested]

    @property
    def changed(self) -> Mask:
        """Bool [n]: the suggestion is another label than the single one given; where there was none, it is new."""
        return np.asarray(self.suggested != self.supervision.observed)


def suggest(generator: Generator, train: TrainingSet, seed: int, run: Run) -> Suggestions:
    """Ask a generator about every image of `train`.

    Raises:
        UserError: the generator was made for other classes or image sizes.
    """
    generator.check_data(train.images)
    parts = []
    with run.track(len(train), "labelling") as tracker:
        for start in range(0, len(train), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            candidates = train.supervision.candidates[part]
            parts.append(generator.posterior(train.images.images[part], seed=seed, candidates=candidates))
            tracker.update(start + len(parts[-1]))
    from_image = np.concatenate(parts)
    likelihood = supervision_likelihood(train.supervision, generator.transition)
    posterior = given_label(torch.from_numpy(from_image), likelihood)
    return Suggestions(train.supervision, from_image, np.asarray(posterior.numpy(), dtype=np.float32))
