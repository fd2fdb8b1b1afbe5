"""Entries of a file's JSON are of the type that the reader asks for, or refused."""

import json
import math

import pytest

from condense.json_values import listed, number, numbers, section, text, texts, whole, wholes

FILE = json.loads('{"i": 3, "f": 0.5, "t": "3", "b": true, "o": {"i": 1}, "l": [1, 2], "w": ["a"], "n": NaN}')
FITTING = {whole: "i", number: "ifn", text: "t", section: "o", listed: "lw", wholes: "l", numbers: "l", texts: "w"}


@pytest.mark.parametrize("read", FITTING, ids=lambda read: read.__name__)
def test_entries_of_another_type_are_refused(read):
    for name in FILE:
        if name in FITTING[read]:
            read(FILE, name)
        else:
            with pytest.raises(TypeError, match=f"'{name}' must be"):
                read(FILE, name)
    with pytest.raises(KeyError, match="missing"):
        read(FILE, "missing")


def test_values_are_those_of_the_file():
    assert (whole(FILE, "i"), number(FILE, "i"), text(FILE, "t"), section(FILE, "o")) == (3, 3.0, "3", {"i": 1})
    assert (listed(FILE, "l"), wholes(FILE, "l"), numbers(FILE, "l"), texts(FILE, "w")) == (
        [1, 2],
        (1, 2),
        (1.0, 2.0),
        ("a",),
    )
    assert isinstance(number(FILE, "i"), float) and math.isnan(number(FILE, "n"))
