"""Every recipe that ships can be read, and all of them ship."""

from importlib import resources
from pathlib import Path

import pytest

from condense import methods
from condense.benchmark.grid import expand, read_benchmark
from condense.data import corrupt, sources
from condense.data.noise_spec import parse_noise
from condense.evaluate.reference import published
from condense.methods._generate import GeneratorOptions
from condense.pipeline.plan import read_config, resolve_options
from condense.recipe import generator_defaults, read_yaml, shipped

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.rglob("*.yaml") if not path.stem.startswith("generator-"))
GRIDS = [name for name in RECIPES if "settings" in shipped(name)]
RUNS = sorted(set(RECIPES) - set(GRIDS))


def test_all_are_found_and_ship() -> None:
    found = {entry.name for entry in resources.files("condense.recipes").iterdir() if entry.name.endswith(".yaml")}
    assert found == {path.name for path in FOLDER.rglob("*.yaml")}
    assert len(RECIPES) == len(found) - 3 > 0


def comments(name: str) -> str:
    return "\n".join(line for line in (FOLDER / f"{name}.yaml").read_text().splitlines() if line.startswith("#"))


@pytest.mark.parametrize("name", RUNS)
def test_recipe_resolves_and_opens_with_its_source(name: str) -> None:
    recipe, options, _ = resolve_options(read_config(name), {}, methods.load(shipped(name)["method"]), 32)
    assert recipe.data.name in sources.NAMES and corrupt.parse(recipe.data.noise).rate == 0.4
    assert isinstance(options, GeneratorOptions)
    assert f"dmis condense -c {name}" in comments(name) and "https://arxiv.org/abs/2510.03016" in comments(name)


@pytest.mark.parametrize("name", GRIDS)
def test_benchmark_expands_and_opens_with_its_source_and_time(name: str) -> None:
    cells = expand(read_benchmark(read_config(name)))
    for method, side in {(cell.recipe["method"], cell.recipe["data"].get("image_size", 28)) for cell in cells}:
        recipe = next(cell.recipe for cell in cells if cell.recipe["method"] == method)
        resolve_options({}, recipe, methods.load(method), side)
    assert {cell.recipe["data"]["name"] for cell in cells} <= set(sources.NAMES)
    assert all(parse_noise(cell.recipe["data"]["noise"]) for cell in cells)
    told = comments(name)
    assert f"# Command: dmis benchmark {name} --out" in told
    assert ("https://arxiv.org/abs/2006.05929" if "-clean" in name else "https://arxiv.org/abs/2510.03016") in told
    assert "# Expected time: " in told and ("CPU" in told or ("GPU" in told and "Not run by us" in told))


@pytest.mark.parametrize("name", ["cifar10-sym40", "fashion-mnist-sym40", "imagenette-sym40"])
def test_a_recipe_of_the_papers_scale_owes_nothing_to_the_defaults_for_its_size(name: str) -> None:
    method = methods.load("dmis")
    found = [resolve_options(read_config(name), {}, method, side)[1] for side in (8, 32, 64)]
    assert isinstance(found[0], GeneratorOptions)
    plain = [options.model_dump(exclude={"train": {"helper"}}) for options in found]  # VolMinNet alone has one
    assert plain[0] == plain[1] == plain[2]
    assert (found[0].train.noisy_loss, found[0].train.transition) == ("elr", "estimate")


@pytest.mark.parametrize("name", [name for name in GRIDS if name.startswith("paper-")])
def test_generators_of_the_papers_tables_are_those_of_its_recipes(name: str) -> None:
    tables = read_config(name)["options"]
    recipe = read_config("imagenette-sym40" if "imagenette" in name else "cifar10-sym40")
    for section in ("network", "train", "draw", "second_stage"):
        assert tables["dmis"][section] == recipe[section]


def test_every_method_has_its_cells_on_digits() -> None:
    cells = expand(read_benchmark(read_config("digits")))
    assert len(cells) == len(methods.names()) * 2 * 2
    assert {cell.recipe["method"] for cell in cells} == set(methods.names())


def test_every_row_of_the_papers_tables_has_a_cell() -> None:
    cells = [cell for name in GRIDS if name.startswith("paper-") for cell in expand(read_benchmark(read_config(name)))]
    condensed = {(c.data, c.noise, c.ipc, c.method) for c in (cell.result() for cell in cells)}
    generated = {(data, noise, method) for data, noise, _, method in condensed}
    ours = [number for number in published() if number.paper == "arXiv 2510.03016"]
    for number in ours:
        method = number.method.casefold()
        if number.task == "condensation":
            assert (number.data, number.noise, number.ipc, method) in condensed
        elif number.task in ("generation", "weak-supervision") and method in methods.names():
            assert (number.data, number.noise, method) in generated
    real = [n for n in ours if n.task == "real-world" and n.metric == "accuracy"]
    assert {number.noise for number in real} == {"cifar10n", "plcifar10", "instance:0.4"}
    table_13 = {noise for data, noise, _ in generated if data == "cifar10" and ("labels" in noise or "inst" in noise)}
    assert table_13 == {"labels CIFAR-10_human.pt::worst", "labels plcifar10.pkl", "instance:0.4"}


@pytest.mark.parametrize("side", [8, 28, 64])
def test_generator_defaults_fit_their_options(side: int) -> None:
    assert GeneratorOptions.model_validate(generator_defaults(side)).generator is None


def test_a_recipe_is_a_path_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits-sym40").write_text("ipc: 3")
    assert read_config("digits-sym40") == {"ipc": 3} == read_yaml(Path("digits-sym40"))
    Path("digits").mkdir()  # a benchmark's folder may be called as its recipe
    assert read_config("digits") == shipped("digits")
