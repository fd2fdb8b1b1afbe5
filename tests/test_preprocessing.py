"""Pixels on their way to a network."""

import numpy as np
import pytest
import torch

from condense.preprocessing import planes, standardisation


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
    assert standardisation(np.full((2, 3, 3, 1), 7, np.uint8)).std == (1e-6,)


def test_convolutions_of_grey_planes_stay_planes() -> None:
    images = planes(np.zeros((5, 8, 8, 1), np.uint8)).float()
    with torch.no_grad():
        found = torch.nn.Conv2d(1, 4, 3, padding=1)(images)
    assert found.stride() == (256, 64, 8, 1)
