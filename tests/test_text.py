"""Names from elsewhere: what is shown, plotted and put in tables."""

import pytest

from condense.text import from_cell, literal, shortened, to_cell, visible


def test_what_a_terminal_would_obey_is_written_out() -> None:
    """Escapes printed raw by `inspect`."""
    assert visible("a\x1b[31mred\x07\r\n\x9b1m") == r"a\x1b[31mred\x07\x0d\x0a\x9b1m"
    assert visible("abc\u202egnp.exe") == r"abc\u202egnp.exe"  # turns the reading direction
    assert visible("\udcff") == r"\udcff"
    assert visible("one\ntwo\x00", keep="\n") == "one\ntwo\\x00"


@pytest.mark.parametrize("name", ["café", "猫", "Ä-1_b", "👩\u200d🔬", "می\u200cخواهم", "a|b", " x ", "$x$", "'"])
def test_names_in_any_script_stay(name: str) -> None:
    assert visible(name) == name


def test_long_messages_are_cut_in_the_middle() -> None:
    """Error messages of up to 600 kB."""
    told = shortened("begin " + "x" * 600_000 + " end")
    assert len(told) <= 2000 and told.startswith("begin ") and told.endswith(" end")
    assert shortened("short") == "short"


def test_plots_never_read_names_as_mathematics() -> None:
    """`$\\frac{$` broke the figure."""
    from matplotlib.figure import Figure

    for name in (r"$\frac{$", "$a$", "a$b", r"\$", r"\\$x$", "$", "$$"):
        figure = Figure()
        label = figure.text(0, 0, literal(name))
        figure.savefig("/dev/null", format="svg")
        assert label._preprocess_math(label.get_text()) == (name, False)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+cmd", "@SUM(A1)", "-x", "\tcell", "'=x", "''=x", "-1", "+2.5e3", "1", "", "'", "'quoted'", "a=b", "-"],
)
def test_cells_come_back_and_run_nothing(text: str) -> None:
    """Formula cells in relabel's table."""
    cell = to_cell(text)
    assert from_cell(cell) == text
    assert cell[:1] not in ("=", "@", "\t") and (cell[:1] not in ("+", "-") or cell in ("-1", "+2.5e3"))
