"""A pass takes what memory there is: by an estimate above the truth, and half as much where that was not enough."""

import numpy as np
import pytest
import torch
from fake_memory import GIB, fake_gpu, peak_bytes, weight_bytes

from condense.data.types import ImageData
from condense.generator import passes
from condense.generator.classifier import centred_schedule, class_errors
from condense.generator.model import DEFAULT_SCHEDULE, build_denoiser
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.passes import bytes_per_row, in_parts, rows_at_once
from condense.generator.sampler import denoise_guided
from condense.generator.training.sizes import least_bytes
from condense.recipe import shipped

CUDA = torch.device("cuda:0")
CUDA_CONTEXT = GIB  # of the driver, cuDNN and cuBLAS
SHAPES = {"cifar10": (3, 32, 32), "imagenette": (3, 64, 64), "fashion-mnist": (1, 28, 28), "digits": (1, 8, 8)}

RECIPES = {
    "cifar10-sym40": "cifar10",
    "imagenette-sym40": "imagenette",
    "fashion-mnist-sym40": "fashion-mnist",
    "generator-28px": "fashion-mnist",
    "generator-64px": "imagenette",
    "generator-8px": "digits",
}
CARDS = {
    "cifar10-sym40": 40 * GIB,
    "imagenette-sym40": 80 * GIB,
    "fashion-mnist-sym40": 40 * GIB,
    "generator-28px": 8 * GIB,
    "generator-64px": 8 * GIB,
    "generator-8px": 8 * GIB,
}
"""What docs/devices.md names for each; benchmarks' recipes have the networks of the first three."""


def options_of(name):
    found = shipped(name)
    return NetworkOptions.model_validate(found["network"]), TrainOptions.model_validate(found["train"])


def networks_of(name):
    """The network of a recipe on the fake GPU, and its options."""
    network, train = options_of(name)
    with torch.device(CUDA):
        return build_denoiser(network, SHAPES[RECIPES[name]], 10, 0), train


def noisy(rows, shape):
    return torch.zeros(rows, *shape, device=CUDA), torch.ones(rows, device=CUDA)


def last_look(denoiser, shape):
    """What the look at held-out images holds at most."""
    at_once = rows_at_once(denoiser, shape, CUDA) // (1 if denoiser.one_pass else denoiser.num_classes)
    images = max(1, at_once // (2 * len(DEFAULT_SCHEDULE.sigmas)))
    x_0 = torch.zeros(images, *shape, device=CUDA)
    return peak_bytes(lambda: class_errors(denoiser, x_0, centred_schedule(4), torch.Generator("cpu")))


def sampling(denoiser, shape):
    """What drawing images holds at most, a pass full of them."""
    rows = rows_at_once(denoiser, shape, CUDA)
    x, classes = torch.zeros(rows, *shape, device=CUDA), torch.zeros(rows, dtype=torch.int64, device=CUDA)
    # the sampler itself holds x, the step made of it and two slopes besides
    return peak_bytes(lambda: denoise_guided(denoiser, x, torch.ones(rows, device=CUDA), classes, 0.0)) + 4 * x.nbytes


def training_step(denoiser, train, shape):
    """What a step holds at most: its looks without gradient, or what forward keeps for backward."""
    x, sigma = noisy(train.batch_size, shape)
    top_k = None if denoiser.one_pass else train.top_k
    classes = None if top_k is None else torch.zeros(train.batch_size, top_k, dtype=torch.int64, device=CUDA)
    # the average network's look at x_t, all classes of an antithetic pair; the survey of all classes holds half of it
    look = 0 if train.form != "mixture" else peak_bytes(lambda: denoiser.all_classes(*noisy(2 * len(x), shape)))
    return max(look, peak_bytes(lambda: denoiser(x, sigma, classes), grad=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("card", [12 * GIB, 80 * GIB])
def test_looks_and_draws_of_every_recipe_fit_the_card(name, card):
    with fake_gpu(card - CUDA_CONTEXT):
        denoiser, _ = networks_of(name)
        shape = SHAPES[RECIPES[name]]
        held = weight_bytes(denoiser) + CUDA_CONTEXT
        looked, drawn = last_look(denoiser.eval(), shape), sampling(denoiser.eval(), shape)
        full = rows_at_once(denoiser, shape, CUDA) == passes.MOST_ROWS
    assert held + looked < card and held + drawn < card
    assert full or max(looked, drawn) > 0.1 * card, "much of the card lies idle"


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_training_step_of_every_recipe_fits_its_card(name):
    card = CARDS[name]
    shape = SHAPES[RECIPES[name]]
    with fake_gpu(card):
        denoiser, train = networks_of(name)
        held = training_step(denoiser.train(), train, shape)
        weights = weight_bytes(denoiser)
    # weights, their gradients, two moments, the average
    assert 5 * weights + held + CUDA_CONTEXT < 0.9 * card, f"{name} needs {(5 * weights + held) / GIB:.1f} GiB"
    images = ImageData(np.zeros((10, *shape[1:], shape[0]), np.uint8), tuple("0123456789"), "zeros", "train")
    assert least_bytes(options_of(name)[0], train, images) < 5 * weights + held, "it would be refused where it fits"


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_row_never_takes_more_than_estimated(name):
    with fake_gpu(80 * GIB):
        denoiser, _ = networks_of(name)
        x, sigma = noisy(64, SHAPES[RECIPES[name]])
        for bf16 in (True, False):
            taken = peak_bytes(
                lambda: denoiser.eval()(
                    x, sigma, None if denoiser.one_pass else torch.zeros(64, 1, dtype=torch.int64, device=CUDA)
                ),
                bf16=bf16,
            )
            casts = weight_bytes(denoiser) if bf16 else 0
            assert taken - casts < 64 * bytes_per_row(denoiser, SHAPES[RECIPES[name]])


def test_a_part_that_does_not_fit_is_tried_by_halves():
    tried = []

    def work(part):
        size = part.stop - part.start
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("out of memory")
        return torch.arange(part.start, part.stop)

    assert torch.cat(in_parts(work, 20, 12)).tolist() == list(range(20))
    assert tried == [12, 6, 3, 3, 3, 3, 3, 3, 2]


def test_too_little_memory_for_one_row_is_an_error():
    def work(part):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        in_parts(work, 4, 4)


def test_a_cpu_has_a_pass_of_its_own_and_unknown_memory_the_largest(monkeypatch):
    denoiser = build_denoiser(NetworkOptions(channels=8, multipliers=(1,), blocks=1), (1, 8, 8), 3, 0)
    assert rows_at_once(denoiser, (1, 8, 8), torch.device("cpu")) == passes.CPU_ROWS
    monkeypatch.setattr(passes, "free_device_bytes", lambda device: None)
    assert rows_at_once(denoiser, (1, 8, 8), CUDA) == passes.MOST_ROWS
    monkeypatch.setattr(passes, "free_device_bytes", lambda device: 10)
    assert rows_at_once(denoiser, (1, 8, 8), CUDA) == 1
