"""A benchmark's recipe becomes cells: how many, how they are called, what they share, what is refused."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from condense import methods
from condense.benchmark.grid import Cell, expand
from condense.benchmark.grid_recipe import layers_of, overridden, read_benchmark
from condense.benchmark.runner import dry_run
from condense.classifiers import arms
from condense.data.digits import load as digits
from condense.data.noise import imprecise
from condense.data.noise_spec import parse_noise
from condense.data.types import Supervision
from condense.errors import UserError
from condense.evaluate.results import entries
from condense.pipeline.classify import OF_GENERATORS, labels_like, why_not
from condense.pipeline.plan import Request, make_plan, read_config
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


def test_sizes_share_a_generator_and_methods_share_the_repair_of_labels() -> None:
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


def test_labels_are_repaired_alike_for_every_method_of_a_setting() -> None:
    """Options of the method DMIS are not those of the DMIS that repairs labels, whichever of them runs first."""
    digits = {"settings": [{"name": "digits", "noise": "sym:0.4"}], "seeds": [0], "clean_first": ["dmis"], "ipc": [1]}
    found = cells(**digits, methods=["random", "dmis"], options={"dmis": {"train": {"steps": 77}}})
    plans = [make_plan(Request(named=cell.planned)) for cell in found]
    assert plans[1].options.train.steps == 77 != plans[1].labeller.train.steps
    assert plans[0].labeller == plans[1].labeller
    given = cells(**digits, methods=["random", "dmis"], generators={"digits": "cifar10-sym40"})
    asked = read_config("cifar10-sym40")["train"]
    assert {cell.recipe["labeller"]["train"]["steps"] for cell in given} == {asked["steps"]}
    assert given[0].repaired_by == given[1].repaired_by and "draw" not in given[0].recipe["labeller"]


def test_a_set_is_scored_once_in_each_way() -> None:
    plain = {
        "settings": [{"name": "digits"}],
        "seeds": [0],
        "ipc": [1],
        "clean_first": ["none"],
        "methods": ["random", "rded"],
    }
    for again in ({"protocol": "hard"}, {"protocol": "hard", "network": "convnet3", "repeats": 2}):
        with pytest.raises(UserError, match="scores every set twice by the protocol hard with convnet3"):
            cells(**plain, evaluate={"protocol": "hard"}, also=[again])
    soft = {"protocol": "soft", "network": "convnet3"}
    with pytest.raises(UserError, match="twice by the protocol soft"):
        cells(**plain, also=[soft, soft | {"repeats": 2}])
    found = cells(**plain, judged={"rded": soft}, also=[soft])
    assert [(cell.recipe["method"], cell.recipe["evaluate"]["protocol"]) for cell in found] == [
        ("random", "hard"),
        ("random", "soft"),
        ("rded", "soft"),
    ]


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


def test_a_row_shares_the_generator_of_its_method_if_the_same_is_trained() -> None:
    def shared(own: dict[str, Any], **options: dict[str, Any]) -> list[str | None]:
        asked = {"methods": ["dmis"], "options": options, "rows": {"other": {"method": "dmis", "options": own}}}
        found = cells(**asked, ipc=[1], seeds=[0], settings=[{"name": "digits"}], clean_first=["none"])
        assert [cell.name for cell in found] == ["digits-none_dmis_ipc1_seed0", "digits-none_other_ipc1_seed0"]
        return [cell.shared for cell in found]

    own, both = "digits-none_other_seed0", "digits-none_dmis_seed0"
    assert shared({"draw": {"pool": 1}}) == [both, both]
    assert shared({"train": {"steps": 3}}) == [both, own]
    assert shared({"train": {"steps": 3}, "draw": {"pool": 1}}, dmis={"train": {"steps": 3}}) == [both, both]
    # without the word of the recipe there may be a second stage in one and not in the other
    assert shared({"drawn": "as-published"}) == [both, own]
    assert shared({"drawn": "as-published", "second_stage": None}, dmis={"second_stage": None}) == [both, both]


def test_all_methods_may_be_requested_and_options_reach_their_method() -> None:
    found = cells(methods="all", options={"dmis": {"train": {"steps": 3}}}, quick=True, evaluate={"repeats": 2})
    assert {cell.recipe["method"] for cell in found} == set(methods.names())
    assert {"train" in cell.recipe for cell in found if cell.recipe["method"] == "dmis"} == {True}
    assert {"train" in cell.recipe for cell in found if cell.recipe["method"] != "dmis"} == {False}
    assert all(cell.recipe["quick"] and cell.recipe["evaluate"]["repeats"] == 2 for cell in found)


def test_folders_of_the_same_name_are_distinguished(tmp_path: Path) -> None:
    here = [{"name": str(tmp_path / part / "shoes"), "noise": "none"} for part in "ab"]
    found = cells(settings=here, methods=["random"], clean_first=["none"])
    assert len({cell.name for cell in found}) == 8
    assert {cell.setting for cell in found} == {f"shoes none ({tmp_path / part / 'shoes'})" for part in "ab"}
    results = [dataclasses.replace(cell.result(), status="done", accuracies=(60.0,), mean=60.0) for cell in found]
    assert len(entries(results)) == 2 * 2, "data sets of one name are not seeds of one"
    assert {cell.setting for cell in cells(settings=here[:1])} == {"shoes none"}
    assert all(cell.name.startswith("shoes-none_") and "/" not in cell.name for cell in found)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"methods": ["random", "random"]}, "the cell digits-sym-0.4_random_ipc1_seed0 2 times"),
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
    ],
)
def test_impossible_requests_are_refused_before_anything_runs(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        cells(**changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"methods": ["ranom"]}, "did you mean random"),
        ({"rows": {"new": {"method": "rdedd"}}}, "did you mean rded"),
        ({"methods": [], "classifiers": ["elrr"]}, "did you mean elr"),
    ],
)
def test_an_unknown_method_is_refused_with_the_nearest_name(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    plain = {"methods": ["random"], "settings": [{"name": "digits", "noise": "sym:0.4"}], "ipc": [1]}
    (tmp_path / "grid.yaml").write_text(json.dumps(plain | changed))
    with pytest.raises(UserError, match=said):
        dry_run(str(tmp_path / "grid.yaml"), tmp_path / "out")


def tables(**changed: Any) -> list[Cell]:
    plain = {"methods": ["vanilla", "dmis"], "settings": [{"name": "digits", "noise": "sym:0.4"}], "ipc": []}
    return expand(read_benchmark(plain | changed))


def test_samples_and_classifiers_are_cells_that_share_the_generators_of_the_sets() -> None:
    found = tables(ipc=[10], generation={"samples": 20}, classifiers=["elr", "dmis", "dmis-ce"], seeds=[0, 1])
    names = [cell.name for cell in found if cell.recipe["seed"] == 1]
    assert names == [
        "digits-sym-0.4_vanilla_ipc10_seed1",
        "digits-sym-0.4_dmis_ipc10_seed1",
        "digits-sym-0.4_vanilla_samples_seed1",
        "digits-sym-0.4_dmis_samples_seed1",
        "digits-sym-0.4_classifier-elr_seed1",
        "digits-sym-0.4_classifier-dmis_seed1",
        "digits-sym-0.4_classifier-dmis-ce_seed1",
    ]
    shared = {cell.name: cell.shared for cell in found}
    of_dmis = {shared[name] for name in names if "dmis" in name}
    assert of_dmis == {"digits-sym-0.4_dmis_seed1"} and shared["digits-sym-0.4_classifier-elr_seed1"] is None
    tasks = [cell.task for cell in found[:7]]
    assert tasks == ["condensation"] * 2 + ["generation"] * 2 + ["weak-supervision"] * 3
    assert [cell.method for cell in found[4:7]] == ["elr", "dmis", "dmis-ce"]
    assert all(cell.result().ipc == (10 if cell.task == "condensation" else None) for cell in found)


def test_classifiers_are_trained_where_they_take_the_labels() -> None:
    settings = [{"name": "digits", "noise": noise} for noise in ("sym:0.4", "partial:0.5", "unlabeled:0.1")]
    found = tables(methods=[], settings=settings, classifiers="all")
    by_setting = {
        data["noise"]: {c.method for c in found if c.recipe["data"]["noise"] == data["noise"]} for data in settings
    }
    assert {"ce", "elr", *OF_GENERATORS} <= by_setting["sym:0.4"] and "proden" not in by_setting["sym:0.4"]
    assert "proden" in by_setting["partial:0.5"] and "elr" not in by_setting["partial:0.5"]
    assert "fixmatch" in by_setting["unlabeled:0.1"] and "fixmatch" not in by_setting["partial:0.5"]
    assert set().union(*by_setting.values()) == {*arms.names(), *OF_GENERATORS}


@pytest.mark.parametrize(
    "noise", ["none", "sym:0.4", "partial:0.5", "annotators:0.3", "unlabeled:0.1", "mix:clean=0.5,partial:0.5=0.5"]
)
def test_arms_are_checked_against_the_labels_beforehand(noise: str) -> None:
    given = imprecise(digits(), parse_noise(noise), 0)[0].supervision
    if "unlabeled" not in noise:  # a set that holds every class by chance is not what is meant
        kept = ~given.unlabelled
        given = Supervision(given.candidates[kept], given.trusted[kept])
    for arm in arms.names():
        assert (why_not(arm, given) is None) == (why_not(arm, labels_like(noise)) is None), arm


def test_options_of_generators_come_from_a_recipe_by_data_set_and_are_overlaid() -> None:
    found = tables(
        methods=["dmis", "vanilla", "random"],
        settings=[{"name": "digits", "noise": "sym:0.4"}, {"name": "cifar10", "noise": "sym:0.4"}],
        ipc=[1],
        generators={"cifar10": "cifar10-sym40"},
        options={"dmis": {"train": {"steps": 3}}},
    )
    by = {(cell.recipe["data"]["name"], cell.method): cell.recipe for cell in found}
    wanted = shipped("cifar10-sym40")
    assert by["cifar10", "dmis"]["train"] == wanted["train"] | {"steps": 3}
    assert by["cifar10", "vanilla"]["train"] == wanted["train"] and by["cifar10", "vanilla"]["draw"] == wanted["draw"]
    assert by["digits", "dmis"]["train"] == {"steps": 3} and "train" not in by["digits", "vanilla"]
    assert "train" not in by["cifar10", "random"]


def test_a_setting_may_stand_beside_another_column_of_the_paper() -> None:
    settings = [{"name": "digits", "noise": "sym:0.4", "published": {"data": "cifar10"}}]
    (cell,) = tables(methods=["random"], settings=settings, ipc=[10])
    assert cell.published == ("cifar10", "sym:0.4") and "published" not in cell.recipe["data"]
    named = [{"name": "cifar10", "labels": "human.pt::worst", "published": {"noise": "cifar10n"}}]
    (cell,) = tables(methods=["random"], settings=named, ipc=[10])
    assert cell.published == ("cifar10", "cifar10n")


def test_a_recipe_extends_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("{title: A, ipc: [1], options: {dm: {iterations: 3, real_batch: 4}}}")
    Path("b.yaml").write_text("{extends: a.yaml, title: B, options: {dm: {iterations: 5}}}")
    assert layers_of("b.yaml") == {"title": "B", "ipc": [1], "options": {"dm": {"iterations": 5, "real_batch": 4}}}
    Path("a.yaml").write_text("extends: b.yaml")
    with pytest.raises(UserError, match="a cycle"):
        layers_of("b.yaml")


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        ("rows=null", {}),
        ("rows={}", {}),
        ("rows.wide=null", {"plain": {"method": "dm", "options": {"iterations": 3}}}),
        ("rows.wide.options={}", {"plain": {"method": "dm", "options": {"iterations": 3}}, "wide": {"method": "dm"}}),
    ],
)
def test_overrides_take_out_rows(setting: str, left: dict[str, Any]) -> None:
    below = {
        "rows": {
            "plain": {"method": "dm", "options": {"iterations": 3}},
            "wide": {"method": "dm", "options": {"width": 64}},
        },
        "settings": [{"name": "digits"}],
    }
    recipe = read_benchmark(overridden(below, parse_overrides([setting])))
    assert {name: row.model_dump(exclude_defaults=True) for name, row in recipe.rows.items()} == left


def test_null_is_a_value_of_options_and_takes_out_only_what_is_there() -> None:
    below = {
        "options": {"dmis": {"second_stage": {"train": {}}}, "dm": {"iterations": 3}},
        "generation": {"samples": 5},
        "generators": {"digits": "digits-sym40", "cifar10": "cifar10-sym40"},
    }
    asked = ["options.dmis.second_stage=null", "options.dm=null", "generation=null", "generators.digits=null"]
    assert overridden(below, parse_overrides(asked)) == {
        "options": {"dmis": {"second_stage": None}},
        "generators": {"cifar10": "cifar10-sym40"},
    }
    with pytest.raises(UserError, match=r"'rows.typo' is null"):
        read_benchmark(overridden({"settings": [{"name": "digits"}]}, parse_overrides(["rows.typo=null"])))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"methods": ["random"], "generation": {}}, "none of its methods has a generator"),
        ({"generation": None}, "makes no sets, because ipc is empty"),
        ({"methods": ["dmis", "random"], "generation": {}}, "nothing to do for 'random'"),
        ({"methods": ["dmis"], "generation": {"space": "clip"}}, "no feature space is called 'clip'"),
        ({"methods": ["dmis"], "generation": {"space": "inception"}}, "belong together"),
        ({"methods": ["dmis"], "generation": {"sample": 3}}, "unknown key 'generation.sample'"),
        ({"methods": [], "classifiers": ["elr"], "options": {"elr": {"strenght": 3}}}, "did you mean 'strength'"),
        ({"methods": [], "classifiers": ["elr"], "options": {"gce": {}}}, "options for 'gce'"),
        ({"methods": [], "classifiers": ["elr"], "fit": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"methods": [], "classifiers": ["elr"], "clean_first": ["oracle"]}, "with the labels as given"),
        ({"methods": [], "classifiers": "all", "settings": [{"name": "digits", "labels": "x.npy"}]}, "name some in"),
        ({"methods": [], "classifiers": ["elr", "proden"]}, "'proden' accepts the labels of none.*candidate sets"),
        ({"ipc": [1], "generators": {"digits": "nowhere"}}, "There is no recipe 'nowhere'"),
    ],
)
def test_impossible_samples_and_classifiers_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        tables(**changed)


def test_a_recipe_for_one_set_is_not_a_benchmark() -> None:
    with pytest.raises(UserError, match=r"needs a list of `settings`.*dmis condense -c"):
        read_benchmark(shipped("digits-sym40") | parse_overrides(["ipc=[1]"]))
