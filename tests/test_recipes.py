"""Every recipe that ships can be read, and all of them ship."""

from importlib import resources
from pathlib import Path

import pytest

from condense import methods
from condense.commands._plan import read_config, resolve_options
from condense.data import corrupt, sources
from condense.methods._generate import GeneratorOptions
from condense.recipe import generator_defaults, read_yaml, shipped

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.rglob("*.yaml") if not path.stem.startswith("generator-"))


def test_all_are_found_and_ship() -> None:
    found = {entry.name for entry in resources.files("condense.recipes").iterdir() if entry.name.endswith(".yaml")}
    assert found == {path.name for path in FOLDER.rglob("*.yaml")}
    assert len(RECIPES) == len(found) - 3 > 0


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_resolves_and_opens_with_its_source(name: str) -> None:
    recipe, options, _ = resolve_options(read_config(name), {}, methods.load(shipped(name)["method"]), 32)
    assert recipe.data.name in sources.NAMES and corrupt.parse(recipe.data.noise).rate == 0.4
    assert isinstance(options, GeneratorOptions)
    comments = [line for line in (FOLDER / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert f"dmis condense -c {name}" in "".join(comments) and "https://arxiv.org/abs/2510.03016" in "".join(comments)


@pytest.mark.parametrize("side", [8, 28, 64])
def test_generator_defaults_fit_their_options(side: int) -> None:
    assert GeneratorOptions.model_validate(generator_defaults(side)).generator is None


def test_a_recipe_is_a_path_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits-sym40").write_text("ipc: 3")
    assert read_config("digits-sym40") == {"ipc": 3} == read_yaml(Path("digits-sym40"))
