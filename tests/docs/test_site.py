"""What the documentation makes from the code is whole; .ci/run builds it (`mkdocs build --strict`), notebooks too."""

import importlib.util
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
import typer
import yaml
from typer.main import get_command

import condense
from condense import methods, rng
from condense.classifiers.arm_training import ArmTraining, train_arm
from condense.cli import app
from condense.errors import UserError
from condense.evaluate.protocols import PROTOCOLS
from condense.resumable import Loop, LoopPlan, Step
from condense.run import Run, pack_optimizer, unpack_optimizer

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


def python_of(page):
    """The blocks of Python on a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_method_that_the_documentation_shows_works(tmp_path, monkeypatch):
    example = python_of("adding-a-method.md")[0]
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


def test_steps_written_as_the_documentation_shows_resume_as_if_unbroken(tmp_path):
    names = {"torch": torch, "rng": rng, "Step": Step} | {f.__name__: f for f in (pack_optimizer, unpack_optimizer)}
    exec(python_of("adding-a-method.md")[1], names)

    class Descent(names["Learning"]):
        def __init__(self, iterations):
            self.images, self.seed, self.step = torch.ones(3, requires_grad=True), 0, 0
            self.optimizer = torch.optim.Adam([self.images], lr=0.1)
            self.options = SimpleNamespace(iterations=iterations)

        def learn(self, generator):
            loss = (self.images - torch.randn(3, generator=generator)).square().sum()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            return loss.item()

    def descent(iterations, folder):
        learning, loop = Descent(iterations), Loop(Run(folder), LoopPlan("learning images", iterations, 50, 1))
        loop.resume("checkpoint", learning, {"seed": 0})
        loop.finish(learning.steps())
        return learning.images.detach()

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = descent(10, tmp_path / "whole")
    first = descent(4, tmp_path / "parts")
    assert not torch.equal(first, whole) and torch.equal(descent(10, tmp_path / "parts"), whole)


def test_the_classifier_that_the_documentation_shows_works(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "documented_forward.py").write_text(python_of("adding-a-classifier.md")[0])
    forward = importlib.import_module("documented_forward")
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    right = forward.forward_loss(logits, labels, torch.eye(3))
    torch.testing.assert_close(right, torch.nn.functional.cross_entropy(logits, labels))
    uniform = forward.forward_loss(logits, labels, torch.full((3, 3), 1 / 3))
    torch.testing.assert_close(uniform, torch.tensor(3.0).log())
    train = condense.load_data("digits", noise="sym:0.4").training_set().take(np.arange(200))
    budget = ArmTraining(network="mlp", epochs=40)
    trained = train_arm(forward, forward.Options(rate=0.4), budget, train, 0)
    given = train.supervision.observed
    assert (trained.logits(train.images.images).argmax(1).numpy() == given).mean() > 0.4  # by chance 0.1
    with pytest.raises(UserError, match="forward learns from one label per image"):
        forward.check(condense.load_data("digits", noise="partial:0.5").source.supervision)


def test_one_place_holds_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"] and project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "condense.__version__"}
    (literal,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "condense" / "__init__.py").read_text(), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert literal == condense.__version__ == citation["version"]
