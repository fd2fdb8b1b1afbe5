"""Arms: losses against closed forms, what each refuses, and that wrong labels are survived."""

import math

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from draws import drawn
from torch import nn

from condense.classifiers import arms, label_forms, networks
from condense.classifiers.arm_training import ArmTraining, train_arm
from condense.classifiers.arms import (
    _noise_rate,
    _partly,
    co_teaching,
    fixmatch,
    gce,
    mean_teacher,
    pencil,
    pseudo_label,
)
from condense.classifiers.arms._average import Average
from condense.classifiers.arms.elr import EarlyLearning, elr_loss
from condense.classifiers.arms.proden import Proden
from condense.classifiers.confident_learning import confident_joint
from condense.classifiers.lesson import Both, Given, OfViews, side_by_side
from condense.classifiers.mixing import mixup
from condense.classifiers.teacher import candidate_losses
from condense.data import digits
from condense.data.corrupt import apply
from condense.data.types import Supervision, TrainingSet
from condense.errors import UserError

QUICK = ArmTraining(network="mlp", epochs=2, batch_size=16)


LABELS = torch.tensor([0, 2, 1, 1, 0, 2])


def test_gce_is_between_cross_entropy_and_mean_absolute_error():
    logits = drawn(6, 3)
    f = logits.softmax(1)
    torch.testing.assert_close(gce.gce_loss(logits, LABELS, 1e-7), F.cross_entropy(logits, LABELS), rtol=1e-5, atol=0)
    absolute = (f - F.one_hot(LABELS, 3)).abs().sum(1).mean()
    torch.testing.assert_close(gce.gce_loss(logits, LABELS, 1.0), absolute / 2)
    of_label = f[torch.arange(6), LABELS]
    torch.testing.assert_close(gce.gce_loss(logits, LABELS, 0.7), ((1 - of_label**0.7) / 0.7).mean())
    assert torch.isfinite(gce.gce_loss(torch.tensor([[-200.0, 200.0]]), torch.tensor([0]), 0.7))


def test_gradient_of_elr():
    """f - e_ŷ + λ f ⊙ (⟨f, t⟩ - t) / (1 - ⟨f, t⟩), averaged over the batch."""
    logits, remembered = drawn(6, 3, requires_grad=True), drawn(6, 3, seed=1).softmax(1)
    elr_loss(logits, LABELS, remembered, 3.0).backward()
    f = logits.detach().softmax(1)
    alike = (f * remembered).sum(1, keepdim=True)
    expected = f - F.one_hot(LABELS, 3) + 3.0 * f * (alike - remembered) / (1 - alike)
    torch.testing.assert_close(logits.grad, expected / 6)


def test_elr_remembers_a_moving_average_of_each_image():
    loss = EarlyLearning(LABELS, 3, strength=3.0, momentum=0.7)
    first, second = drawn(2, 3).float(), drawn(2, 3, seed=1).float()
    for logits in (first, second):
        loss(logits, torch.tensor([4, 1]))
    average = 0.7 * 0.3 * first.softmax(1) + 0.3 * second.softmax(1)
    torch.testing.assert_close(loss.remembered[[4, 1]], average, rtol=0, atol=1e-3)
    assert loss.remembered[[0, 2, 3, 5]].eq(0).all()
    assert math.isfinite(loss(torch.tensor([[1e4, 0.0, 0.0]]), torch.tensor([0])))


@pytest.mark.parametrize("stage", ["labels", "distributions", "fixed"])
def test_pencil_learns_in_three_stages(stage):
    options = pencil.Options(compatibility=0.4, entropy=0.2, rate=5.0, start=0.25, stop=0.75)
    loss = pencil.Pencil(LABELS, 3, epochs=8, options=options)
    loss.scores = drawn(6, 3, seed=1)
    before, numbers, logits = loss.scores.clone(), torch.tensor([4, 1]), drawn(2, 3, requires_grad=True)
    last = {"labels": 2, "distributions": 6, "fixed": 8}[stage]
    for epoch in range(1, last + 1):
        loss.begin(epoch)
    value = loss(logits, numbers)
    f, scores = logits.softmax(1), before[numbers].requires_grad_()
    apart = F.kl_div(scores.log_softmax(1), f, reduction="batchmean")  # KL(f ‖ y^d)
    if stage == "labels":
        torch.testing.assert_close(value, F.cross_entropy(logits, LABELS[numbers]))
    if stage == "fixed":
        torch.testing.assert_close(value, apart / 3)
    if stage != "distributions":
        assert torch.equal(loss.scores, before)
        return
    given = F.cross_entropy(scores, LABELS[numbers])
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    expected = apart / 3 + 0.4 * given + 0.2 / 3 * entropy
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(2 * expected, scores)  # of an image's own loss, not of the mean of two
    torch.testing.assert_close(loss.scores[numbers], before[numbers] - 5.0 * gradient)
    assert torch.equal(loss.scores[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


def test_pencil_starts_from_the_labels_as_given():
    loss = pencil.Pencil(LABELS, 3, epochs=8, options=pencil.Options())
    assert loss.scores.softmax(1).argmax(1).equal(LABELS) and loss.scores.softmax(1).amax(1).min() > 0.999


def test_cc_is_the_likelihood_of_the_candidate_set():
    logits = drawn(2, 3)
    possible = torch.tensor([[True, True, False], [True, True, True]])
    expected = [-math.log(float(logits[0].softmax(0)[:2].sum())), 0.0]
    torch.testing.assert_close(candidate_losses(logits, possible), torch.tensor(expected, dtype=torch.float64))


def test_proden_weights_are_predictions_renormalised_on_the_candidates():
    possible = torch.tensor([[True, True, False], [False, True, True], [True, True, True]])
    loss = Proden(possible, possible.float() / possible.sum(1, keepdim=True))
    logits = drawn(2, 3).float().requires_grad_()
    numbers = torch.tensor([2, 0])
    first = loss(logits, numbers)
    log_f = logits.log_softmax(1)
    torch.testing.assert_close(first, -(log_f[0].mean() + log_f[1, :2].mean()) / 2)
    f = logits.detach().softmax(1)
    restricted = f * possible[numbers]
    torch.testing.assert_close(loss.weights[numbers], restricted / restricted.sum(1, keepdim=True))
    torch.testing.assert_close(loss.weights[1], torch.tensor([0.0, 0.5, 0.5]))
    loss(logits, numbers).backward()
    expected = (f - loss.weights[numbers]) / 2  # gradient of cross-entropy with weights held fixed
    torch.testing.assert_close(logits.grad, expected)


def test_co_teaching_learns_from_what_the_other_finds_easy():
    logits = torch.zeros(4, 2, 2)
    logits[:, 0, 0] = torch.tensor([4.0, 3.0, -1.0, -2.0])  # the first finds images 0 and 1 easy
    logits[:, 1, 0] = torch.tensor([-2.0, -1.0, 3.0, 4.0])  # the second 2 and 3
    logits.requires_grad_()
    labels = torch.zeros(4, dtype=torch.int64)
    loss = co_teaching.co_teaching_loss(logits, labels, 0.5)
    loss.backward()
    learned = logits.grad.abs().sum(2) > 0
    assert learned[:, 0].tolist() == [False, False, True, True]
    assert learned[:, 1].tolist() == [True, True, False, False]
    alone = [F.cross_entropy(logits[rows, net], labels[:2]) for net, rows in ((0, [2, 3]), (1, [0, 1]))]
    torch.testing.assert_close(loss, sum(alone))


def test_co_teaching_keeps_fewer_and_fewer_down_to_the_share_of_right_labels():
    loss = co_teaching.CoTeaching(0.4, ramp_epochs=4)
    kept = []
    for epoch in range(1, 8):
        loss.begin(epoch)
        kept.append(loss.kept)
    assert kept == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.6, 0.6])


def test_each_of_two_networks_gets_its_own_gradient_only():
    generator = torch.Generator().manual_seed(0)
    first, second = nn.Linear(2, 3), nn.Linear(2, 3)
    x, y = torch.randn(4, 2, generator=generator), torch.tensor([0, 1, 2, 0])
    co_teaching.co_teaching_loss(Both(first, second)(x), y, 1.0).backward()
    (alone,) = torch.autograd.grad(F.cross_entropy(first(x), y), first.weight)
    torch.testing.assert_close(first.weight.grad, alone)


def test_mixup_mixes_images_and_labels_alike():
    targets = torch.eye(5)
    x = targets[:, None, None, :].repeat(1, 1, 2, 1)  # [5, 1, 2, 5]: an image shows its label
    mixed, labels = mixup(x, targets, torch.Generator().manual_seed(3), alpha=1.0)
    torch.testing.assert_close(mixed[:, 0, 0], labels)
    torch.testing.assert_close(labels.sum(1), torch.ones(5))
    again, _ = mixup(x, targets, torch.Generator().manual_seed(3), alpha=1.0)
    assert torch.equal(mixed, again)
    kept = [
        float(mixup(x, targets, torch.Generator().manual_seed(s), alpha=8.0)[1].diagonal().min()) for s in range(300)
    ]
    assert np.mean(kept) == pytest.approx(0.5, abs=0.05)  # Beta(8, 8); own partners give 1 now and then


def test_mean_teacher_is_a_moving_average():
    student, teacher = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(teacher.weight, 0.0)
    average = Average(teacher, student, decay=0.6)
    expected = 0.0
    for step, value in enumerate([1.0, 5.0, -2.0, 3.0], start=1):
        nn.init.constant_(student.weight, value)
        average()
        kept = min(0.6, 1 - 1 / (step + 1))  # 1/2, 0.6, 0.6, 0.6
        expected = kept * expected + (1 - kept) * value
        assert teacher.weight.item() == pytest.approx(expected)


def test_mean_teacher_agreement_has_no_gradient_in_the_teacher_and_ramps_up():
    loss = mean_teacher.ConsistencyLoss(share=0.5, weight=100.0, ramp_epochs=4)
    loss.begin(1)
    assert loss.weight == pytest.approx(100 * math.exp(-5))
    loss.begin(5)
    assert loss.weight == 100
    logits = drawn(2, 2, 3, requires_grad=True)
    loss(logits, torch.ones(2, 3, dtype=torch.bool)).backward()
    assert logits.grad[:, 0].abs().min() > 0 and logits.grad[:, 1].eq(0).all()
    f = logits.detach().softmax(2)
    apart = (f[:, 0] - f[:, 1]).square().mean(1)
    assert loss(logits, torch.ones(2, 3, dtype=torch.bool)).item() == pytest.approx(100 * apart.mean().item() / 0.5)


def test_fixmatch_counts_sure_predictions_alone():
    weak = torch.tensor([[9.0, 0.0], [1.0, 0.0], [0.0, 9.0]], requires_grad=True)
    strong = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    losses = fixmatch.sure_loss(weak, strong, 0.95)
    expected = [math.log(1 + math.e), 0.0, math.log(1 + math.exp(-1))]
    torch.testing.assert_close(losses, torch.tensor(expected))
    losses.sum().backward()
    assert weak.grad is None and strong.grad[1].eq(0).all()


def test_pseudo_labels_count_from_a_stated_epoch_on():
    loss = pseudo_label.PseudoLabel(share=0.5, weight=3.0, start=2, full=6)
    weights = []
    for epoch in range(1, 9):
        loss.begin(epoch)
        weights.append(loss.weight)
    assert weights == pytest.approx([0, 0, 0, 0.75, 1.5, 2.25, 3, 3])
    logits = torch.tensor([[2.0, 0.0]])
    value = loss(logits, torch.ones(1, 2, dtype=torch.bool))
    assert float(value) == pytest.approx(3 * math.log(1 + math.exp(-2)) / 0.5)


def test_labelled_and_unlabelled_images_are_shown_in_the_requested_ratio():
    supervision = Supervision(np.array([[1, 1], [1, 0], [1, 1], [1, 1], [0, 1], [1, 1]], dtype=bool), np.ones(6, bool))
    images = _partly.mixed(supervision, ratio=2)
    assert images.shown[:8].tolist() == [0, 1, 2, 3, 4, 5, 1, 4] and images.shown[8:].tolist() in ([1], [4])
    assert _partly.hidden(images.possible).tolist() == [True] * 6 + [False] * 3
    assert images.share == pytest.approx(1 / 3)
    assert images.possible[6:8].tolist() == [[True, False], [False, True]]
    with_label, without = drawn(9), drawn(9, seed=1)
    is_hidden = _partly.hidden(images.possible)
    value = _partly.balanced(with_label, without, is_hidden, images.share)
    torch.testing.assert_close(value, with_label[6:].mean() + without[:6].mean())


def test_images_without_a_label_are_left_out_and_epochs_stay_as_long():
    supervision = Supervision(np.array([[1, 1], [1, 0], [1, 1], [0, 1], [1, 1]], dtype=bool), np.ones(5, bool))
    shown = label_forms.labelled(supervision).tolist()
    assert shown[:4] == [1, 3, 1, 3] and shown[4:] in ([1], [3])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_every_label_is_shown_and_first_classes_are_not_favoured(share):
    labels = np.repeat(np.arange(10), 100)
    candidates = np.eye(10, dtype=bool)[labels]
    candidates[np.tile(np.arange(100) >= 100 * share, 10)] = True
    supervision, each = Supervision(candidates, np.ones(1000, bool)), round(100 * share)
    for shown in (label_forms.labelled(supervision), _partly.mixed(supervision, ratio=7).shown[1000:]):
        assert set(shown.tolist()) == set(np.flatnonzero(~supervision.unlabelled))
        by_class = np.bincount(labels[shown], minlength=10)
        assert by_class.min() >= each and by_class.max() - by_class.min() < 30


def test_two_views_reach_two_networks():
    x = torch.arange(12.0).view(3, 1, 2, 2)
    seen = side_by_side(lambda a, g: a + 1, lambda a, g: a * 2)(x, torch.Generator())
    out = OfViews(nn.Flatten(), nn.Flatten())(seen)
    torch.testing.assert_close(out[:, 0], (x + 1).flatten(1))
    torch.testing.assert_close(out[:, 1], (x * 2).flatten(1))


SINGLE = {"gce", "elr", "co-teaching", "pencil"}
SETS = {"cc", "proden", "idgp", "pico", "crdpll", "dirk"}
PARTLY = {"pseudo-label", "mean-teacher", "fixmatch", "dash", "comatch", "flexmatch", "simmatch", "softmatch"}
TAKES = {
    "labelled": {"ce", "mixup"} | SINGLE,
    "noisy": {"ce", "mixup"} | SINGLE,
    "partial": {"ce", "mixup"} | SETS,
    "unlabelled": {"ce", "mixup"} | PARTLY,
    "mixture": {"ce", "mixup"} | SETS | PARTLY,
}


def supervision_of(kind):
    """As `tiny.supervision`, with some unlabelled images if the kind has them."""
    data = tiny.training_set(kind)
    if kind not in ("unlabelled", "mixture"):
        return data
    candidates = data.supervision.candidates.copy()
    candidates[3::4] = True
    if kind == "unlabelled":
        few = ~candidates.all(1) & (candidates.sum(1) > 1)
        candidates[few] = True
    return TrainingSet(data.images, Supervision(candidates, data.supervision.trusted | candidates.all(1)))


@pytest.mark.parametrize("kind", TAKES)
@pytest.mark.parametrize("name", arms.names())
def test_every_arm_takes_its_labels_and_refuses_others_with_advice(name, kind):
    data, arm = supervision_of(kind), arms.load(name)
    assert data.supervision.kind == kind
    assert "http" in arm.__doc__ or "ICML" in arm.__doc__
    if name not in TAKES[kind]:
        with pytest.raises(UserError, match=f"{name} .*choose"):
            arm.check(data.supervision)
        return
    seen = []
    trained = train_arm(arm, arm.Options(), QUICK, data, seed=0, on_epoch=seen.append)
    again = train_arm(arm, arm.Options(), QUICK, data, seed=0)
    assert [epoch.epoch for epoch in seen] == [1, 2]
    logits = trained.logits(data.images.images)
    assert logits.shape == (60, 3) and torch.equal(logits, again.logits(data.images.images))


@pytest.mark.parametrize("name", arms.names())
def test_every_arm_learns_what_can_be_learned(name):
    """Patterns with labels of a kind the arm takes: far above chance on images it has not seen."""
    kind = next(kind for kind in ("noisy", "partial", "unlabelled") if name in TAKES[kind])
    test, truth = tiny.pictures(seed=9)
    arm = arms.load(name)
    training = ArmTraining(network="mlp", epochs=12, batch_size=16)
    trained = train_arm(arm, arm.Options(), training, supervision_of(kind), seed=0)
    assert (trained.logits(test.images).argmax(1).numpy() == truth.labels).mean() > 0.7


@pytest.mark.parametrize("name", ["pico", "comatch"])
def test_arms_with_embeddings_train_the_network_of_the_command(name):
    """Convolutions with batch norm: the trunk's features go through the projection, and all views through the trunk."""
    arm = arms.load(name)
    training = ArmTraining(epochs=1, batch_size=32)
    trained = train_arm(arm, arm.Options(), training, supervision_of("mixture"), seed=0)
    assert torch.isfinite(trained.logits(tiny.pictures(seed=9)[0].images)).all()


def test_unknown_arms_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean fixmatch"):
        arms.load("fixmach")
    assert arms.names() == tuple(sorted(set().union(*TAKES.values())))


def test_training_without_any_label_is_refused():
    data = tiny.training_set("labelled")
    nothing = Supervision(np.ones_like(data.supervision.candidates), data.supervision.trusted)
    for name in arms.names():
        with pytest.raises(UserError):
            arms.load(name).check(nothing)


@pytest.mark.slow
def test_arms_for_wrong_labels_beat_cross_entropy_on_digits():
    """Trained until cross-entropy has memorised the wrong labels, as in docs/weak-supervision.md."""
    source = digits.load()
    supervision, record = apply("sym:0.4", source.truth, source.train, seed=0)
    train = TrainingSet(source.train, supervision, record)
    training = ArmTraining(network="mlp", epochs=100, augment="")

    def accuracy(name):
        arm = arms.load(name)
        trained = train_arm(arm, arm.Options(), training, train, seed=0)
        return (trained.logits(source.test.images).argmax(1).numpy() == source.test_truth.labels).mean()

    plain = accuracy("ce")
    for name in ("mixup", "gce", "elr", "co-teaching"):
        assert accuracy(name) > plain + 0.05, name


# the share of wrong labels


def test_the_confident_joint_is_cleanlabs():
    """Of probabilities that know the classes fairly well, and labels of which a third are wrong."""
    count = pytest.importorskip("cleanlab.count")
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 600)
    labels = np.where(generator.random(600) < 1 / 3, generator.integers(0, 4, 600), truth)
    logits = generator.normal(size=(600, 4)) + 3 * np.eye(4)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    theirs = count.compute_confident_joint(labels, probabilities, calibrate=False)
    own = np.bincount(labels, minlength=4)
    calibrated = theirs / theirs.sum(1, keepdims=True) * own[:, None]
    ours = confident_joint(probabilities, labels)
    np.testing.assert_allclose(ours, calibrated / calibrated.sum(), atol=0.01)
    assert 1 - np.trace(ours) == pytest.approx((labels != truth).mean(), abs=0.04)


@pytest.mark.parametrize(("told", "rate"), [("estimate", 0.25), (0.1, 0.1)])
def test_co_teaching_is_given_its_noise_rate_or_estimates_it(told, rate):
    asked = []

    def build(number):
        return networks.build("mlp", in_channels=1, image_size=8, num_classes=3, seed=number)

    def same(x, generator):
        return x

    def estimated():
        asked.append(1)
        return 0.25

    given = Given(tiny.training_set().supervision, build, same, same, 3, 0, torch.device("cpu"), estimated)
    found = co_teaching.lesson(given, co_teaching.Options(noise_rate=told))
    assert found.loss.noise_rate == rate and len(asked) == (told == "estimate")
    assert co_teaching.Options().noise_rate == "estimate"


def test_the_noise_rate_of_easy_patterns_is_about_right():
    from tiny import pictures, training_set

    train = training_set("noisy", per_class=60)
    wrong = (train.supervision.observed != pictures(60)[1].labels).mean()
    found = _noise_rate.estimated_noise_rate(train, "convnet1", 20, 16, 0, torch.device("cpu"))
    assert found == pytest.approx(wrong, abs=0.12) and wrong > 0.2
