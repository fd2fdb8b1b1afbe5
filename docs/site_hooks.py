"""What mkdocs does beyond Markdown: pages and tables made from the code, equations without a script.

`mkdocs.yml` names this file under `hooks`. Nothing here is part of the package.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
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

from condense import methods
from condense.cli import app
from condense.evaluate.protocols import PROTOCOLS, Protocol

ROOT = Path(__file__).parents[1]
CLI_PAGE = "cli.md"
EQUATION = re.compile(r'<(span|div) class="arithmatex">(\\\(|\\\[)(.*?)(\\\)|\\\])</\1>', re.DOTALL)

_trees: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@event_priority(100)  # before mkdocstrings reads its own configuration
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings the package as it installs: evaluate/ as condense.evaluate, recipes/ as condense.recipes."""
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress"  # of notebooks: without ipywidgets tqdm draws plain bars
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


def on_page_markdown(markdown: str, **_: object) -> str:
    """Tables made from the code, in place of the comments that name them."""
    for name, table in TABLES.items():
        markdown = markdown.replace(f"<!-- {name} -->", table())
    return markdown


def on_page_content(html: str, **_: object) -> str:
    """Equations as MathML, which browsers show by themselves."""
    return EQUATION.sub(_mathml, html)


def command_line() -> str:
    """Every command of `dmis` with its arguments and options, in Markdown."""
    command = get_command(app)
    context = typer.Context(command, info_name="dmis", **app.info.context_settings)
    return get_docs_for_click(obj=command, ctx=context, name="dmis", title="Command line")


def protocols() -> str:
    """Every protocol with its settings and its source, in Markdown."""
    settings = [
        "| | network | epochs | images per step | optimiser | labels | augmentation |",
        "|---|---|---:|---:|---|---|---|",
        *(f"| `{name}`, version {rules.version} | {_settings(rules)} |" for name, rules in PROTOCOLS.items()),
    ]
    sources = [f"- **`{name}`**: {rules.source}." for name, rules in PROTOCOLS.items()]
    return "\n".join([*settings, "", *sources])


def every_method() -> str:
    """Every method of the package with the first sentence of its docstring, in Markdown."""
    told = {name: (methods.load(name).__doc__ or "").split("\n\n")[0] for name in methods.names()}
    rows = [f"| `{name}` | {' '.join(text.split()).partition(': ')[2]} |" for name, text in told.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


TABLES: dict[str, Callable[[], str]] = {"protocols": protocols, "methods": every_method}


def _settings(rules: Protocol) -> str:
    rate = "the rate stored with the set" if rules.learning_rate is None else f"{rules.learning_rate:g}"
    momentum = f", momentum {rules.momentum:g}" if rules.momentum else ""
    optimizer = f"{rules.optimizer}, {rate}, {rules.schedule}{momentum}, weight decay {rules.weight_decay:g}"
    labels = rules.labels if rules.temperature is None else f"{rules.labels}, temperature {rules.temperature:g}"
    kinds = rules.augmentation.replace("_", ", ") or "none"
    several = "one of" if rules.operations == "one a batch" else "all of"
    mixing = "" if rules.mixing == "none" else f"; {rules.mixing}"
    cells = (rules.network, rules.epochs, rules.batch_size, optimizer, labels, f"{several} {kinds}{mixing}")
    return " | ".join(map(str, cells))


def _mathml(found: re.Match[str]) -> str:
    return convert(unescape(found[3]).strip(), display="block" if found[2] == r"\[" else "inline")
