import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from condense.classifiers import fit as fitting
from condense.classifiers import networks
from condense.classifiers.fit import Epoch, FitOptions, Sitting, Teaching, fit, learning_rate, make_optimizer, predict
from condense.errors import RunFailed, UserError
from condense.preprocessing import NormalisedImages, standardisation

QUICK = FitOptions(epochs=3, batch_size=8)


def linear(seed=0, num_features=2, num_classes=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(num_features, num_classes))


def digits_like(n=20):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n) % 3


def train(options=QUICK, *, seed=0, augment=None, targets=None, network_seed=0):
    x, y = digits_like()
    network = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=network_seed)
    epochs = list(
        fit(network, x, y if targets is None else targets, options, seed=seed, teaching=Teaching(augment=augment))
    )
    return network, epochs


def flat(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_separable_problem_is_learned_completely():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=generator)
    x[:, 0] += torch.where(torch.arange(60) < 30, 4.0, -4.0)
    y = (torch.arange(60) >= 30).long()
    for options in (FitOptions(40, 16), FitOptions(40, 16, "adamw", 0.05, schedule="cosine")):
        network = linear()
        epochs = list(fit(network, x, y, options, seed=0))
        assert (predict(network, x).argmax(1) == y).all()
        assert epochs[-1].loss < 0.1 * epochs[0].loss
        assert [e.epoch for e in epochs] == list(range(1, 41))


def noise(x, generator):
    return x + torch.randn(x.shape, generator=generator)


def test_same_seed_same_bits_whatever_the_global_state():
    torch.manual_seed(1)
    first, losses = train(augment=noise)
    before = torch.random.get_rng_state()
    again, losses_again = train(augment=noise)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    third, _ = train(augment=noise)
    assert torch.equal(flat(first), flat(again)) and torch.equal(flat(first), flat(third))
    assert losses == losses_again
    other, _ = train(augment=noise, seed=1)
    assert not torch.equal(flat(first), flat(other))


def test_randomness_of_an_epoch_does_not_depend_on_the_epochs_before():
    seen = {}

    def record(key):
        def augment(x, generator):
            seen.setdefault(key, []).append((x.clone(), torch.rand(2, generator=generator)))
            return x

        return augment

    train(dataclasses.replace(QUICK, epochs=2), augment=record("two"))
    train(dataclasses.replace(QUICK, epochs=4), augment=record("four"))
    for (x, u), (x_other, u_other) in zip(seen["two"], seen["four"], strict=False):
        assert torch.equal(x, x_other) and torch.equal(u, u_other)
    assert not torch.equal(seen["four"][0][1], seen["four"][3][1])  # three batches per epoch


def test_every_image_is_seen_once_an_epoch():
    rows = []
    train(dataclasses.replace(QUICK, epochs=1), augment=lambda x, generator: rows.append(x) or x)
    assert [len(batch) for batch in rows] == [8, 8, 4]
    x, _ = digits_like()
    key = [image.tolist() for image in torch.cat(rows)[:, 0, 0, 0]]
    assert sorted(key) == sorted(x[:, 0, 0, 0].tolist())


def test_soft_loss_is_kl_plus_entropy():
    x, _ = digits_like()
    q = torch.softmax(torch.randn(20, 3, generator=torch.Generator().manual_seed(2)), 1)
    network = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=0)
    log_f = predict(network, x).log_softmax(1)
    kl = (q * (q.log() - log_f)).sum(1).mean()
    entropy = -(q * q.log()).sum(1).mean()
    first = next(fit(network, x, q, FitOptions(epochs=1, batch_size=20), seed=0))
    assert math.isclose(first.loss, float(kl + entropy), rel_tol=1e-5)


def test_one_hot_targets_equal_hard_ones():
    hard, losses = train()
    soft, soft_losses = train(targets=nn.functional.one_hot(digits_like()[1], 3).float())
    torch.testing.assert_close(flat(hard), flat(soft), rtol=0, atol=1e-6)
    assert [e.loss for e in losses] == pytest.approx([e.loss for e in soft_losses], rel=1e-5)


def test_step_schedule_of_dc():
    options = FitOptions(epochs=300)
    rates = [learning_rate(options, epoch) for epoch in range(1, 301)]
    assert rates[:151] == [0.01] * 151 and rates[151:] == pytest.approx([0.001] * 149)
    cosine = FitOptions(epochs=4, schedule="cosine", learning_rate=1.0)
    assert [learning_rate(cosine, e) for e in range(1, 5)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )


def test_step_schedule_by_hand_including_the_momentum_reset():
    """One weight, loss -log softmax of (w·x, 0): SGD with momentum and weight decay, written out."""
    network = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.3], [-0.2]]))
    x, y = torch.tensor([[1.5]]), torch.tensor([0])
    options = FitOptions(epochs=4, learning_rate=0.1, weight_decay=0.01)
    list(fit(network, x, y, options, seed=0))

    w, v = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for epoch in range(1, 5):
        rate = 0.1 if epoch <= 3 else 0.01  # 4 // 2 + 1 = 3 epochs at the full rate
        if epoch == 4:
            v = torch.zeros(2, dtype=torch.float64)
        gradient = 1.5 * (torch.softmax(1.5 * w, 0) - torch.tensor([1.0, 0.0])) + 0.01 * w
        v = 0.9 * v + gradient
        w = w - rate * v
    torch.testing.assert_close(network.weight.detach().double().flatten(), w, rtol=0, atol=1e-6)


def test_predict_is_the_network_in_evaluation_mode():
    network = networks.build("convnet3-bn", in_channels=1, image_size=8, num_classes=3, seed=0).train()
    x, _ = digits_like()
    logits = predict(network, x, batch_size=7)
    assert network.training and not logits.requires_grad
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(logits, network(x), rtol=1e-5, atol=1e-5)


def test_bf16_follows_float32():
    exact, losses = train()
    rough, rough_losses = train(dataclasses.replace(QUICK, bf16=True))
    assert all(p.dtype == torch.float32 for p in rough.parameters())
    assert [e.loss for e in rough_losses] == pytest.approx([e.loss for e in losses], rel=0.05)
    assert not torch.equal(flat(exact), flat(rough))


@pytest.mark.parametrize("options", [QUICK, FitOptions(4, 8, "adamw", 1e-3, schedule="cosine"), FitOptions(4, 8)])
def test_a_run_broken_off_and_continued_equals_an_unbroken_one(options):
    whole, losses = train(options, augment=noise)
    x, y = digits_like()
    first = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=0)
    optimizer = make_optimizer(first, options)
    for epoch in fit(first, x, y, options, seed=0, teaching=Teaching(augment=noise), sitting=Sitting(optimizer)):
        if epoch.epoch == 2:
            break
    second = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=7)
    second.load_state_dict(first.state_dict())
    again = make_optimizer(second, options)
    again.load_state_dict(optimizer.state_dict())
    rest = list(fit(second, x, y, options, seed=0, teaching=Teaching(augment=noise), sitting=Sitting(again, 3)))
    assert rest == losses[2:] and torch.equal(flat(second), flat(whole))


def test_another_loss_is_minimised():
    x, y = digits_like()
    network = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=0)
    squared = float((predict(network, x) ** 2).mean())

    def loss(logits, targets):
        assert logits.dtype == torch.float32 and torch.equal(targets.sort().values, y.sort().values)
        return (logits**2).mean()

    epochs = list(fit(network, x, y, FitOptions(5, 20), seed=0, teaching=Teaching(loss=loss)))
    assert epochs[0].loss == pytest.approx(squared, rel=1e-5) and epochs[-1].loss < 0.5 * squared


@pytest.mark.parametrize("targets", [None, torch.eye(3)[torch.arange(20) % 3]])
def test_a_batch_in_parts_gives_the_same_step(monkeypatch, targets):
    whole, losses = train(targets=targets)
    monkeypatch.setattr(fitting, "PART_BYTES", 3 * 8 * 8 * 4)  # three images of 8x8 in float32
    seen = []
    network = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=0)
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    x, y = digits_like()
    epochs = list(fit(network, x, y if targets is None else targets, QUICK, seed=0))
    assert seen[:7] == [3, 3, 2, 3, 3, 2, 2]  # batches of 8, 8 and 4
    torch.testing.assert_close(flat(network), flat(whole), rtol=0, atol=1e-5)
    assert [e.loss for e in epochs] == pytest.approx([e.loss for e in losses], rel=1e-4)
    torch.testing.assert_close(predict(network, x), network.eval()(x).detach(), rtol=1e-4, atol=1e-5)


def test_batch_norm_sees_the_whole_batch(monkeypatch):
    monkeypatch.setattr(fitting, "PART_BYTES", 1)
    network = networks.build("convnet3-bn", in_channels=1, image_size=8, num_classes=3, seed=0)
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    list(fit(network, *digits_like(), FitOptions(epochs=1, batch_size=8), seed=0))
    assert seen == [8, 8, 4]


@pytest.mark.parametrize("name", ["convnet3-bn", "resnet18-bn"])
def test_a_last_batch_of_one_image_joins_the_one_before_under_batch_norm(name):
    """33 images in batches of 16 were a traceback with resnet18-bn."""
    x, y = digits_like(33)
    network = networks.build(name, in_channels=1, image_size=8, num_classes=3, seed=0)
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    list(fit(network, x, y, FitOptions(epochs=1, batch_size=16), seed=0))
    assert seen == [16, 17]
    with pytest.raises(UserError, match="needs two images or more, found one"):
        list(fit(network, x[:1], y[:1], QUICK, seed=0))


def test_a_last_batch_of_one_image_stays_without_batch_norm():
    """Nothing changes where nothing was wrong."""
    network = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=0)
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    list(fit(network, *digits_like(33), FitOptions(epochs=1, batch_size=16), seed=0))
    assert seen == [16, 16, 1]


def test_infinite_loss_stops_with_advice():
    x, y = digits_like()
    network = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=0)
    x[3] = float("nan")
    with pytest.raises(RunFailed, match=r"became nan in epoch 1; lower the learning rate \(now 0.01\)"):
        list(fit(network, x, y, QUICK, seed=0))


def test_epoch_loss_is_the_mean_over_images():
    network = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(network.weight)
    x, y = torch.zeros(5, 1), torch.tensor([0, 1, 0, 1, 1])
    assert list(fit(network, x, y, FitOptions(1, 2), seed=0)) == [Epoch(1, pytest.approx(math.log(2)))]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"momentum": 1.0}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(UserError):
        FitOptions(**{"epochs": 1, **wrong})


@pytest.mark.parametrize("name", ["convnet3", "convnet3-bn"])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_no_images_there_are_no_predictions(name, channels):
    network = networks.build(name, in_channels=channels, image_size=8, num_classes=3, seed=0)
    pixels = np.zeros((4, 8, 8, channels), np.uint8)
    lazy = NormalisedImages(pixels[:0], standardisation(pixels))
    for images in (lazy, lazy[:]):
        assert predict(network, images).shape == (0, 3)


def test_images_normalised_as_they_are_taken_train_the_same_weights():
    pixels = torch.randint(0, 256, (20, 8, 8, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    preprocessing = standardisation(pixels)
    lazy, y = NormalisedImages(pixels, preprocessing), torch.arange(20) % 3
    found = []
    for images in (lazy, lazy[:]):
        network = networks.build("convnet3", in_channels=3, image_size=8, num_classes=3, seed=0)
        epochs = list(fit(network, images, y, QUICK, seed=0, teaching=Teaching(augment=noise)))
        found.append((flat(network), epochs, predict(network, images, 7)))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert torch.equal(found[0][2], found[1][2]) and found[0][2].shape == (20, 3)
