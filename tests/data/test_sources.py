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
