"""The same generator on a CUDA device; run with `pytest -m gpu`."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny import NETWORK, pictures, train_options, training_set

from condense.generator.model import build_denoiser
from condense.generator.training.session import train_generator
from condense.generator.training.trainer import Trainer
from condense.run import Run

pytestmark = pytest.mark.gpu


def test_the_posterior_on_the_gpu_is_the_cpus():
    trainer = Trainer(training_set(), NETWORK, train_options(precision="fp32"), 0)
    list(trainer.steps())
    on_gpu = trainer.finish()
    assert on_gpu.device.type == "cuda"
    denoiser = build_denoiser(NETWORK, on_gpu.image_shape, len(on_gpu.classes), 0)
    denoiser.load_state_dict({name: tensor.cpu() for name, tensor in on_gpu.denoiser.state_dict().items()})
    on_cpu = dataclasses.replace(on_gpu, denoiser=denoiser.eval())
    images = pictures(seed=1)[0].images
    np.testing.assert_allclose(on_gpu.posterior(images), on_cpu.posterior(images), atol=2e-2)


@pytest.mark.parametrize("compiled", [False, True])
def test_bf16_training_on_the_gpu_sees_through_noisy_labels(compiled):
    options = train_options(steps=60, batch_size=32, learning_rate=3e-3, precision="bf16", compile=compiled)
    generator = train_generator(training_set("noisy", per_class=40), NETWORK, options, 0, Run(None))
    images, truth = pictures(40)
    assert (generator.posterior(images.images).argmax(1) == truth.labels).mean() > 0.95


def test_deterministic_training_on_the_gpu_repeats_itself_bit_for_bit():
    options = train_options(steps=10, deterministic=True, form="sampled", augment_probability=0.3)
    first, again = (train_generator(training_set("mixture"), NETWORK, options, 0, Run(None)) for _ in range(2))
    weights = first.denoiser.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.denoiser.state_dict().items())


def test_a_resumed_training_on_the_gpu_sees_the_same_numbers():
    whole = Trainer(training_set(), NETWORK, train_options(precision="fp32"), 0)
    losses = [step.losses.loss for step in whole.steps()]
    begun = Trainer(training_set(), NETWORK, train_options(precision="fp32"), 0)
    steps = begun.steps()
    for _ in range(7):
        next(steps)
    resumed = Trainer(training_set(), NETWORK, train_options(precision="fp32"), 0)
    resumed.restore(*begun.state())
    assert [step.losses.loss for step in resumed.steps()][-1] == pytest.approx(losses[-1], rel=1e-3)
