"""The demo, made small: its JSON, its files, its report."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from conftest import Dmis

from condense.evaluate import protocols
from condense.sets.hdf5 import read


def stop(*_: object) -> None:
    """Ctrl-C while networks are trained on the sets."""
    raise KeyboardInterrupt


def test_demo(dmis: Dmis, tiny: tuple[str, ...], drawn: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(protocols.PROTOCOLS, "hard-quick", dataclasses.replace(protocols.HARD_QUICK, epochs=1))
    answer = dmis("demo", "--ipc", 2, *tiny, *drawn, "--set", "evaluate.repeats=2", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert set(told) == {"classifier_accuracy", "labels_recovered", "condensed_accuracy", "seconds"}
    assert set(told["classifier_accuracy"]) == {"vanilla", "dmis"}
    assert set(told["condensed_accuracy"]) == {"random", "vanilla", "dmis"}
    assert all(set(value) == {"mean", "ci95"} for value in told["condensed_accuracy"].values())
    assert 0 <= told["labels_recovered"] <= 100
    sets = {method: read(Path("demo", f"{method}.h5")) for method in ("random", "vanilla", "dmis")}
    assert {method: made.provenance.method for method, made in sets.items()} == {method: method for method in sets}
    assert all(made.provenance.corruption == "sym:0.4" and made.ipc == 2 for made in sets.values())
    assert sets["dmis"].provenance.cost.images_seen == 20 * 16
    assert all(Path("demo", f"{method}.png").is_file() for method in sets)
    page = Path("demo", "report.html").read_text()
    assert f"{told['classifier_accuracy']['dmis']:.1f}" in page and "sym:0.4" in page

    assert dmis("demo", "--ipc", 2).code == 2

    # stopped after the first generator, it goes on from there and comes to the same
    kept = Path("demo", "generators", "vanilla", "metrics.jsonl")
    with kept.open("a") as stream:  # a run that starts over removes it
        stream.write('{"step": 1, "mark": 1}\n')
    before = kept.read_bytes()
    shutil.rmtree(Path("demo", "generators", "dmis"))
    Path("demo", "report.html").unlink()
    stopped = dmis("demo", "--ipc", 2, *tiny, *drawn)
    assert stopped.code == 2 and "demo holds a demo that was stopped; give --resume" in stopped.err
    with monkeypatch.context() as patched:
        patched.setattr("condense.commands.demo.score_set", stop)
        stopped = dmis("demo", "--ipc", 2, *tiny, *drawn, "--set", "evaluate.repeats=2", "--resume")
    assert stopped.code == 130 and "kept in demo: continue with --resume" in stopped.err and not stopped.out
    again = dmis("demo", "--ipc", 2, *tiny, *drawn, "--set", "evaluate.repeats=2", "--resume", "--json")
    assert again.code == 0, again.err
    assert {**json.loads(again.out), "seconds": 0} == {**told, "seconds": 0}
    assert kept.read_bytes() == before and Path("demo", "report.html").is_file()
    other = dmis("demo", "--seed", 1, *tiny, *drawn, "--resume")
    assert other.code == 2 and "seed" in other.err
