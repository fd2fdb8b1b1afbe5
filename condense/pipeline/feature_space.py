"""The named feature spaces in which commands measure images."""

from __future__ import annotations

from pathlib import Path

from condense.data.types import Images, Labels
from condense.errors import UserError
from condense.evaluate import features
from condense.evaluate.features import FeatureSpace, metric_name
from condense.evaluate.quality import Metrics, Sample
from condense.machine import best_device
from condense.pipeline.data import LoadedData
from condense.pipeline.real_data import trained_judge
from condense.run import Run

NETWORK = "convnet3"  # of the space "convnet"


def check_space(name: str, weights: Path | None) -> None:
    """Raise `UserError` if the space is unknown, or unless inception and weights are given together."""
    if name not in features.NAMES:
        raise UserError(f"no feature space is called {name!r}; choose {', '.join(features.NAMES)}.")
    if (name == "inception") != (weights is not None):
        raise UserError(
            "The feature space inception and --inception-weights FILE (in a recipe: weights) belong together; the file "
            "is weights-inception-2015-12-05-6726825d.pth of torch-fidelity's releases."
        )


def fixed_space(name: str, weights: Path | None) -> FeatureSpace | None:
    """A space that does not depend on the data, on the best device; None for "convnet". Raises as `features`."""
    if name == "efflite0":
        return features.efflite0(best_device())
    return None if weights is None else features.inception(weights, best_device())


def feature_space(
    given: LoadedData, name: str, weights: Path | None, *, steps: int, seed: int, run: Run
) -> FeatureSpace:
    """The space called `name`; for "convnet" its network is trained on the data for `steps` batches.

    Raises:
        UserError: packages, weights or labels are missing.
        RunFailed: the training diverged.
    """
    fixed = fixed_space(name, weights)
    return features.convnet(trained_judge(given, NETWORK, steps, seed, run)) if fixed is None else fixed


def embedded(space: FeatureSpace, images: Images, labels: Labels, run: Run) -> Sample:
    """Embed images uint8 [n, H, W, C] with labels int64 [n] in a feature space."""
    with run.track(len(images), space.name) as tracker:
        found, logits = space.extract(images, tracker.update)
    return Sample(found, logits, labels)


def named(values: Metrics, space: FeatureSpace, generated: int, real: int) -> Metrics:
    """The metrics of `quality` under the names of `metric_name`, in the same order."""
    return {metric_name(metric, space, generated, real): value for metric, value in values.items()}
