import dataclasses
import json

import numpy as np
import pytest
import torch

from condense import augment, rng
from condense.classifiers import networks
from condense.classifiers.fit import Teaching, fit, predict
from condense.data.types import ImageData, Truth
from condense.errors import UserError
from condense.evaluate import score as scoring
from condense.evaluate.protocols import HARD, HARD_AS_LEARNED, protocol
from condense.precision import arithmetic
from condense.preprocessing import Preprocessing
from condense.sets.condensed_set import CondensedSet, Provenance

CLASSES = ("dark", "light", "striped")
BRIEF = dataclasses.replace(HARD, name="brief", epochs=3)


def pictures(per_class, size=8, seed=0, channels=1):
    """Dark, light and striped pictures with a little noise, class-major: easy to tell apart."""
    generator = np.random.default_rng(seed)
    base = np.zeros((3, size, size, channels))
    base[0], base[1], base[2, :, ::2] = 60, 190, 255
    noisy = np.repeat(base, per_class, axis=0) + generator.normal(0, 20, (3 * per_class, size, size, channels))
    return noisy.clip(0, 255).astype(np.uint8), np.repeat(np.arange(3), per_class)


def condensed_set(classes=CLASSES, **changed):
    images, labels = pictures(4)
    provenance = Provenance("random", 4, 0, {}, "patterns", "", "noisy", "none", None)
    made = CondensedSet(images, labels, classes, Preprocessing((0.5,), (0.25,)), provenance)
    return dataclasses.replace(made, **changed)


def test_data(classes=CLASSES, name="patterns", **how):
    images, labels = pictures(10, seed=1, **how)
    return ImageData(images, classes, name, "test"), Truth(labels)


test_data.__test__ = False


def run(condensed=None, data=None, network=None, repeats=2, seed=0, **how):
    test, truth = data or test_data()
    how = {"protocol": BRIEF, "fresh": scoring.FreshNetworks(network, repeats, seed)} | how
    return scoring.score(condensed or condensed_set(), test, truth, **how)


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(scoring, "arithmetic", lambda _, device: arithmetic("fp32", device))


def test_easy_classes_are_separated_and_wrong_labels_show():
    protocol = dataclasses.replace(HARD, epochs=25)
    assert run(protocol=protocol, repeats=1).mean > 95
    test, truth = test_data()
    assert run(protocol=protocol, repeats=1, data=(test, Truth((truth.labels + 1) % 3))).mean < 5


def test_score_is_reproducible_and_its_networks_differ():
    first, again, other = run(), run(), run(seed=1)
    assert first.accuracies == again.accuracies
    assert run(repeats=3).accuracies[:2] == first.accuracies
    assert first.accuracies[0] != first.accuracies[1] and first.accuracies != other.accuracies


def test_score_equals_training_and_counting_by_hand():
    condensed, (test, truth) = condensed_set(), test_data()
    network = networks.build(
        "convnet3", in_channels=1, image_size=8, num_classes=3, seed=rng.derive(0, "score network", 0)
    )
    x = (torch.from_numpy(condensed.images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    options = BRIEF.fit_options(bf16=False)
    y = torch.from_numpy(condensed.labels)

    def dsa(x, generator):
        return augment.independent(x, BRIEF.augmentation, generator)

    list(fit(network, x, y, options, seed=rng.derive(0, "score fit", 0), teaching=Teaching(augment=dsa)))
    x_test = (torch.from_numpy(test.images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    right = predict(network, x_test).argmax(1).numpy() == truth.labels
    assert run(repeats=1).accuracies == (pytest.approx(100 * right.mean()),)


def test_the_worst_class_is_that_of_the_lowest_recall():
    right = torch.tensor([True, False, True, True, True, False, False, True])
    labels = torch.tensor([0, 0, 0, 2, 2, 4, 4, 4])  # classes 1 and 3 have no images
    assert scoring.worst_of_classes(right, labels) == pytest.approx(1 / 3)
    test, truth = test_data()
    found = run(repeats=2, data=(test, truth))
    assert found.worst_class is not None and 0 <= found.worst_class <= found.mean


def test_a_learned_rate_is_used_where_the_protocol_says_so():
    """As learned, a set at its own rate is scored as by hard at that rate; without one it is refused."""
    base = condensed_set()
    learned = dataclasses.replace(base.provenance, notes={"learned_rate": 0.02})
    condensed = dataclasses.replace(base, provenance=learned)
    as_learned = dataclasses.replace(HARD_AS_LEARNED, epochs=3)
    found = run(condensed, protocol=as_learned)
    assert found.accuracies == run(condensed, protocol=dataclasses.replace(BRIEF, learning_rate=0.02)).accuracies
    assert (found.protocol["name"], found.protocol["learning_rate"]) == ("hard-as-learned", 0.02)
    assert run(condensed).protocol["learning_rate"] == 0.01
    with pytest.raises(UserError, match="learned along with the set, but the set of random has none"):
        run(base, protocol=as_learned)


def test_json_has_exactly_the_promised_keys():
    written = json.loads(json.dumps(run().to_json()))
    keys = ["mean", "std", "ci95", "accuracies", "protocol", "network", "seconds", "uses_true_labels"]
    keys += ["labels", "packing", "trained_on", "worst_class", "test_data", "per_class", "confused"]
    assert list(written) == keys and written["uses_true_labels"] is False
    assert len(written["accuracies"]) == 2 and written["mean"] == pytest.approx(np.mean(written["accuracies"]))
    assert written["protocol"]["epochs"] == 3 and written["protocol"]["precision"] == "float32"
    settings = {field.name for field in dataclasses.fields(BRIEF)}
    assert set(written["protocol"]) == settings | {"device", "precision", "decided"}
    assert written["network"] == "convnet3" and written["seconds"] > 0
    single = run(repeats=1).to_json()
    assert single["ci95"] is None and single["std"] is None


def test_every_epoch_is_reported_and_the_callback_may_stop_the_scoring():
    seen = []
    run(on_epoch=lambda repeat, epoch: seen.append((repeat, epoch.epoch)))
    assert sorted(seen) == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]

    def stop(repeat, epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(on_epoch=stop)


def test_networks_are_trained_on_every_picture_of_a_packed_set(monkeypatch):
    """The score is that of a set of the pictures, cut out and enlarged here by torch alone."""
    stored = condensed_set()
    notes = {"pack": 2}
    packed = dataclasses.replace(stored, provenance=dataclasses.replace(stored.provenance, notes=notes))
    pixels = torch.from_numpy(stored.images).permute(0, 3, 1, 2) / 255
    parts = [pixels[:, :, top : top + 4, left : left + 4] for top in (0, 4) for left in (0, 4)]
    pictures = torch.stack([torch.nn.functional.interpolate(part, (8, 8), mode="bilinear") for part in parts], 1)
    loose = dataclasses.replace(
        stored,
        images=pictures.flatten(0, 1).permute(0, 2, 3, 1).contiguous().numpy(),
        labels=stored.labels.repeat(4),
        value_range=(0.0, 1.0),
        provenance=dataclasses.replace(stored.provenance, ipc=16),
    )
    seen = []

    def watched(model, images, targets, options, **how):
        seen.append((tuple(images.shape), targets.bincount().tolist()))
        return fit(model, images, targets, options, **how)

    monkeypatch.setattr(scoring, "fit", watched)
    found = run(packed, repeats=1)
    assert seen == [((48, 1, 8, 8), [16, 16, 16])]
    assert (found.packing, found.trained_on) == (4, 48)
    assert found.accuracies == run(loose, repeats=1).accuracies
    plain = run(stored, repeats=1)
    assert (plain.packing, plain.trained_on) == (1, 12) and seen[-1] == ((12, 1, 8, 8), [4, 4, 4])


def test_stored_labels_that_are_certain_score_as_class_labels():
    brief = dataclasses.replace(protocol("stored-labels"), epochs=3)
    certain = condensed_set(soft_labels=np.eye(3, dtype=np.float32)[condensed_set().labels])
    found = run(certain, protocol=brief)
    assert found.labels == "soft" and found.accuracies == pytest.approx(run(certain).accuracies, abs=0.01)
    with pytest.raises(UserError, match="has no soft labels, but the protocol needs them"):
        run(protocol=brief)


def test_soft_labels_and_weights_are_not_used_by_the_hard_protocol():
    wrong = np.full((12, 3), 0.5, dtype=np.float32)
    wrong[:, 0] = 0
    weights = np.linspace(0, 1, 12, dtype=np.float32)
    assert run(condensed_set(soft_labels=wrong, weights=weights)).accuracies == run().accuracies


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: test_data(classes=(*CLASSES, "new")), "has 3 classes, the test data patterns has 4"),
        (
            lambda: test_data(classes=("light", "dark", "striped")),
            'class 0 is "dark" in the condensed set but "light"',
        ),
        (lambda: test_data(size=16), "8x8 with 1 channel, the test images of patterns 16x16 with 1 channel"),
        (
            lambda: test_data(channels=3),
            "8x8 with 1 channel, the test images of patterns 8x8 with 3 channels",
        ),
        (lambda: (test_data()[0], Truth(np.zeros(5, np.int64))), "30 test images but 5 labels"),
        (lambda: (test_data()[0], Truth(np.full(30, 3))), "entry 0 is 3, outside 0..2"),
    ],
)
def test_sets_of_another_kind_are_refused(data, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        run(data=data())


def test_impossible_requests_are_refused():
    with pytest.raises(UserError, match="repeats is 0"):
        run(repeats=0)
    with pytest.raises(UserError, match='"convnet"; nearest: convnet'):
        run(network="convnet")
    with pytest.raises(UserError, match='"hrad"; nearest: hard'):
        protocol("hrad")


def test_digits_are_never_mirrored():
    images, truth = test_data()
    found = run(data=(dataclasses.replace(images, flip=False), truth))
    assert found.protocol["augmentation"] == "color_crop_cutout_scale_rotate"


@pytest.mark.parametrize("network", ["convnet3", "convnet3-bn"])
def test_networks_trained_at_once_score_as_one_by_one(monkeypatch, network):
    used = []
    stacked = scoring.fit_stacked
    monkeypatch.setattr(scoring, "fit_stacked", lambda *a, **how: used.append(1) or stacked(*a, **how))
    together = run(repeats=3, network=network)
    assert used == [1]
    monkeypatch.setattr(scoring, "stacking_pays", lambda *a: False)
    assert run(repeats=3, network=network).accuracies == pytest.approx(together.accuracies, abs=4)  # of 30 images
    assert used == [1]


def test_a_protocol_names_its_network():
    assert run(repeats=1).network == "convnet3"
    assert run(repeats=1, protocol=dataclasses.replace(BRIEF, network="mlp")).network == "mlp"
