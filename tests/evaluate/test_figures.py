"""Figures with names of any script: no boxes, no warnings."""

import logging
import warnings

import numpy as np
import pytest

from condense.evaluate import figures


def labels(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def drawn(names):
    figure = figures.confusion(np.eye(len(names), dtype=np.int64), names, across="given label")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figures.figure_data_uri(figure).startswith("data:image/png")
    return figure


def test_names_that_no_font_has_are_numbered(monkeypatch, caplog):
    """Case 41: class names in CJK were glyph warnings and boxes."""
    monkeypatch.setattr(figures, "_fonts_for", lambda characters: ())
    caplog.set_level(logging.WARNING)
    assert labels(drawn(["\u732b", "caf\u00e9 \u2192", "\u72ac 2"])) == ["#0", "caf\u00e9 \u2192", "#2"]
    assert not caplog.records
    figure = figures.accuracy_bars({"\u732b": (50.0, 1.0), "random": (20.0, None)})
    figures.figure_data_uri(figure)
    assert labels(figure) == ["#0", "random"]


def test_a_font_that_has_the_characters_is_taken(monkeypatch):
    ours = figures._characters(figures.FONT)
    pretended = {"Font of cats": frozenset("\u732b"), "Font of all": frozenset("\u732b\u72ac")}
    monkeypatch.setattr(figures, "_characters", lambda name: pretended.get(name, ours))
    entries = [type("Entry", (), {"name": name}) for name in pretended]
    monkeypatch.setattr(figures, "fontManager", type("Manager", (), {"ttflist": entries}))
    figures._fonts_for.cache_clear()
    assert figures._fonts_for(frozenset("\u732b\u72ac")) == ("Font of all",)
    assert figures._fonts_for(frozenset("\u732b\u9ce5")) == ("Font of all",)
    assert figures._undrawable("\u732b\u9ce5") == {"\u9ce5"}
    figures._fonts_for.cache_clear()


@pytest.mark.parametrize("names", [["ant", "bee"], ["\u00e9t\u00e9", "\u043b\u0435\u0442\u043e"]])
def test_other_names_stay(names):
    assert labels(drawn(names)) == names
