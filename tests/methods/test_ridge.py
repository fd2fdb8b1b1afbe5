"""Ridge regression on beliefs: its algebra, its gradient, what it looks at, its networks, and going on after a stop."""

import json

import numpy as np
import pytest
import tiny
import torch

from condense import methods, rng
from condense.data import digits
from condense.data.types import Supervision, TrainingSet
from condense.errors import RunFailed, UserError
from condense.methods._believed import believed_members
from condense.methods._learn import CHECKPOINT, Synthetic
from condense.methods._pixels import RealImages, initial_images
from condense.methods._pool import Pool
from condense.methods._ridge import RidgeOptions, RidgeRegression, nearest_probabilities, ridge_prediction
from condense.preprocessing import standardisation
from condense.recipe import parse
from condense.run import Run

SMALL = {"iterations": 4, "real_batch": 16, "pool": 2, "width": 4, "max_age": 1, "checkpoint_every": 2}
CLASSES = ("a", "b")


def beliefs_of(train, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(3, 0.3), len(train)).astype(np.float32)


def believing(beliefs=None, kind="noisy"):
    train = tiny.training_set(kind)
    return TrainingSet(train.images, train.supervision, beliefs=beliefs_of(train) if beliefs is None else beliefs)


def make(train, run=None, seed=0, ipc=2, **changed):
    options = parse(methods.load("frepo").Options, {**SMALL, **changed}, "frepo")
    return methods.load("frepo").condense(train, ipc, options, seed, run or Run(None))


def regression(train, ipc=2, **changed):
    options = RidgeOptions.model_validate({**SMALL, **changed})
    members = believed_members(train.believed(), train.images.classes, ipc, patches=options.pack**2)
    reals = RealImages(train, standardisation(train.images.images), ipc, "cpu", members)
    start = initial_images(reals, ipc, "real", 0, options.pack)
    synthetic = Synthetic(start, ipc, options.lr_img, optimizer="adam", pack=options.pack)
    return RidgeRegression(reals, synthetic, train.believed(), options, None, 0), reals, synthetic


def adam(options):
    return lambda network: torch.optim.Adam(network.parameters(), lr=options.lr_net)


def fitting(images, targets):
    return lambda network: 0.5 * (network(images) - targets).square().sum(1).mean()


def by_numpy(real, learned, targets, ridge):
    own, across = learned @ learned.T / learned.shape[1], real @ learned.T / learned.shape[1]
    strength = ridge * np.trace(own) / len(own)
    return across @ np.linalg.solve(own + strength * np.eye(len(own)), targets)


def test_the_prediction_is_that_of_numpy():
    random = np.random.default_rng(0)
    real, learned, targets = random.normal(size=(7, 5)), random.normal(size=(6, 5)), random.normal(size=(6, 3))
    found = ridge_prediction(*map(torch.from_numpy, (real, learned, targets)), 1e-3).numpy()
    np.testing.assert_allclose(found, by_numpy(real, learned, targets, 1e-3), rtol=1e-9)


def test_learned_images_that_are_copies_leave_the_prediction_finite_and_right():
    """In float32 such a kernel with so little of a ridge is singular."""
    random = np.random.default_rng(0)
    one = random.normal(size=(3, 40)).astype(np.float32)
    learned, targets = np.repeat(one, 4, 0), np.repeat(np.eye(3, dtype=np.float32), 4, 0)
    found = ridge_prediction(torch.from_numpy(one), torch.from_numpy(learned), torch.from_numpy(targets), 1e-7)
    np.testing.assert_allclose(found.numpy(), np.eye(3), atol=1e-4)


def test_the_gradient_in_the_images_is_that_of_finite_differences():
    task, reals, synthetic = regression(believing(), ridge=1e-2)
    network, places = task.pool.at(0).double(), task.batch(0)

    def loss(images):
        predicted = ridge_prediction(
            network.features(reals[places].double()), network.features(images), task.targets.double(), 1e-2
        )
        return 0.5 * (predicted - task.beliefs[places]).square().sum(1).mean()

    exact = synthetic.images.detach().double()
    assert torch.autograd.gradcheck(loss, exact[:, :, ::3, ::3].repeat(1, 1, 3, 3)[:, :, :8, :8].requires_grad_())


def test_a_step_goes_along_the_gradient_of_the_loss_on_beliefs():
    """The first step of Adam is the rate times the sign of the gradient, of the equation written out anew."""
    train = believing()
    task, reals, synthetic = regression(train, precision="fp32")
    before, places = synthetic.images.detach().clone().requires_grad_(), task.batch(0)
    network = task.pool.at(0)
    real, learned = network.features(reals[places]).detach(), network.features(before)
    own, across = learned @ learned.T / learned.shape[1], real @ learned.T / learned.shape[1]
    targets = torch.eye(3).repeat_interleave(2, 0) - 1 / 3
    predicted = across @ torch.linalg.inv(own + 1e-3 * own.trace() / 6 * torch.eye(6)) @ targets
    wanted = torch.from_numpy(train.beliefs)[places] - 1 / 3
    loss = 0.5 * ((predicted - wanted) ** 2).sum(1).mean()
    loss.backward()
    assert task.step(0)["loss"] == pytest.approx(loss.item(), rel=1e-3)
    moved = (synthetic.images.detach() - before.detach()) / -0.01
    steep = before.grad.abs() > 0.05 * before.grad.abs().max()
    torch.testing.assert_close(moved[steep], before.grad.sign()[steep], rtol=0, atol=2e-2)
    assert steep.sum() > 20


def test_the_nearest_probabilities_are_known():
    """Those that are some stay; then by hand; then θ by bisection."""
    rows = torch.tensor([[0.2, 0.3, 0.5], [2.0, 0.0, 0.0], [0.6, 0.6, 0.0], [-1.0, -1.0, -1.0], [0.9, 0.3, -5.0]])
    expected = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.8, 0.2, 0.0]])
    torch.testing.assert_close(nearest_probabilities(rows), expected)
    many = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (50, 7)))
    low, high = many.min(1, keepdim=True).values - 1, many.max(1, keepdim=True).values
    for _ in range(60):
        middle = (low + high) / 2
        above = (many - middle).clamp_min(0).sum(1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    torch.testing.assert_close(nearest_probabilities(many), (many - low).clamp_min(0))


def test_a_step_on_the_labels_is_adams_and_then_the_nearest_probabilities():
    """The first step of Adam is the rate times the sign of the gradient; pictures of one image share its label."""
    task, reals, synthetic = regression(believing(), ipc=1, learn_labels=True, precision="fp32", pack=2, width=8)
    assert task.targets.shape == (12, 3) and torch.equal(task.targets[:4], task.targets[:1].expand(4, 3))
    with torch.no_grad():
        task.labels.copy_(torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]))
    labels, pictures, places = (
        task.labels.detach().clone().requires_grad_(),
        synthetic.pictures().detach(),
        task.batch(0),
    )
    network = task.pool.at(0)
    learned, real = network.features(pictures).detach(), network.features(reals[places]).detach()
    own, across = learned @ learned.T / learned.shape[1], real @ learned.T / learned.shape[1]
    shared = torch.eye(3).repeat_interleave(4, 0)  # which picture has whose label
    predicted = across @ torch.linalg.inv(own + 1e-3 * own.trace() / 12 * torch.eye(12)) @ shared @ (labels - 1 / 3)
    loss = 0.5 * ((predicted - task.beliefs[places]) ** 2).sum(1).mean()
    (gradient,) = torch.autograd.grad(loss, labels)
    assert gradient.abs().min() > 1e-5
    assert task.step(0)["loss"] == pytest.approx(loss.item(), rel=1e-2)
    expected = nearest_probabilities(labels.detach() - 0.01 * gradient.sign())
    torch.testing.assert_close(task.labels.detach(), expected, rtol=0, atol=1e-4)


def test_learned_labels_learn_which_classes_are_taken_for_each_other():
    """Dark pictures are half believed light, light and striped ones surely what they are."""
    images, truth = tiny.pictures(20)
    told = np.float32([[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]])[truth.labels]
    train = TrainingSet(images, Supervision.from_labels(truth.labels, 3, trusted=False), beliefs=told)
    made = make(train, ipc=1, learn_labels=True, iterations=80, real_batch=40, lr_img=0.03, max_age=20)
    dark, light, striped = made.soft_labels
    assert dark[1] > 0.3 and dark[2] < 0.2 and light.argmax() == 1 and striped.argmax() == 2 and striped[2] > 0.6
    assert made.labels.tolist() == [0, 1, 2]
    assert make(train, ipc=1).soft_labels is None


def test_in_bfloat16_the_gradient_points_the_same_way():
    """Within what another batch of real images changes, by far."""
    gradients = {}
    for precision in ("fp32", "bf16"):
        task, _, synthetic = regression(believing(), precision=precision)
        places, images = task.batch(0), synthetic.images.detach().clone().requires_grad_()
        task.loss(0, places, images).backward()
        gradients[precision] = images.grad.flatten()
    assert torch.nn.functional.cosine_similarity(gradients["fp32"], gradients["bf16"], 0) > 0.95
    assert not torch.equal(gradients["fp32"], gradients["bf16"])


def test_labels_are_not_used_if_there_are_beliefs():
    beliefs = beliefs_of(tiny.training_set())
    images = make(believing(beliefs)).images
    other = believing(beliefs)
    swapped = Supervision(np.roll(other.supervision.candidates, 1, 1), other.supervision.trusted)
    np.testing.assert_array_equal(make(TrainingSet(other.images, swapped, beliefs=beliefs)).images, images)
    assert not np.array_equal(make(believing(beliefs[::-1].copy())).images, images)


@pytest.mark.parametrize("kind", ["partial", "unlabelled", "mixture"])
def test_labels_at_face_value_are_the_target_without_beliefs(kind):
    train = tiny.training_set(kind)
    told = TrainingSet(train.images, train.supervision, beliefs=train.supervision.as_beliefs())
    plain = make(train)
    np.testing.assert_array_equal(plain.images, make(told).images)
    assert (plain.provenance.notes["believed"], make(told).provenance.notes["believed"]) == (False, True)


def test_images_without_information_are_never_drawn():
    train = tiny.training_set("unlabelled")
    task, _, _ = regression(train)
    seen = torch.cat([task.batch(step) for step in range(50)])
    assert not train.supervision.unlabelled[seen].any()
    assert len(seen.unique()) == (~train.supervision.unlabelled).sum()
    nothing = Supervision(np.ones((60, 3), np.bool_), np.ones(60, np.bool_))
    with pytest.raises(UserError, match="Nothing is known of the class of any image"):
        make(TrainingSet(train.images, nothing))


def few_digits():
    """500 digits and their true labels."""
    source = digits.load()
    labels = Supervision.from_labels(source.truth.labels, 10, trusted=True)
    return TrainingSet(source.train, labels).take(np.arange(500))


def test_the_loss_falls():
    """0.30 to 0.20; 0.45 is that of no prediction at all."""
    options = {"backbone": "convnet1", "width": 16, "iterations": 60, "real_batch": 64, "max_age": 20, "lr_img": 0.05}
    task, _, _ = regression(few_digits(), ipc=1, **options)
    losses = [task.step(step)["loss"] for step in range(60)]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])


def test_networks_are_trained_on_the_images_and_replaced_at_a_random_age():
    _, reals, synthetic = regression(believing())
    options = RidgeOptions.model_validate({**SMALL, "pool": 3, "max_age": 4, "lr_net": 1e-2})
    pool, targets = Pool(reals, options, adam(options), 0), torch.eye(3).repeat_interleave(2, 0) - 1 / 3
    first = [network.head.weight.detach().clone() for network in pool.networks]
    assert not torch.equal(first[0], first[1])
    limits, generations = [pool.limit(slot) for slot in range(3)], []
    for step in range(3 * 40):
        pool.train(step, fitting(synthetic.images.detach(), targets))
        generations.append(tuple(pool.generations))
    assert max(pool.ages) <= 4 and all(0 <= limit <= 4 for limit in limits)
    for slot, limit in enumerate(limits):  # steps of a network, and one in which it makes room
        assert [each[slot] for each in generations[slot::3]].index(1) == limit
    drawn = {rng.derive(0, "age of a network", slot, k) % 5 for slot in range(3) for k in range(20)}
    assert drawn == {0, 1, 2, 3, 4}


def test_a_network_learns_the_learned_images():
    _, reals, synthetic = regression(few_digits())
    changed = {"pool": 1, "max_age": 10**6, "width": 8, "lr_net": 1e-2}
    options = RidgeOptions.model_validate({**SMALL, **changed})
    pool = Pool(reals, options, adam(options), 1)
    images, targets = synthetic.images.detach(), torch.eye(10).repeat_interleave(2, 0) - 1 / 10
    before = (pool.networks[0](images) - targets).square().mean().item()
    for step in range(30):
        pool.train(step, fitting(images, targets))
    assert (pool.networks[0](images) - targets).square().mean().item() < 0.6 * before


class StopsAt(Run):
    """A run that breaks off once step 2 is saved."""

    def save(self, name, tensors, meta):
        super().save(name, tensors, meta)
        if meta.get("step") == 2:
            raise MemoryError("as if the power had failed")


@pytest.mark.parametrize("learn_labels", [False, True])
def test_a_run_that_crashed_goes_on_bit_for_bit(tmp_path, learn_labels):
    train = believing()
    whole = make(train, Run(tmp_path / "whole"), learn_labels=learn_labels)
    with pytest.raises(MemoryError):
        make(train, StopsAt(tmp_path / "broken"), learn_labels=learn_labels)
    resumed = make(train, Run(tmp_path / "broken"), learn_labels=learn_labels)
    np.testing.assert_array_equal(resumed.images, whole.images)
    if learn_labels:
        np.testing.assert_array_equal(resumed.soft_labels, whole.soft_labels)
        assert (whole.soft_labels.max(1) < 1).any()
    ours, theirs = (Run(tmp_path / name).load(CHECKPOINT) for name in ("broken", "whole"))
    assert ours[0].keys() == theirs[0].keys() and all(torch.equal(ours[0][key], theirs[0][key]) for key in ours[0])
    assert ours[1]["task"] == theirs[1]["task"] and max(ours[1]["task"]["generations"]) > 0
    assert resumed.provenance.cost.network_evaluations == 4 * (16 + 2 * 6)
    steps = [json.loads(line) for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "step" in line] == [4]


def test_a_checkpoint_of_other_beliefs_is_refused(tmp_path):
    make(believing(), Run(tmp_path))
    with pytest.raises(UserError, match="belongs to a run with other beliefs"):
        make(believing(beliefs_of(tiny.training_set(), seed=1)), Run(tmp_path))


def test_images_that_diverge_are_reported():
    with pytest.raises(RunFailed, match=r"lower lr_img \(now 1e\+30\)"):
        make(believing(), lr_img=1e30, iterations=8)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backbone": "convnet3-bn"}, "With batch norm what .* choose convnet3"),
        ({"backbone": "resnet18"}, "resnet18 has fixed widths; only ConvNets"),
        ({"augment": "mixup"}, 'names "mixup"'),
        ({"width": 100_000}, "less than or equal to 1024"),
    ],
)
def test_impossible_options_are_refused_by_ridge(options, told):
    with pytest.raises(UserError, match=told):
        parse(RidgeOptions, options, "frepo")


def test_a_pool_that_does_not_fit_in_memory_is_refused_before_it_is_built():
    with pytest.raises(UserError, match=r"A pool of 1000000000 networks needs .* GiB .*; lower pool or width"):
        make(believing(), pool=10**9)


def test_the_images_that_represent_a_class():
    beliefs = np.float32([[0.99, 0.01], [0.96, 0.04], [0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0, 1]])
    assert [own.tolist() for own in believed_members(beliefs, CLASSES, 1)] == [[0, 1], [5]]
    assert [own.tolist() for own in believed_members(beliefs, CLASSES, 2)] == [[0, 1], [3, 4, 5]]
    with pytest.raises(UserError, match="may be of the class 'a': 5, ipc is 6; lower ipc"):
        believed_members(beliefs, CLASSES, 6)
