"""Out-of-fold predictions: nobody is judged by a network that saw its label, and finished folds are kept."""

import os
import signal

import numpy as np
import pytest
import torch

from condense.classifiers import cross
from condense.classifiers.cross import FoldOptions, fold_of, out_of_fold, unjudged
from condense.errors import Interrupted, UserError
from condense.run import Run

OPTIONS = FoldOptions(folds=3, epochs=2, batch_size=8)


def data(n=30, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    images = (random.integers(0, 60, (n, 8, 8, 1)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    return images, np.eye(2, dtype=np.float32)[labels]


@pytest.mark.parametrize(("n", "folds"), [(30, 3), (31, 4), (5, 5)])
def test_folds_are_of_one_size_and_cover_everything(n, folds):
    fold = fold_of(n, folds, 0)
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.sum() == n and sizes.max() - sizes.min() <= 1
    assert not np.array_equal(fold, fold_of(n, folds, 1)) or n == folds


def test_nothing_is_learned_about_a_class_that_lies_in_one_fold_only():
    """Folds 0, 0, 1, 1, 2: class 0 lies in all, 1 in fold 1, 2 in fold 2; the last two images have no label."""
    candidates = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0]])
    fold = np.array([0, 0, 1, 1, 2, 2, 0, 0])
    assert unjudged(candidates == 1, fold).tolist() == [False, False, True, True, True, False, False, False]


def test_the_labels_of_a_fold_influence_only_the_other_folds():
    images, targets = data()
    whole, _ = out_of_fold(images, targets, OPTIONS, 0, Run(None))
    torch.testing.assert_close(whole.sum(1), torch.ones(30))
    first = fold_of(30, 3, 0) == 0
    turned = targets.copy()
    turned[first] = targets[first][:, ::-1]
    other, _ = out_of_fold(images, turned, OPTIONS, 0, Run(None))
    assert torch.equal(other[first], whole[first])
    assert (other[~first] - whole[~first]).abs().max() > 1e-3


def test_separable_images_are_judged_right():
    images, targets = data(60)
    found, seconds = out_of_fold(images, targets, FoldOptions(folds=2, epochs=5, batch_size=8), 0, Run(None))
    assert (found.argmax(1).numpy() == targets.argmax(1)).all() and seconds > 0


def test_images_without_a_label_are_judged_and_not_learnt_from():
    images, targets = data()
    targets[:10] = 0
    found, _ = out_of_fold(images, targets, OPTIONS, 0, Run(None))
    torch.testing.assert_close(found.sum(1), torch.ones(30))
    images[:10] = images[10:20]  # what nobody learns from may change; the pixels' mean stays in the data
    targets[10:] = 0
    with pytest.raises(UserError, match="0 labelled images cannot be divided into 3 folds"):
        out_of_fold(images, targets, OPTIONS, 0, Run(None))


class StoppedIn(Run):
    """Raises what Ctrl-C becomes after the first finished fold."""

    def save(self, name, tensors, meta):
        super().save(name, tensors, meta)
        if meta["done"] == OPTIONS.epochs:
            raise Interrupted("stopped")


def test_finished_folds_are_kept_and_the_rest_is_the_same(tmp_path, monkeypatch):
    images, targets = data()
    whole, _ = out_of_fold(images, targets, OPTIONS, 0, Run(None))
    with pytest.raises(Interrupted):
        out_of_fold(images, targets, OPTIONS, 0, StoppedIn(tmp_path))
    trained = []
    build = cross.networks.build
    monkeypatch.setattr(cross.networks, "build", lambda *a, **k: trained.append(1) or build(*a, **k))
    again, _ = out_of_fold(images, targets, OPTIONS, 0, Run(tmp_path))
    assert torch.equal(again, whole) and len(trained) == 2
    out_of_fold(images, targets, OPTIONS, 0, Run(tmp_path))
    assert len(trained) == 2


def test_ctrl_c_while_the_last_state_is_saved_stops_too(tmp_path):
    class StoppedWhileSaving(Run):
        def save(self, *told):
            super().save(*told)
            os.kill(os.getpid(), signal.SIGINT)

    images, targets = data()
    whole, _ = out_of_fold(images, targets, OPTIONS, 0, Run(None))
    with pytest.raises(Interrupted, match=r"Stopped in fold 1 of 3; the finished folds are saved in"):
        out_of_fold(images, targets, OPTIONS, 0, StoppedWhileSaving(tmp_path))
    assert torch.equal(out_of_fold(images, targets, OPTIONS, 0, Run(tmp_path))[0], whole)


@pytest.mark.parametrize("changed", ["images", "targets", "options", "seed"])
def test_folds_of_other_data_are_refused(changed, tmp_path):
    images, targets = data()
    given = {"images": images, "targets": targets, "options": OPTIONS, "seed": 0}
    out_of_fold(run=Run(tmp_path), **given)
    other = {
        "images": 255 - images,
        "targets": 1 - targets,
        "options": OPTIONS.model_copy(update={"epochs": 3}),
        "seed": 1,
    }
    with pytest.raises(UserError, match=r"folds in this run folder belongs to a run with other (data|options|seed)"):
        out_of_fold(run=Run(tmp_path), **{**given, changed: other[changed]})
