"""What the documentation makes from the code is whole; .ci/run builds it (`mkdocs build --strict`), notebooks too."""

import importlib.util
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
import typer
import yaml
from typer.main import get_command

import condense
from condense import methods
from condense.cli import app
from condense.evaluate.protocols import PROTOCOLS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def hooks():
    """docs/site_hooks.py as mkdocs loads it."""
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_command_line_holds_every_command_and_option(hooks):
    sections = re.split(r"^## ", hooks.command_line(), flags=re.MULTILINE)[1:]
    pages = {section.split("`")[1].removeprefix("dmis "): section for section in sections}
    group = get_command(app)
    assert list(pages) == group.list_commands(typer.Context(group)) and len(pages) > 15
    for name, command in group.commands.items():
        shown = [option for option in command.params if not getattr(option, "hidden", False)]
        told = [flag for option in shown for flag in getattr(option, "opts", []) if flag.startswith("-")]
        assert told and all(re.search(rf"[`/, ]{re.escape(flag)}[`,/ ]", pages[name]) for flag in told), name


def test_tables_of_protocols_and_methods_are_whole(hooks):
    page = hooks.on_page_markdown((DOCS / "protocols.md").read_text() + (DOCS / "adding-a-method.md").read_text())
    assert "<!--" not in page
    for name, rules in PROTOCOLS.items():
        assert f"| `{name}`, version {rules.version} | {rules.network} | {rules.epochs} |" in page
        assert f"- **`{name}`**: {rules.source}." in page
    for name in methods.names():
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", page, re.MULTILINE)
        assert len(row) > 20


class Equation(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_equations_become_mathml(hooks):
    html = hooks.on_page_content(r'a <span class="arithmatex">\(f_y &lt; 1\)</span> b')
    equation = Equation(html)
    assert equation.tags[0] == "math" and "msub" in equation.tags and "span" not in equation.tags
    assert re.sub(r"\s", "", equation.text) == "afy<1b"
    block = hooks.on_page_content('<div class="arithmatex">\\[\n\\frac{1}{2}\n\\]</div>')
    assert 'display="block"' in block and "mfrac" in Equation(block).tags


class Settings(yaml.SafeLoader):
    """YAML with mkdocs' own tag for environment variables."""


Settings.add_multi_constructor("!ENV", lambda loader, suffix, node: loader.construct_sequence(node))


def test_every_page_is_in_the_navigation():
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Settings)["nav"]
    listed = [page for section in nav for pages in section.values() for page in pages]
    written = {str(page.relative_to(DOCS)) for kind in ("md", "ipynb") for page in DOCS.rglob(f"*.{kind}")}
    assert sorted(listed) == sorted({*written, "cli.md"})


@pytest.mark.parametrize("notebook", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_what_running_them_adds(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len(code) > 4 and all(not cell.outputs and cell.execution_count is None for cell in code)


def test_the_method_that_the_documentation_shows_works(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "adding-a-method.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "darkest.py").write_text(example)
    data = condense.load_data("digits", noise="sym:0.4")
    dark, bright = (
        condense.condense(data, method="darkest", ipc=3, recipe={"brightest": brightest}) for brightest in (False, True)
    )
    labels = data.source.supervision.observed
    np.testing.assert_array_equal(labels[dark.source_index], np.repeat(np.arange(10), 3))
    brightness = data.source.train.images.mean((1, 2, 3))
    assert brightness[dark.source_index[:3]].max() == np.sort(brightness[labels == 0])[2]
    assert brightness[bright.source_index[:3]].min() == np.sort(brightness[labels == 0])[-3]


def test_one_place_holds_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"] and project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "condense.__version__"}
    (literal,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "condense" / "__init__.py").read_text(), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert literal == condense.__version__ == citation["version"]
