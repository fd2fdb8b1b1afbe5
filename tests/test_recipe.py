"""Reading, overriding and checking recipes."""

import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest
import yaml

from condense import methods
from condense.errors import UserError
from condense.methods._generate import GeneratorOptions
from condense.pipeline.plan import resolve_options
from condense.recipe import (
    DataRecipe,
    Recipe,
    generator_defaults,
    merge,
    parse,
    parse_overrides,
    read_yaml,
    resolve,
    shipped,
)

ROOT = Path(__file__).parents[1]


# --set


def test_overrides_nest_and_are_read_as_yaml():
    found = parse_overrides(
        [
            "train.steps=2000",
            "train.form=mixture",
            "ipc=5",
            "network.multipliers=[1, 2]",
            "train.top_k=",
            "data.name=a=b",
        ]
    )
    assert found == {
        "train": {"steps": 2000, "form": "mixture", "top_k": None},
        "ipc": 5,
        "network": {"multipliers": [1, 2]},
        "data": {"name": "a=b"},
    }


@pytest.mark.parametrize("wrong", ["train.steps", "=3", ".a=1", "a.=1", "a..b=1", ""])
def test_malformed_overrides_are_refused(wrong):
    with pytest.raises(UserError, match=r"not of the form a\.b=value"):
        parse_overrides([wrong])


def test_overrides_that_contradict_or_are_not_yaml_are_refused():
    with pytest.raises(UserError, match="sets a part of something that another --set gave a value"):
        parse_overrides(["train=3", "train.steps=4"])
    with pytest.raises(UserError, match="the value is not YAML"):
        parse_overrides(["train.steps=[1"])


# merging and resolving


def test_the_last_layer_wins_key_by_key_and_inputs_stay_as_they_are():
    low, high = {"train": {"steps": 1, "form": "x"}, "ipc": 1}, {"train": {"steps": 2}, "seed": 3}
    assert merge(low, high) == {"train": {"steps": 2, "form": "x"}, "ipc": 1, "seed": 3}
    assert low == {"train": {"steps": 1, "form": "x"}, "ipc": 1}
    assert merge({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}, "lists are replaced, not joined"
    assert merge() == {}


def test_keys_a_recipe_does_not_know_become_the_methods_options():
    recipe = resolve({"ipc": 3, "train": {"steps": 5}, "options": {"train": {"form": "sampled"}, "draw": {"pool": 2}}})
    assert recipe.ipc == 3
    assert recipe.options == {"train": {"form": "sampled", "steps": 5}, "draw": {"pool": 2}}


@pytest.mark.parametrize("wrong", [{"options": 3}, {"options": [1]}])
def test_options_that_are_not_a_mapping_are_refused(wrong):
    with pytest.raises(UserError, match="where names with values are needed"):
        resolve(wrong)


def test_the_noise_has_the_recipes_seed_unless_given_its_own():
    assert resolve({"seed": 4}).noise_seed == 4
    assert resolve({"seed": 4, "data": {"noise_seed": 0}}).noise_seed == 0


def test_numbers_such_as_1e_4_which_yaml_reads_as_text_are_numbers():
    read = yaml.safe_load("train: {learning_rate: 1e-4, posterior_sigmas: [1e-1]}")
    assert read["train"]["learning_rate"] == "1e-4", "the trap this test is about"
    options = parse(GeneratorOptions, read, "recipe")
    assert options.train.learning_rate == 1e-4 and options.train.posterior_sigmas == (0.1,)
    assert parse(GeneratorOptions, parse_overrides(["train.learning_rate=1e-4"]), "x").train.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": {"nmae": "x"}}, "unknown key 'data.nmae'; did you mean 'name'?"),
        ({"evaluate": {"repeat": 3}}, "unknown key 'evaluate.repeat'; did you mean 'repeats'?"),
        ({"ipc": 0}, "key 'ipc' is 0: Input should be greater than or equal to 1"),
        ({"data": {"name": None}}, "key 'data.name' is null"),
        ({"ipc": "many"}, "key 'ipc' is \"many\": Input should be a valid integer"),
        (
            {"clean_first": "both"},
            "key 'clean_first' is \"both\": Input should be 'none', 'dmis', 'labeller', 'cleanlab' or",
        ),
    ],
)
def test_wrong_recipes_are_refused_with_place_and_reason(values, message):
    with pytest.raises(UserError) as caught:
        resolve(values)
    assert message in str(caught.value)


@pytest.mark.parametrize("rate", ["1e999", ".inf", ".nan", "inf"])
def test_options_are_finite(rate):
    with pytest.raises(UserError, match=r"key .train\.learning_rate. is"):
        parse(GeneratorOptions, parse_overrides([f"train.learning_rate={rate}"]), "x")


def test_misspelt_method_options_get_the_nearest_name_wherever_it_lies():
    options = methods.load("dmis").Options
    for asked, meant in (("train.stepz", "steps"), ("chanels", "channels"), ("draw.samplr_steps", "sampler_steps")):
        with pytest.raises(UserError, match=f"unknown key '{asked}'; did you mean '{meant}'"):
            parse(options, parse_overrides([f"{asked}=1"]), "recipe")
    with pytest.raises(UserError, match="unknown key 'qqqqqqq'; the keys are generator, network, train"):
        parse(options, {"qqqqqqq": 1}, "recipe")


def test_a_resolved_recipe_survives_json():
    recipe = resolve({"method": "random", "data": {"root": "somewhere"}, "train": {"steps": 3}})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_recipes_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        DataRecipe().name = "other"


# files


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1", "is not YAML"),
        ("- 1", "must be a mapping"),
        ("", "must be a mapping"),
        ("3: x", "maps names to values, but 3 is not a name; quote it"),
    ],
)
def test_files_that_are_not_recipes_are_refused(tmp_path, text, complaint):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_yaml(file)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="is not YAML"):
        read_yaml(tmp_path / "b.yaml")


def test_generator_defaults_follow_the_image_size():
    assert generator_defaults(8) == generator_defaults(16) == shipped("generator-8px")
    assert (
        generator_defaults(28) == generator_defaults(40) == generator_defaults(40, 60_000) == shipped("generator-28px")
    )
    assert generator_defaults(64) == generator_defaults(500) == shipped("generator-64px")


def test_few_images_are_passed_a_hundred_times_at_most():
    steps = {images: generator_defaults(28, images)["train"]["steps"] for images in (1, 300, 639, 640, 50_000)}
    assert steps == {1: 2, 300: 469, 639: 999, 640: 1000, 50_000: 1000}
    few, many = generator_defaults(28, 300), generator_defaults(28)
    few["train"]["steps"] = many["train"]["steps"]
    assert few == many  # the stage that draws learns no labels
    assert generator_defaults(8, 300) == generator_defaults(8)


def test_the_recipes_that_ship_are_those_in_the_repository_and_all_resolve():
    shipping = sorted(e.name for e in resources.files("condense.recipes").iterdir() if e.name.endswith(".yaml"))
    assert shipping
    if (ROOT / ".git").exists() and (git := shutil.which("git")):
        listed = subprocess.run(
            [git, "ls-files", "recipes/*.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert shipping == sorted(Path(line).name for line in listed.stdout.splitlines())
    for name in shipping:
        if {"settings", "extends"} & shipped(name.removesuffix(".yaml")).keys():
            continue  # a benchmark: tests/test_recipes.py expands it
        recipe = resolve(shipped(name.removesuffix(".yaml")))
        parse(methods.load(recipe.method).Options, recipe.options, name)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "9" * 5000,
        "a: " + "[" * 5000,
        "a: " + "[" * 50 + "]" * 50,
        "a: &x [*x]",
        "a: &x {b: *x}",
        "a: !!binary aGk=",
        "a: !!set {b, c}",
        "a: !!python/object/apply:os.system [ls]",
        "a: {1: 2}",
        "? [a, b]\n: c",
        "? {a: b}\n: c",
        "a: 99999999999999999999999",
        "a: !!int x",
        "a: !!float x",
        "a: !!timestamp x",
        "a: \x00",
        "b: &b [1, 1]\n"
        + "\n".join(f"b{i}: &b{i} [*b{i - 1 if i else ''}, *b{i - 1 if i else ''}]" for i in range(40)),
        "a: 1\n" * 300_000,
    ],
)
def test_yaml_of_all_sorts_is_a_sentence(tmp_path, text):
    """Dates that are none, 5,000 digits, deep nesting, cycles."""
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"r\.yaml") as caught:
        read_yaml(file)
    assert len(str(caught.value)) < 1000


def test_dates_are_text(tmp_path):
    """`2024-99-99` was a traceback."""
    (tmp_path / "r.yaml").write_text("a: 2024-01-01\nb: 2024-99-99\n")
    assert read_yaml(tmp_path / "r.yaml") == {"a": "2024-01-01", "b": "2024-99-99"}


@pytest.mark.parametrize("value", ["2000", "[1]", "text", "null", "true"])
@pytest.mark.parametrize("section", ["train", "network", "data", "evaluate", "labeller"])
def test_a_value_where_a_section_is_due_is_refused(section, value):
    """`train: 2000` was dropped in silence and defaults changed."""
    file = {"method": "dmis", **parse_overrides([f"{section}={value}"])}
    for method in ("dmis", "random"):
        for given in ({**file, "method": method}, {**file, "method": method, "clean_first": "dmis"}):
            with pytest.raises(UserError, match=f"{section}"):
                resolve_options(given, {}, methods.load(method), 8)


def test_sections_that_may_be_left_out_can_be(tmp_path):
    """Null takes away what may lack, and nothing else."""
    options = resolve_options({"method": "dmis", "second_stage": None}, {}, methods.load("dmis"), 28)[1]
    assert options.second_stage is None
    with pytest.raises(UserError, match="'second_stage' is 3"):
        resolve_options({"method": "dmis", "second_stage": 3}, {}, methods.load("dmis"), 28)


def test_a_section_where_a_value_is_due_is_refused_with_both():
    with pytest.raises(UserError, match=r"'steps' is 600 in one place .*, and \{'a': 1\} in another"):
        merge({"train": {"steps": 600}}, {"train": {"steps": {"a": 1}}})
    with pytest.raises(UserError, match="section 'train' is 2000"):
        merge({"train": {"steps": 600}}, {"train": 2000})


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 10**30])
def test_seeds_that_no_library_takes_are_refused_beforehand(seed):
    """A seed of 2^64 was a TypeError after the work."""
    for values in ({"seed": seed}, {"data": {"noise_seed": seed}}):
        with pytest.raises(UserError, match="seed"):
            resolve(values)
    assert resolve({"seed": 2**63 - 1}).seed == 2**63 - 1
