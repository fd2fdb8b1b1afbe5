"""benchmarks/levers.py: every lever is another setting than the default, and is timed beside it."""

import sys
from pathlib import Path

from condense.recipe import generator_defaults, merge

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import levers


def test_every_lever_changes_an_option_of_the_default():
    shipped = generator_defaults(levers.SIDE)
    for part, sections in ((levers.LEARNS, shipped), (levers.DRAWS, shipped["second_stage"])):
        (first, nothing), *others = levers.LEVERS[part]
        assert first == "as shipped" and nothing == {}
        default = [kind.model_validate(sections[name]) for kind, name in levers.KINDS]
        for title, changed in others:
            merged = merge(sections, changed)
            assert [kind.model_validate(merged[name]) for kind, name in levers.KINDS] != default, title


def test_the_table_tells_the_ratio_to_the_default_and_the_images_passed(monkeypatch):
    named = [("as shipped", {}), ("vanilla objective", {"train": {"objective": "vanilla"}})]
    small = [(title, merge({"network": {"channels": 8, "multipliers": [1]}}, changed)) for title, changed in named]
    monkeypatch.setattr(levers, "LEVERS", {levers.LEARNS: tuple(small)})
    default, vanilla = levers.timed(levers.noisy_images(levers.SIDE), levers.LEARNS, 2)
    assert default["ratio"] == 1 and vanilla["ratio"] == vanilla["seconds"] / default["seconds"]
    assert vanilla["evaluations"] == 1 and default["evaluations"] == 3  # with the refresh of its belief, by a pair
