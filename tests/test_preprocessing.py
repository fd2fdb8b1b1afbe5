"""Pixels on their way to a network."""

import numpy as np
import pytest
import torch

from condense.preprocessing import NormalisedImages, Pixels, planes, standardisation


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_planes_lie_one_after_the_other_in_memory(channels: int, kind: type) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, channels)).astype(kind)
    images.setflags(write=False)
    found = planes(images)
    assert found.stride() == (24 * channels, 24, 6, 1) and found.dtype == torch.tensor(images[:1]).dtype
    assert np.array_equal(found.numpy(), images.transpose(0, 3, 1, 2))
    seen = standardisation(images.astype(np.uint8)).normalise(found.float() / 255)
    assert seen.stride() == found.stride()


def test_standardised_pixels_have_mean_zero_and_deviation_one() -> None:
    images = np.random.default_rng(0).integers([0, 50, 200], [256, 90, 256], (5000, 4, 4, 3)).astype(np.uint8)
    found = standardisation(images)
    np.testing.assert_allclose(found.mean, images.mean((0, 1, 2)) / 255, rtol=1e-12)
    np.testing.assert_allclose(found.std, images.std((0, 1, 2)) / 255, rtol=1e-12)


def test_a_constant_channel_is_not_magnified() -> None:
    """Case 6: blue 0 in training and 0…3 in test was divided by 1e-6, and nothing else counted."""
    images = np.random.default_rng(0).integers(0, 256, (100, 4, 4, 3)).astype(np.uint8)
    images[..., 2] = 0
    found = standardisation(images)
    assert found.std[2] == 1 and found.mean[2] == 0 and found.std[0] > 0.1
    seen = found.normalise(torch.tensor([0.5, 0.5, 3 / 255]).reshape(1, 3, 1, 1))
    assert float(seen[0, 2]) == pytest.approx(3 / 255)
    images[0, 0, :, 2] = 1  # a little more than constant
    assert standardisation(images).std[2] < 1e-3, "one in 400 pixels"
    many = np.zeros((4000, 4, 4, 1), np.uint8)
    many[0, 0, 0] = 1
    assert standardisation(many).std == (1.0,), "one in 64,000 pixels"
    faint = np.arange(16).reshape(1, 4, 4, 1).astype(np.uint8) % 2
    np.testing.assert_allclose(standardisation(faint).std, 0.5 / 255)


def test_convolutions_of_grey_planes_stay_planes() -> None:
    images = planes(np.zeros((5, 8, 8, 1), np.uint8)).float()
    with torch.no_grad():
        found = torch.nn.Conv2d(1, 4, 3, padding=1)(images)
    assert found.stride() == (256, 64, 8, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_taken_with_the_bits_of_all_images_at_once(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 6, channels)).astype(np.uint8)
    images.setflags(write=False)
    preprocessing, some = standardisation(images), torch.tensor([7, 0, 7, 49])
    everything = preprocessing.normalise(planes(images).float() / 255)
    found = NormalisedImages(images, preprocessing)
    assert len(found) == 50 and found.shape == everything.shape
    for indices in (some, slice(3, 9)):
        assert torch.equal(found[indices], everything[indices]) and found[indices].is_contiguous()
        assert torch.equal(Pixels(images)[indices], planes(images)[indices])
    kept = found.to("meta")
    assert kept[some].device.type == "meta" and found.to("cpu") is found
