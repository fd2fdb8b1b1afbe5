"""benchmarks/against_plain.py: the plain arms compute the same as ours, and the figures are what they are called."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import against_plain

CPU = torch.device("cpu")
SMALL = against_plain.Sizes(side=16, ipc=1, real_batch=4, classes=2, student_steps=2, batch=8, beliefs=3)


@pytest.mark.parametrize("name", ["DM", "DC", "DSA"])
def test_a_plain_step_has_the_same_loss_and_so_has_the_next(name):
    ours, plain = against_plain.matching(SMALL, CPU, precision="fp32")[name]
    for _ in range(2):  # the second loss depends on the first step
        assert plain() == pytest.approx(ours(), rel=1e-3)


def test_the_unrolled_graph_has_the_same_loss_and_gradients():
    ours, plain = against_plain.trajectories(SMALL, CPU)
    assert plain() == pytest.approx(ours(), rel=1e-3)


def test_plain_beliefs_are_ours():
    ours, plain = against_plain.believing(SMALL, CPU, precision="fp32")
    torch.testing.assert_close(torch.from_numpy(plain()), torch.from_numpy(ours()), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("arms", [against_plain.volume, against_plain.labelling])
def test_classifiers_that_repair_labels_learn_either_way(arms):
    ours, plain = arms(SMALL, CPU)
    assert ours() is not None and plain() is not None


class Clock:
    """Moves by as much as the work says."""

    now = 0.0

    def __call__(self):
        return self.now


def test_figures_are_medians_of_rounds_in_turn_after_a_warm_up():
    clock, order = Clock(), []
    spent = {"ours": iter([100.0, 1.0, 3.0, 2.0]), "plain": iter([100.0, 8.0, 4.0, 6.0])}
    weight = torch.ones(20, 50)

    def arm(name):
        def work():
            order.append(name)
            clock.now += next(spent[name])
            return torch.ones(10, 20) @ weight if name == "ours" else None

        return work

    row = against_plain.Row("a", "a part", 5, arm("ours"), arm("plain"))
    found = against_plain.measure(row, 3, ceiling=1e-3, clock=clock)
    assert order == ["ours", "plain", "ours", "plain", "plain", "ours", "ours", "plain"]
    assert (found.ours_seconds, found.plain_seconds, found.ratio) == (10.0, 30.0, 3.0)
    assert found.ceiling == pytest.approx(2 * 10 * 20 * 50 / 1e9 / 2.0 / 1e-3)


def test_predictions_are_taken_as_they_are():
    row = against_plain.Row("a", "predicted", 1, *(lambda s=s: against_plain.Predicted(s, 30.0) for s in (2.0, 3.0)))
    found = against_plain.measure(row, 1, ceiling=60.0, clock=Clock())
    assert (found.ours_seconds, found.plain_seconds, found.ratio, found.ceiling) == (2.0, 3.0, 1.5, 0.25)


def test_every_row_asked_for_is_in_the_table(tmp_path):
    found = list(against_plain.rows(SMALL, CPU, tmp_path, ["MTT", "VolMinNet"]))
    assert [row.name.split(",")[0] for row in found] == ["MTT", "VolMinNet"]
    table = against_plain.shown([against_plain.measure(row, 1, 1.0) for row in found], "here")
    assert table.row_count == 2
