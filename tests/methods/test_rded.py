"""RDED: which crops are taken, against direct computation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import pictures, training_set
from torchvision.transforms import v2

from condense import rng
from condense.classifiers.teacher import TeacherOptions, TeacherRecord
from condense.classifiers.teaching import teacher_for
from condense.data.types import ImageData, Supervision, TrainingSet
from condense.errors import UserError
from condense.methods import rded
from condense.methods._crops import random_crops, resized, tiled
from condense.recipe import parse
from condense.run import Run

TEACHER = {"epochs": 2, "batch_size": 16}


def options(**changed):
    return parse(rded.Options, {"teacher": TEACHER, "pool": 6, "crops": 3, **changed}, "x")


@pytest.fixture(scope="module")
def teacher():
    return teacher_for(training_set(), TeacherOptions(network="convnet3-bn", **TEACHER), 0, Run(None))


def random_images(n, size, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


# crops


@pytest.mark.parametrize(("size", "side", "channels"), [(28, 28, 1), (32, 16, 3), (64, 32, 3)])
def test_crops_keep_channels_and_take_the_requested_size(size, side, channels):
    crops = random_crops(random_images(2, size, channels), 3, side, torch.Generator().manual_seed(5))
    assert crops.shape == (2, 3, side, side, channels) and crops.dtype == np.uint8


def test_crops_are_windows_resized_as_torchvision_does():
    image = random_images(1, 8, 1)
    windows = [
        v2.functional.resize(
            torch.from_numpy(image[0, top : top + length, left : left + length]).permute(2, 0, 1).float(),
            [5, 5],
            antialias=True,
        )
        for length in range(2, 9)
        for top in range(9 - length)
        for left in range(9 - length)
    ]
    for crop in random_crops(image, 10, 5, torch.Generator().manual_seed(5))[0]:
        found = torch.from_numpy(crop).permute(2, 0, 1)
        assert min((found - window).abs().max() for window in windows) <= 0.5 + 1e-3  # rounded


def test_areas_are_uniform_and_places_reach_every_edge(monkeypatch):
    taken = []
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 1))[None]
    monkeypatch.setattr(
        "condense.methods._crops._resized", lambda crop, side: taken.append(crop) or torch.zeros(1, 1, 1)
    )
    random_crops(ramp, 2000, 1, torch.Generator().manual_seed(0))
    area = np.array([crop.shape[1] * crop.shape[2] / 64**2 for crop in taken])
    assert all(crop.shape[1] == crop.shape[2] for crop in taken)
    counts, _ = np.histogram(area, np.linspace(0.08, 1, 5))
    assert counts.sum() > 1980 and counts.min() > 430 and counts.max() < 570  # 500 expected
    left, right = (np.array([int(crop[0, 0, edge]) for crop in taken]) for edge in (0, -1))
    assert left.min() == 0 and right.max() == 63


def test_a_whole_image_is_its_own_crop(monkeypatch):
    monkeypatch.setattr("condense.methods._crops.SMALLEST_AREA", 1.0)
    images = random_images(3, 8, 3)
    np.testing.assert_array_equal(random_crops(images, 1, 8, torch.Generator().manual_seed(0))[:, 0], images)
    np.testing.assert_array_equal(resized(images, 8), images)


def test_tiles_share_the_best_patches_among_the_images():
    patches = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), dtype=np.uint8)
    images = tiled(patches, 2)
    np.testing.assert_array_equal(images[0, ::2, ::2, 0], [[0, 2], [4, 6]])
    np.testing.assert_array_equal(images[1, 1::2, 1::2, 0], [[1, 3], [5, 7]])
    np.testing.assert_array_equal(tiled(patches, 1), patches)


# choice


@pytest.mark.parametrize("side", [8, 4])
def test_the_lowest_losses_are_taken_one_crop_per_image(teacher, side):
    images, _ = pictures()
    crops = random_crops(images.images[:10], 4, side, torch.Generator().manual_seed(1))
    table = np.empty((10, 4))
    for i in range(10):
        for j in range(4):
            x = resized(crops[i, j][None], 8).astype(np.float32)
            normalised = (x / 255 - teacher.preprocessing.mean[0]) / teacher.preprocessing.std[0]
            logits = teacher.network(torch.from_numpy(normalised).permute(0, 3, 1, 2).to(teacher.device))
            table[i, j] = -float(logits.cpu().log_softmax(1)[0, 2])
    images_by_loss = sorted(range(10), key=lambda i: table[i].min())[:3]
    expected = np.stack([crops[i, table[i].argmin()] for i in images_by_loss])
    np.testing.assert_array_equal(rded.surest(teacher, crops, 2, 3), expected)


def test_soft_labels_are_the_teachers_of_the_stored_images():
    train = training_set()
    made = rded.condense(train, 2, options(temperature=4), 0, Run(None))
    teacher = teacher_for(train, options().teacher, 0, Run(None))
    logits = teacher.logits(made.images)
    np.testing.assert_allclose(made.soft_labels, F.softmax(logits / 4, 1).numpy(), atol=1e-5)
    assert made.provenance.notes["soft_label_temperature"] == 4
    assert made.provenance.notes["soft_label_bytes"] == 6 * 3 * 4


def test_the_teacher_is_more_confident_of_the_set_than_of_random_crops():
    train = training_set("labelled")
    made = rded.condense(train, 2, options(pool=20, crops=5), 0, Run(None))
    teacher = teacher_for(train, options().teacher, 0, Run(None))
    own = np.arange(6) // 2
    crops = random_crops(train.images.images, 1, 8, rng.generator(0, "x"))[:, 0]
    everyone = F.cross_entropy(teacher.logits(crops), torch.from_numpy(train.supervision.observed), reduction="none")
    chosen = F.cross_entropy(teacher.logits(made.images), torch.from_numpy(own), reduction="none")
    assert chosen.max() < everyone.median()


# labels


def test_candidate_sets_use_the_teachers_most_probable_class(teacher):
    train = training_set("mixture")
    labels = rded.likeliest_candidates(teacher, train)
    known = train.supervision
    logits = teacher.logits(train.images.images).numpy()
    for i in range(len(train)):
        if known.candidates[i].all():
            assert labels[i] == -1
        else:
            inside = np.flatnonzero(known.candidates[i])
            assert labels[i] == inside[logits[i][inside].argmax()]


@pytest.mark.parametrize("kind", ["partial", "unlabelled", "mixture"])
def test_labels_of_every_kind_are_taken(kind):
    made = rded.condense(training_set(kind), 2, options(), 0, Run(None))
    assert made.ipc == 2 and made.provenance.supervision == kind


# sizes


@pytest.mark.parametrize(("size", "channels", "factor"), [(28, 1, 1), (32, 3, 1), (64, 3, 2), (64, 1, 2)])
@pytest.mark.parametrize("ipc", [1, 10])
def test_every_size_and_channel(size, channels, factor, ipc, monkeypatch):
    images, truth = pictures(40, size, channels)
    train = TrainingSet(images, Supervision.from_labels(truth.labels, 3, trusted=False))
    resolved = options()
    assert resolved.factor_for(size) == factor
    asked = []
    monkeypatch.setattr(rded, "teacher_for", lambda *_: _Judge(images, asked))
    made = rded.condense(train, ipc, resolved, 0, Run(None))
    assert made.images.shape == (3 * ipc, size, size, channels)
    assert all(shape == (size, size, channels) for shape in asked)


class _Judge:
    """Surest of the brightest."""

    def __init__(self, images: ImageData, asked: list):
        self.image_shape, self.asked = images.image_shape, asked
        self.record = TeacherRecord("brightness", 1, 0.0, 1.0, 0)

    def logits(self, images):
        self.asked.append(images.shape[1:])
        return torch.from_numpy(images.mean((1, 2, 3)))[:, None].float() * torch.tensor([1.0, 0.0, 0.0])

    def soft_labels(self, images, temperature):
        return (self.logits(images) / temperature).softmax(1).numpy()


def test_too_few_images_are_refused_before_a_teacher_is_trained(monkeypatch):
    monkeypatch.setattr(rded, "teacher_for", None)
    train = training_set("labelled", per_class=5)
    with pytest.raises(UserError, match=r"'dark' has 5, .*ipc is 6; lower ipc"):
        rded.condense(train, 6, options(), 0, Run(None))
    with pytest.raises(UserError, match=r"ipc is 2 of 4 real ones each"):
        rded.condense(train, 2, options(factor=2), 0, Run(None))
    with pytest.raises(UserError, match="Images of 8 pixels cannot be tiled 3 by 3; choose another factor"):
        rded.condense(train, 1, options(factor=3), 0, Run(None))


def test_the_pool_grows_with_ipc():
    made = rded.condense(training_set("labelled"), 20, options(pool=1), 0, Run(None))
    assert made.ipc == 20
