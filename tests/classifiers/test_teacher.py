"""The teacher: its loss, its training on imprecise labels, and how it is kept and found again."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import pictures, supervision, training_set

from condense.augment import independent
from condense.classifiers.teacher import FILE, TeacherOptions, augmentation, candidate_loss, load_teacher
from condense.classifiers.teaching import teacher_for
from condense.data.types import ImageData, Supervision, TrainingSet
from condense.errors import Interrupted, UserError
from condense.recipe import parse
from condense.run import Run

SHORT = TeacherOptions(epochs=3, batch_size=16, checkpoint_every=1)


def weights(teacher):
    return torch.cat([tensor.flatten().double() for tensor in teacher.network.state_dict().values()])


# the loss


def test_candidates_of_one_class_make_cross_entropy():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6) % 4
    torch.testing.assert_close(candidate_loss(logits, F.one_hot(labels, 4).bool()), F.cross_entropy(logits, labels))


def test_gradient_is_that_of_proden_with_current_weights():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    candidates = torch.rand(5, 4, generator=generator) < 0.6
    candidates[:, 1] = True
    inside = logits.detach().softmax(1) * candidates
    proden = -(inside / inside.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    (expected,) = torch.autograd.grad(proden, logits)
    (found,) = torch.autograd.grad(candidate_loss(logits, candidates), logits)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(lambda x: candidate_loss(x, candidates), logits)


def test_full_candidate_sets_carry_no_information():
    logits = torch.randn(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(candidate_loss(logits, torch.ones(3, 4, dtype=torch.bool)), logits)
    assert gradient.abs().max() < 1e-6


# training


@pytest.mark.parametrize("kind", ["labelled", "noisy", "partial", "unlabelled", "mixture"])
def test_patterns_are_learnt_from_labels_of_every_kind(kind):
    images, truth = pictures(40)
    train = TrainingSet(images, supervision(kind, truth))
    options = TeacherOptions(network="convnet3-bn", epochs=8, batch_size=30)
    teacher = teacher_for(train, options, 0, Run(None))
    assert (teacher.logits(images.images).argmax(1).numpy() == truth.labels).mean() > 0.9
    known = int((~train.supervision.unlabelled).sum())
    assert teacher.record.images_seen == 8 * known and teacher.record.epochs == 8


def test_images_without_any_label_change_nothing():
    train = training_set("unlabelled")
    known = np.flatnonzero(~train.supervision.unlabelled)
    changed = train.images.images.copy()
    changed[train.supervision.unlabelled] = changed[train.supervision.unlabelled][::-1].copy()
    other = TrainingSet(ImageData(changed, train.images.classes, "patterns", "train"), train.supervision)
    assert 0 < len(known) < len(train)
    first, second = (teacher_for(data, SHORT, 0, Run(None)) for data in (train, other))
    assert torch.equal(weights(first), weights(second))


def test_the_seed_decides_the_weights():
    first, again, other = (teacher_for(training_set(), SHORT, seed, Run(None)) for seed in (0, 0, 1))
    assert torch.equal(weights(first), weights(again)) and not torch.equal(weights(first), weights(other))


def test_predictions_do_not_depend_on_the_batch():
    train = training_set()
    teacher = teacher_for(train, TeacherOptions(network="convnet3-bn", epochs=1), 0, Run(None))
    images = train.images.images
    torch.testing.assert_close(teacher.logits(images)[:3], teacher.logits(images[:3]), rtol=1e-4, atol=1e-4)
    features = torch.from_numpy(teacher.features(images))
    torch.testing.assert_close(teacher.network.head(features), teacher.logits(images), rtol=1e-4, atol=1e-4)


def test_soft_labels_soften_with_temperature():
    train = training_set()
    teacher = teacher_for(train, SHORT, 0, Run(None))
    sharp, soft = (teacher.soft_labels(train.images.images, t) for t in (1.0, 20.0))
    np.testing.assert_allclose(sharp.sum(1), 1, atol=1e-5)
    again = torch.from_numpy(np.log(soft)) * 20
    np.testing.assert_allclose(again.softmax(1), sharp, atol=1e-4)
    assert soft.max() < sharp.max()


def test_every_operation_is_applied():
    x = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    expected_generator = torch.Generator().manual_seed(3)
    expected = independent(independent(x, "crop", expected_generator), "flip", expected_generator)
    apply = augmentation("crop_flip")
    assert apply is not None and torch.equal(apply(x, torch.Generator().manual_seed(3)), expected)
    assert augmentation("") is None


# what is kept


def test_a_resumed_training_equals_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train = training_set()
    whole = teacher_for(train, SHORT, 0, Run(tmp_path / "whole"))
    metric = Run.metric

    def interrupt(run, **values):
        metric(run, **values)
        if values["teacher_epoch"] == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "metric", interrupt)
    broken = tmp_path / "broken"
    with pytest.raises(Interrupted, match="Stopped at epoch 2 of 3 of the teacher; the state is saved"):
        teacher_for(train, SHORT, 0, Run(broken))
    monkeypatch.setattr(Run, "metric", metric)
    with pytest.raises(UserError, match="stopped at epoch 2 of 3; finish that run with --resume"):
        load_teacher(broken)
    assert torch.equal(weights(teacher_for(train, SHORT, 0, Run(broken))), weights(whole))
    epochs = [json.loads(line)["teacher_epoch"] for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3]


def test_a_finished_teacher_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train = training_set()
    first = teacher_for(train, SHORT, 0, Run(tmp_path))
    monkeypatch.setattr("condense.classifiers.teaching.fit", None)
    again = teacher_for(train, SHORT, 0, Run(tmp_path))
    elsewhere = teacher_for(train, TeacherOptions(folder=tmp_path), 5, Run(None))
    assert torch.equal(weights(first), weights(again)) and torch.equal(weights(first), weights(elsewhere))
    assert first.record == again.record == elsewhere.record
    assert torch.equal(first.logits(train.images.images), elsewhere.logits(train.images.images))


def test_another_runs_teacher_is_refused(tmp_path: Path):
    teacher_for(training_set(), SHORT, 0, Run(tmp_path))
    with pytest.raises(
        UserError, match=r"run folder belongs to a run with other options \(epochs \d+, now 4.*\); use the same or"
    ):
        teacher_for(training_set(), TeacherOptions(epochs=4), 0, Run(tmp_path))
    with pytest.raises(UserError, match=r"other seed \(0, now 1\), labels"):
        teacher_for(training_set("labelled"), SHORT, 1, Run(tmp_path))


def test_folders_without_a_fitting_teacher_are_refused(tmp_path: Path):
    train = training_set()
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{folder} holds no teacher .*; give the run folder of herding, kcenter"):
            teacher_for(train, TeacherOptions(folder=folder), 0, Run(None))
    teacher_for(train, SHORT, 0, Run(tmp_path))
    larger, truth = pictures(size=12)
    other = TrainingSet(larger, Supervision.from_labels(truth.labels, 3, trusted=True))
    with pytest.raises(UserError, match=r"on images \[C, H, W\] \[1, 8, 8\], patterns has 3 .* \[1, 12, 12\]"):
        teacher_for(other, TeacherOptions(folder=tmp_path), 0, Run(None))
    Run(tmp_path).save(FILE, {}, {"epoch": 3, "options": {"epochs": 3}})
    with pytest.raises(UserError, match="does not describe a teacher"):
        load_teacher(tmp_path)


def test_a_class_without_images_and_oblong_images_are_refused():
    images, truth = pictures()
    nobody = Supervision.from_labels(np.minimum(truth.labels, 1), 3, trusted=False)
    with pytest.raises(UserError, match="No labelled image can be of class 'striped'"):
        teacher_for(TrainingSet(images, nobody), SHORT, 0, Run(None))
    oblong = ImageData(images.images[:, :6], images.classes, "patterns", "train")
    with pytest.raises(UserError, match="need square images, found 6x8; give --image-size"):
        teacher_for(TrainingSet(oblong, supervision("noisy", truth)), SHORT, 0, Run(None))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"network": "convnet"}, 'no network is called "convnet"; nearest: .*convnet3'),
        ({"network": "resnet18bn"}, "nearest: resnet18-bn"),
        ({"augment": "crop_flop"}, 'names "flop"; join any of color, crop'),
        ({"epoch": 3}, "unknown key 'epoch'; did you mean 'epochs'"),
    ],
)
def test_wrong_options_get_the_nearest_name(wrong, said):
    with pytest.raises(UserError, match=said):
        parse(TeacherOptions, wrong, "x")
