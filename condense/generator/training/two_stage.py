"""A generator in one stage or two: a network that learns the classes, and optionally a second for drawing.

Learning the classes needs every class at once, which `AllClass` makes affordable; `Conditional` draws one class better.
So the first network's beliefs p(y | x, z) about the training images are computed once, and the second is trained by
EDM's loss on labels drawn from them, at the cost of a vanilla run. For DMIS that is the generative term in its sampled
form (https://arxiv.org/abs/2510.03016, Eq. 10) with the posterior of a finished classifier. TDSM's beliefs are those of
its classifier h; vanilla and CAD trust the given labels, and CAD's second network takes their coherence as the first
one does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from condense import rng
from condense.data.types import TrainingSet
from condense.generator.generator_file import SECOND
from condense.generator.labels.suggestions import suggest
from condense.generator.model import Generator
from condense.generator.options import NetworkOptions, SecondStage, TrainOptions
from condense.generator.training.prerequisites import Prerequisites, prepare
from condense.generator.training.session import train_generator
from condense.generator.training.sizes import check_training_fits
from condense.json_values import number, whole
from condense.machine import is_worker
from condense.precision import deterministic
from condense.processes import default_accelerator, of_all
from condense.run import Run, as_described

BELIEFS = "beliefs"
BELIEVE_LABELS = ("vanilla", "cad")  # objectives whose second stage is trained on the labels as given


def train_stages(
    data: TrainingSet,
    network: NetworkOptions,
    options: TrainOptions,
    second: SecondStage | None,
    seed: int,
    run: Run,
) -> Generator:
    """Train a generator and its second stage, if any, in a folder below.

    The second stage learns from the beliefs of `data`, without any from those of the first generator.

    Both continue from their checkpoints. The cost in `meta` is that of both. Under torchrun all processes train both,
    and return.

    Raises:
        UserError, Interrupted, RunFailed: as `train_generator`.
    """
    check_training_fits(network, options, data.images)
    if second is not None:
        check_training_fits(second.network, second.train, data.images, "second_stage.train", believed=True)
    accelerator = default_accelerator()
    accelerator.wait_for_everyone()  # the main process has cleared the folder, if requested
    with deterministic(options.deterministic):
        prepared = prepare(data, network, options, seed, run, accelerator.device)
    generator = train_generator(data, network, options, seed, run, prepared=prepared)
    if second is not None:
        generator.second = _train_second(
            data, generator, options, second, seed, run, Prerequisites(coherence=prepared.coherence)
        )
    accelerator.wait_for_everyone()  # the main process has written what the others may read
    return generator


def _train_second(
    data: TrainingSet,
    first: Generator,
    options: TrainOptions,
    second: SecondStage,
    seed: int,
    run: Run,
    prepared: Prerequisites,
) -> Generator:
    if data.beliefs is not None or options.objective in BELIEVE_LABELS:
        believed = KeptBeliefs(data.believed())
    else:
        believed = beliefs(first, data, run)
    folder = run.within(SECOND)
    train = second.train.model_copy(update={"objective": options.objective})
    known = torch.from_numpy(believed.posterior)
    drawer = train_generator(
        data, second.network, train, rng.derive(seed, SECOND), folder, beliefs=known, prepared=prepared
    )
    seconds, evaluations = drawer.record.seconds or 0.0, drawer.record.evaluations or 0
    drawer.record = replace(
        drawer.record, seconds=seconds + believed.seconds, evaluations=evaluations + believed.evaluations
    )
    if not is_worker():
        drawer.save(folder)
    return drawer


@dataclass(frozen=True, eq=False)
class KeptBeliefs:
    """A generator's beliefs about each training image.

    Attributes:
        posterior: p(y | x, z), float32 [n, c], rows summing to 1.
        evaluations: images passed through the network to compute it.
        seconds: time taken.
    """

    posterior: npt.NDArray[np.float32]
    evaluations: int = 0
    seconds: float = 0.0


def beliefs(generator: Generator, data: TrainingSet, run: Run) -> KeptBeliefs:
    """The beliefs of `generator` about each training image, see `suggest`; computed once and saved in the run folder.

    A vanilla generator trusts the given labels; for TDSM, the classifier h gives the beliefs.

    Args:
        generator: the generator with its second opinion.
        data: images and their given labels.
        run: the run folder.

    Raises:
        UserError: the generator was made for other classes or image sizes.
    """
    generator.check_data(data.images)
    if generator.record.objective == "vanilla":
        return KeptBeliefs(data.supervision.as_beliefs())
    asked = None if generator.opinion is None else generator.opinion.numbers()
    of = {**data.identity(), "opinion": asked, "version": 2}
    found = run.load(BELIEFS)
    if found is not None and all(found[1].get(key) == value for key, value in of.items()):
        with as_described(run.file(BELIEFS)):
            posterior = np.asarray(found[0][BELIEFS].float().numpy(), dtype=np.float32)
            wanted = data.supervision.candidates.shape
            if posterior.shape != wanted or not np.isfinite(posterior).all():
                raise ValueError(f"beliefs [n, c] must be finite numbers {list(wanted)}")
            return KeptBeliefs(posterior, whole(found[1], "evaluations"), number(found[1], "seconds"))
    before, started = generator.evaluations, time.perf_counter()
    posterior = suggest(generator, data, run).posterior
    evaluations = sum(of_all([generator.evaluations - before]))
    seconds = time.perf_counter() - started
    if not is_worker():
        tensors = {BELIEFS: torch.from_numpy(posterior)}
        run.save(BELIEFS, tensors, {**of, "evaluations": evaluations, "seconds": seconds})
    return KeptBeliefs(posterior, evaluations, seconds)
