"""From real images to learned ones and back to a set; ZCA; settings by ipc."""

import dataclasses

import numpy as np
import pytest
import tiny
import torch
from kornia.enhance import ZCAWhitening

from condense import augment, methods, rng
from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, predict
from condense.data import digits
from condense.data.types import ImageData, Supervision, TrainingSet
from condense.errors import UserError
from condense.evaluate.protocols import HARD
from condense.evaluate.score import FreshNetworks, score
from condense.methods import _distribution, dc, dm, dsa, mtt
from condense.methods._believed import believed_images
from condense.methods._by_ipc import nearest_row
from condense.methods._gradient_matching import Loops
from condense.methods._pixels import (
    RealImages,
    check_single_labels,
    initial_images,
    to_unit_pixels,
    whitening,
)
from condense.preprocessing import Preprocessing, standardisation
from condense.recipe import parse
from condense.run import Run
from condense.sets.hdf5 import read, write

QUICK = {"iterations": 2, "real_batch": 8}


def reals(least=1, preprocessing=None, train=None):
    train = train or tiny.training_set("noisy")
    return train, RealImages(train, preprocessing or standardisation(train.images.images), least)


def test_real_images_are_normalised_and_drawn_from_the_observed_class():
    train, real = reals()
    everything = real[:]
    assert everything.mean().abs() < 1e-4 and abs(float(everything.std()) - 1) < 1e-3
    pixels = train.images.images.astype(np.float64) / 255
    expected = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(everything.permute(0, 2, 3, 1), expected, atol=1e-4)
    for y in range(3):
        own = np.flatnonzero(train.supervision.observed == y)
        drawn = real[real.choose(y, 1000, torch.Generator().manual_seed(0))]
        assert sorted(drawn.flatten(1).sum(1).tolist()) == sorted(everything[own].flatten(1).sum(1).tolist())
    few = real.draw_each(4, torch.Generator().manual_seed(1))
    assert few.shape == (12, 1, 8, 8) and len(few.flatten(1).unique(dim=0)) == 12


def test_batches_drawn_by_beliefs_have_the_mean_of_the_class():
    """E[x | y] = E[q_y x] / E[q_y], though most are likelier of another class; and none with q_y = 0."""
    random = np.random.default_rng(0)
    values = random.integers(1, 256, 400).astype(np.uint8)
    images = ImageData(np.repeat(values, 4).reshape(400, 2, 2, 1), ("a", "b"), "squares", "train")
    share = np.where(np.arange(400) % 4 == 0, 0, values / 255)
    beliefs = np.stack([share, 1 - share], 1).astype(np.float32)
    train = TrainingSet(images, Supervision(np.ones((400, 2), np.bool_), np.ones(400, np.bool_)), beliefs=beliefs)
    given = believed_images(train, Preprocessing((0.0,), (1.0,)), 2)
    drawn = [given.batch_of(0, 1, rng.generator(0, "batch", k)) for k in range(4000)]
    places = torch.cat(drawn).numpy()
    expected = (share * values).sum() / share.sum()
    assert np.median(values) + 20 < expected
    assert values[places].mean() == pytest.approx(expected, abs=4)
    assert (places % 4 > 0).all()
    surest = given.choose(0, 2, rng.generator(0, "start"))
    assert (share[surest] > 0.95).all(), "learning starts from images that are surely of the class"


@pytest.mark.parametrize("batch", [8, 200])
def test_images_of_other_classes_do_not_fill_up_the_batches_of_a_small_class(batch):
    """Of 400 images 20 are surely of the class and no other is impossible: a batch of 200 is of the 20 as well."""
    images = ImageData(np.zeros((400, 2, 2, 1), np.uint8), ("a", "b"), "squares", "train")
    share = np.where(np.arange(400) < 20, 0.99, 1e-4)
    beliefs = np.stack([share, 1 - share], 1).astype(np.float32)
    train = TrainingSet(images, Supervision(np.ones((400, 2), np.bool_), np.ones(400, np.bool_)), beliefs=beliefs)
    given = believed_images(train, Preprocessing((0.0,), (1.0,)), 2)
    drawn = torch.cat([given.batch_of(0, batch, rng.generator(0, "batch", k)) for k in range(4000 // batch)])
    assert len(drawn) == 4000
    expected = 20 * 0.99 / (20 * 0.99 + 380 * 1e-4)
    assert (drawn < 20).double().mean() == pytest.approx(expected, abs=0.002)
    assert (torch.bincount(drawn, minlength=400)[:20] > 100).all()


def test_images_of_which_nothing_is_known_are_in_no_batch():
    """Without beliefs an unlabelled image is of every class alike, and there may be far more of them than labelled."""
    candidates = np.ones((400, 2), np.bool_)
    candidates[:10] = np.eye(2, dtype=np.bool_)[np.arange(10) % 2]
    images = ImageData(np.zeros((400, 2, 2, 1), np.uint8), ("a", "b"), "squares", "train")
    train = TrainingSet(images, Supervision(candidates, np.ones(400, np.bool_)))
    given = believed_images(train, Preprocessing((0.0,), (1.0,)), 2)
    for y in range(2):
        drawn = given.batch_of(y, 64, rng.generator(0, "batch", y))
        assert set(drawn.tolist()) <= set(range(y, 10, 2))
    candidates[1:10:2] = True
    with pytest.raises(UserError, match="No image is known to be of the class 'b'"):
        believed_images(TrainingSet(images, Supervision(candidates, train.supervision.trusted)), given.preprocessing, 2)


def test_dm_takes_beliefs_instead_of_labels_of_any_kind():
    train = tiny.training_set("mixture")
    with pytest.raises(UserError, match="several candidate labels"):
        dm.condense(train, 1, parse(dm.Options, QUICK, "dm"), 0, Run(None))
    believing = dataclasses.replace(train, beliefs=train.supervision.as_beliefs())
    made = dm.condense(believing, 1, parse(dm.Options, QUICK, "dm"), 0, Run(None))
    other = dataclasses.replace(train, beliefs=np.roll(believing.beliefs, 1, 1))
    assert not np.array_equal(made.images, dm.condense(other, 1, parse(dm.Options, QUICK, "dm"), 0, Run(None)).images)
    assert made.provenance.cost.network_evaluations == dm.evaluations(believing, 1, parse(dm.Options, QUICK, "dm"))
    assert made.provenance.notes["believed"] is True


def test_learning_starts_from_noise_or_from_images_of_the_class():
    train, real = reals(least=5)
    start = initial_images(real, 5, "real", seed=3)
    for y in range(3):
        own = real[torch.from_numpy(np.flatnonzero(train.supervision.observed == y))]
        assert all((own == image).flatten(1).all(1).any() for image in start[5 * y : 5 * y + 5])
    assert torch.equal(start, initial_images(real, 5, "real", seed=3))
    assert not torch.equal(start, initial_images(real, 5, "real", seed=4))
    noise = initial_images(real, 400, "noise", seed=3)
    assert noise.shape == (1200, 1, 8, 8) and noise.mean().abs() < 0.02 and abs(float(noise.std()) - 1) < 0.02


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_is_kornias_and_is_undone(channels):
    images, _ = tiny.pictures(30, size=6, channels=channels)
    preprocessing = whitening(images)
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2).float() / 255
    zca = ZCAWhitening(eps=0.1, compute_inv=True)
    expected = zca(pixels, include_fit=True)
    white = preprocessing.normalise(pixels)
    torch.testing.assert_close(white, expected)
    covariance = np.cov(pixels.flatten(1).double().numpy().T)
    values, vectors = np.linalg.eigh(covariance)
    by_hand = (pixels - pixels.mean(0)).flatten(1).double().numpy() @ (vectors / np.sqrt(values + 0.1)) @ vectors.T
    np.testing.assert_allclose(white.flatten(1), by_hand, atol=1e-4)
    back = to_unit_pixels(white, preprocessing)
    np.testing.assert_allclose(back, images.images / 255.0, atol=1e-5)


def learned(name, train, **options):
    module = methods.load(name)
    return module.condense(train, 1, parse(module.Options, {**module.Options.QUICK, **options}, name), 0, Run(None))


@pytest.mark.parametrize("zca", [True, False])
def test_what_networks_see_of_a_stored_set_is_what_was_learned(zca, tmp_path, monkeypatch):
    """Through HDF5, and on the test images the same preprocessing is used."""
    seen = []
    original = mtt.to_unit_pixels
    monkeypatch.setattr(mtt, "to_unit_pixels", lambda x, p: (seen.append(x.detach().clone()), original(x, p))[1])
    train = tiny.training_set("labelled")
    made = learned("mtt", train, zca=zca, lr_img=1.0)
    write(tmp_path / "set.h5", made)
    stored = read(tmp_path / "set.h5")
    assert (stored.preprocessing.zca_matrix is not None) == zca and stored.images.dtype == np.float32
    torch.testing.assert_close(stored.tensors()[0], seen[0], rtol=1e-4, atol=1e-4)
    assert stored.provenance.notes["zca"] is zca


def test_evaluation_whitens_the_test_images_by_the_sets_own_matrix(monkeypatch):
    train = tiny.training_set("labelled")
    made = learned("mtt", train, lr_img=1.0)
    given = []

    def remember(network, images, *arguments, **keywords):
        given.append(images)
        return predict(network, images, *arguments, **keywords)

    monkeypatch.setattr("condense.evaluate.score.predict", remember)
    images, truth = tiny.pictures(5, seed=9)
    test = ImageData(images.images, images.classes, images.name, "test")
    score(made, test, truth, protocol=dataclasses.replace(HARD, epochs=1), fresh=FreshNetworks())
    pixels = torch.from_numpy(train.images.images).permute(0, 3, 1, 2).float() / 255
    zca = ZCAWhitening(eps=0.1).fit(pixels)
    expected = zca(torch.from_numpy(test.images).permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(given[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", augment.DSA.split("_"))
@pytest.mark.parametrize("kind", ["standardised", "whitened"])
def test_siamese_augmentation_on_both_kinds_of_images(name, kind):
    """Alike for batches of any size, differentiable, and what comes in from outside is the mean image's value."""
    images, _ = tiny.pictures(20, size=8, channels=3)
    preprocessing = standardisation(images.images) if kind == "standardised" else whitening(images)
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2).float() / 255
    x = preprocessing.normalise(pixels)
    assert x.mean(0).mean().abs() < 1e-4
    few, many = (augment.draw(name, 1, torch.Generator().manual_seed(5))(part) for part in (x[:7], x))
    torch.testing.assert_close(few, many[:7])
    leaf = x[:2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: augment.draw(name, 1, torch.Generator().manual_seed(5))(z), leaf)
    assert float(x.min()) < 0 < float(x.max())  # outside [0, 1], and nothing is clamped there:
    plain = augment.OPERATIONS[name](x, torch.tensor([[0.5, 0.5, 0.5]]))
    if name in ("color", "crop", "rotate", "flip"):
        torch.testing.assert_close(plain, x, rtol=1e-4, atol=1e-4)


def test_flips_are_left_out_for_digits_and_kept_for_clothes():
    source = digits.load()
    train = TrainingSet(source.train, Supervision.from_labels(source.truth.labels, 10, trusted=True))
    made = learned("dm", train, iterations=1)
    assert made.provenance.notes["augmentation"] == "color_crop_cutout_scale_rotate"
    assert augment.allowed(augment.DSA, may_flip=True) == augment.DSA


def test_images_must_be_square_and_labels_single():
    images, truth = tiny.pictures(4)
    tall = ImageData(images.images[:, :, :6], images.classes, "tall", "train")
    with pytest.raises(UserError, match="need square images, found 8x6"):
        check_single_labels(TrainingSet(tall, tiny.supervision("labelled", truth)))
    check_single_labels(tiny.training_set("noisy"))


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_and_number_of_channels(size, channels):
    images, truth = tiny.pictures(3, size=size, channels=channels)
    train = TrainingSet(images, tiny.supervision("labelled", truth))
    made = learned("dsa", train, iterations=1, outer=1, real_batch=2)
    assert made.images.shape == (3, size, size, channels)
    network = networks.build("convnet3", in_channels=channels, image_size=size, num_classes=3, seed=0)
    assert predict(network, made.tensors()[0]).isfinite().all()


# settings by ipc


def test_the_nearest_row_is_nearest_by_ratio():
    table = {1: "one", 10: "ten", 50: "fifty"}
    found = {ipc: nearest_row(table, ipc) for ipc in (1, 3, 4, 10, 20, 25, 50, 1000)}
    assert found == {
        1: (1, "one"),
        3: (1, "one"),
        4: (10, "ten"),
        10: (10, "ten"),
        20: (10, "ten"),
        25: (50, "fifty"),
        50: (50, "fifty"),
        1000: (50, "fifty"),
    }


def test_loops_of_dc_and_dsa():
    wanted = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
    for module, at_100 in ((dc, (50, 10)), (dsa, (100, 2))):
        for ipc, loops in {**wanted, 100: at_100}.items():
            found, note = module.Options().loops(module.LOOPS, ipc)
            assert found == Loops(*loops) and note["loops_of_ipc"] == ipc
        assert module.Options(outer=3).loops(module.LOOPS, 10)[0] == Loops(3, 50)
        assert module.Options(outer=3, inner=4).loops(module.LOOPS, 10) == (
            Loops(3, 4),
            {"outer": 3, "inner": 4, "loops_of_ipc": None},
        )
    assert [nearest_row(dc.STARTS, ipc)[1] for ipc in (1, 10, 50, 100)] == ["noise", "noise", "noise", "real"]
    assert dc.Options().lr_img == dsa.Options().lr_img == 0.1 and dsa.Options().init == "real"


def test_rates_of_dm():
    assert [nearest_row(_distribution.LR_IMG, ipc)[1] for ipc in (1, 10, 50, 100)] == [1, 1, 1, 10]
    assert learned("dm", tiny.training_set("noisy"), iterations=1).provenance.notes["lr_img"] == 1


def test_rows_of_mtt():
    small, large = 3 * 32 * 32, 3 * 64 * 64
    wanted = {
        1: (50, 2, 2, 100, 1e-7, 0.01, True),
        10: (30, 2, 20, 100, 1e-5, 0.001, True),
        50: (30, 2, 40, 1000, 1e-5, 0.001, False),
        100: (30, 2, 40, 1000, 1e-5, 0.001, False),
    }
    for ipc, row in wanted.items():
        assert mtt.Options().row(ipc, small)[1] == mtt.TrajectoryLengths(*row)
    assert not mtt.Options().row(1, large)[1].zca and mtt.Options(zca=True).row(1, large)[1].zca
    changed = mtt.Options(student_steps=7, zca=False, lr_lr=0).row(10, small)
    assert changed == (10, mtt.TrajectoryLengths(7, 2, 20, 100, 0, 0.001, False))


def test_experts_are_trained_plainly_and_as_far_as_is_ever_looked_at(monkeypatch):
    asked = []

    def asked_for(experts, snapshots, run):
        asked.append(experts.options)
        raise KeyboardInterrupt

    monkeypatch.setattr(mtt, "train_experts", asked_for)
    options = mtt.Options(precision="fp32", init="noise", zca=False)
    for ipc, epochs in {1: 3, 10: 21, 50: 41}.items():
        with pytest.raises(KeyboardInterrupt):
            mtt.condense(tiny.training_set("noisy"), ipc, options, 0, Run(None))
        plain = FitOptions(epochs, 256, "sgd", 0.01, momentum=0.0, weight_decay=0.0, schedule="constant")
        assert asked.pop() == plain
    assert mtt.Options().experts == 100 and mtt.Options().iterations == 5000
