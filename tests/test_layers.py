"""Imports point one way, and light modules stay light."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"condense": "condense", "evaluate": "condense.evaluate", "recipes": "condense.recipes"}

BASE = {
    *("changes", "errors", "text", "rng", "files", "machine", "run", "resumable", "watch", "tensor_file"),
    *("options", "plugins", "precision", "json_values", "processes"),
}
VALUES = {"packing", "preprocessing", "sets", "grid", "augment", "data"}
ALLOWED: dict[str, set[str]] = {
    "allocator": set(),
    "console": {"text"},
    "changes": set(),
    "notices": set(),
    "errors": set(),
    "options": set(),
    "plugins": {"errors", "options"},
    "precision": set(),
    "rng": set(),
    "text": set(),
    "files": {"errors", "text"},
    "machine": {"errors", "precision"},
    "processes": {"errors", "machine", "run"},
    "json_values": set(),
    "tensor_file": {"errors", "json_values"},
    "resumable": {"json_values", "machine", "run"},
    "run": {"changes", "errors", "files", "json_values", "machine", "tensor_file", "watch", "package"},
    "watch": {"errors"},
    "packing": {"errors"},
    "preprocessing": {"errors"},
    "augment": {"errors"},
    "data": {"errors", "text", "rng", "plugins", "preprocessing"},
    "grid": {"errors", "files", "data"},
    "sets": {
        *(
            "errors",
            "json_values",
            "text",
            "files",
            "run",
            "notices",
            "options",
            "packing",
            "preprocessing",
            "grid",
            "data",
            "package",
        ),
    },
    "classifiers": BASE | {"augment", "preprocessing", "data"},
    "generator": BASE | {"data", "preprocessing", "classifiers"},
    "methods": BASE | VALUES | {"classifiers", "generator"},
    "recipe": {"errors", "json_values", "options", "rng", "text"},
    "evaluate": BASE | VALUES | {"classifiers"},
    "recipes": {"sets", "data"},
    "pipeline": BASE | VALUES | {"notices", "classifiers", "generator", "methods", "recipe", "evaluate"},
    "front_door": BASE
    | VALUES
    | {"notices", "classifiers", "generator", "methods", "recipe", "evaluate", "pipeline", "benchmark"},
    "benchmark": BASE | VALUES | {"allocator", "classifiers", "generator", "methods", "recipe", "evaluate", "pipeline"},
}
"""Which parts of the package each part may import besides itself; `commands` and `cli` may import all below them."""


def modules():
    """Dotted name and file of every module of the package."""
    for folder, package in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), file


@cache
def imports(name, file):
    """Dotted names of what a module imports of the package, anywhere in the file; read once."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"condense.{alias.name}" for alias in node.names] if source == "condense" else [source]
    return found


def part(name):
    """The first part of a dotted name below `condense`; "package" for the package itself."""
    below = name.split(".")[1:]
    return below[0] if below and not below[0].startswith("__") else "package"


def arrows():
    for name, file in modules():
        for imported in imports(name, file):
            if imported.split(".")[0] == "condense":
                yield name, part(name), part(imported)


def test_the_whole_package_is_looked_at():
    found = list(modules())
    assert len(found) > 60
    assert {part(name) for name, _ in found} == ALLOWED.keys() | {"package", "commands", "cli"}
    assert ("condense.evaluate.score", "evaluate", "classifiers") in set(arrows())
    assert ("condense.methods._generate", "methods", "generator") in set(arrows())


def test_imports_point_one_way():
    wrong = [
        f"{name} imports {target}"
        for name, source, target in arrows()
        if source in ALLOWED and target != source and target not in ALLOWED[source]
    ]
    assert not wrong


def test_nobody_imports_the_command_line():
    of_commands = {source for _, source, target in arrows() if target == "commands"}
    of_cli = {name for name, source, target in arrows() if target == "cli" != source}
    assert of_commands <= {"commands", "cli"}
    assert of_cli <= {"condense.__main__"}


def test_a_generator_does_not_know_how_it_is_trained():
    trained = {
        name
        for name, file in modules()
        for other in imports(name, file)
        if other.startswith("condense.generator.training") and part(name) == "generator"
    }
    assert trained and all(name.startswith("condense.generator.training") for name in trained)


def test_methods_do_not_know_each_other():
    names = {file.stem for file in (ROOT / "condense" / "methods").glob("*.py") if not file.stem.startswith("_")}
    for name, file in modules():
        if part(name) == "methods" and file.stem in names:
            assert not {f"condense.methods.{other}" for other in names} & set(imports(name, file))


def test_methods_do_not_know_the_files_of_a_set():
    for name, file in modules():
        if part(name) == "methods":
            assert not {"condense.sets.hdf5", "condense.sets.export"} & set(imports(name, file)), name


def test_what_trains_and_condenses_cannot_name_the_truth():
    for name, file in modules():
        if part(name) in ("generator", "methods", "classifiers"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            assert not any(isinstance(node, ast.alias) and node.name == "Truth" for node in ast.walk(tree)), name


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("h5py", {"condense.sets.hdf5", *(f"condense.data.hdf5{part}" for part in ("", "_file", "_examiner"))}),
        (
            "accelerate",
            {
                "condense.watch",
                "condense.processes",
                *(f"condense.generator.training.{part}" for part in ("trainer", "session", "loss_reader")),
            },
        ),
        ("matplotlib", {"condense.evaluate.figures"}),
    ],
)
def test_libraries_have_one_home(library, homes):
    users = {name for name, file in modules() for other in imports(name, file) if other.split(".")[0] == library}
    assert users <= homes


def test_the_command_line_parser_needs_no_torch():
    code = "import sys, condense, condense.cli, condense.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], timeout=60).returncode == 0
