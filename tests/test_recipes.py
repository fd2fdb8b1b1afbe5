"""Every recipe that ships can be read, and all of them ship."""

from functools import cache
from importlib import resources
from pathlib import Path

import pytest

from condense import methods
from condense.benchmark.grid import Cell, expand
from condense.benchmark.grid_recipe import layers_of, read_benchmark
from condense.data import corrupt, sources
from condense.data.noise_spec import parse_noise
from condense.evaluate.reference import Published, published
from condense.evaluate.results import beside
from condense.evaluate.sample_results import PAPERS
from condense.methods._generate import GeneratorOptions
from condense.pipeline.plan import GENERATOR_SECTIONS, read_config, resolve_options
from condense.recipe import generator_defaults, read_yaml, shipped

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.rglob("*.yaml") if not path.stem.startswith("generator-"))
GRIDS = [name for name in RECIPES if {"settings", "extends"} & set(shipped(name))]
TABLES = ("1", "2", "3", "8", "9", "11", "13")
RUNS = sorted(set(RECIPES) - set(GRIDS))


def test_all_are_found_and_ship() -> None:
    found = {entry.name for entry in resources.files("condense.recipes").iterdir() if entry.name.endswith(".yaml")}
    assert found == {path.name for path in FOLDER.rglob("*.yaml")}
    assert len(RECIPES) == len(found) - 3 > 0


@cache
def grid(name: str) -> tuple[Cell, ...]:
    """The cells of a shipped benchmark, read and expanded once."""
    return tuple(expand(read_benchmark(layers_of(name))))


def comments(name: str) -> str:
    return "\n".join(line for line in (FOLDER / f"{name}.yaml").read_text().splitlines() if line.startswith("#"))


@pytest.mark.parametrize("name", RUNS)
def test_recipe_resolves_and_opens_with_its_source(name: str) -> None:
    recipe, options, _ = resolve_options(read_config(name), {}, methods.load(shipped(name)["method"]), 32)
    assert recipe.data.name in sources.TABLE and corrupt.parse(recipe.data.noise).rate == 0.4
    assert isinstance(options, GeneratorOptions)
    assert f"dmis condense -c {name}" in comments(name) and "https://arxiv.org/abs/2510.03016" in comments(name)


@pytest.mark.parametrize("name", GRIDS)
def test_benchmark_expands_and_opens_with_its_source_and_time(name: str) -> None:
    cells = grid(name)
    for method, side in {(cell.recipe["method"], cell.recipe["data"].get("image_size", 28)) for cell in cells}:
        recipe = next(cell.planned for cell in cells if cell.recipe["method"] == method)
        resolve_options({}, recipe, methods.load(method), side)
    assert {cell.recipe["data"]["name"] for cell in cells} <= set(sources.TABLE)
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
    assert (found[0].train.noisy_loss, found[0].train.transition) == ("forward", "estimate")


def test_each_table_of_the_paper_has_a_recipe_and_a_twin() -> None:
    tables = {f"{kind}-table{table}" for kind in ("paper", "twin") for table in TABLES}
    assert tables == {name for name in GRIDS if name.startswith(("paper-", "twin-"))}
    assert {number.table for number in published() if number.paper == "arXiv 2510.03016"} <= set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_generators_of_the_papers_tables_are_those_of_its_recipes(table: str) -> None:
    trained = [cell for cell in grid(f"paper-table{table}") if cell.trains == "generator"]
    assert trained
    for cell in trained:
        wanted = read_config(f"{cell.recipe['data']['name']}-sym40")
        assert {key: cell.recipe[key] for key in GENERATOR_SECTIONS if key in cell.recipe} == {
            key: wanted[key] for key in GENERATOR_SECTIONS if key in wanted
        }


SIZES = {
    *("quick", "data.name", "data.image_size", "data.labels", "data.noise", "ipc", "seed"),
    *("evaluate.protocol", "evaluate.network", "evaluate.repeats"),
    *("network.channels", "network.multipliers", "network.blocks"),
    *("train.steps", "train.batch_size", "train.temperature", "train.precision", "draw.sampler_steps"),
    *("generation.samples", "generation.space", "generation.weights", "generation.steps"),
    *(
        "classifier.fit.network",
        "classifier.fit.epochs",
        "classifier.options.dmis-ce",
        "classifier.options.dmis-ce.per_class",
    ),
    *("backbone", "teacher.network", "teacher.epochs", "teacher.learning_rate"),
}
"""What a twin may have otherwise: how large everything is, which images and labels, and who judges."""


def flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, keys joined by dots."""
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize("table", TABLES)
def test_a_twin_differs_from_its_paper_recipe_in_sizes_alone(table: str) -> None:
    """Each kind of cell is there in both, with the same keys and, but for sizes, the same values."""
    paper, twin = grid(f"paper-table{table}"), grid(f"twin-table{table}")
    assert {(cell.task, cell.method) for cell in paper} == {(cell.task, cell.method) for cell in twin}
    assert {cell.published for cell in twin} <= {cell.published for cell in paper} or table == "11"
    assert {cell.recipe["data"]["name"] for cell in twin} == {"digits"}
    for cell in twin:
        alike = (each for each in paper if (each.task, each.method) == (cell.task, cell.method))
        other, own = flat(dict(next(alike).recipe)), flat(dict(cell.recipe))
        changed = {key for key in other.keys() | own.keys() if other.get(key) != own.get(key)}
        assert changed <= SIZES, cell.name
        if cell.trains == "generator":
            assert {key for key in other if key.startswith("train.")} == {
                key for key in own if key.startswith("train.")
            }


def test_every_method_has_its_cells_on_digits() -> None:
    cells = grid("digits")
    assert len(cells) == len(methods.names()) * 2 * 2
    assert {cell.recipe["method"] for cell in cells} == set(methods.names())


def beside_cells(name: str) -> set[Published]:
    """The published numbers that stand beside the cells of a recipe."""
    found: set[Published | None] = set()
    for cell in grid(name):
        result = cell.result()
        metrics = set(PAPERS.values()) if result.task == "generation" else {"accuracy"}
        found |= {beside(result, metric=metric) for metric in metrics}
    return {number for number in found if number is not None}


@pytest.mark.parametrize("table", [table for table in TABLES if table != "11"])
def test_every_number_of_the_papers_tables_stands_beside_a_cell_of_its_recipe(table: str) -> None:
    wanted = {n for n in published() if (n.paper, n.table) == ("arXiv 2510.03016", table)}
    missing = wanted - beside_cells(f"paper-table{table}")
    assert wanted and not missing


@pytest.mark.parametrize("side", [8, 28, 64])
def test_generator_defaults_fit_their_options(side: int) -> None:
    assert GeneratorOptions.model_validate(generator_defaults(side)).generator is None


def test_a_recipe_is_a_path_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits-sym40").write_text("ipc: 3")
    assert read_config("digits-sym40") == {"ipc": 3} == read_yaml(Path("digits-sym40"))
    Path("digits").mkdir()  # a benchmark's folder may be called as its recipe
    assert read_config("digits") == shipped("digits")
