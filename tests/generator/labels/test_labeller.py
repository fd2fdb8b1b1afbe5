"""The labeller: what it learns from wrong labels, how sure it is, what it does not see, and going on after a stop."""

import json

import numpy as np
import pytest
import tiny
import torch

from condense.classifiers.whitened import Whitened, stretched
from condense.data import corrupt, digits
from condense.data.types import ImageData, Supervision, TrainingSet
from condense.errors import UserError
from condense.generator.labels import fold_networks, labeller, labeller_training
from condense.generator.labels.labeller import count_anchors, fit, foreseen, num_folds, weigh
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.labeller_training import Training, budget
from condense.preprocessing import standardisation
from condense.run import Run

CPU = torch.device("cpu")
SMALL = LabellerOptions(folds=2, rounds=2, epochs=3, width=4, crops=False)


def blank(n):
    """So many images that say nothing."""
    return ImageData(np.zeros((n, 4, 4, 1), np.uint8), tuple("abcde"), "blank", "train")


@pytest.fixture(scope="module")
def judged():
    """1100 digits, 40 % of their labels wrong, what a labeller makes of them, and their true labels."""
    source = digits.load()
    given, corruption = corrupt.apply("sym:0.4", source.truth, source.train, 0)
    few = np.arange(1100)
    train = TrainingSet(source.train, given, corruption).take(few)
    options = LabellerOptions(folds=2, rounds=1, width=16, epochs=20, crops=False)
    return train, fit(train, options, 0, Run(None)), source.truth.labels[few], options


def test_wrong_labels_are_recovered(judged):
    train, found, truth, _ = judged
    assert (train.supervision.observed == truth).mean() < 0.65
    from_image, posterior = found.suggestions.from_image, found.suggestions.posterior
    assert (from_image.argmax(1) == truth).mean() > 0.8
    assert (posterior.argmax(1) == truth).mean() > (from_image.argmax(1) == truth).mean()
    np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-5)
    assert abs(found.suggestions.transition.diagonal().mean() - 0.6) < 0.1


def test_it_is_calibrated(judged):
    """Mean confidence against accuracy: from images alone, and with the labels."""
    _, found, truth, _ = judged
    for beliefs in (found.suggestions.from_image, found.suggestions.posterior):
        assert abs(beliefs.max(1).mean() - (beliefs.argmax(1) == truth).mean()) < 0.1


def test_unused_images_are_judged_and_the_cost_is_estimated(judged):
    train, found, _, options = judged
    source = digits.load()
    rest = np.arange(1100, 1297)
    answer = found.networks.posterior(source.train.images[rest])
    assert (answer.argmax(1) == source.truth.labels[rest]).mean() > 0.8
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-5)
    assert found.network_evaluations == foreseen(train, options)
    assert found.networks.features(source.train.images[rest]).shape == (197, 64)


def test_exponent_and_matrix_are_those_that_labels_were_drawn_from():
    """Logits three times too flat, of images of which many are clear; two in five of one class are labelled wrong."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 5, (20_000, 5))
    clean = np.array([random.choice(5, p=p) for p in np.exp(logits) / np.exp(logits).sum(1, keepdims=True)])
    given = np.where((random.random(20_000) < 0.4) & (clean == 2), 3, clean)
    train = TrainingSet(blank(20_000), Supervision.from_labels(given, 5, trusted=False))
    found, exponent = weigh(train, torch.from_numpy(logits / 3).float(), torch.full((5, 5), 0.1).fill_diagonal_(0.6))
    assert exponent == pytest.approx(3, abs=0.15)
    wanted = np.eye(5)
    wanted[2] = [0, 0, 0.6, 0.4, 0]
    np.testing.assert_allclose(found.transition, wanted, atol=0.03)


def test_without_information_the_exponent_stays_at_one():
    train = TrainingSet(blank(40), Supervision(np.ones((40, 5), np.bool_), np.ones(40, np.bool_)))
    assert weigh(train, torch.randn(40, 5), torch.eye(5))[1] == pytest.approx(1, abs=0.03)


def test_a_matrix_that_is_too_clean_to_start_from_is_not_kept():
    """p(y | x, z) uses the maximum-likelihood T."""
    random = np.random.default_rng(1)
    clean = random.integers(0, 5, 5000)
    logits = torch.from_numpy(np.eye(5)[clean] * 3 + random.normal(0, 1, (5000, 5))).float()
    given = np.where(random.random(5000) < 0.4, (clean + random.integers(1, 5, 5000)) % 5, clean)
    train = TrainingSet(blank(5000), Supervision.from_labels(given, 5, trusted=False))
    found, exponent = weigh(train, logits, torch.full((5, 5), 0.01).fill_diagonal_(0.96))
    assert found.transition.diagonal().mean() == pytest.approx(0.6, abs=0.05) and exponent > 2
    assert (found.posterior.argmax(1) == clean).mean() > (logits.argmax(1).numpy() == clean).mean()


@pytest.mark.parametrize("kind", ["labelled", "partial", "unlabelled", "mixture"])
def test_labels_of_every_kind_are_learned_from_and_trusted_ones_kept(kind):
    train = tiny.training_set(kind)
    found = fit(train, SMALL, 0, Run(None)).suggestions
    sure = train.supervision.trusted
    assert (found.posterior[sure][~train.supervision.candidates[sure]] == 0).all()
    np.testing.assert_allclose(found.posterior.sum(1), 1, atol=1e-5)


def test_an_image_is_judged_by_a_network_that_did_not_see_its_label(monkeypatch):
    """Another label on it changes what is made of the others of its kind, but not the network that judges it.

    The transition matrix, which all labels share, is fixed here.
    """
    monkeypatch.setattr(labeller, "count_anchors", lambda *_: torch.eye(3) * 0.7 + 0.1)
    train, once = tiny.training_set(), SMALL.model_copy(update={"rounds": 1})
    first = fit(train, once, 0, Run(None))
    inside = fold_networks.divided(train, 2, 0)[0].inside
    candidates = train.supervision.candidates.copy()
    candidates[inside] = np.roll(candidates[inside], 1, 1)
    other = fit(TrainingSet(train.images, Supervision(candidates, train.supervision.trusted)), once, 0, Run(None))
    weights = [[each.networks.networks[k].state_dict().values() for each in (first, other)] for k in (0, 1)]
    same, changed = ([torch.equal(*pair) for pair in zip(*both, strict=True)] for both in weights)
    assert all(same) and not all(changed)


def test_networks_of_the_second_round_learn_beliefs_and_not_labels():
    """All labels say the next class; the beliefs are right, also about images without a label."""
    images, truth = tiny.pictures()
    wrong = Supervision.from_labels((truth.labels + 1) % 3, 3, trusted=False).candidates
    wrong[::2] = True
    beliefs = np.eye(3, dtype=np.float32)[truth.labels]
    train = TrainingSet(images, Supervision(wrong, np.zeros(len(wrong), np.bool_)), beliefs=beliefs)
    assert (trained(train, None).argmax(1).numpy() == truth.labels).mean() > 0.9


def trained(train, transition):
    """Logits of the images by a network trained on all of them."""
    options, preprocessing = LabellerOptions(epochs=20, width=8), standardisation(train.images.images)
    training = Training(train, np.arange(len(train)), transition, options, preprocessing, 0, CPU)
    for _ in training.passes("pass"):
        pass
    return fold_networks.look(training.finished(), train.images.images, preprocessing, mirrored=False, crops=False)


def test_labels_are_taken_at_their_word_or_through_the_matrix():
    """Class 0 is always labelled 1, class 1 always 2, class 2 always 0: as labelled, and what lies behind it."""
    images, truth = tiny.pictures()
    train = TrainingSet(images, Supervision.from_labels((truth.labels + 1) % 3, 3, trusted=False))
    assert (trained(train, None).argmax(1).numpy() == (truth.labels + 1) % 3).mean() > 0.9
    turned = torch.eye(3).roll(1, 1) * 0.98 + 0.02 / 3
    assert (trained(train, turned).argmax(1).numpy() == truth.labels).mean() > 0.9


@pytest.mark.parametrize("over", [None, 1])
def test_batch_norms_of_a_finished_network_are_those_of_unshifted_images(over, monkeypatch):
    """In training all images of a batch are shifted alike, and the last batches count most.

    Of one image more than are judged at once, that one counts no more than another.
    """
    images, truth = tiny.pictures()
    if over is not None:
        monkeypatch.setattr(labeller_training, "_AT_ONCE", len(images) - over)
    train = TrainingSet(images, Supervision.from_labels(truth.labels, 3, trusted=True))
    options, preprocessing = LabellerOptions(epochs=2, width=8, batch_size=8), standardisation(images.images)
    training = Training(train, np.arange(len(train)), None, options, preprocessing, 0, CPU)
    for _ in training.passes("pass"):
        pass
    in_training = training.network.trunk[2][2].running_mean.clone()
    trunk = training.finished().trunk
    x = fold_networks.normalised(images.images, preprocessing, CPU)
    entering = trunk[2][:2](trunk[:2](x))
    torch.testing.assert_close(trunk[2][2].running_mean, entering.mean((0, 2, 3)), atol=0.03, rtol=0.03)
    torch.testing.assert_close(trunk[2][2].running_var, entering.var((0, 2, 3)), atol=0.03, rtol=0.05)
    assert not torch.allclose(in_training, entering.mean((0, 2, 3)), atol=0.03, rtol=0.03)


def test_two_classes_whose_labels_are_exchanged_are_counted_on_anchor_points():
    """Two in five of classes 0 and 1 bear the other's label, and a third of all images look like both."""
    random = np.random.default_rng(0)
    truth, vague = random.integers(0, 5, 20_000), random.random(20_000) < 0.33
    matrix = np.eye(5)
    matrix[:2, :2] = [[0.6, 0.4], [0.4, 0.6]]
    labels = np.array([random.choice(5, p=matrix[y]) for y in truth])
    believed = np.where(vague[:, None], 0.5 * np.eye(5)[truth] + 0.5 * np.eye(5)[(truth + 1) % 5], np.eye(5)[truth])
    given = torch.from_numpy(believed @ matrix + random.uniform(0, 0.02, (20_000, 5))).float()
    told = Supervision.from_labels(labels, 5, trusted=False)
    np.testing.assert_allclose(count_anchors(given, told, torch.full((5, 5), 0.2)), matrix, atol=0.04)


def test_a_class_without_anchors_keeps_its_row():
    """Class 2 is never given, so nothing tells how it is labelled; a label without doubt is not counted."""
    labels = np.array([0, 1] * 50)
    given, start = torch.from_numpy(np.eye(3)[labels]).float(), torch.full((3, 3), 0.25).fill_diagonal_(0.5)
    found = count_anchors(given, Supervision.from_labels(labels, 3, trusted=False), start)
    torch.testing.assert_close(found[2], start[2])
    assert found[0, 0] > 0.9 and found[1, 1] > 0.9
    sure = count_anchors(given, Supervision.from_labels(labels, 3, trusted=True), start)
    torch.testing.assert_close(sure, start)


def test_a_second_round_starts_from_the_beliefs_of_the_first(monkeypatch):
    train, told = tiny.training_set("mixture"), []

    class Noted(Training):
        def __init__(self, train, own, transition, *rest):
            told.append((train.beliefs, own, transition))
            super().__init__(train, own, transition, *rest)

    monkeypatch.setattr(labeller, "Training", Noted)
    first = fit(train, SMALL.model_copy(update={"rounds": 1}), 0, Run(None)).suggestions.posterior
    twice = fit(train, SMALL, 0, Run(None))
    anchors, first_round, second_round = told[4:6], told[6:8], told[8:]  # before them those of `first`
    assert [beliefs is None for beliefs, *_ in told] == [True] * 8 + [False] * 2
    assert all(matrix is None for *_, matrix in anchors) and all(matrix is not None for *_, matrix in first_round)
    assert foreseen(train, SMALL) == twice.network_evaluations
    labelled, fold = ~train.supervision.unlabelled, fold_networks.divided(train, 2, 0)[0]
    assert not labelled.all() and labelled[told[0][1]].all()
    np.testing.assert_array_equal(second_round[0][0], first)
    np.testing.assert_array_equal(second_round[0][1], fold.outside)


class Stops(Run):
    """A run that breaks off once the second pass of a network is saved, or just before that."""

    def __init__(self, folder, network, *, before):
        super().__init__(folder)
        self.network, self.before = network, before

    def save(self, name, tensors, meta):
        breaks = name == f"labeller-{self.network}" and meta["done"] == 2
        if not (breaks and self.before):
            super().save(name, tensors, meta)
        if breaks:
            raise MemoryError("as if the power had failed")


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("network", ["anchors-1", "0-1", "1-0"])  # round and fold
def test_a_run_that_crashed_goes_on_bit_for_bit(tmp_path, network, before):
    train = tiny.training_set()
    whole = fit(train, SMALL, 0, Run(None))
    with pytest.raises(MemoryError):
        fit(train, SMALL, 0, Stops(tmp_path, network, before=before))
    for _ in range(2):  # and once more from what is finished
        again = fit(train, SMALL, 0, Run(tmp_path))
        np.testing.assert_array_equal(again.suggestions.posterior, whole.suggestions.posterior)
        assert (
            again.networks.exponent == whole.networks.exponent
            and again.network_evaluations == whole.network_evaluations
        )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    passes = [(key, line[key]) for line in lines for key in line if key.endswith("_pass")]
    assert len(passes) == len(set(passes)) and (f"labeller-{network}_pass", 2) in passes, "none is told twice"
    with pytest.raises(UserError, match="labeller in this run folder belongs to a run with other seed"):
        fit(train, SMALL, 1, Run(tmp_path))


def test_networks_of_another_version_are_not_taken_up(tmp_path, monkeypatch):
    fit(tiny.training_set(), SMALL, 0, Run(tmp_path))
    monkeypatch.setattr(labeller, "VERSION", labeller.VERSION + 1)
    with pytest.raises(UserError, match="labeller in this run folder belongs to a run with other version"):
        fit(tiny.training_set(), SMALL, 0, Run(tmp_path))


def test_budgets():
    assert num_folds(tiny.training_set(), LabellerOptions()) == 5
    many, few = budget(60_000, LabellerOptions()), budget(1000, LabellerOptions())
    assert (many.epochs, many.batch, many.steps) == (8, 256, 234) and many.images == 8 * 256 * 234
    assert (few.epochs, few.batch, few.steps) == (20, 62, 16)
    assert budget(3, LabellerOptions()).steps == 1


def test_unusable_data_are_refused():
    images, truth = tiny.pictures()
    few = Supervision(np.ones((60, 3), np.bool_), np.ones(60, np.bool_))
    with pytest.raises(UserError, match="in 5 folds, and 0 of 60 images have any"):
        fit(TrainingSet(images, few), LabellerOptions(), 0, Run(None))
    flat = ImageData(np.zeros((60, 4, 8, 1), np.uint8), images.classes, "flat", "train")
    with pytest.raises(UserError, match="square images of at least 3x3, found 4x8"):
        fit(TrainingSet(flat, Supervision.from_labels(truth.labels, 3, trusted=True)), SMALL, 0, Run(None))


# the network


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (1, 28), (3, 64), (1, 3)])
def test_the_first_layer_whitens_patches(channels, side):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, channels, side, side, generator=generator).cumsum(3)  # neighbours alike
    network = Whitened(channels, side, 5, 4)
    network.whiten(x)
    answers = network.trunk[0](x).transpose(0, 1).flatten(1)
    half = len(answers) // 2
    torch.testing.assert_close(answers[:half], -answers[half:])
    moments = answers[:half] @ answers[:half].T / answers.shape[1]
    torch.testing.assert_close(moments, torch.eye(half), atol=5e-3, rtol=0)
    assert network.eval()(x).shape == (64, 5) and not network.trunk[0].weight.requires_grad


def test_views_weigh_one_and_show_the_image_from_both_sides():
    x = torch.arange(2.0 * 25).reshape(2, 1, 5, 5)
    assert [weight for weight, _ in stretched(x, 0, mirrored=False)] == [1.0]
    views = stretched(x, 1, mirrored=True)
    assert sum(weight for weight, _ in views) == 1 and [weight for weight, _ in views] == [0.25] * 2 + [0.125] * 4
    assert torch.equal(views[0][1], x) and torch.equal(views[1][1], x.flip(3))
    assert torch.equal(views[2][1][:, :, 1:, 1:], x[:, :, :-1, :-1])
    assert torch.equal(views[4][1][:, :, :-1, :-1], x[:, :, 1:, 1:])
