import pytest
import torch

from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, Teaching, fit
from condense.classifiers.mixing import cutmix


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(20))
def test_targets_are_mixed_by_the_area_each_image_fills(seed):
    """Every image is one colour, so what is left of it can be counted."""
    x = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8)
    mixed, targets = cutmix(x, torch.eye(4), generator(seed))
    for image, target in zip(mixed, targets, strict=True):
        shares = torch.stack([(image == colour).float().mean() for colour in range(4)])
        torch.testing.assert_close(shares, target)
    assert torch.equal(x, torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8))


def test_what_comes_in_is_a_rectangle():
    x = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 16, 12)
    for seed in range(30):
        mixed, targets = cutmix(x, torch.eye(2), generator(seed))
        other = mixed[0, 0] == 1
        rows, columns = other.any(1), other.any(0)
        assert torch.equal(other, rows[:, None] & columns[None])
        assert targets[0, 1] == pytest.approx(float(other.float().mean()))


def test_area_before_cutting_is_uniform():
    """A centre far from the edge: share 1 - λ of the area, λ ~ U(0, 1), so half of it on average."""
    from condense.classifiers.mixing import _span

    lengths = [_span(0.5, 100, share**0.5) for share in torch.linspace(0, 0.999, 1000).tolist()]
    mean = sum((end - start) ** 2 for start, end in lengths) / 1000 / 100**2
    assert mean == pytest.approx(0.5, abs=0.01)
    assert _span(0.0, 10, 0.6) == (0, 3) and _span(0.99, 10, 0.6) == (6, 10)


def test_fit_mixes_with_the_stream_of_its_seed():
    x, q = torch.randn(10, 1, 8, 8, generator=generator(0)), torch.eye(2).repeat(5, 1)
    seen = []

    def record(x, targets, generator):
        mixed = cutmix(x, targets, generator)
        seen.append(mixed[1])
        return mixed

    for _ in range(2):
        network = networks.build("convnet3", in_channels=1, image_size=8, num_classes=2, seed=0)
        list(fit(network, x, q, FitOptions(epochs=2, batch_size=5), seed=4, teaching=Teaching(mix=record)))
    first, again = torch.stack(seen[:4]), torch.stack(seen[4:])
    assert torch.equal(first, again) and not torch.equal(first[0], first[2])
    torch.testing.assert_close(first.sum(2), torch.ones(4, 5))
