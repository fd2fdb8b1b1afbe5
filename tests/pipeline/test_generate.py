"""`dmis generate`: counts, forms, going on after a stop, agreement, and mistakes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Dmis

from condense.data import sources
from condense.errors import RunFailed
from condense.generator.model import Generator
from condense.pipeline import generate as module
from condense.pipeline.generate import Wanted, generate
from condense.run import Run, Tracker

QUICK = ("--steps", 2)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 4)


def load(path: str | Path):
    source = sources.load(str(path))
    return source.train.images, source.supervision.observed, source.train.classes


def test_every_form_holds_the_same_images(dmis: Dmis, trained: Path, small_parts: None) -> None:
    found = {}
    for out in ("a.h5", "a.npz", "folder"):
        answer = dmis("generate", "--generator", trained, "--count", 6, "--out", out, *QUICK, "--json")
        assert answer.code == 0, answer.err
        told = json.loads(answer.out)
        assert (told["path"], told["images"], told["classes"], told["drawn"]) == (out, 60, 10, 60)
        assert told["agreement"] is None
        found[out] = load(out)
    for images, labels, classes in found.values():
        np.testing.assert_array_equal(images, found["a.h5"][0])
        assert labels.tolist() == np.repeat(np.arange(10), 6).tolist() and classes == tuple("0123456789")
    assert sorted(os.listdir()) == ["a.h5", "a.npz", "folder"], "the parts are gone"
    assert sorted(path.name for path in Path("folder/7").iterdir()) == [f"{n}.png" for n in range(6)]


def test_images_depend_on_seed_and_class_alone(dmis: Dmis, trained: Path, small_parts: None) -> None:
    sizes = {"a": (4, 0), "b": (8, 0), "c": (4, 1)}
    for name, (count, seed) in sizes.items():
        dmis("generate", "--generator", trained, "--count", count, "--seed", seed, "--out", f"{name}.npz", *QUICK)
    few, many, other = (load(f"{name}.npz")[0].reshape(10, -1, 8, 8) for name in sizes)
    np.testing.assert_array_equal(few, many[:, :4])
    assert (few != other).any()
    assert not (many[:, :4] == many[:, 4:]).all(axis=(2, 3)).any(), "later parts repeat the first ones"


def test_a_stopped_run_goes_on_to_the_same_images(
    dmis: Dmis, trained: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dmis("generate", "--generator", trained, "--count", 6, "--out", "whole.npz", *QUICK).code == 0
    drawn = Generator.sample
    calls: list[int] = []

    def count_and_stop(self: Generator, *arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 8:
            os.kill(os.getpid(), 2)
        return drawn(self, *arguments, **named)

    monkeypatch.setattr(Generator, "sample", count_and_stop)
    command = ("generate", "--generator", trained, "--count", 6, "--out", "b.npz", *QUICK)
    stopped = dmis(*command)
    assert stopped.code == 130 and "--resume" in stopped.err and sorted(os.listdir()) == [".b.npz.parts", "whole.npz"]
    assert dmis(*command).code == 2, "without --resume the parts are not touched"
    changed = dmis(*command, "--seed", 1, "--resume")
    assert changed.code == 2 and "other options" in changed.err
    assert dmis(*command, "--resume").code == 0
    assert len(calls) == 20, "two parts a class, each drawn once"
    assert Path("b.npz").read_bytes() == Path("whole.npz").read_bytes()
    assert sorted(os.listdir()) == ["b.npz", "whole.npz"]


def test_force_starts_over(dmis: Dmis, trained: Path) -> None:
    Path(".c.npz.parts").mkdir()
    Run(Path(".c.npz.parts")).save("request", {}, {"count": 3})
    Path("c.npz").write_text("old")
    command = ("generate", "--generator", trained, "--count", 2, "--out", "c.npz", *QUICK)
    assert dmis(*command).code == 2 and Path("c.npz").read_text() == "old"
    assert dmis(*command, "--force").code == 0 and len(load("c.npz")[0]) == 20


def picky(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """The classifier agrees with this share of samples, going by their first pixel."""

    def posterior(self: Generator, images: np.ndarray, **_: object) -> np.ndarray:
        keep = np.arange(len(images)) < share * len(images)
        label = int(images[0, 0, 0, 0])
        beliefs = np.zeros((len(images), 10), dtype=np.float32)
        beliefs[np.arange(len(images)), np.where(keep, label, (label + 1) % 10)] = 1
        return beliefs

    def sample(self: Generator, labels: np.ndarray, seed: int, **_: object) -> np.ndarray:
        images = np.zeros((len(labels), 8, 8, 1), dtype=np.uint8)
        images[:, 0, 0, 0] = labels
        images[:, 1, 1, 0] = np.arange(len(labels))
        return images

    monkeypatch.setattr(Generator, "posterior", posterior)
    monkeypatch.setattr(Generator, "sample", sample)


def test_rejected_samples_are_replaced(
    dmis: Dmis, trained: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky(monkeypatch, 0.5)
    answer = dmis("generate", "--generator", trained, "--count", 5, "--agree", "--out", "a.npz", "--json")
    told = json.loads(answer.out)
    # five wanted: 2 of 4 are kept, then 2 of 3, then 1 of 1
    assert told["images"] == 50 and told["drawn"] == 80 and told["agreement"] == [5 / 8] * 10
    images, labels, _ = load("a.npz")
    assert (images[:, 0, 0, 0] == labels).all() and (images[:, 1, 1, 0] < 2).all()


def test_a_class_nobody_believes_in_is_given_up(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picky(monkeypatch, 0.0)
    monkeypatch.setattr(module, "PART", 4)
    with pytest.raises(RunFailed, match="assigns only 0 of 52 samples of class '0'"):
        generate(trained, Wanted(5, agree=True), tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_parts_are_written_as_they_are_drawn(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No part is drawn before the one before was handed on: memory holds one."""
    picky(monkeypatch, 1.0)
    monkeypatch.setattr(module, "PART", 4)
    sizes: list[int] = []
    shown = Tracker.update

    def update(self: Tracker, done: int, **numbers: float) -> None:
        sizes.append(len(list((tmp_path / ".a.parts").glob("class-*"))))
        shown(self, done, **numbers)

    monkeypatch.setattr(Tracker, "update", update)
    generate(trained, Wanted(8), tmp_path / "a")
    assert sizes == list(range(1, 21))
    assert len(list((tmp_path / "a").rglob("*.png"))) == 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--generator", "nowhere", "--out", "a.npz"], "no run folder nowhere"),
        (["--generator", "empty", "--out", "a.npz"], "holds no trained generator"),
        (["--out", "a.zip"], "not written as .zip"),
        (["--out", "full"], "--force"),
        (["--out", "full", "--force"], "is not replaced"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], said: str, dmis: Dmis, trained: Path) -> None:
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/mine.txt").write_text("kept")
    given = arguments if "--generator" in arguments else ["--generator", trained, *arguments]
    answer = dmis("generate", "--count", 1, *given)
    (sentence,) = answer.err.splitlines()
    assert answer.code == 2 and answer.out == "" and said in sentence
    assert sorted(os.listdir()) == ["empty", "full"] and Path("full/mine.txt").read_text() == "kept"
