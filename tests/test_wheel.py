"""The wheel holds every file of the package and lives beside Hugging Face's `evaluate`.

Builds in a copy of the sources with the setuptools of this environment, so nothing is fetched and no build folder is
left behind.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import DRAWN, TINY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import condense

ROOT = Path(__file__).parents[1]
SMALL = ("--ipc", "1", *TINY, *DRAWN, "--set", "evaluate.protocol=quick", "--set", "evaluate.repeats=2", "--quiet")
PLACES = {"condense": "condense", "evaluate": "condense/evaluate", "recipes": "condense/recipes"}


def sources() -> list[Path]:
    """Files of the package's folders, relative to the root: those git tracks, or outside a checkout all there are."""
    if (ROOT / ".git").exists() and (git := shutil.which("git")):
        listed = subprocess.check_output([git, "ls-files", *PLACES], cwd=ROOT, text=True).splitlines()
        return [Path(line) for line in listed if (ROOT / line).exists()]
    files = (file.relative_to(ROOT) for folder in PLACES for file in (ROOT / folder).rglob("*") if file.is_file())
    return [file for file in files if "__pycache__" not in file.parts]


def python(*arguments: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for file in [*sources(), *map(Path, ("pyproject.toml", "README.md", "LICENSE"))]:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, tree / file)
    # what `python -m build` does: the sources are packed, and the wheel is made of what was packed
    python("-P", "-m", "build", "--no-isolation", "--outdir", str(out), cwd=tree)
    (built,) = out.glob("*.whl")
    assert len(list(out.glob("*.tar.gz"))) == 1
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the wheel alone; its requirements come from this environment."""
    target = tmp_path_factory.mktemp("site")
    python("-P", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(target),
           str(wheel), cwd=target)  # fmt: skip
    return target


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {f"{PLACES[file.parts[0]]}/{'/'.join(file.parts[1:])}" for file in sources()}
    assert len(wanted) > 60
    assert found == wanted


def test_the_wheel_says_what_it_is(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
    assert "Name: dmis\n" in metadata and f"Version: {condense.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata and "Requires-Dist: torch>=" in metadata
    (scripts,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "dmis = condense.cli:main" in scripts


LOCATE = """
import json, condense.evaluate, condense.recipes, evaluate
from condense.evaluate import score, report
from condense.recipe import generator_defaults
print(json.dumps({"ours": condense.evaluate.__file__, "recipes": condense.recipes.__file__,
                  "theirs": evaluate.__file__, "defaults": generator_defaults(8)}))
"""


def test_ours_and_hugging_faces_evaluate_live_in_one_process(installed, tmp_path):
    target = installed
    told = python("-P", "-c", LOCATE, cwd=tmp_path, PYTHONPATH=str(target), HF_HUB_OFFLINE="1")
    found = json.loads(told.splitlines()[-1])
    assert Path(found["ours"]) == target / "condense" / "evaluate" / "__init__.py"
    assert Path(found["recipes"]) == target / "condense" / "recipes" / "__init__.py"
    assert Path(found["theirs"]).parts[-2:] == ("evaluate", "__init__.py")
    # in the environment's packages, wherever that lies (a newcomer's .venv is inside the checkout)
    assert "site-packages" in Path(found["theirs"]).parts and target not in Path(found["theirs"]).parents
    assert found["defaults"]["train"]


def test_the_wheel_runs_the_demo_by_itself(installed, tmp_path):
    where = python("-P", "-c", "import condense; print(condense.__file__)", cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(where.strip()) == installed / "condense" / "__init__.py"
    told = python("-P", "-m", "condense", "demo", *SMALL, "--json", cwd=tmp_path, PYTHONPATH=str(installed))
    assert json.loads(told)["condensed_accuracy"].keys() == {"random", "vanilla", "dmis"}
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000


def test_constraints_pin_every_requirement_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    requirements = [Requirement(each) for each in wanted if not each.startswith("dmis[")]
    assert len(requirements) > 30
    for requirement in requirements:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
