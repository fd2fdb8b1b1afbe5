"""Every kind of label noise against its closed form."""

import numpy as np
import pytest

from condense.data import corrupt, digits, fashion_mnist, imagenette
from condense.data.types import ImageData, Truth
from condense.errors import UserError

CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
LETTERS = tuple("abcdefghij")
DIGITS = tuple("0123456789")


def made(num_images: int, classes: tuple[str, ...] = LETTERS, name: str = "letters") -> tuple[Truth, ImageData]:
    """Labels 0, 1, …, c-1, 0, 1, … and blank images."""
    truth = Truth(np.arange(num_images, dtype=np.int64) % len(classes))
    return truth, ImageData(np.zeros((num_images, 1, 1, 1), dtype=np.uint8), classes, name, "train")


def empirical_matrix(labels: np.ndarray, given: np.ndarray, num_classes: int) -> np.ndarray:
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (labels, given), 1)
    return counts / counts.sum(axis=1, keepdims=True)


def within_binomial(observed: np.ndarray, expected: np.ndarray, trials: int) -> bool:
    """All shares lie within five standard deviations of a binomial share."""
    return bool((abs(observed - expected) <= 5 * np.sqrt(expected * (1 - expected) / trials)).all())


@pytest.mark.parametrize(
    ("spec", "classes", "name", "overall"),
    [
        ("sym:0.4", LETTERS, "letters", 0.4),
        ("sym:1", LETTERS, "letters", 1.0),
        ("sym:0.3", LETTERS[:3], "letters", 0.3),
        ("pair:0.25", LETTERS, "letters", 0.25),
        ("asym:0.4", CIFAR10, "cifar10", 0.2),
        ("asym:0.4", fashion_mnist.CLASSES, "fashion-mnist", 0.16),
        ("asym:0.4", tuple(imagenette.NAMES.values()), "imagenette", 0.2),
        ("asym:0.4", DIGITS, "digits", 0.16),
    ],
)
def test_transition_matrix_is_what_apply_does(spec, classes, name, overall):
    n = 200_000
    truth, train = made(n, classes, name)
    supervision, record = corrupt.apply(spec, truth, train, seed=0)
    transition = corrupt.transition_matrix(spec, classes, name)
    observed = empirical_matrix(truth.labels, supervision.observed, len(classes))
    np.testing.assert_allclose(transition.sum(axis=1), 1, atol=1e-12)
    assert within_binomial(observed, transition, n // len(classes) - 1)
    assert record.overall_rate == np.mean(supervision.observed != truth.labels)
    assert abs(record.overall_rate - overall) < 0.006
    assert supervision.kind == "noisy"
    assert (record.spec, record.seed) == (spec, 0)


def test_symmetric_noise_never_keeps_the_label_and_spreads_evenly():
    transition = corrupt.transition_matrix("sym:0.4", LETTERS, "")
    np.testing.assert_allclose(transition, np.where(np.eye(10) == 1, 0.6, 0.4 / 9))
    truth, train = made(1000)
    supervision, _ = corrupt.apply("sym:1", truth, train, seed=3)
    assert (supervision.observed != truth.labels).all()


@pytest.mark.parametrize(
    ("classes", "name", "pairs"),
    [
        (CIFAR10, "cifar10", "truck>automobile bird>airplane deer>horse cat>dog dog>cat"),
        (
            fashion_mnist.CLASSES,
            "fashion-mnist",
            "Pullover>Sneaker Dress>Bag Sandal>Shirt Shirt>Sandal",
        ),
        (
            tuple(imagenette.NAMES.values()),
            "imagenette",
            "tench>English_springer cassette_player>garbage_truck chain_saw>church golf_ball>parachute "
            "parachute>golf_ball",
        ),
    ],
)
def test_asymmetric_maps_are_the_papers(classes, name, pairs):
    expected = np.eye(10)
    for pair in pairs.replace("_", "\0").split():
        start, end = (classes.index(side.replace("\0", " ")) for side in pair.split(">"))
        expected[start] = 0
        expected[start, start], expected[start, end] = 0.6, 0.4
    np.testing.assert_allclose(corrupt.transition_matrix("asym:0.4", classes, name), expected)
    # the class names alone say which map it is, so a renamed file keeps it
    np.testing.assert_allclose(corrupt.transition_matrix("asym:0.4", classes, "my copy"), expected)


def test_numbers_as_class_names_are_digits_only_where_the_data_are():
    transition = corrupt.transition_matrix("asym:0.4", DIGITS, "digits")
    wrong = {(y, z) for y, z in zip(*np.nonzero(transition), strict=True) if y != z}
    assert wrong == {(2, 7), (3, 8), (5, 6), (6, 5)}
    with pytest.raises(UserError, match="no map"):
        corrupt.transition_matrix("asym:0.4", DIGITS, "things without names")


def test_asymmetric_needs_a_known_data_set():
    with pytest.raises(UserError, match="pair:RATE"):
        corrupt.transition_matrix("asym:0.4", LETTERS, "letters")
    with pytest.raises(UserError, match="needs the classes"):
        corrupt.transition_matrix("asym:0.4", LETTERS, "cifar10")


def test_pair_turns_each_class_into_the_next():
    truth, train = made(100)
    supervision, _ = corrupt.apply("pair:1", truth, train, seed=0)
    np.testing.assert_array_equal(supervision.observed, (truth.labels + 1) % 10)


@pytest.mark.parametrize("spec", ["partial:0.5", "partial:0.1", "class-partial"])
def test_candidates_hold_the_truth_and_each_wrong_class_at_its_rate(spec):
    n = 200_000
    truth, train = made(n)
    supervision, record = corrupt.apply(spec, truth, train, seed=0)
    assert supervision.trusted.all()
    assert supervision.candidates[np.arange(n), truth.labels].all()
    observed = np.stack([supervision.candidates[truth.labels == y].mean(axis=0) for y in range(10)])
    assert within_binomial(observed, corrupt.inclusion_matrix(spec, 10), n // 10)
    assert record.overall_rate == np.mean(supervision.candidates.sum(axis=1) > 1)


def test_class_partial_is_the_papers_matrix():
    inclusion = corrupt.inclusion_matrix("class-partial", 10)
    np.testing.assert_array_equal(inclusion[0], [1, 0.7, 0.5, 0.3, 0.7, 0.5, 0.3, 0.7, 0.5, 0.3])
    for y in range(10):
        np.testing.assert_array_equal(inclusion[y], np.roll(inclusion[0], y))
    np.testing.assert_array_equal(corrupt.inclusion_matrix("partial:0.2", 3), np.full((3, 3), 0.2) + 0.8 * np.eye(3))


@pytest.mark.parametrize(("rate", "kept"), [(0.1, [60, 10, 4]), (0.01, [6, 1, 1]), (0, [1, 1, 1]), (1, [600, 100, 40])])
def test_unlabeled_keeps_an_exact_share_of_every_class(rate, kept):
    labels = np.repeat([0, 1, 2], [600, 100, 40]).astype(np.int64)
    train = ImageData(np.zeros((740, 1, 1, 1), dtype=np.uint8), ("a", "b", "c"), "abc", "train")
    supervision, record = corrupt.apply(f"unlabeled:{rate}", Truth(labels), train, seed=5)
    keeps = supervision.single
    np.testing.assert_array_equal(np.bincount(labels[keeps], minlength=3), kept)
    np.testing.assert_array_equal(supervision.observed[keeps], labels[keeps])
    assert supervision.unlabelled[~keeps].all()
    assert supervision.trusted.all()
    assert record.overall_rate == pytest.approx(1 - sum(kept) / 740)


def test_none_keeps_the_truth():
    truth, train = made(50)
    supervision, record = corrupt.apply("none", truth, train, seed=0)
    np.testing.assert_array_equal(supervision.observed, truth.labels)
    assert supervision.kind == "labelled"
    assert (record.spec, record.overall_rate) == ("none", 0.0)


@pytest.mark.parametrize("spec", ["sym:0.4", "asym:0.4", "pair:0.4", "partial:0.5", "class-partial", "unlabeled:0.1"])
def test_the_seed_decides_everything(spec):
    truth, train = made(5000, CIFAR10, "cifar10")
    first, again, other = (corrupt.apply(spec, truth, train, seed)[0].candidates for seed in (7, 7, 8))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_a_known_draw_never_changes():
    source = digits.load()
    assert source.truth is not None
    supervision, record = corrupt.apply("sym:0.4", source.truth, source.train, seed=0)
    assert supervision.observed[:12].tolist() == [0, 2, 3, 5, 3, 0, 8, 9, 7, 3, 2, 7]
    assert record.overall_rate == 513 / 1297


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("symm:0.4", "did you mean 'sym'"),
        ("unlabelled:0.1", "did you mean 'unlabeled'"),
        ("", "known kinds"),
        ("sym", "written like sym:0.4"),
        ("sym:much", "written like sym:0.4"),
        ("sym:40", "40 % is written sym:0.4"),
        ("sym:-0.1", "between 0 and 1"),
        ("sym:nan", "between 0 and 1"),
        ("none:0.1", "takes no rate"),
        ("class-partial:0.5", "takes no rate"),
    ],
)
def test_bad_specs_say_what_to_write(spec, message):
    with pytest.raises(UserError, match=message):
        corrupt.parse(spec)


def test_matrices_are_refused_for_kinds_without_one():
    with pytest.raises(UserError, match="no transition matrix"):
        corrupt.transition_matrix("partial:0.5", LETTERS, "")
    with pytest.raises(UserError, match="not a candidate set"):
        corrupt.inclusion_matrix("sym:0.5", 10)


def test_truth_must_fit_the_images():
    truth, train = made(30)
    with pytest.raises(UserError, match="29 labels for 30 images"):
        corrupt.apply("sym:0.4", Truth(truth.labels[:29]), train, seed=0)
    with pytest.raises(UserError, match=r"outside 0\.\.9"):
        corrupt.apply("sym:0.4", Truth(truth.labels + 1), train, seed=0)
