"""A trained generator as a file in its run folder: weights, label model and description; the second stage below it.

Files may come from anywhere: an invalid description, or one that does not match the weights, is refused before
anything large is built.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from condense.errors import UserError, in_short
from condense.generator.denoiser import Denoiser
from condense.generator.labels.noisy_classifier import NoisyClassifier
from condense.generator.labels.second_opinion import SecondOpinion
from condense.generator.model import Generator, build_denoiser
from condense.generator.options import NetworkOptions
from condense.generator.record import TrainingRecord
from condense.json_values import JSON, number, section, texts, wholes
from condense.run import Run, part_of
from condense.tensor_file import MISFIT, check_finite

FILE = "generator"
SECOND = "second-stage"
_MOST_SIDE = 4096  # longest side of images that a file may describe


def write(generator: Generator, run: Run) -> None:
    """Write generator.safetensors into a run folder, and that of a second stage into the folder below it."""
    if generator.second is not None and run.path is not None:
        write(generator.second, Run(run.path / SECOND))
    tensors = {f"network.{name}": tensor for name, tensor in generator.denoiser.network.state_dict().items()}
    tensors |= {"log_prior": generator.log_prior, "transition": generator.transition}
    if generator.opinion is not None:
        tensors |= {f"opinion.{name}": tensor for name, tensor in generator.opinion.tensors().items()}
    if generator.noisy_classifier is not None:
        tensors |= {f"noisy.{name}": tensor for name, tensor in generator.noisy_classifier.state_dict().items()}
    run.save(
        FILE,
        tensors,
        {
            "network": json.loads(generator.network.model_dump_json()),
            "image_shape": list(generator.image_shape),
            "classes": list(generator.classes),
            "temperature": generator.temperature,
            "bf16": generator.bf16,
            "coherent": generator.denoiser.coherent,
            "eliminate": generator.eliminate,
            "opinion": None if generator.opinion is None else generator.opinion.numbers(),
            "meta": generator.record.to_json(),
        },
    )


def read(run: Run, device: torch.device | str = "cpu") -> Generator:
    """Read what `write` wrote. Raises `UserError` if there is no generator or it does not match its description."""
    found = run.load(FILE)
    if found is None:
        raise UserError(f"{run.path} holds no trained generator ({FILE}.safetensors); make one with `dmis train`.")
    tensors, meta = found
    check_finite(tensors, run.file(FILE))
    try:
        generator = _described(tensors, meta, torch.device(device))
    except MISFIT as error:
        raise UserError(f"{run.path}: {FILE}.safetensors does not describe a generator ({in_short(error)}).") from error
    if run.path is not None and (run.path / SECOND / f"{FILE}.safetensors").is_file():
        generator.second = read(Run(run.path / SECOND), device)
    return generator


def _described(tensors: Mapping[str, Tensor], meta: Mapping[str, JSON], device: torch.device) -> Generator:
    """The generator of a file's tensors and description, without its second stage."""
    network = NetworkOptions.model_validate(meta["network"])
    channels, height, width = wholes(meta, "image_shape")
    image_shape, classes = (channels, height, width), texts(meta, "classes")
    temperature, coherent = number(meta, "temperature"), bool(meta.get("coherent", False))
    _check_described(image_shape, classes, tensors, temperature)
    generator = Generator(
        _denoiser(part_of(tensors, "network"), network, image_shape, len(classes), coherent=coherent).to(device),
        network,
        image_shape,
        classes,
        tensors["log_prior"].to(device),
        tensors["transition"].to(device),
        temperature,
        bool(meta["bf16"]),
        TrainingRecord.of(section(meta, "meta")),
        None if meta.get("eliminate") is None else number(meta, "eliminate"),
    )
    if meta.get("opinion") is not None:
        opinion = SecondOpinion.of(part_of(tensors, "opinion"), section(meta, "opinion"), image_shape)
        generator.opinion = opinion.to(device)
    if of_noisy := part_of(tensors, "noisy"):
        classifier = NoisyClassifier(network.shape(), channels, len(classes))
        classifier.load_state_dict(of_noisy)
        generator.noisy_classifier = classifier.to(device).eval().requires_grad_(False)
    return generator


def _denoiser(
    weights: Mapping[str, Tensor],
    network: NetworkOptions,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    coherent: bool,
) -> Denoiser:
    """The denoiser of these weights, in eval mode. Raises `ValueError` if they belong to another network."""
    with torch.device("meta"):  # an absurd number in the description must not become a huge network
        sketch = build_denoiser(network, image_shape, num_classes, 0, coherent=coherent)
    expected = {name: tensor.shape for name, tensor in sketch.network.state_dict().items()}
    if expected != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError("its weights belong to another network than the one described")
    denoiser = build_denoiser(network, image_shape, num_classes, 0, coherent=coherent)
    denoiser.network.load_state_dict(weights)
    return denoiser.eval().requires_grad_(False)


def _check_described(
    image_shape: tuple[int, int, int], classes: tuple[str, ...], tensors: Mapping[str, Tensor], temperature: float
) -> None:
    """Raise `ValueError` unless the description is that of a generator."""
    if not all(1 <= size <= _MOST_SIDE for size in image_shape):
        raise ValueError(f"{list(image_shape)} is not the shape of an image")
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise ValueError("it needs two class names or more, all different")
    count = len(classes)
    if tensors["log_prior"].shape != (count,) or tensors["transition"].shape != (count, count):
        raise ValueError(f"prior and transition matrix are not for {count} classes")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"the temperature is {temperature}")
