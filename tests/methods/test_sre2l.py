"""SRe2L: the statistics' distance, what recovering does to pixels, and how it is kept."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import pictures, supervision, training_set
from torch import nn

from condense.classifiers import networks
from condense.classifiers.teacher import Teacher, TeacherOptions
from condense.classifiers.teaching import teacher_for
from condense.data.types import Supervision, TrainingSet
from condense.errors import Interrupted, RunFailed, UserError
from condense.methods import sre2l
from condense.methods._recover import RecoverOptions, Recovery, recover
from condense.methods._statistics import check_batch_norm, watched_statistics
from condense.preprocessing import standardisation
from condense.recipe import parse
from condense.run import Run

QUICK = RecoverOptions(iterations=6, joint=6, checkpoint_every=2)


def network(name="convnet3-bn", size=8, channels=1, num_classes=3):
    built = networks.build(name, in_channels=channels, image_size=size, num_classes=num_classes, seed=0)
    return built.eval().requires_grad_(False)


def teacher(kind="noisy"):
    return teacher_for(training_set(kind), TeacherOptions(network="convnet3-bn", epochs=2, batch_size=16), 0, Run(None))


def untrained(size, channels, name="convnet3-bn"):
    images, _ = pictures(5, size, channels)
    built = network(name, size, channels)
    return Teacher(built, standardisation(images.images), images.image_shape, images.classes, {})


def remember(built, x):
    """Make every batch norm remember exactly the statistics that `x` has there, layer after layer."""

    def adopt(layer, inputs):
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), unbiased=False)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)

    handles = [m.register_forward_pre_hook(adopt) for m in built.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        built(x)
    for handle in handles:
        handle.remove()


# the statistics' distance


@pytest.mark.parametrize("name", ["convnet3-bn", "resnet18-bn"])
def test_distance_is_zero_on_the_statistics_own_data(name):
    built = network(name, 16)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 1, 16, 16, generator=generator)
    remember(built, x)
    with watched_statistics(built, 10.0) as distance:
        built(x)
        own = float(distance())
        built(x + 0.5 * torch.randn(x.shape, generator=generator))
        other = float(distance())
    assert own < 1e-4 * other


def test_distance_and_gradient_by_hand():
    built = network().double()
    generator = torch.Generator().manual_seed(1)
    for layer in built.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    x = torch.randn(4, 1, 8, 8, generator=generator, dtype=torch.float64, requires_grad=True)

    def by_hand(x):
        total, h, first = 0.0, x, True
        for module in built.trunk:
            if isinstance(module, nn.BatchNorm2d):
                mean = h.sum((0, 2, 3)) / (h.numel() / h.shape[1])
                variance = ((h - mean[:, None, None]) ** 2).sum((0, 2, 3)) / (h.numel() / h.shape[1])
                gaps = ((mean - module.running_mean) ** 2).sum().sqrt(), ((variance - module.running_var) ** 2).sum()
                total = total + (7.0 if first else 1.0) * (gaps[0] + gaps[1].sqrt())
                first = False
            h = module(h.clone())
        return total

    with watched_statistics(built, 7.0) as distance:
        built(x)
        found = distance()
    expected = by_hand(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (found, expected)))


def test_hooks_are_removed_afterwards():
    built = network()
    with watched_statistics(built, 1.0):
        pass
    assert not any(module._forward_pre_hooks for module in built.modules())


def test_networks_without_batch_norm_are_refused_before_a_teacher_is_trained(monkeypatch):
    monkeypatch.setattr(sre2l, "teacher_for", None)
    options = parse(sre2l.Options, {"teacher": {"network": "convnet3"}}, "x")
    with pytest.raises(UserError, match=r"convnet3 has no batch norm, .*with batch norm, e\.g\. convnet3-bn"):
        sre2l.condense(training_set(), 1, options, 0, Run(None))
    check_batch_norm(network("resnet18-bn", 16), "resnet18-bn")


def test_a_given_teacher_without_batch_norm_is_refused(tmp_path: Path):
    teacher_for(training_set(), TeacherOptions(epochs=1), 0, Run(tmp_path))
    options = parse(sre2l.Options, {"teacher": {"folder": tmp_path}}, "x")
    with pytest.raises(UserError, match="convnet3 has no batch norm"):
        sre2l.condense(training_set(), 1, options, 0, Run(None))


# recovering


def test_a_step_of_adam_by_hand():
    asked = untrained(8, 1)
    options = RecoverOptions(iterations=4, joint=3, jitter=0, statistics_weight=0.5, first_layer_weight=2)
    recovery = Recovery(asked, 1, options, 0)
    x = recovery.x.detach().clone().requires_grad_()
    with watched_statistics(asked.network, 2.0) as distance:
        loss = F.cross_entropy(asked.network(x), torch.arange(3)) + 0.5 * distance()
    (gradient,) = torch.autograd.grad(loss, x)
    expected = x.detach() - 0.25 * gradient / (gradient.abs() + 1e-8)  # the first step of Adam, whatever its betas
    low, high = (asked.preprocessing.normalise(torch.full((1, 1, 1, 1), v)) for v in (0.0, 1.0))
    step = next(recovery.steps())
    torch.testing.assert_close(recovery.x.detach(), expected.clamp(low, high), rtol=1e-4, atol=1e-4)
    assert step.cross_entropy + 0.5 * step.statistics == pytest.approx(loss.item(), rel=1e-4)


def test_learning_rate_falls_along_a_cosine():
    recovery = Recovery(untrained(8, 1), 1, RecoverOptions(iterations=4, joint=3), 0)
    rates = [recovery.optimizer.param_groups[0]["lr"] for _ in zip(recovery.steps(), range(3), strict=False)]
    np.testing.assert_allclose(rates, [0.25, 0.125 * (1 + 0.5**0.5), 0.125])


@pytest.mark.parametrize(("side", "largest"), [(8, 1), (14, 2), (28, 4), (64, 4)])
def test_jitter_rolls_every_image_alike_by_at_most_a_seventh(side, largest):
    recovery = Recovery(untrained(side, 1), 1, RecoverOptions(joint=3), 0)
    x, seen = recovery.x.detach(), set()
    for recovery.step in range(200):
        rolled = recovery.jittered().detach()
        seen |= {(a, b) for a in range(5) for b in range(5) if torch.equal(rolled, x.roll((a, b), (2, 3)))}
    assert seen == {(a, b) for a in range(largest + 1) for b in range(largest + 1)}


def test_recovered_images_are_the_teachers_and_lie_in_range():
    asked = teacher("labelled")
    found = recover(asked, 2, RecoverOptions(iterations=60, joint=6), 0, Run(None), {})
    assert found.images.dtype == np.uint8 and found.images.shape == (6, 8, 8, 1)
    assert (asked.logits(found.images).argmax(1).numpy() == np.arange(6) // 2).all()
    assert found.passes == 60 * 6 and found.seconds > 0


@pytest.mark.parametrize(
    ("ipc", "joint", "groups", "together"), [(1, 7, 1, 9), (4, 7, 2, 9), (5, 3, 5, 3), (1, 1, 1, 3)]
)
def test_many_images_are_optimised_together_and_sorted_by_class(ipc, joint, groups, together):
    recovery = Recovery(untrained(8, 1), ipc, RecoverOptions(iterations=1, joint=joint), 0)
    assert (recovery.groups, len(recovery.labels), recovery.total) == (groups, together, groups)
    marks = []
    for _ in recovery.steps():
        share = recovery.labels.float() / 4 + len(recovery.made) / 100
        made = recovery.teacher.preprocessing.normalise(share[:, None, None, None].expand(together, 1, 8, 8))
        recovery.made[-1] = made
        marks += [len(recovery.made)] * (together // 3)
    values = np.rint([[255 * (y / 4 + mark / 100) for mark in marks[:ipc]] for y in range(3)]).ravel()
    np.testing.assert_allclose(recovery.images()[:, 0, 0, 0], values, atol=1)


@pytest.mark.parametrize(
    ("size", "channels", "name"), [(28, 1, "convnet3-bn"), (32, 3, "resnet18-bn"), (64, 3, "convnet3-bn")]
)
def test_every_size_channel_and_network(size, channels, name):
    options = RecoverOptions(iterations=2, joint=3)
    found = recover(untrained(size, channels, name), 2, options, 0, Run(None), {})
    assert found.images.shape == (6, size, size, channels)


def test_soft_labels_are_the_teachers_of_the_images_as_written():
    train = TrainingSet(pictures()[0], supervision("partial", pictures()[1]))
    given = {"teacher": {"network": "convnet3-bn", "epochs": 2, "batch_size": 16}, "recover": QUICK.model_dump()}
    options = parse(sre2l.Options, {**given, "temperature": 2}, "x")
    made = sre2l.condense(train, 3, options, 0, Run(None))
    logits = teacher_for(train, options.teacher, 0, Run(None)).logits(made.images)
    np.testing.assert_allclose(made.soft_labels, F.softmax(logits / 2, 1).numpy(), atol=1e-5)
    assert made.provenance.notes["soft_label_temperature"] == 2
    assert made.provenance.notes["soft_label_bytes"] == 9 * 3 * 4
    assert made.provenance.cost.network_evaluations == 2 * 60 + 2 * 6 * 6 + 9


# what is kept


def test_a_resumed_recovery_equals_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = teacher()
    whole = recover(asked, 4, QUICK, 0, Run(None), {"seed": 0})  # two groups of six steps
    steps = Recovery.steps

    def interrupted_at(stop):
        def wrapped(self):
            for step in steps(self):
                if step.step == stop:
                    signal.raise_signal(signal.SIGINT)
                yield step

        return wrapped

    for stop in (3, 6, 11):
        monkeypatch.setattr(Recovery, "steps", interrupted_at(stop))
        with pytest.raises(Interrupted, match=f"Stopped at step {stop} of 12; the state is saved in .*--resume"):
            recover(asked, 4, QUICK, 0, Run(tmp_path), {"seed": 0})
    monkeypatch.setattr(Recovery, "steps", steps)
    again = recover(asked, 4, QUICK, 0, Run(tmp_path), {"seed": 0})
    np.testing.assert_array_equal(again.images, whole.images)
    finished = recover(asked, 4, QUICK, 0, Run(tmp_path), {"seed": 0})
    np.testing.assert_array_equal(finished.images, whole.images)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [12]
    with pytest.raises(UserError, match="checkpoint in this run folder belongs to a run with other seed"):
        recover(asked, 4, QUICK, 0, Run(tmp_path), {"seed": 1})


def test_a_loss_that_is_not_a_number_is_reported():
    """The wrong rate was blamed."""
    asked = untrained(8, 1)
    asked.network.head.weight.data.fill_(float("nan"))
    with pytest.raises(RunFailed, match=r"its training has diverged; lower teacher.learning_rate and start over"):
        recover(asked, 1, QUICK, 0, Run(None), {})


def test_a_rate_too_high_for_the_images_is_reported():
    """Who is to blame for a NaN."""
    asked, seen = untrained(8, 1), []

    def from_the_second_on(module, inputs, logits):
        seen.append(logits)
        return logits if len(seen) == 1 else logits * float("nan")

    asked.network.register_forward_hook(from_the_second_on)
    told = rf"in step 2; lower recover.learning_rate \(now {QUICK.learning_rate:g}\) and start over"
    with pytest.raises(RunFailed, match=told):
        recover(asked, 1, QUICK, 0, Run(None), {})


def test_ipc_may_exceed_the_images_of_a_class():
    images, truth = pictures(4)
    train = TrainingSet(images, Supervision.from_labels(truth.labels, 3, trusted=False))
    given = {
        "teacher": {"network": "convnet3-bn", "epochs": 1, "batch_size": 4},
        "recover": {"iterations": 1, "joint": 6},
    }
    assert sre2l.condense(train, 7, parse(sre2l.Options, given, "x"), 0, Run(None)).ipc == 7
