"""What mkdocs does beyond Markdown: the command line's page, the package as installed, equations without a script.

`mkdocs.yml` names this file under `hooks`. Nothing here is part of the package.
"""

from __future__ import annotations

import re
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

import typer
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click
from typer.main import get_command

from condense.cli import app

ROOT = Path(__file__).parents[1]
CLI_PAGE = "cli.md"
EQUATION = re.compile(r'<(span|div) class="arithmatex">(\\\(|\\\[)(.*?)(\\\)|\\\])</\1>', re.DOTALL)

_trees: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@event_priority(100)  # before mkdocstrings reads its own configuration
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings the package as it installs: evaluate/ as condense.evaluate, recipes/ as condense.recipes."""
    tree = tempfile.TemporaryDirectory(prefix="dmis-site-")
    _trees.append(tree)
    package = Path(tree.name) / "condense"
    package.mkdir()
    for place in (*(ROOT / "condense").iterdir(), ROOT / "evaluate", ROOT / "recipes"):
        if place.name != "__init__.py":  # there the name `evaluate` is a function, which would hide the package
            (package / place.name).symlink_to(place)
    (package / "__init__.py").touch()
    handlers: Any = config.plugins["mkdocstrings"].config.handlers
    handlers["python"]["paths"] = [tree.name]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of the command line, made from the app."""
    files.append(File.generated(config, CLI_PAGE, content=command_line()))
    return files


def on_page_content(html: str, **_: object) -> str:
    """Equations as MathML, which browsers show by themselves."""
    return EQUATION.sub(_mathml, html)


def command_line() -> str:
    """Every command of `dmis` with its arguments and options, in Markdown."""
    command = get_command(app)
    context = typer.Context(command, info_name="dmis", **app.info.context_settings)
    return get_docs_for_click(obj=command, ctx=context, name="dmis", title="Command line")


def _mathml(found: re.Match[str]) -> str:
    return convert(unescape(found[3]).strip(), display="block" if found[2] == r"\[" else "inline")
