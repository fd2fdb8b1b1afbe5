"""EL2N, forgetting and CCS against direct computation."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import training_set

from condense import rng
from condense.classifiers import networks
from condense.classifiers.fit import Teaching, fit, predict
from condense.classifiers.teacher import augmentation
from condense.errors import Interrupted, UserError
from condense.methods import ccs, el2n, forgetting
from condense.methods._difficulty import Watch, hardest
from condense.preprocessing import planes, standardisation
from condense.recipe import parse
from condense.run import Run, Tracker

BRIEF = {"backbone": "convnet1", "epochs": 2, "batch_size": 16}


def never_asked() -> torch.Tensor:
    """In the place of a trained network's logits."""
    raise AssertionError


def test_el2n_is_the_mean_error_norm_of_networks_trained_as_configured() -> None:
    """Two networks trained by hand with the same seeds give the same scores, and the highest of a class are taken."""
    train, options = training_set(), parse(el2n.Options, BRIEF | {"networks": 2}, "el2n")
    made = el2n.condense(train, 3, options, 5, Run(None))
    labels = torch.from_numpy(train.supervision.observed)
    x = standardisation(train.images.images).normalise(planes(train.images.images).float() / 255)
    how = Watch(train, options, 5, el2n.Errors).fit_options()
    norms = []
    for k in range(2):
        network = networks.build(
            "convnet1", in_channels=1, image_size=8, num_classes=3, seed=rng.derive(5, "difficulty network", k)
        )
        order = rng.derive(5, "difficulty order", k)
        list(fit(network, x, labels, how, seed=order, teaching=Teaching(augment=augmentation("crop_flip"))))
        wrong = predict(network, x).softmax(1).numpy() - np.eye(3)[labels.numpy()]
        norms.append(np.sqrt((wrong**2).sum(1)))
    scores = np.mean(norms, axis=0)
    for y in range(3):
        own = np.flatnonzero(labels.numpy() == y)
        best = own[np.argsort(-scores[own])[:3]]
        assert made.source_index is not None and set(made.source_index[3 * y : 3 * y + 3]) == set(best)


def test_events_are_those_of_the_papers_algorithm() -> None:
    """Image 0: right, wrong, right, wrong; 1: wrong, right; 2: never right; 3: always; batches in any order."""
    events = forgetting.Events(torch.zeros(4, dtype=torch.int64))
    history = [([0, 1, 2], [1, 0, 0]), ([3, 0], [1, 0]), ([1, 2, 0], [1, 0, 1]), ([0, 3, 1], [0, 1, 1])]
    for index, right in history:
        labels = torch.zeros(len(index), dtype=torch.int64)
        logits = torch.tensor([[1.0, 0.0] if good else [0.0, 1.0] for good in right])
        events.look(torch.tensor(index), logits, labels)
    assert events.scores(never_asked).tolist() == [2, 0, np.inf, 0]


def test_margins_are_averaged_over_the_records() -> None:
    margins = ccs.Margins(torch.tensor([2, 0]))
    margins.look(torch.tensor([1, 0]), torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]]), torch.tensor([0, 2]))
    margins.look(torch.tensor([1]), torch.tensor([[0.0, 4.0, 1.0]]), torch.tensor([0]))
    assert margins.scores(never_asked).tolist() == [1.0 - 5.0, ((3.0 - 2.0) + (0.0 - 4.0)) / 2]


def test_strata_share_the_budget_smallest_first_and_the_hardest_are_dropped() -> None:
    """20 margins, 30 % dropped: strata of 1, 3 and 10 images get 1, 3 of (7 - 1) / 2, and the 3 left."""
    hardest_six = np.linspace(-9, -8, 6)
    easier = np.concatenate([[0.0], np.full(3, 5.0), np.full(10, 9.5)])
    areas = np.random.default_rng(0).permutation(np.concatenate([hardest_six, easier]))
    chosen = ccs.stratified(areas, 7, 0.3, 3, np.random.default_rng(1))
    values, counts = np.unique(areas[chosen], return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0.0: 1, 5.0: 3, 9.5: 3}
    assert len(set(chosen.tolist())) == 7
    few = ccs.stratified(areas, 2, 0.3, 3, np.random.default_rng(1))  # no more than one of the larger strata each
    assert sorted(areas[few].tolist()) == [5.0, 9.5]
    everything = ccs.stratified(areas, 20, 0.3, 3, np.random.default_rng(1))  # dropping would leave too few
    assert sorted(everything.tolist()) == list(range(20))
    equal = ccs.stratified(np.zeros(5), 3, 0.0, 50, np.random.default_rng(1))
    assert len(set(equal.tolist())) == 3


def test_equal_scores_are_drawn_at_random() -> None:
    scores = np.array([np.inf, 1.0, np.inf, np.inf, 0.0])
    drawn = {tuple(hardest(scores, 1, np.random.default_rng(seed))) for seed in range(30)}
    assert drawn == {(0,), (2,), (3,)}
    assert set(hardest(scores, 4, np.random.default_rng(0))) == {0, 1, 2, 3}


def test_every_image_is_recorded_once_per_epoch() -> None:
    train = training_set()
    seen: list[int] = []

    class Seen(ccs.Margins):
        def look(self, index: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
            super().look(index, logits, labels)
            seen.extend(index.tolist())
            assert torch.equal(labels, torch.from_numpy(train.supervision.observed)[index])
            assert F.one_hot(labels, 3).shape == logits.shape

    watch = Watch(train, parse(ccs.Options, BRIEF, "ccs"), 0, Seen)
    assert [step.done for step in watch.epochs()] == [1, 2]
    assert sorted(seen) == sorted([*range(60)] * 2)


@pytest.mark.parametrize("method", [el2n, forgetting, ccs])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_stopped_after_any_epoch_goes_on_bit_for_bit(method, stop, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """In the first network, after it, and in the second: what was recorded on the way comes back too."""
    options = parse(method.Options, BRIEF | {"networks": 2}, "x")
    whole = method.condense(training_set("noisy"), 3, options, 0, Run(tmp_path / "whole"))

    class Stopped(Run):
        @contextmanager
        def track(self, total: int, description: str, initial: int = 0) -> Iterator[Tracker]:
            tracker = Tracker()
            tracker.update = lambda done, **shown: done == stop and os.kill(os.getpid(), signal.SIGINT)  # type: ignore
            yield tracker

    where = f"at epoch {(stop - 1) % 2 + 1} of 2 of network {(stop + 1) // 2} of 2; the state is saved"
    with pytest.raises(Interrupted, match=where):
        method.condense(training_set("noisy"), 3, options, 0, Stopped(tmp_path / "stopped"))
    made = method.condense(training_set("noisy"), 3, options, 0, Run(tmp_path / "stopped"))
    np.testing.assert_array_equal(made.source_index, whole.source_index)
    kept, wanted = (Run(tmp_path / name).load("checkpoint") for name in ("stopped", "whole"))
    assert kept is not None and wanted is not None and kept[0].keys() == wanted[0].keys()
    assert all(torch.equal(kept[0][name], wanted[0][name]) for name in wanted[0] if name.startswith("scores"))
    with pytest.raises(UserError, match=r"The checkpoint belongs to a run with other seed \(0, now 1\)"):
        method.condense(training_set("noisy"), 3, options, 1, Run(tmp_path / "stopped"))


@pytest.mark.parametrize("method", [forgetting, ccs])
def test_wrong_labels_are_kept_by_forgetting_and_left_by_ccs(method) -> None:  # type: ignore[no-untyped-def]
    """A third of the labels wrong, patterns easy to learn: the unlearnable are the wrong ones."""
    train = training_set("noisy", per_class=40)
    from tiny import pictures

    right = train.supervision.observed == pictures(40)[1].labels
    options = parse(method.Options, {"backbone": "convnet1", "epochs": 6, "batch_size": 16, "augment": ""}, "x")
    made = method.condense(train, 4, options, 0, Run(None))
    share = right[made.source_index].mean()
    assert share < 0.35 if method is forgetting else share > 0.8
