"""MTT's gradient through a student's training, and one of its steps."""

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn

from condense import methods
from condense.classifiers import networks
from condense.errors import RunFailed
from condense.methods._experts import Snapshots
from condense.methods._learn import Synthetic
from condense.methods._pixels import RealImages, initial_images
from condense.methods._trajectories import Students, TrajectoryLengths, TrajectoryMatching
from condense.methods._unroll import match_trajectory, squared_distance
from condense.preprocessing import standardisation

STEPS = 4
LABELS = torch.tensor([0, 1, 1, 0, 1])


def tiny_net(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # smooth, so that finite differences have a slope to find
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)).double()


def parameters(network):
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def problem():
    images = torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return parameters(tiny_net(1)), parameters(tiny_net(2)), images, torch.tensor(0.3, dtype=torch.float64)


def batch(images, n):
    """Another order and another augmentation in every step, and images left out."""
    chosen = torch.randperm(5, generator=torch.Generator().manual_seed(n))[:4]
    return images[chosen] * (1 + 0.1 * n), LABELS[chosen]


def loss_of(images, rate):
    start, target, _, _ = problem()
    return match_trajectory(tiny_net(), start, target, images, rate, batch, STEPS).loss


def test_gradient_against_finite_differences():
    start, target, images, rate = problem()
    matched = match_trajectory(tiny_net(), start, target, images, rate, batch, STEPS)
    h = 1e-6
    for place in [(0, 0, 0, 0), (2, 0, 1, 3), (4, 0, 3, 3), (1, 0, 2, 1)]:
        step = torch.zeros_like(images)
        step[place] = h
        slope = (loss_of(images + step, rate) - loss_of(images - step, rate)) / (2 * h)
        torch.testing.assert_close(matched.images[place], slope, rtol=1e-5, atol=1e-8)
    slope = (loss_of(images, rate + h) - loss_of(images, rate - h)) / (2 * h)
    torch.testing.assert_close(matched.rate, slope, rtol=1e-5, atol=1e-8)


def test_loss_and_gradient_are_those_of_the_whole_unrolled_graph():
    start, target, images, rate = problem()
    matched = match_trajectory(tiny_net(), start, target, images, rate, batch, STEPS)
    x, alpha = images.clone().requires_grad_(), rate.clone().requires_grad_()
    net, theta = tiny_net(), {name: value.clone().requires_grad_() for name, value in start.items()}
    for n in range(STEPS):
        seen, labels = batch(x, n)
        gradients = torch.autograd.grad(
            F.cross_entropy(torch.func.functional_call(net, theta, (seen,)), labels), theta.values(), create_graph=True
        )
        theta = {name: value - alpha * g for (name, value), g in zip(theta.items(), gradients, strict=True)}
    flat, start_flat, target_flat = (torch.cat([p.flatten() for p in q.values()]) for q in (theta, start, target))
    loss = (flat - target_flat).pow(2).sum() / (start_flat - target_flat).pow(2).sum()
    in_images, in_rate = torch.autograd.grad(loss, [x, alpha])
    torch.testing.assert_close(matched.loss, loss.detach())
    torch.testing.assert_close(matched.images, in_images)
    torch.testing.assert_close(matched.rate, in_rate)


def test_nothing_given_is_changed():
    start, target, images, rate = problem()
    copies = [{name: value.clone() for name, value in q.items()} for q in (start, target)]
    match_trajectory(tiny_net(), start, target, images, rate, batch, STEPS)
    for given, copy in zip((start, target), copies, strict=True):
        assert all(torch.equal(given[name], copy[name]) and not given[name].requires_grad for name in copy)
    assert not images.requires_grad and not rate.requires_grad


def test_a_student_that_arrives_has_no_loss_and_one_that_stays_has_loss_one():
    start, _, images, rate = problem()
    seen, labels = batch(images, 0)
    net = tiny_net()
    net.load_state_dict(start)
    gradients = torch.autograd.grad(F.cross_entropy(net(seen), labels), list(net.parameters()))
    there = {name: value - rate * g for (name, value), g in zip(start.items(), gradients, strict=True)}
    arrived = match_trajectory(tiny_net(), start, there, images, rate, batch, 1)
    assert float(arrived.loss) < 1e-25 and float(arrived.images.abs().max()) < 1e-10
    assert float(match_trajectory(tiny_net(), start, there, images, torch.zeros_like(rate), batch, 1).loss) == 1
    assert float(squared_distance(start, there)) == pytest.approx(
        sum(float((start[name] - there[name]).pow(2).sum()) for name in start)
    )


def matching(lr_lr=1e-3, lr_img=1.0, lr_init=0.05, strategy=None, student_steps=3):
    """Two made-up experts of three snapshots each."""
    train = tiny.training_set("noisy")
    reals = RealImages(train, standardisation(train.images.images), 2)
    synthetic, snapshots = Synthetic(initial_images(reals, 2, "real", 0), 2, lr_img), Snapshots(None)
    for expert in range(2):
        for epoch in range(4):
            net = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=expert)
            with torch.no_grad():
                for p in net.parameters():
                    p.mul_(1 + 0.1 * epoch)
            snapshots.put(expert, epoch, net, 0.0)
    row = TrajectoryLengths(student_steps, 2, 2, lr_img, lr_lr, lr_init, zca=False)
    return TrajectoryMatching(
        reals,
        synthetic,
        snapshots,
        experts=2,
        students=Students("convnet3", row, 6, strategy),
        seed=0,
    )


def test_a_step_moves_images_and_rate_along_their_gradients_with_momentum():
    task = matching()
    s, v = task.synthetic.images.detach().clone(), torch.zeros(6, 1, 8, 8)
    rate, velocity = torch.tensor(0.05), torch.zeros(())
    for step in range(2):
        start, target = task.ends(step)
        net = networks.build("convnet3", in_channels=1, image_size=8, num_classes=3, seed=0)
        matched = match_trajectory(net, start, target, s, rate, task.batches(step), 3)
        shown = task.step(step)
        v, velocity = 0.5 * v + matched.images, 0.5 * velocity + matched.rate
        s, rate = s - 1.0 * v, rate - 1e-3 * velocity
        assert shown["loss"] == pytest.approx(float(matched.loss), rel=1e-4)
        assert shown["rate"] == pytest.approx(float(rate), rel=1e-4) == float(task.rate)
        torch.testing.assert_close(task.synthetic.images.detach(), s, rtol=1e-3, atol=1e-4)


def test_starts_and_targets_are_snapshots_a_gap_apart():
    task, seen = matching(), set()
    for step in range(40):
        start, target = task.ends(step)
        weight = start["head.weight"]
        for expert in range(2):
            for epoch in range(4):
                if torch.equal(weight, task.snapshots.parameters(expert, epoch)["head.weight"]):
                    seen.add((expert, epoch))
                    expected = task.snapshots.parameters(expert, epoch + 2)["head.weight"]
                    assert torch.equal(target["head.weight"], expected)
    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_student_sees_every_image_with_its_label_in_an_order_of_its_own():
    task = matching(student_steps=6)
    batch, images = task.batches(0), task.synthetic.images.detach()
    orders = []
    for n in range(6):
        x, y = batch(images, n)
        order = [next(i for i, image in enumerate(images) if torch.equal(image, seen)) for seen in x]
        assert sorted(order) == list(range(6)) and torch.equal(y, task.synthetic.labels[order])
        orders.append(order)
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize(("asked", "shown"), [(None, 6), (4, 4), (6, 6), (10**12, 6)])
def test_a_student_is_never_shown_more_images_at_once_than_there_are(asked, shown):
    options = methods.load("mtt").Options(student_batch=asked, student_steps=2, iterations=1, experts=1)
    assert options.batch_of(6) == shown
    train = tiny.training_set("noisy")  # three classes
    experts = options.experts * len(train) * (options.row(2, 64)[1].start_epochs - 1 + options.row(2, 64)[1].expert_gap)
    assert methods.load("mtt").evaluations(train, 2, options) == experts + 3 * shown


def test_a_students_augmentation_is_the_same_on_the_way_back_but_not_for_all_images_or_steps():
    task = matching(strategy="crop_scale", student_steps=5)
    batch, alike = task.batches(0), task.synthetic.images.detach()[:1].expand(6, -1, -1, -1)
    for n in range(5):
        assert torch.equal(batch(alike, n)[0], batch(alike, n)[0])
        assert len(batch(alike, n)[0].unique(dim=0)) > 1
    assert not torch.equal(batch(alike, 0)[0], batch(alike, 1)[0])
    assert not torch.equal(batch(alike, 0)[0], task.batches(1)(alike, 0)[0])


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"lr_lr": 1e6}, r"learned rate would go from 0.05 to -\S+ in step 0.*lower lr_lr \(now 1e\+06\)"),
        ({"lr_lr": float("nan")}, "learned rate would go from 0.05 to nan"),
        ({"lr_init": 1e30}, r"student diverged in step 0 \(loss (nan|inf)\)"),
    ],
)
def test_a_rate_that_cannot_be_trained_with_is_refused_and_nothing_moves(changed, complaint):
    task = matching(**changed)
    before, rate = task.synthetic.images.detach().clone(), task.rate.clone()
    with pytest.raises(RunFailed, match=complaint):
        for step in range(3):
            before, rate = task.synthetic.images.detach().clone(), task.rate.clone()
            task.step(step)
    assert torch.equal(task.synthetic.images.detach(), before) and torch.equal(task.rate, rate)
    assert task.synthetic.images.grad is None
