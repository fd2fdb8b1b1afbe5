"""Gradients of networks trained on real images: the equation, what the networks learn, going on, and `refine`."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F

from condense import methods, rng
from condense.data.types import Supervision, TrainingSet
from condense.errors import RunFailed, UserError
from condense.methods._believed import believed_images
from condense.methods._learn import CHECKPOINT, Synthetic
from condense.methods._pairs import Pairs
from condense.methods._pixels import initial_images
from condense.methods._real_gradients import RealGradientOptions, RealGradients, evaluations_of, learn
from condense.methods._refine import GRADIENTS, RefineOptions, refined
from condense.preprocessing import planes, standardisation
from condense.recipe import parse
from condense.run import Run

SMALL = {
    "backbone": "convnet1",
    "iterations": 4,
    "real_batch": 8,
    "net_batch": 16,
    "pool": 2,
    "width": 4,
    "max_age": 1,
    "augment": "none",
    "checkpoint_every": 2,
}


def beliefs_of(train, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(3, 0.3), len(train)).astype(np.float32)


def believing(seed=0):
    train = tiny.training_set("noisy")
    return replace(train, beliefs=beliefs_of(train, seed))


def make(train, run=None, **changed):
    options = parse(methods.load("idc").Options, {**SMALL, **changed}, "idc")
    return methods.load("idc").condense(train, 2, options, 0, run or Run(None))


def task_of(train, **changed):
    options = RealGradientOptions.model_validate({**SMALL, "precision": "fp32", **changed})
    reals = believed_images(train, standardisation(train.images.images), 2)
    synthetic = Synthetic(initial_images(reals, 2, "real", 0), 2, options.lr_img, optimizer="adam")
    strategy = None if options.augment == "none" else options.augment
    pairs = Pairs(reals, synthetic, options.real_batch, strategy, 0)
    return RealGradients(pairs, train.believed(), options), pairs


def test_a_step_goes_along_the_gradient_of_the_squared_distance():
    """The first step of Adam is the rate times the sign of the gradient, of the equation written out anew."""
    task, pairs = task_of(believing())
    network = task.pool.at(0)
    weights = [weight for weight in network.parameters() if weight.ndim > 1]
    before = pairs.synthetic.images.detach().clone().requires_grad_()
    total = 0.0
    for y, real, _ in pairs.of_step(0):
        own = before[2 * y : 2 * y + 2]
        theirs = torch.autograd.grad(F.cross_entropy(network(real), torch.full((len(real),), y)), weights)
        ours = torch.autograd.grad(F.cross_entropy(network(own), torch.full((2,), y)), weights, create_graph=True)
        total = total + sum(((a - b) ** 2).sum() for a, b in zip(ours, theirs, strict=True))
    (gradient,) = torch.autograd.grad(total, before)
    assert len(weights) == 2 and task.step(0)["loss"] == pytest.approx(total.item(), rel=1e-4)
    moved = (pairs.synthetic.images.detach() - before.detach()) / -0.02
    steep = gradient.abs() > 0.05 * gradient.abs().max()
    torch.testing.assert_close(moved[steep], gradient.sign()[steep], rtol=0, atol=2e-2)
    assert steep.sum() > 20


def test_a_network_takes_a_step_of_sgd_on_the_beliefs_about_real_images():
    train = believing()
    task, pairs = task_of(train, max_age=10**6, pool=1)
    network = task.pool.at(0)
    places, change = task.batch(0)
    assert change is None and len(set(places.tolist())) == 16
    expected = [weight.detach().clone().requires_grad_() for weight in network.parameters()]
    named = dict(zip((name for name, _ in network.named_parameters()), expected, strict=True))
    logits = torch.func.functional_call(network, named, (pairs.reals[places],))
    wanted = torch.from_numpy(train.beliefs)[places]
    loss = -(wanted * logits.log_softmax(1)).sum(1).mean()
    gradients = torch.autograd.grad(loss, expected)
    task.step(0)
    for weight, old, gradient in zip(network.parameters(), expected, gradients, strict=True):
        torch.testing.assert_close(weight.detach(), old.detach() - 0.01 * (gradient + 5e-4 * old.detach()))


def test_networks_come_to_know_the_classes_that_are_believed_not_those_given():
    """Labels are all wrong; the beliefs are right."""
    images, truth = tiny.pictures(20)
    wrong = Supervision.from_labels((truth.labels + 1) % 3, 3, trusted=False)
    train = TrainingSet(images, wrong, beliefs=np.eye(3, dtype=np.float32)[truth.labels])
    task, pairs = task_of(train, max_age=10**6, pool=1, lr_net=0.05, augment="crop")
    for step in range(40):
        task.step(step)
    found = task.pool.at(0)(pairs.reals[:]).argmax(1).numpy()
    assert (found == truth.labels).mean() > 0.9


def test_images_whose_gradients_are_those_of_their_class_have_no_distance():
    """Of one image per class, real and learned."""
    images, truth = tiny.pictures(1)
    train = TrainingSet(images, Supervision.from_labels(truth.labels, 3, trusted=False))
    options = RealGradientOptions.model_validate({**SMALL, "precision": "fp32"})
    reals = believed_images(train, standardisation(train.images.images), 1)
    synthetic = Synthetic(initial_images(reals, 1, "real", 0), 1, 0.01, optimizer="adam")
    task = RealGradients(Pairs(reals, synthetic, 8, None, 0), train.believed(), options)
    assert task.step(0)["loss"] == pytest.approx(0, abs=1e-9)


def test_batches_of_networks_do_not_depend_on_where_a_run_began():
    first, _ = task_of(believing(), augment="crop_color")
    late, _ = task_of(believing(), augment="crop_color")
    for step in (0, 1, 40):
        places, change = first.batch(step)
        again, same = late.batch(step)
        assert torch.equal(places, again) and torch.equal(change.uniform, same.uniform)
    late, _ = task_of(believing(), augment="crop_color")
    assert torch.equal(late.batch(40)[0], places) and not torch.equal(late.batch(41)[0], places)


class StopsAt(Run):
    """A run that breaks off once step 2 is saved."""

    def save(self, name, tensors, meta):
        super().save(name, tensors, meta)
        if meta.get("step") == 2:
            raise MemoryError("as if the power had failed")


def test_a_run_that_crashed_goes_on_bit_for_bit(tmp_path):
    train = believing()
    whole = make(train, Run(tmp_path / "whole"), augment="crop")
    with pytest.raises(MemoryError):
        make(train, StopsAt(tmp_path / "broken"), augment="crop")
    resumed = make(train, Run(tmp_path / "broken"), augment="crop")
    np.testing.assert_array_equal(resumed.images, whole.images)
    ours, theirs = (Run(tmp_path / name).load(CHECKPOINT) for name in ("broken", "whole"))
    assert ours[0].keys() == theirs[0].keys() and all(torch.equal(ours[0][key], theirs[0][key]) for key in ours[0])
    with pytest.raises(UserError, match="belongs to a run with other beliefs"):
        make(believing(seed=1), Run(tmp_path / "whole"), augment="crop")
    with pytest.raises(UserError, match=r"iterations.*4, now 5"):
        make(train, Run(tmp_path / "whole"), augment="crop", iterations=5)


def test_images_passed_are_those_foretold():
    train = believing()
    made = make(train)
    options = parse(methods.load("idc").Options, SMALL, "idc")
    assert made.provenance.cost.network_evaluations == methods.load("idc").evaluations(train, 2, options)
    assert made.provenance.cost.images_seen == 4 * (3 * 8 + 16)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backbone": "convnet3-bn"}, "With batch norm .* choose convnet3"),
        ({"backbone": "resnet18"}, "resnet18 has fixed widths; only ConvNets"),
        ({"pool": 10**9}, "A pool of 1000000000 networks needs"),
    ],
)
def test_impossible_options_are_refused_by_idc(options, told):
    with pytest.raises(UserError, match=told):
        make(believing(), **options)


def test_images_that_diverge_are_reported_by_idc():
    with pytest.raises(RunFailed, match=r"lower lr_img \(now "):
        make(believing(), lr_img=1e30, iterations=8)


def test_a_set_is_refined_by_features_and_then_by_gradients(tmp_path):
    train = believing()
    drawn = methods.load("random").condense(train, 2, methods.load("random").Options(), 0, Run(None))
    first = {"backbone": "convnet1", "iterations": 2, "real_batch": 8, "lr_img": 0.1}
    by_features = refined(drawn, train, RefineOptions.model_validate(first), 0, Run(None))
    both = RefineOptions.model_validate({**first, "gradients": SMALL})
    made = refined(drawn, train, both, 0, Run(tmp_path))
    reals = believed_images(train, drawn.preprocessing, 1)
    start = drawn.preprocessing.normalise(planes(by_features.images))
    expected = learn(train, reals, start, both.gradients, rng.derive(0, GRADIENTS), Run(None), "random")
    np.testing.assert_array_equal(made.images, expected.pixels)
    assert made.provenance.cost.network_evaluations == by_features.provenance.cost.network_evaluations + (
        expected.cost.network_evaluations
    )
    assert evaluations_of(train, 2, both.gradients) == expected.cost.network_evaluations
    assert made.provenance.notes["refined"][GRADIENTS]["believed"] is True
    np.testing.assert_array_equal(refined(drawn, train, both, 0, Run(tmp_path)).images, made.images)
    more = both.model_copy(update={"gradients": both.gradients.model_copy(update={"lr_img": 0.5})})
    with pytest.raises(UserError, match=r"lr_img 0\.02, now 0\.5"):
        refined(drawn, train, more, 0, Run(tmp_path))
