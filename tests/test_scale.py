"""benchmarks/scale.py: its slopes are those of the curves, and its figures those of a process of its own."""

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import scale
from scale import Cost, Curve, Size


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_slope_of_a_power_is_its_exponent(power):
    values = [10, 100, 1000]
    assert scale.slope(values, [3 * value**power for value in values]) == pytest.approx(power)
    assert math.isnan(scale.slope([10], [1.0]))


def test_a_bend_shows_in_the_slope_from_the_size_before():
    costs = tuple(Cost(seconds, 100 * seconds) for seconds in (1, 1, 10))
    curve = Curve("work", "n", (10, 100, 1000), costs)
    assert curve.slopes(2, 0) == pytest.approx((0, 0)) and curve.slopes(3, 1) == pytest.approx((1, 1))
    assert curve.slopes() == pytest.approx((0.5, 0.5))


def test_a_size_that_died_is_left_out_of_the_slopes():
    curve = Curve("work", "n", (10, 100, 1000), (Cost(1.0, 1), None, Cost(100.0, 100)))
    assert curve.slopes() == pytest.approx((1, 1))
    assert scale.shown([curve], "here").row_count == 4


def test_every_piece_of_work_is_set_up_and_done(tmp_path):
    size = Size(n=60, classes=2, side=16, ipc=1)
    scale.write_folder(size, tmp_path / "60-2-16")
    for work in scale.WORKS:
        step = work.prepare(size, tmp_path)
        assert step() is not None
    source = scale.reading(size, tmp_path)()
    assert len(source.train) == 60 and source.train.image_shape == (1, 16, 16)


@pytest.mark.slow
def test_a_process_tells_seconds_and_memory_of_one_size(tmp_path):
    place = next(i for i, work in enumerate(scale.WORKS) if work.name == "read a folder")
    small, large = (scale.cost_of(place, Size(n=n, side=64), tmp_path, 1, 1) for n in (50, 3000))
    assert 0 < small.seconds < large.seconds
    assert large.memory - small.memory > 0.5 * (3000 - 50) * 64 * 64
