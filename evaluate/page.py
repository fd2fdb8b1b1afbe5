"""Functions shared by all reports: rendering a self-contained HTML page, and a class's images as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import jinja2

from condense.data.types import Images, Mask
from condense.evaluate import figures

_MOST_COLUMNS = 12


def render(template: str, **values: object) -> str:
    """The HTML text of a template of this package (they extend page.html.j2); all values are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: files("condense.evaluate").joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(**values)


def class_rows(images: Images, classes: Sequence[str], wrong: Mask | None = None) -> list[tuple[str, str]]:
    """For each class its name and its images as one picture, a data URI.

    Args:
        images: uint8 [c·k, H, W, 1 or 3], k of each class, class-major.
        classes: c names.
        wrong: bool [c·k], images to frame in red; None for none.
    """
    per_class = len(images) // len(classes)
    rows = []
    for index, name in enumerate(classes):
        part = slice(index * per_class, (index + 1) * per_class)
        marked = None if wrong is None else wrong[part]
        picture = figures.picture_rows(images[part], min(per_class, _MOST_COLUMNS), marked)
        rows.append((name, figures.png_data_uri(picture)))
    return rows
