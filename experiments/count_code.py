"""The size of the code, and how much of it is too long, untyped or private: the table in docs/decisions.md.

    python experiments/count_code.py [CHECKOUT ...]      # this checkout, and others beside it
    git worktree add ../before REVISION                  # another revision to compare with

The package is `condense/` and `evaluate/`. A function's lines and parameters are those of its definition, docstring
included, `self` and `cls` not.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

LONG, MANY = 60, 8
DOOR = "front_door.py"  # what `import condense` gives
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method below `tree`."""
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))


def num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of its parameters, without `self` and `cls`."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def num_lines(node: ast.stmt) -> int:
    """The number of lines of a definition."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def many(tree: ast.AST) -> int:
    """Functions with too many parameters below `tree`."""
    return sum(num_parameters(function) > MANY for function in functions(tree))


def is_command(file: Path) -> bool:
    """Whether `file` defines options of commands."""
    return "cli" in file.parts or file.name == "cli.py"


def counts(root: Path) -> dict[str, int]:
    """One column of the table, of the checkout at `root`."""
    files = sorted((root / "condense").rglob("*.py")) + sorted((root / "evaluate").rglob("*.py"))
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    trees = {file: ast.parse(text) for file, text in texts.items()}
    found = [function for tree in trees.values() for function in functions(tree)]
    whole = "\n".join(texts.values())
    sizes = [num_lines(node) for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    classes = [node.name for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef)]
    public = [name for name in classes if not name.startswith("_") and name != "Options"]
    tests = sorted((root / "tests").rglob("*.py"))
    return {
        "files": len(files),
        "lines": sum(len(text.splitlines()) for text in texts.values()),
        "lines per file, the longest": max(len(text.splitlines()) for text in texts.values()),
        "lines of the longest class": max(sizes),
        f"functions over {LONG} lines": sum(num_lines(function) > LONG for function in found),
        f"functions of over {MANY} parameters": sum(num_parameters(function) > MANY for function in found),
        "of them commands (an option each)": sum(many(trees[file]) for file in files if is_command(file)),
        "of them the front door (a keyword each)": sum(many(trees[file]) for file in files if file.name == DOOR),
        "`dict[str, Any]`": whole.count("dict[str, Any]"),
        "`cast(`": len(re.findall(r"\bcast\(", whole)),
        '`meta["…"]`': len(re.findall(r'meta\["', whole)),
        "modules of commands that begin with _": len(list((root / "condense" / "commands").glob("_[a-z]*.py"))),
        "names of public classes given twice": len({name for name in public if public.count(name) > 1}),
        "lines of tests": sum(len(file.read_text(encoding="utf-8").splitlines()) for file in tests),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    columns = [counts(root) for root in parser.parse_args().checkouts]
    for row in columns[-1]:
        print(f"| {row} | " + " | ".join(f"{column[row]:,}" for column in columns) + " |")


if __name__ == "__main__":
    main()
