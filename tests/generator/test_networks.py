"""Sizes of the generator's networks, and the images they take."""

import math

import pytest
import torch

from condense.generator.networks import AllClass, Conditional, UNetShape, noise_embedding

REFERENCE_SHAPE = UNetShape(channels=128, multipliers=(2, 2, 2), blocks=4, attention=(1,), dropout=0.13)
"""The paper's DDPM++ at 32x32."""
SHAPE = UNetShape(channels=8, multipliers=(1, 2, 2), blocks=1, attention=(1,))


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("shape", "channels", "millions"),
    [
        (UNetShape(channels=64, multipliers=(1, 2, 2), attention=(1,)), 3, 7.0),
        (UNetShape(channels=32, multipliers=(1, 2)), 1, 1.0),
    ],
)
def test_parameter_counts(shape, channels, millions):
    with torch.device("meta"):
        network = Conditional(shape, channels, 10)
    assert parameters(network) / 1e6 == pytest.approx(millions, rel=0.05)


def test_reference_network_has_the_published_size():
    with torch.device("meta"):
        network = Conditional(REFERENCE_SHAPE, 3, 10)
    assert round(parameters(network) / 1e6, 1) == 55.7


def test_all_class_costs_one_wider_convolution():
    with torch.device("meta"):
        many, two = AllClass(REFERENCE_SHAPE, 3, 100), AllClass(REFERENCE_SHAPE, 3, 2)
    assert parameters(many) - parameters(two) == 98 * 3 * (256 * 9 + 1)


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (64, 64), (8, 8), (7, 5), (13, 30)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_image_size_comes_back(size, channels, patch):
    shape = UNetShape(channels=8, multipliers=(1, 1, 1), blocks=1, patch=patch)
    x, c_noise = torch.zeros(2, channels, *size), torch.zeros(2)
    with torch.no_grad():
        everything = AllClass(shape, channels, 4)(x, c_noise, None)
        one = Conditional(shape, channels, 4)(x, c_noise, None, torch.tensor([0, 3]))
    assert everything.shape == (2, 4, channels, *size)
    assert one.shape == (2, channels, *size)


def test_padding_leaves_sizes_that_need_none_alone():
    # a constant image stays constant under replicate padding, so cropping must give what the larger image gives
    network = AllClass(UNetShape(channels=8, multipliers=(1,), blocks=1, patch=2), 1, 2).eval()
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x[..., 7] = x[..., 6]
    with torch.no_grad():
        whole = network(x, torch.zeros(1), None)
        cut = network(x[..., :7], torch.zeros(1), None)
    torch.testing.assert_close(cut, whole[..., :7])


def test_a_fresh_conditional_network_is_nearly_silent():
    torch.manual_seed(0)
    out = Conditional(SHAPE, 1, 3)(torch.randn(2, 1, 16, 16), torch.zeros(2), None, torch.tensor([0, 2]))
    assert 0 < out.abs().max() < 1e-3


def test_the_heads_of_a_fresh_all_class_network_start_apart():
    torch.manual_seed(0)
    out = AllClass(SHAPE, 1, 3)(torch.randn(2, 1, 16, 16), torch.zeros(2), None)
    gaps = [(out[:, a] - out[:, b]).square().mean().sqrt() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(gaps) > 0.05, "equal heads are a saddle of the classification loss"


def test_class_and_noise_reach_the_output():
    network = Conditional(SHAPE, 1, 3).eval()
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(1, 1, 16, 16).expand(3, -1, -1, -1)
    with torch.no_grad():
        by_class = network(x, torch.zeros(3), None, torch.arange(3))
        by_noise = network(x, torch.tensor([-1.0, 0.0, 1.0]), None, torch.zeros(3, dtype=torch.int64))
    for images in (by_class, by_noise):
        assert (images[0] - images[1]).abs().max() > 1e-3
        assert (images[1] - images[2]).abs().max() > 1e-3


def test_noise_embedding_spans_four_decades_of_frequency():
    angles = torch.tensor([0.3])
    embedding = noise_embedding(angles, 8)[0]
    frequencies = [1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3), 1e-4]
    expected = [math.cos(0.3 * f) for f in frequencies] + [math.sin(0.3 * f) for f in frequencies]
    torch.testing.assert_close(embedding, torch.tensor(expected))
