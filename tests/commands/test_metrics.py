"""`dmis metrics` on sets of real digits under right and wrong labels."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Dmis

from condense.cli import run
from condense.evaluate.protocols import HARD, PROTOCOLS
from condense.sets.hdf5 import read, write

QUICK = ("--steps", "10", "--cas", "none", "--json", "-q")
OF_TEN = "(convnet, 100 vs 1197)"  # ten of each class against the training digits but for as many
EACH = ("FD", "KD", "Density k=3", "Coverage k=3", "Density k=5", "Coverage k=5")
KINDS = (*EACH, "CS", *(f"CW-{kind}" for kind in EACH))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten real digits per class: by true labels, with two seeds, and by wrong ones. Not to be written to."""
    folder = tmp_path_factory.mktemp("sets")
    made = []
    for name, noise, seed in (("clean", "none", 0), ("other", "none", 1), ("noisy", "sym:0.6", 0)):
        file = folder / f"{name}.h5"
        arguments = ["condense", "--method", "random", "--noise", noise, "--ipc", "10", "--seed", str(seed)]
        assert run([*arguments, "--out", str(file), "--run", str(folder / name), "--quiet", "--json"]) == 0
        made.append(file)
    return made


def test_wrong_labels_show_in_the_class_wise_metrics(sets: list[Path], dmis: Dmis) -> None:
    told = json.loads(dmis("metrics", *sets, *QUICK).out)
    assert (told["space"], told["data"], told["labels"]) == ("convnet", "digits", "true")
    assert "true labels" in told["network"]
    clean, other, noisy = (entry["metrics"] for entry in told["sets"])
    floor = told["floor"]
    assert list(clean) == list(floor) == [f"{kind} {OF_TEN}" for kind in KINDS]
    for name in (f"CW-FD {OF_TEN}", f"CW-KD {OF_TEN}"):
        assert noisy[name] > 2 * max(clean[name], other[name], floor[name])
    for name in (f"CW-Density k=5 {OF_TEN}", f"CW-Coverage k=5 {OF_TEN}"):
        assert noisy[name] < 0.8 * min(clean[name], other[name], floor[name])
    assert floor[f"CW-FD {OF_TEN}"] == pytest.approx(clean[f"CW-FD {OF_TEN}"], rel=0.8)
    for name in clean:
        values = [entry[name] for entry in (clean, other, noisy)]
        assert told["mean"][name] == pytest.approx(np.mean(values))
        assert told["std"][name] == pytest.approx(np.std(values, ddof=1))
    assert told["reference_images"] + told["floor_images"] == 1297  # all training digits
    assert told["floor_images"] == told["images"] == 100


def test_cas_beside_that_of_real_images(sets: list[Path], dmis: Dmis, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = dataclasses.replace(HARD, epochs=20, learning_rate=0.05, augmentation="crop")
    monkeypatch.setattr("condense.commands.metrics.protocol", lambda name: brief)
    arguments = ("--steps", "1", "--repeats", "1", "--json", "-q")
    told = json.loads(dmis("metrics", sets[2], *arguments).out)
    assert told["floor"]["CAS"] > told["mean"]["CAS"] + 5 and told["std"]["CAS"] is None
    assert told["cas_protocol"] == "hard-quick"


@pytest.mark.parametrize("name", ["soft", "soft-stored"])
def test_real_images_have_no_cas_on_soft_labels(
    name: str, sets: list[Path], dmis: Dmis, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = dataclasses.replace(HARD, epochs=20, learning_rate=0.05, augmentation="", temperature=1.0)
    monkeypatch.setitem(PROTOCOLS, name, dataclasses.replace(brief, labels=PROTOCOLS[name].labels))
    made, paths = read(sets[0]), [Path("right.h5"), Path("wrong.h5")]
    for turned, path in enumerate(paths):
        soft = np.eye(10, dtype=np.float32)[(made.labels + turned) % 10]
        write(path, dataclasses.replace(made, soft_labels=soft))
    told = json.loads(dmis("metrics", *paths, "--steps", "1", "--repeats", "1", "--cas", name, "--json", "-q").out)
    right, wrong = (entry["metrics"]["CAS"] for entry in told["sets"])
    assert right > 50 and wrong < 20 and told["mean"]["CAS"] == pytest.approx((right + wrong) / 2)
    assert told["floor"]["CAS"] is None and list(told["floor"]) == list(told["mean"])


def test_missing_soft_labels_are_noticed_before_the_work(
    sets: list[Path], dmis: Dmis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condense.commands.metrics._bench", None)
    answer = dmis("metrics", sets[0], "--cas", "soft-stored", "-q")
    assert answer.code == 2 and "has no soft labels" in answer.err


def test_learned_pixels_and_one_image_a_class(sets: list[Path], dmis: Dmis) -> None:
    made = read(sets[0])
    first = np.arange(0, 100, 10)
    told = dataclasses.replace(made.provenance, ipc=1)
    write(
        Path("one.h5"),
        dataclasses.replace(
            made,
            images=made.images[first].astype(np.float32) * 1.2 - 3,
            labels=made.labels[first],
            source_index=None,
            provenance=told,
        ),
    )
    found = json.loads(dmis("metrics", "one.h5", *QUICK, "--k", "3").out)
    of_one = "(convnet, 10 vs 1287)"
    assert found["mean"][f"CW-FD {of_one}"] is None and found["mean"][f"FD {of_one}"] > 0
    assert f"Coverage k=3 {of_one}" in found["mean"] and f"Coverage k=5 {of_one}" not in found["mean"]
    assert found["floor_images"] == 10
    table = dmis("metrics", "one.h5", "--steps", "1", "--cas", "none", "-q").out
    assert "real images" in table and f"CW-FD {of_one}" in table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("SET", "--k", "400"), "too few real images for k = 400"),
        (("SET", "--k", "0"), "k is 0"),
        (("SET", "--reference", "20"), "too few real images for k = 5"),
        (("SET", "--space", "clip"), "no feature space is called 'clip'; choose convnet, efflite0, inception"),
        (("SET", "--space", "inception"), "--inception-weights FILE"),
        (("SET", "--space", "convnet", "--inception-weights", "x.pth"), "belong together"),
        (("SET", "--inception-weights", "nowhere.pth"), "nowhere.pth cannot be read"),
        (("SET", "--cas", "hardest"), "hard"),
        (("SET", "--repeats", "0"), "repeats 0"),
        (("SET", "SMALL"), "has 20 images"),
        (("SET", "--data", "other.npz"), "the training data other has 3"),
        (("SET", "--data", "digits", "--image-size", "16"), "16x16"),
        (("nowhere.h5",), "does not exist"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_and_exit_2(
    arguments: tuple[str, ...], said: str, sets: list[Path], dmis: Dmis
) -> None:
    np.savez("other.npz", train_images=np.zeros((9, 8, 8, 1), np.uint8), train_labels=np.arange(9) % 3)
    if "SMALL" in arguments:
        assert dmis("condense", "--method", "random", "--ipc", "2", "--out", "small.h5", "-q").code == 0
    named = {"SET": str(sets[0]), "SMALL": "small.h5"}
    answer = dmis("metrics", *(named.get(word, word) for word in arguments), "-q")
    assert answer.code == 2 and answer.out == ""
    (sentence,) = answer.err.splitlines()
    assert sentence.startswith("error: ") and said in sentence


def test_a_missing_extra_is_named(sets: list[Path], dmis: Dmis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    answer = dmis("metrics", sets[0], "--space", "efflite0", *QUICK)
    assert answer.code == 2 and "pip install 'dmis[features]'" in answer.err
