"""Names, paths and sizes: what reaches which reader."""

import numpy as np
import pytest

from condense.data import sources
from condense.errors import UserError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("CIFAR-10", "did you mean 'cifar10'"),
        ("fashion_mnist", "did you mean 'fashion-mnist'"),
        ("no/such/folder", "no path 'no/such/folder'; known names: digits, fashion-mnist"),
        ("missing.npz", "no path 'missing.npz'"),
    ],
)
def test_unknown_names_and_missing_paths(text, message):
    with pytest.raises(UserError, match=message):
        sources.load(text)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "images.tar").write_bytes(b"x")
    with pytest.raises(UserError, match="is not a data set; give a folder"):
        sources.load(str(tmp_path / "images.tar"))


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        sources.load("cifar10", root=tmp_path / "nowhere")


def test_image_size_resizes_any_source():
    small = sources.load("digits")
    large = sources.load("digits", image_size=16)
    assert large.test is not None
    assert large.train.images.shape == (1297, 16, 16, 1)
    assert large.test.images.shape == (500, 16, 16, 1)
    means = large.train.images.astype(float).reshape(1297, 8, 2, 8, 2).mean(axis=(2, 4))
    assert np.corrcoef(means.ravel(), small.train.images.ravel())[0, 1] > 0.95
    with pytest.raises(UserError, match="image size is 0"):
        sources.load("digits", image_size=0)


def arrays(path, *, images=None, classes=("cat", "dog"), **more):
    """Four images of two classes, saved in one file."""
    grey = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8, 1)
    given = {"train_images": grey if images is None else images, "train_labels": np.arange(4) % 2, **more}
    np.savez(path, class_names=np.array(classes), **given)
    return str(path)


@pytest.mark.parametrize("highest", [0, 1])
def test_values_from_0_to_1_that_were_made_uint8_are_noted(tmp_path, highest):
    """The number of images is no multiple of those looked at at once, and a single bright pixel suffices."""
    floats = np.random.default_rng(0).random((300, 8, 8, 1)) * 0.99
    floats[0, 0, 0] = highest
    given = {"train_labels": np.arange(300) % 2, "test_labels": np.arange(4) % 2}
    bright = np.full((4, 8, 8, 1), 200, np.uint8)
    (note,) = sources.load(
        arrays(tmp_path / "a.npz", images=floats.astype(np.uint8), test_images=bright, **given)
    ).reading.notes
    assert "no pixel of the train images is above 1" in note and "multiply them by 255" in note
    floats[299, 7, 7] = 2
    several = arrays(tmp_path / "b.npz", images=floats.astype(np.uint8), test_images=bright, **given)
    assert sources.load(several).reading.notes == ()


@pytest.mark.parametrize(
    ("classes", "noted"),
    [
        (("Cat", "cat"), "(Cat and cat)"),
        (("hot dog", "Hot_Dog"), "(hot dog and Hot_Dog)"),
        (("A", "a"), None),  # letters, as in EMNIST
        (("+", "-"), None),
        (("cat", "cats"), None),
    ],
)
def test_classes_that_differ_in_spelling_only_are_noted(tmp_path, classes, noted):
    notes = sources.load(arrays(tmp_path / "a.npz", classes=classes)).reading.notes
    assert notes == () if noted is None else noted in notes[0] and len(notes) == 1
