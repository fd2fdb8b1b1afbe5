import numpy as np
import pytest
import tiny

from condense.classifiers.confident_learning import confident_classes, confusion, shares
from condense.data.types import Supervision, Truth
from condense.evaluate.audit import agreement, audit_noise, estimated_transition, matrix_gap


def noisy_labels(n=6000, seed=0):
    """True classes, labels corrupted by a known matrix, and the probabilities of a mostly right classifier."""
    generator = np.random.default_rng(seed)
    transition = np.array([[0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    truth = generator.integers(0, 3, n)
    given = np.array([generator.choice(3, p=transition[y]) for y in truth])
    seen = np.where(generator.random(n) < 0.9, truth, generator.integers(0, 3, n))
    logits = 2.0 * np.eye(3)[seen] + generator.normal(size=(n, 3)) * 0.5
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return truth, given, probabilities, transition


def test_confusion_agreement_and_gap_by_hand():
    labels, authority = np.array([0, 0, 1, 2, -1, 2]), np.array([0, 1, 1, 2, 0, -1])
    found = agreement(labels, authority, 3)
    assert found.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found.share == 0.75 and found.per_class.tolist() == [0.5, 1, 1]
    assert shares(np.array([[1, 3], [0, 0]])).tolist() == [[0.25, 0.75], [0, 0]]
    assert matrix_gap(np.eye(2), np.array([[0.5, 0.5], [0, 1]])) == 0.25
    assert matrix_gap(np.eye(3), np.roll(np.eye(3), 1, 1)) == 1


def test_confident_joint_equals_cleanlab():
    count = pytest.importorskip("cleanlab.count")
    _, given, probabilities, _ = noisy_labels()
    theirs = count.compute_confident_joint(given, probabilities, calibrate=False)
    ours = confusion(given, confident_classes(probabilities, given), 3)
    # cleanlab sets a diagonal entry to at least 1, which makes no difference here
    np.testing.assert_array_equal(ours, theirs)


def test_the_transition_matrix_is_recovered_from_labels_alone():
    truth, given, probabilities, transition = noisy_labels()
    found = audit_noise(probabilities, Supervision.from_labels(given, 3, trusted=False))
    assert matrix_gap(found.transition, transition) < 0.06
    np.testing.assert_allclose(found.transition.sum(1), 1)
    assert found.gap is None and found.injected is None and found.recall is None
    judged = audit_noise(probabilities, Supervision.from_labels(given, 3, trusted=False), Truth(truth))
    assert (judged.transition == found.transition).all()
    assert judged.gap < 0.06 and judged.injected.tolist() == confusion(truth, given, 3).tolist()


def test_suspects_are_counted_against_the_truth():
    truth, given, probabilities, _ = noisy_labels()
    found = audit_noise(probabilities, Supervision.from_labels(given, 3, trusted=False), Truth(truth))
    wrong = given != truth
    assert found.precision == pytest.approx(wrong[found.suspected].mean()) and found.precision > 0.7
    assert found.recall == pytest.approx(found.suspected[wrong].mean()) and found.recall > 0.7
    perfect = audit_noise(np.eye(3)[truth], Supervision.from_labels(given, 3, trusted=False), Truth(truth))
    assert perfect.precision == perfect.recall == 1 and perfect.gap == pytest.approx(0, abs=1e-12)
    clean = audit_noise(np.eye(3)[truth], Supervision.from_labels(truth, 3, trusted=False), Truth(truth))
    assert clean.recall is None and clean.precision is None and not clean.suspected.any()


def test_images_without_a_single_label_are_left_out():
    _, truth = tiny.pictures(20)
    given = tiny.supervision("partial", truth)
    found = audit_noise(np.eye(3)[truth.labels], given, truth)
    assert not found.suspected[~given.single].any() and found.injected.sum() == given.single.sum()


def test_a_class_nobody_is_sure_of_keeps_its_labels():
    assert estimated_transition(np.array([0, 0, -1]), np.array([0, 1, 1]), 3)[1:].tolist() == [[0, 1, 0], [0, 0, 1]]
