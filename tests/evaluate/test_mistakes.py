"""Statistics of a confusion matrix, computed by hand."""

import numpy as np

from condense.evaluate.mistakes import Mistakes, together

COUNTS = np.array([[6, 2, 0, 2], [0, 4, 0, 0], [0, 0, 0, 0], [1, 3, 0, 4]])
CLASSES = ("ant", "bee", "cat", "dog")


def test_each_class_and_the_worst_confusions():
    found = Mistakes(COUNTS, CLASSES)
    np.testing.assert_array_equal(found.per_class, [60, 100, np.nan, 50])
    assert found.worst == [(3, 1, 37.5), (0, 1, 20), (0, 3, 20), (3, 0, 12.5)]
    told = found.to_json()
    assert told["per_class"] == {"ant": 60, "bee": 100, "cat": None, "dog": 50}
    assert told["confused"][0] == {"class": "dog", "taken_for": "bee", "percent": 37.5}


def test_the_networks_of_several_sets_are_counted_together():
    other = Mistakes(np.diag([4, 0, 0, 0]), CLASSES)
    both = together([Mistakes(COUNTS, CLASSES), other])
    assert both.per_class[0] == 100 * 10 / 14 and both.per_class[3] == 50
    assert together([other, None]) is None and together([]) is None
