import numpy as np
import pytest
import tiny
import torch

from condense.classifiers.fit import predict
from condense.data.types import Supervision
from condense.errors import UserError
from condense.evaluate import judge as judging
from condense.evaluate.judge import targets_of, to_pixels, train_judge


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(judging, "fast_bf16", lambda device: False)


def test_it_learns_the_true_labels_where_they_are_known_and_else_the_given_ones():
    images, truth = tiny.pictures(30)
    wrong = Supervision.from_labels((truth.labels + 1) % 3, 3, trusted=False)
    knowing = train_judge(images, wrong, truth, steps=10)
    assert knowing.accuracy(images, truth) > 0.95 and knowing.labels == "true labels"
    told = train_judge(images, wrong, None, steps=10)
    assert told.accuracy(images, truth) < 0.05 and told.labels == "given labels"
    assert told.describe() == "convnet3 trained for 10 steps on 90 images with their given labels"


def test_answers_are_those_of_the_network_on_standardised_pixels():
    images, truth = tiny.pictures(10)
    judge = train_judge(images, tiny.supervision("noisy", truth), truth, steps=2)
    pixels = to_pixels(images.images)
    x = (pixels - pixels.mean()) / pixels.std(correction=0)
    features, logits = judge.embed(pixels)
    torch.testing.assert_close(logits, predict(judge.network, x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(judge.network.head(features), logits)
    np.testing.assert_allclose(judge.probabilities(images.images), logits.softmax(1).numpy(), rtol=1e-5)


def test_the_same_seed_trains_the_same_judge():
    images, truth = tiny.pictures(10)
    given = tiny.supervision("noisy", truth)
    first, again, other = (train_judge(images, given, None, steps=2, seed=seed) for seed in (0, 0, 1))
    answers = [judge.probabilities(images.images) for judge in (first, again, other)]
    assert (answers[0] == answers[1]).all() and (answers[0] != answers[2]).any()


def test_targets_spread_over_candidates_and_leave_out_what_is_unknown():
    candidates = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=bool)
    found = targets_of(Supervision(candidates, np.ones(3, dtype=bool)))
    assert found.tolist() == [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]]


def test_unlabelled_images_are_not_trained_on():
    images, truth = tiny.pictures(20)
    given = tiny.supervision("unlabelled", truth)
    judge = train_judge(images, given, None, steps=2)
    assert judge.images == int((~given.unlabelled).sum()) < len(images)
    nothing = Supervision(np.ones((60, 3), dtype=bool), np.ones(60, dtype=bool))
    with pytest.raises(UserError, match="neither true nor given labels"):
        train_judge(images, nothing, None, steps=2)
    with pytest.raises(UserError, match="0 steps"):
        train_judge(images, given, None, steps=0)
