"""Figures for reports, as data URIs embedded in the HTML: rows of pictures, accuracy bars and lines, confusion."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

from condense.data.types import Images, Mask
from condense.grid import grid, png
from condense.text import literal, shortened

INK = "#1c2430"
QUIET = "#667085"
FONT = "DejaVu Sans"  # comes with matplotlib
RED = (214, 40, 40)
# One colour per method throughout a report; methods not listed here take the others in turn.
COLOURS = {
    "random": "#98a2b3",
    "herding": "#667085",
    "kcenter": "#3f4a5c",
    "random_soft": "#c2b280",
    "el2n": "#a05a2c",
    "forgetting": "#d4a373",
    "ccs": "#7f5539",
    "dmis": "#2563a8",
    "vanilla": "#e08e36",
    "tdsm": "#0e9aa7",
    "cad": "#b98a00",
    "dc": "#9ccb86",
    "dsa": "#5aa469",
    "dm": "#237a4b",
    "mtt": "#6b6f3a",
    "rded": "#8a5fb0",
    "sre2l": "#c86fa8",
}
OTHER_COLOURS = ("#b5536b", "#5c8a99", "#9a8237", "#4d5fd1", "#7d4b32", "#d0503f")
_MARKERS = "osD^vP*Xhp<>d"

_FRAME = 3
_SMALLEST_SIDE = 48
_LONGEST_LABEL = 40  # characters in a legend


def png_data_uri(image: Images) -> str:
    """A picture uint8 [H, W, 1 or 3] as "data:image/png;base64,…"."""
    return _data_uri(png(image))


def figure_data_uri(figure: Figure) -> str:
    """A matplotlib figure as "data:image/png;base64,…", at 200 dpi for high-density screens."""
    _suit_fonts(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return _data_uri(buffer.getvalue())


def _suit_fonts(figure: Figure) -> None:
    """Give every text a font with its characters; if none is installed, number the ticks and draw "·" for the rest."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            texts = [label.get_text() for label in axis.get_ticklabels()]
            drawn = [text if not _undrawable(text) else f"#{number}" for number, text in enumerate(texts)]
            if drawn != texts:
                axis.set_ticks(axis.get_ticklocs(), labels=drawn)
    for text in figure.findobj(Text):
        foreign = frozenset(text.get_text()) - _characters(FONT) - {"\n"}
        if foreign:
            lacking = _undrawable(text.get_text())
            text.set_text("".join("·" if char in lacking else char for char in text.get_text()))
            text.set_fontfamily([FONT, *_fonts_for(foreign)])


def _undrawable(text: str) -> frozenset[str]:
    """The characters of a text that are in no installed font."""
    lacking = frozenset(text) - _characters(FONT) - {"\n"}
    return lacking.difference(*(_characters(name) for name in _fonts_for(lacking)))


@cache
def _fonts_for(characters: frozenset[str]) -> tuple[str, ...]:
    """A few installed fonts that together cover as many of the characters as possible, chosen greedily."""
    chosen: list[str] = []
    left = characters
    names = sorted({font.name for font in fontManager.ttflist if "Last Resort" not in font.name}) if left else []
    while left:
        best = max(names, key=lambda name: len(left & _characters(name)), default=None)
        if best is None or not left & _characters(best):
            break
        chosen.append(best)
        left -= _characters(best)
    return tuple(chosen)


@cache
def _characters(font: str) -> frozenset[str]:
    """All characters of an installed font."""
    files = [entry.fname for entry in fontManager.ttflist if entry.name == font] or [findfont(font)]
    return frozenset(map(chr, get_font(files[0]).get_charmap()))


def _data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def picture_rows(images: Images, columns: int, wrong: Mask | None = None) -> Images:
    """Pictures side by side, enlarged by an integer factor to at least 48 pixels, the wrong ones framed in red.

    Args:
        images: uint8 [n, H, W, 1 or 3].
        columns: pictures per row.
        wrong: bool [n], pictures to frame; None for none.

    Returns:
        uint8 [h, w, 3].
    """
    scale = -(-_SMALLEST_SIDE // images.shape[1])
    large = images.repeat(scale, axis=1).repeat(scale, axis=2)
    large = np.broadcast_to(large, (*large.shape[:3], 3))
    framed = np.pad(large, ((0, 0), (_FRAME, _FRAME), (_FRAME, _FRAME), (0, 0)), constant_values=255)
    if wrong is not None:
        border = np.ones(framed.shape[1:3], dtype=np.bool_)
        border[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
        framed[wrong[:, None, None] & border] = RED
    return grid(framed, columns)


def colours(names: Sequence[str]) -> list[str]:
    """A colour for each name: the method's own, or the next free one."""
    free = iter(OTHER_COLOURS * (1 + len(names) // len(OTHER_COLOURS)))
    return [COLOURS[name] if name in COLOURS else next(free) for name in names]


def accuracy_bars(bars: Mapping[str, tuple[float, float | None]]) -> Figure:
    """Horizontal bars of accuracies in percent, first on top, with 95 % intervals where given.

    Args:
        bars: name to (mean, half width of the interval or None), in percent.
    """
    names = list(bars)
    figure = Figure(figsize=(4.4, 0.7 + 0.42 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, colour) in enumerate(zip(names, colours(names), strict=True)):
        mean, ci95 = bars[name]
        axes.barh(place, mean, height=0.62, color=colour)
        if ci95 is not None:
            axes.errorbar(mean, place, xerr=ci95, color=INK, capsize=3.5, linewidth=1.2)
        label = f"{mean:.1f}" if ci95 is None else f"{mean:.1f} ± {ci95:.1f}"
        axes.text(mean + (ci95 or 0) + 1.5, place, label, va="center", color=INK, fontsize=10)
    axes.set_yticks(
        range(len(names)), [literal(shortened(name, _LONGEST_LABEL)) for name in names], fontsize=10.5, color=INK
    )
    axes.invert_yaxis()
    # Room to the right of 100 for the numbers of long bars.
    axes.set_xlim(0, max([100.0, *(mean + (ci95 or 0) + 26 for mean, ci95 in bars.values())]))
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("test accuracy (%)", fontsize=9.5, color=QUIET)
    axes.tick_params(axis="x", labelsize=9, colors=QUIET, length=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure


@dataclass(frozen=True)
class Line:
    """Accuracies of one method in a plot.

    Attributes:
        label: text in the legend.
        method: name that determines the colour.
        dashed: whether the line is dashed, e.g. for repaired labels.
        points: (x, mean, half width of the 95 % interval or None), accuracies in percent.
    """

    label: str
    method: str
    dashed: bool
    points: Sequence[tuple[float, float, float | None]]


def accuracy_lines(lines: Sequence[Line], across: str, ticks: Sequence[int] = ()) -> Figure:
    """Accuracies in percent over a logarithmic axis, with 95 % intervals where given.

    Args:
        lines: one per method, drawn from left to right.
        across: label of the x axis, e.g. "images per class".
        ticks: positions of its ticks; powers of ten when empty.
    """
    rows = -(-len(lines) // 3)
    figure = Figure(figsize=(5.2, 3.6 + 0.22 * rows), layout="constrained")
    axes = figure.add_subplot()
    methods = list(dict.fromkeys(line.method for line in lines))
    own_colours = dict(zip(methods, colours(methods), strict=True))
    for line in lines:
        x, mean, ci95 = zip(*sorted(line.points), strict=True)
        axes.errorbar(
            x,
            mean,
            yerr=[0 if half is None else half for half in ci95],
            label=literal(shortened(line.label, _LONGEST_LABEL) or "(no name)"),
            color=own_colours[line.method],
            marker=_MARKERS[methods.index(line.method) % len(_MARKERS)],
            markersize=5,
            linestyle="--" if line.dashed else "-",
            linewidth=1.5,
            elinewidth=0.9,
            capsize=2,
        )
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 100))  # an interval over few seeds can exceed this range
    axes.set_xscale("log")
    if ticks:
        axes.set_xticks(ticks, list(map(str, ticks)))
    else:
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xticks([], minor=True)
    axes.set_xlabel(across, fontsize=9.5, color=QUIET)
    axes.set_ylabel("test accuracy (%)", fontsize=9.5, color=QUIET)
    axes.tick_params(labelsize=9, colors=QUIET, length=0)
    axes.grid(color="#e4e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False, labelcolor=INK)
    return figure


def confusion(
    counts: npt.NDArray[np.integer], classes: Sequence[str], *, across: str, down: str = "true class"
) -> Figure:
    """A confusion matrix: shades and, for up to 20 classes, whole percents of each row.

    Args:
        counts: [c, c], rows are true classes.
        classes: c names.
        across: label of the columns, e.g. "given label".
        down: label of the rows.
    """
    totals = counts.sum(axis=1, keepdims=True)
    percent = 100 * counts / np.maximum(totals, 1)
    num_classes = len(classes)
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    if num_classes <= 20:
        _annotate(axes, percent)
    names = [literal(shortened(name, 40)) for name in classes]
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(num_classes), names, rotation=turned, fontsize=9, color=INK)
    axes.set_yticks(range(num_classes), names, fontsize=9, color=INK)
    axes.set_xlabel(f"{across} (% of each row)", fontsize=9.5, color=QUIET)
    axes.set_ylabel(down, fontsize=9.5, color=QUIET)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _annotate(axes: Axes, percent: npt.NDArray[np.float64]) -> None:
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            colour = "white" if value > 55 else INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)
