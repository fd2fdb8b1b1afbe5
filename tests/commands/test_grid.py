"""A benchmark's recipe becomes cells: how many, how they are called, what they share, what is refused."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from condense import methods
from condense.commands._grid import Cell, expand, read_benchmark
from condense.errors import UserError
from condense.recipe import parse_overrides, shipped


def cells(**changed: Any) -> list[Cell]:
    plain = {
        "methods": ["random", "dmis", "vanilla"],
        "settings": [{"name": "digits", "noise": "sym:0.4"}, {"name": "imagenette", "noise": "none", "image_size": 64}],
        "ipc": [1, 10],
        "seeds": [0, 7],
        "clean_first": ["none", "dmis"],
    }
    return expand(read_benchmark(plain | changed))


def test_every_combination_is_a_cell_once_and_keeps_its_name() -> None:
    found = cells()
    told = [(c.setting, *(c.recipe[key] for key in ("method", "ipc", "seed", "clean_first"))) for c in found]
    parts = (["digits sym:0.4", "imagenette 64px none"], ["random", "dmis", "vanilla"], [1, 10], [0, 7])
    assert sorted(told) == sorted(itertools.product(*parts, ["none", "dmis"]))
    assert len({cell.name for cell in found}) == len(found) == 48
    names = {cell.name for cell in found}
    assert names > {"digits-sym-0.4_random_ipc1_seed0", "imagenette-64px-none_dmis_by-dmis_ipc10_seed7"}
    turned = cells(methods=["vanilla", "random", "dmis"], ipc=[10, 1, 50], seeds=[7, 0])
    assert names <= {cell.name for cell in turned}
    assert [cell.recipe["seed"] for cell in found] == [0] * 24 + [7] * 24  # one whole seed before the next


def test_sizes_share_a_generator_and_methods_share_who_repairs_labels() -> None:
    found = cells()
    for cell in found:
        assert (cell.shared is None) == (cell.recipe["method"] == "random")
        assert (cell.labeller is None) == (cell.recipe["clean_first"] == "none")
    generators = {cell.shared for cell in found if cell.shared}
    labellers = {cell.labeller for cell in found if cell.labeller}
    assert len(generators) == 2 * 2 * 2 * 2  # method, setting, seed, whose labels
    assert len(labellers) == 2 * 2
    pairs = [(c.recipe["ipc"], c.shared) for c in found if c.shared == "digits-sym-0.4_dmis_seed0"]
    assert pairs == [(1, "digits-sym-0.4_dmis_seed0"), (10, "digits-sym-0.4_dmis_seed0")]
    taught = cells(methods=["herding", "rded", "dm"], clean_first=["none"])
    assert {(cell.recipe["method"], cell.trains) for cell in taught} == {
        ("herding", "teacher"),
        ("rded", "teacher"),
        ("dm", None),
    }
    own = cells(methods=["herding"], options={"herding": {"teacher": {"folder": "somewhere"}}})
    assert {cell.shared for cell in own} == {None}
    given = cells(options={"dmis": {"generator": "somewhere"}}, labeller={"generator": "elsewhere"})
    assert {cell.shared for cell in given if cell.recipe["method"] == "dmis"} == {None}
    assert {cell.labeller for cell in given} == {None}
    by = {cell.labeller for cell in cells(clean_first=["cleanlab", "oracle"])}
    assert len(by) == 1 + 4 and None in by


def test_each_labeller_has_options_of_its_own() -> None:
    both: dict[str, Any] = {"clean_first": ["none", "dmis", "cleanlab", "oracle"], "methods": ["random"]}
    each = {"dmis": {"train": {"steps": 7}}, "cleanlab": {"folds": 3}}
    found = {cell.recipe["clean_first"]: cell.recipe.get("labeller") for cell in cells(**both, labeller=each)}
    assert found == {"none": None, "dmis": each["dmis"], "cleanlab": each["cleanlab"], "oracle": None}
    one = {cell.recipe["clean_first"]: cell.recipe.get("labeller") for cell in cells(labeller={"train": {"steps": 7}})}
    assert one == {"none": None, "dmis": {"train": {"steps": 7}}}
    spared = cells(clean_first=["dmis"], labeller=each)  # one recipe, of which --set leaves a part out
    assert {cell.recipe["labeller"]["train"]["steps"] for cell in spared} == {7}
    given = cells(**both, labeller={"dmis": {"generator": "elsewhere"}})
    assert {cell.recipe["clean_first"] for cell in given if cell.labeller} == {"cleanlab"}
    for wrong, said in (
        ({"folds": 3}, r"by dmis and by cleanlab.*labeller: \{dmis: \{…\}, cleanlab: \{…\}\}"),
        ({"dmis": {"train": {"steps": 7}}, "folds": 3}, "'folds' beside dmis and cleanlab"),
        ({"cleanlab": {"fold": 3}}, "options for the labeller 'cleanlab' has an unknown key 'fold'"),
        ({"dmis": 3}, "labeller 'dmis' are 3"),
    ):
        with pytest.raises(UserError, match=said):
            cells(**both, labeller=wrong)


def test_a_variant_lays_its_options_over_those_of_its_method() -> None:
    options: dict[str, Any] = {
        "dmis": {"train": {"steps": 7}, "second_stage": None},
        "dmis@published": {"drawn": "as-published"},
        "dmis@long": {"train": {"steps": 9, "batch_size": 8}},
    }
    asked = {"methods": ["random", "dmis@published", "dmis", "dmis@long"], "options": options, "clean_first": ["none"]}
    found = cells(**asked, ipc=[1], seeds=[0], settings=[{"name": "digits"}], judged={"dmis@long": {"repeats": 1}})
    by_name = {cell.method: cell for cell in found}
    assert list(by_name) == asked["methods"] == [cell.result().method for cell in found]
    assert [cell.recipe["method"] for cell in found] == ["random", "dmis", "dmis", "dmis"]
    assert by_name["dmis"].recipe["train"] == {"steps": 7} and "drawn" not in by_name["dmis"].recipe
    assert by_name["dmis@published"].recipe["train"] == {"steps": 7}
    assert by_name["dmis@published"].recipe["drawn"] == "as-published"
    assert by_name["dmis@long"].recipe["train"] == {"steps": 9, "batch_size": 8}
    assert [cell.recipe["evaluate"]["repeats"] for cell in found] == [5, 5, 5, 1]
    assert by_name["dmis@published"].name == "digits-none_dmis-published_ipc1_seed0"


def test_variants_share_a_generator_if_the_same_is_trained() -> None:
    def shared(**options: dict[str, Any]) -> list[str | None]:
        asked = {"methods": ["dmis@other", "dmis"], "options": {"dmis@other": options.pop("other"), **options}}
        found = cells(**asked, ipc=[1], seeds=[0], settings=[{"name": "digits"}], clean_first=["none"])
        return [cell.shared for cell in found]

    own, both = "digits-none_dmis-other_seed0", "digits-none_dmis_seed0"
    assert shared(other={"draw": {"pool": 1}}) == [both, both]
    assert shared(other={"train": {"steps": 3}}) == [own, both]
    # without the word of the recipe there may be a second stage in one and not in the other
    assert shared(other={"drawn": "as-published"}) == [own, both]
    assert shared(other={"drawn": "as-published"}, dmis={"second_stage": None}) == [both, both]


def test_all_methods_may_be_asked_for_and_options_reach_their_method() -> None:
    found = cells(methods="all", options={"dmis": {"train": {"steps": 3}}}, quick=True, evaluate={"repeats": 2})
    assert {cell.recipe["method"] for cell in found} == set(methods.names())
    assert {"train" in cell.recipe for cell in found if cell.recipe["method"] == "dmis"} == {True}
    assert {"train" in cell.recipe for cell in found if cell.recipe["method"] != "dmis"} == {False}
    assert all(cell.recipe["quick"] and cell.recipe["evaluate"]["repeats"] == 2 for cell in found)


def test_folders_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    here = [{"name": str(tmp_path / part / "shoes"), "noise": "none"} for part in "ab"]
    found = cells(settings=here, methods=["random"], clean_first=["none"])
    assert len({cell.name for cell in found}) == 8
    assert {cell.setting for cell in found} == {"shoes none"}
    assert all(cell.name.startswith("shoes-none_") and "/" not in cell.name for cell in found)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"methods": ["random", "random"]}, "the cell digits-sym-0.4_random_ipc1_seed0 2 times"),
        ({"methods": ["ranom"]}, "did you mean random"),
        ({"methods": []}, "names no methods"),
        ({"methods": "some"}, "methods"),
        ({"settings": []}, "settings"),
        ({"settings": [{"nam": "digits"}]}, "unknown key 'settings.0.nam'"),
        ({"ipc": [0]}, "ipc"),
        ({"seeds": [-1]}, "seed"),
        ({"clean_first": ["magic"]}, "clean_first"),
        ({"protocl": "hard"}, "unknown key 'protocl'"),
        ({"options": {"random": {"steps": 3}}}, "unknown key 'steps'"),
        ({"options": {"dm": {}}}, "options for 'dm', which is not among its methods"),
        ({"methods": ["dmis@"]}, "variant 'dmis@' has no options of its own"),
        ({"methods": ["dmis@long"], "options": {"dmis": {"train": {"steps": 9}}}}, "'dmis@long' has no options"),
        ({"methods": ["dmiss@long"], "options": {"dmiss@long": {"train": {}}}}, "did you mean dmis"),
        ({"methods": ["dmis@a"], "options": {"dmis@a": {"drown": 1}}}, "options for 'dmis@a' has an unknown key"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        cells(**changed)


def test_a_recipe_for_one_set_is_no_benchmark() -> None:
    with pytest.raises(UserError, match=r"lists its `settings`.*dmis condense -c"):
        read_benchmark(shipped("digits-sym40") | parse_overrides(["ipc=[1]"]))
