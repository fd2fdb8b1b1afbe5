"""Several sets of one method: their scores as one."""

import dataclasses
import json

import numpy as np
import pytest

from condense.errors import UserError
from condense.evaluate.score import Score
from condense.evaluate.sets import Evaluation, check_one_method, combine
from condense.evaluate.stats import summarise, summarise_nested
from condense.preprocessing import Preprocessing
from condense.sets.condensed_set import CondensedSet, Provenance


def condensed_set(value, **changed):
    made = {"method": "random", "ipc": 2, "data_name": "digits", "corruption": "sym:0.4", "notes": {}} | changed
    provenance = Provenance(
        made["method"],
        made["ipc"],
        value,
        {},
        made["data_name"],
        "",
        "noisy",
        made["corruption"],
        None,
        notes=made["notes"],
    )
    labels = np.repeat(np.arange(3), made["ipc"])
    images = np.full((len(labels), 8, 8, 1), value, dtype=np.uint8)
    return CondensedSet(images, labels, ("a", "b", "c"), Preprocessing((0.5,), (0.25,)), provenance)


def score(accuracies, seconds=1.0):
    return Score(0.0, None, None, accuracies, {"name": "hard"}, "convnet3", seconds)


def test_the_sets_are_the_unit():
    accuracies = ((60.0, 62.0), (70.0, 71.0), (65.0, 66.0))
    ours = combine([score(each) for each in accuracies])
    nested = summarise_nested(accuracies)
    assert (ours.mean, ours.ci95) == (nested.mean, nested.ci95)
    assert (ours.std_between, ours.std) == (nested.std_between, nested.std_within)
    assert ours.seconds == 3
    written = json.loads(json.dumps(ours.to_json()))
    assert set(written) == {field.name for field in dataclasses.fields(ours)} - {
        "mistakes"
    }  # of these nothing is known
    assert written["by_set"] == [list(each) for each in accuracies]
    assert written["accuracies"] == [60, 62, 70, 71, 65, 66]


def test_one_set_is_its_networks():
    """The unit of the interval is the network then: mean, deviation and interval of a `Score` of the same networks."""
    alone, numbers = combine([score((60.0, 62.0, 67.0))]), summarise((60.0, 62.0, 67.0))
    assert (alone.mean, alone.ci95, alone.std_between) == (numbers.mean, numbers.ci95, None)
    assert alone.std == pytest.approx(numbers.std)
    found = Evaluation(("a",), (alone, combine([score((50.0,))])))
    assert (found.mean, found.std, found.ci95) == (alone.mean, alone.std, alone.ci95)
    assert found.accuracies == (60, 62, 67) and found.network == "convnet3"
    assert found.to_json() == {**alone.to_json(), "sets": ["a"], "scores": [each.to_json() for each in found.scores]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "dmis"}, "b has the method dmis, a random"),
        ({"notes": {"pack": 2}}, "b has the packing 4, a 1"),
        ({"ipc": 3}, "b has the images per class 3, a 2"),
        ({"data_name": "svhn"}, "b has the data svhn, a digits"),
        ({"corruption": "none"}, "b has the label noise none, a sym:0.4"),
        ({"notes": {"labels_repaired_by": "dmis"}}, "b has the label repair dmis, a none"),
        ({"notes": {"uses_true_labels": True}}, "b has the use of true labels True, a False"),
    ],
)
def test_sets_made_otherwise_are_refused(changed, message):
    check_one_method(["a", "b"], [condensed_set(1), condensed_set(2)])
    with pytest.raises(UserError, match=message):
        check_one_method(["a", "b"], [condensed_set(1), condensed_set(2, **changed)])


def test_the_same_set_is_not_counted_twice():
    with pytest.raises(UserError, match="c and a are the same set"):
        check_one_method(["a", "b", "c"], [condensed_set(1), condensed_set(2), condensed_set(1)])
