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
    seen = standardisation(planes(images).numpy().transpose(0, 2, 3, 1)).normalise(found.float() / 255)
    assert seen.stride() == found.stride()


def test_convolutions_of_grey_planes_stay_planes() -> None:
    images = planes(np.zeros((5, 8, 8, 1), np.uint8)).float()
    with torch.no_grad():
        found = torch.nn.Conv2d(1, 4, 3, padding=1)(images)
    assert found.stride() == (256, 64, 8, 1)
