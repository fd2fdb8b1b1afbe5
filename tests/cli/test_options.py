"""Options are called the same wherever they mean the same."""

import pytest
import typer
from conftest import Dmis
from typer.main import get_command

from condense.cli import app
from condense.cli.options import one_output
from condense.errors import UserError


def options_of() -> dict[str, set[str]]:
    command = get_command(app)
    return {
        name: {spelling for option in each.params for spelling in (*option.opts, *option.secondary_opts)}
        for name, each in command.commands.items()  # type: ignore[attr-defined]
    }


def test_every_output_can_be_given_as_o():
    """Case 20: `--out` here, `--run` there, and `-o` unknown."""
    found = options_of()
    for name in (
        "demo",
        "init",
        "corrupt",
        "train",
        "condense",
        "benchmark",
        "relabel",
        "classify",
        "generate",
        "export",
        "audit",
    ):
        assert {"-o", "--out"} <= found[name], name
    assert {"--run", "--out"} <= found["train"], "what training writes is its run folder"


def test_options_of_pictures_exist_wherever_data_are_read():
    """Cases 8, 35 and 41."""
    readers = {name: options for name, options in options_of().items() if "--image-size" in options}
    assert {"inspect", "condense", "train", "relabel", "evaluate", "audit"} <= readers.keys()
    for name, options in readers.items():
        assert {"--fit", "--background", "--skip-unreadable", "--flip", "--no-flip"} <= options, name


def test_a_second_output_is_refused(dmis: Dmis, made, tmp_path):
    assert dmis("export", made, "-o", tmp_path / "a.npz", "-f", "npz").code == 0 and (tmp_path / "a.npz").is_file()
    assert dmis("export", made, tmp_path / "b.npz", "-f", "npz").code == 0
    for wrong, complaint in ((("c.npz", "-o", "d.npz"), "There are two outputs"), ((), "The output is missing")):
        answer = dmis("export", made, *wrong)
        assert answer.code == 2 and complaint in answer.err
    assert one_output(None, None, tmp_path) == tmp_path
    with pytest.raises(UserError, match="two outputs"):
        one_output(tmp_path, tmp_path)


def test_a_wrong_fit_is_refused(dmis: Dmis):
    answer = dmis("inspect", "digits", "--fit", "stretch")
    assert answer.code == 2 and "--fit" in answer.err and "crop" in answer.err
    assert isinstance(app, typer.Typer)
