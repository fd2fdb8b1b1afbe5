"""A trained generator as a file, a classifier and a sampler."""

import numpy as np
import pytest
import torch
from tiny import CONDITIONAL, NETWORK, pictures, supervision
from torch import nn

from condense import rng
from condense.data.batches import to_pixels, to_unit
from condense.errors import RunFailed, UserError
from condense.generator.augment import AugmentOptions, augment
from condense.generator.classifier import class_errors
from condense.generator.model import DEFAULT_SCHEDULE, Generator, build_denoiser
from condense.generator.record import TrainingRecord
from condense.generator.sampler import heun
from condense.run import Run


def generator_of(network=NETWORK, seed=0):
    denoiser = build_denoiser(network, (1, 8, 8), 3, seed).eval().requires_grad_(False)
    torch.manual_seed(seed)
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter, std=0.15)
    prior = torch.tensor([0.5, 0.3, 0.2]).log()
    transition = 0.7 * torch.eye(3) + 0.1
    return Generator(
        denoiser,
        network,
        (1, 8, 8),
        ("a", "b", "c"),
        prior,
        transition,
        30.0,
        False,
        TrainingRecord("dmis", seed),
    )


@pytest.mark.parametrize("network", [NETWORK, CONDITIONAL])
def test_a_saved_generator_comes_back_whole(tmp_path, network):
    generator, images = generator_of(network), pictures()[0].images
    generator.save(Run(tmp_path))
    back = Generator.load(Run(tmp_path))
    assert (back.classes, back.image_shape, back.network) == (("a", "b", "c"), (1, 8, 8), network)
    assert (back.temperature, back.bf16, back.record) == (30.0, False, TrainingRecord("dmis", 0))
    np.testing.assert_array_equal(back.posterior(images), generator.posterior(images))
    labels = np.array([0, 2, 1])
    np.testing.assert_array_equal(back.sample(labels, 1, num_steps=3), generator.sample(labels, 1, num_steps=3))


def test_missing_foreign_or_damaged_generators_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no trained generator"):
        Generator.load(Run(tmp_path))
    Run(tmp_path).save("generator", {"x": torch.zeros(1)}, {"hello": 1})
    with pytest.raises(UserError, match="does not describe a generator"):
        Generator.load(Run(tmp_path))
    generator_of().save(Run(tmp_path))
    tensors, meta = Run(tmp_path).load("generator")
    Run(tmp_path).save("generator", tensors, {**meta, "network": {**meta["network"], "channels": 16}})
    with pytest.raises(
        UserError, match=r"does not describe a generator \(its weights belong to another network"
    ):  # on one line
        Generator.load(Run(tmp_path))
    file = tmp_path / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        Generator.load(Run(tmp_path))


def test_a_damaged_record_of_the_training_ends_a_command_with_one_sentence(dmis, tmp_path):
    generator_of().save(Run(tmp_path / "run"))
    tensors, meta = Run(tmp_path / "run").load("generator")
    Run(tmp_path / "run").save("generator", tensors, {**meta, "meta": {**meta["meta"], "evaluations": [7]}})
    answer = dmis("generate", "--generator", tmp_path / "run", "--count", "1", "--out", tmp_path / "set.npz")
    assert answer.code == 2 and not (tmp_path / "set.npz").exists()
    assert answer.err.strip().endswith(
        "generator.safetensors does not describe a generator (the record of its training has [7] as evaluations)."
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_generator_with_nan_weights_draws_and_judges_nothing(tmp_path, value):
    """A NaN weight wrote an all-black set with a valid checksum."""
    generator = generator_of()
    generator.denoiser.network.unet.conv_out.bias.data.fill_(value)
    with pytest.raises(RunFailed, match="gave NaN or infinity for a drawn image"):
        generator.sample(np.array([0, 1]), 0, num_steps=2)
    with pytest.raises(RunFailed, match="gave NaN or infinity for the classes of an image"):
        generator.posterior(pictures()[0].images)
    with pytest.raises(RunFailed, match="gave NaN or infinity for the errors"):
        generator.errors(pictures()[0].images)
    generator.save(Run(tmp_path))
    with pytest.raises(UserError, match="holds NaN or infinity in 'network"):
        Generator.load(Run(tmp_path))


def test_a_flipped_exponent_bit_is_found_on_loading(tmp_path):
    """Of 12 such files 12 were accepted and 7 drew constant images."""
    generator_of().save(Run(tmp_path))
    file = tmp_path / "generator.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(UserError, match="changed since it was written"):
        Generator.load(Run(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"blocks": 1_000_000}},
        {"network": {"channels": 1_000_000_000}},
        {"network": {"multipliers": [1] * 100_000}},
        {"network": {"multipliers": [0]}},
        {"network": None},
        {"image_shape": [1, 10**9, 10**9]},
        {"image_shape": [1, 8]},
        {"image_shape": "18x"},
        {"classes": ["a", "a", "b"]},
        {"classes": None},
        {"classes": [str(i) for i in range(100_000)]},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"meta": [1]},
        {"meta": {"seconds": "a day"}},
        {"meta": {"steps": True}},
        {"meta": {"objective": 3}},
        {"meta": {"prepared_seconds": {"volmin": None}}},
        {"meta": {"arithmetic": "bf16"}},
        {"image_shape": [1, 8, float("inf")]},
        {"eliminate": "x"},
        {"opinion": {"exponents": [1]}},
        {"opinion": [3]},
    ],
)
def test_a_description_of_something_else_is_a_sentence_at_once(tmp_path, change):
    """Contents of another kind were tracebacks, a million blocks hung."""
    generator_of().save(Run(tmp_path))
    tensors, meta = Run(tmp_path).load("generator")
    changed = {**meta, **change}
    if change.get("network"):
        changed["network"] = {**meta["network"], **change["network"]}
    Run(tmp_path).save("generator", tensors, changed)
    with pytest.raises(UserError, match="does not describe a generator"):
        Generator.load(Run(tmp_path))


def test_posterior_is_the_softmax_of_scaled_errors_plus_prior():
    generator, images = generator_of(), pictures()[0].images[:5]
    x = to_unit(torch.from_numpy(images).permute(0, 3, 1, 2))
    errors = class_errors(generator.denoiser, x, DEFAULT_SCHEDULE, rng.generator(0, "classifier"))
    expected = (-errors / 30.0 + generator.log_prior).softmax(1).numpy()
    np.testing.assert_allclose(generator.posterior(images), expected, rtol=1e-5)


def test_errors_do_not_depend_on_the_batch_size():
    generator, images = generator_of(), pictures()[0].images
    apart = torch.cat([generator.errors(images[:7]), generator.errors(images[7:])])
    torch.testing.assert_close(generator.errors(images), apart)


def test_label_posterior_weighs_the_label_by_the_transition():
    generator, (images, truth) = generator_of(), pictures()
    given = supervision("noisy", truth)
    joint = generator.posterior(images.images) * generator.transition.numpy().T[given.observed]
    expected = joint / joint.sum(1, keepdims=True)
    np.testing.assert_allclose(generator.label_posterior(images.images, given), expected, rtol=1e-4, atol=1e-6)


def test_images_of_another_shape_are_refused():
    with pytest.raises(UserError, match=r"makes images of 8x8x1, the data has 9x9x3"):
        generator_of().posterior(np.zeros((2, 9, 9, 3), np.uint8))


def test_samples_are_heuns_as_pixels():
    generator, labels = generator_of(), np.array([2, 0])
    noise = torch.randn(2, 1, 8, 8, generator=rng.generator(4, "sampling"))
    exact = heun(generator.denoiser, 80 * noise, torch.from_numpy(labels), num_steps=4)
    drawn = generator.sample(labels, 4, num_steps=4)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, to_pixels(exact).permute(0, 2, 3, 1).numpy())


def test_fresh_networks_follow_their_seed_and_leave_global_randomness_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, again, other = (build_denoiser(NETWORK, (1, 8, 8), 3, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [torch.cat([p.flatten() for p in d.parameters()]) for d in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_pixels_survive_the_way_there_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(to_unit(every)), every)
    assert to_unit(every).min() == -1 and to_unit(every).max() == 1
    assert to_pixels(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


# augmentation of training images


def test_no_augmentation_changes_nothing():
    x = torch.rand(4, 1, 8, 8)
    same, labels = augment(x, AugmentOptions(0.0), torch.Generator().manual_seed(0))
    assert torch.equal(same, x) and not labels.any()


def test_augmentation_labels_record_what_was_done():
    x = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    options = AugmentOptions(probability=0.5, flip=True, shift=0.0, scale=0.0)
    moved, labels = augment(x, options, torch.Generator().manual_seed(1))
    flipped = labels[:, 0] == 1
    assert 30 < flipped.sum() < 70  # chosen half of the time, then a fair coin
    torch.testing.assert_close(moved[flipped], x[flipped].flip(3), atol=1e-5, rtol=0)
    assert torch.equal(moved[~flipped], x[~flipped])
    assert not labels[:, 1:].any()


def test_shifts_move_the_content_and_never_flip_unless_requested():
    x = torch.full((300, 1, 9, 9), -1.0)
    x[:, :, 4, 4] = 1.0
    options = AugmentOptions(probability=1.0, shift=0.125, scale=0.0)
    moved, labels = augment(x, options, torch.Generator().manual_seed(2))
    assert not labels[:, 0].any() and not labels[:, 3].any()
    weight = (moved[:, 0] + 1) / (moved[:, 0] + 1).sum((1, 2), keepdim=True)
    centre = (weight.sum(1) * torch.arange(9)).sum(1) - 4
    # the label is the shift over its largest value; content moves against the sampling grid by half the side a unit
    torch.testing.assert_close(centre, -labels[:, 1] * 0.125 * 9 / 2, atol=0.02, rtol=0)
