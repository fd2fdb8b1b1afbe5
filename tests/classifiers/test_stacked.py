"""Networks trained together learn the same as one by one."""

import pytest
import torch

from condense import augment
from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, Teaching, fit, predict
from condense.classifiers.stacked import Stack, can_stack, fit_stacked
from condense.errors import RunFailed, UserError

OPTIONS = FitOptions(epochs=2, batch_size=8)
SEEDS = (11, 12, 13)


def build(name="convnet3", seed=0, channels=1, size=8):
    return networks.build(name, in_channels=channels, image_size=size, num_classes=3, seed=seed)


def data(n=20, channels=1, size=8):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 3


def dsa(x, generator):
    return augment.independent(x, augment.DSA, generator)


def assert_equal_states(ours, theirs, atol):
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("name", "channels", "size", "options"),
    [
        ("convnet3", 1, 8, OPTIONS),
        ("convnet2", 3, 16, FitOptions(1, 8)),
        ("convnet3-bn", 1, 8, OPTIONS),
        ("convnet1", 1, 28, FitOptions(1, 16)),
    ],
)
def test_equal_to_one_by_one(name, channels, size, options):
    """Same weights and buffers and losses, each network with its own start, order and augmentation."""
    x, y = data(channels=channels, size=size)
    alone = [build(name, i, channels, size) for i in range(3)]
    losses = [
        [e.loss for e in fit(network, x, y, options, seed=seed, teaching=Teaching(augment=dsa))]
        for network, seed in zip(alone, SEEDS, strict=True)
    ]
    together = [build(name, i, channels, size) for i in range(3)]
    epochs = list(fit_stacked(together, x, y, options, seeds=SEEDS, teaching=Teaching(augment=dsa)))
    for i in range(3):
        assert [e[i].loss for e in epochs] == pytest.approx(losses[i], rel=1e-3)
        assert_equal_states(together[i], alone[i], 1e-4)
    assert not torch.equal(together[0].head.weight, together[1].head.weight)


def test_adamw_and_its_state_are_each_networks_own():
    """A bias before a norm has the gradient 0 but for rounding, which Adam blows up: predictions are compared."""
    x, y = data()
    options = FitOptions(2, 8, "adamw", 1e-3, schedule="cosine")
    alone, together = [build(seed=i) for i in range(2)], [build(seed=i) for i in range(2)]
    for network, seed in zip(alone, SEEDS[:2], strict=True):
        list(fit(network, x, y, options, seed=seed))
    list(fit_stacked(together, x, y, options, seeds=SEEDS[:2]))
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(predict(a, x), predict(b, x), rtol=0, atol=1e-3)
    assert (predict(together[0], x) - predict(together[1], x)).abs().max() > 0.1


def test_first_gradients_are_those_of_each_network():
    nets = [build(seed=i).double() for i in range(3)]
    x, y = data(6)
    own = [x.double() + i for i in range(3)]
    stack = Stack(nets).double()
    logits = stack(own)
    sum(torch.nn.functional.cross_entropy(f, y) for f in logits).backward()
    for i, network in enumerate(nets):
        alone = network(own[i])
        torch.testing.assert_close(logits[i], alone)
        torch.nn.functional.cross_entropy(alone, y).backward()
        for name, parameter in network.named_parameters():
            mine = torch.chunk(stack.get_parameter(name).grad, 3)[i]
            torch.testing.assert_close(mine, parameter.grad)


def test_bfloat16_follows_one_by_one():
    x, y = data()
    options = FitOptions(epochs=3, batch_size=8, bf16=True)
    network, together = build(), [build(), build(seed=1)]
    losses = [e.loss for e in fit(network, x, y, options, seed=5)]
    epochs = list(fit_stacked(together, x, y, options, seeds=(5, 6)))
    assert [e[0].loss for e in epochs] == pytest.approx(losses, rel=0.02)


def test_soft_targets_and_a_custom_loss():
    x, _ = data()
    q = torch.softmax(torch.randn(20, 3, generator=torch.Generator().manual_seed(1)), 1)

    def squared(logits, targets):
        return (logits - targets).pow(2).mean()

    alone, together = build(), [build(), build(seed=1)]
    losses = [e.loss for e in fit(alone, x, q, OPTIONS, seed=5, teaching=Teaching(loss=squared))]
    epochs = list(fit_stacked(together, x, q, OPTIONS, seeds=(5, 6), teaching=Teaching(loss=squared)))
    assert [e[0].loss for e in epochs] == pytest.approx(losses, rel=1e-4)


def test_writing_back_undoes_stacking():
    nets, copies = [build("convnet3-bn", i) for i in range(3)], [build("convnet3-bn", 9) for _ in range(3)]
    Stack(nets).write_back(copies)
    for network, copy in zip(nets, copies, strict=True):
        assert_equal_states(copy, network, 0)


def test_networks_that_cannot_be_stacked_are_refused():
    assert can_stack(build()) and not can_stack(build("resnet18", size=16)) and not can_stack(torch.nn.Linear(2, 2))
    for nets in ([build("resnet18", size=16)], [build(), build(size=16)], [build(), build("convnet3-bn")]):
        with pytest.raises(UserError, match="one by one"):
            Stack(nets)
    with pytest.raises(UserError, match="2 networks need as many seeds, found 1"):
        next(fit_stacked([build(), build()], *data(), OPTIONS, seeds=(1,)))


def test_one_diverged_network_stops_all():
    broken = build(seed=1)
    with torch.no_grad():
        broken.head.bias.fill_(float("nan"))
    with pytest.raises(RunFailed, match="became nan in epoch 1"):
        list(fit_stacked([build(), broken], *data(), OPTIONS, seeds=(1, 2)))
