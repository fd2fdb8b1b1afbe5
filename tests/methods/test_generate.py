"""From a generator to a set: pools, agreement, filling up, and generators that do not fit."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import CLASSES, NETWORK, pictures, train_options, training_set

from condense import methods
from condense.data.types import ImageData, Supervision, TrainingSet, Truth
from condense.errors import UserError
from condense.generator.model import DEFAULT_SCHEDULE, Generator
from condense.generator.training.session import train_generator
from condense.generator.training.two_stage import beliefs
from condense.methods import _generate, dmis, vanilla
from condense.methods._believed import believed_images
from condense.methods._distribution import learn
from condense.methods._generate import MAX_ROUNDS, DrawOptions, _choose_class, class_prototypes, draw_and_choose, embed
from condense.methods._refine import RefineOptions
from condense.pipeline.relabel import repaired_by, repaired_by_oracle
from condense.preprocessing import planes
from condense.run import Run

PIXELS = DrawOptions(pool=2, choose="surest", features="pixels")


class Marked:
    """Its images identify themselves: pixel 0 is the requested class, pixel 1 the class they look like."""

    classes, image_shape = CLASSES, (1, 8, 8)

    def __init__(self, disowned):
        self.disowned, self.denoiser, self.asked = disowned, SimpleNamespace(evaluations=0), []

    def sample(self, labels, seed, *, num_steps, guidance, start, start_sigma):
        self.asked.append((int(labels[0]), len(labels)))
        images = np.random.default_rng(seed % 2**32).integers(0, 255, (len(labels), 8, 8, 1), dtype=np.uint8)
        wrong = np.arange(len(labels)) < self.disowned.get(int(labels[0]), 0) * len(labels)
        images[:, 0, 0, 0], images[:, 0, 1, 0] = labels, np.where(wrong, (labels + 1) % 3, labels)
        return images

    def posterior(self, images):
        sure = 0.5 + 0.4 * images[:, 1, 1, 0] / 255
        belief = np.repeat((1 - sure)[:, None] / 2, 3, 1)
        belief[np.arange(len(images)), images[:, 0, 1, 0]] = sure
        return belief.astype(np.float32)


def test_samples_that_the_generator_disowns_are_dropped_and_counted():
    images, notes = draw_and_choose(Marked({1: 0.5}), 4, PIXELS, 0, Run(None))
    assert images[:, 0, 0, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert images[:, 0, 1, 0].tolist() == images[:, 0, 0, 0].tolist()
    assert notes["agreement_by_class"] == [1.0, 0.5, 1.0]
    assert notes["dropped_share"] == pytest.approx(1 / 6)
    assert (notes["pool"], notes["disowned_used"]) == (24, 0)


def test_a_class_short_of_samples_is_drawn_again_and_only_that_class():
    generator = Marked({1: 0.75})  # 2 of 8 agree, 4 are needed
    _, notes = draw_and_choose(generator, 4, PIXELS, 0, Run(None))
    assert generator.asked == [(0, 8), (1, 8), (2, 8), (1, 8)]
    assert (notes["pool"], notes["disowned_used"]) == (32, 0)


def test_a_class_never_agreed_with_is_filled_up_and_reported():
    generator = Marked({2: 1.0})
    images, notes = draw_and_choose(generator, 4, PIXELS, 0, Run(None))
    assert generator.asked.count((2, 8)) == MAX_ROUNDS
    assert images[:, 0, 0, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert notes["disowned_used"] == 4
    assert notes["agreement_by_class"] == [1.0, 1.0, 0.0]


def test_filling_up_takes_agreeing_samples_first_then_the_surest_others():
    belief = np.array([[0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.8, 0.1, 0.1]])
    pool = np.zeros((5, 8, 8, 1), np.uint8)
    assert _choose_class(pool, belief, 1, 4, PIXELS, 0).tolist() == [2, 0, 1, 3]
    assert _choose_class(pool, belief, 1, 2, PIXELS, 0).tolist() == [2, 0]
    everyone = PIXELS.model_copy(update={"agree": False})
    assert _choose_class(pool, belief, 1, 4, everyone, 0).tolist() == [2, 0, 1, 3]


def test_without_agreement_nothing_is_dropped():
    options = DrawOptions(pool=1, agree=False, choose="none")
    images, notes = draw_and_choose(Marked({1: 1.0}), 3, options, 0, Run(None))
    assert images[3:6, 0, 1, 0].tolist() == [2, 2, 2]
    assert (notes["pool"], notes["dropped_share"]) == (9, 0.0)


def test_the_pool_is_never_smaller_than_the_set():
    generator = Marked({})
    draw_and_choose(generator, 3, PIXELS.model_copy(update={"pool": 1.1}), 0, Run(None))
    assert {size for _, size in generator.asked} == {3}


@pytest.mark.parametrize("space", ["pixels", "network"])
def test_features_belong_to_their_image_alone(space):
    images = pictures(6)[0].images
    features = embed(images, space, 3)
    assert features.dtype == np.float32 and len(features) == 18
    np.testing.assert_array_equal(embed(images, space, 3), features)
    np.testing.assert_allclose(embed(images[::-1].copy(), space, 3)[::-1], features, rtol=1e-3, atol=1e-4)
    if space == "network":
        assert not np.allclose(embed(images, space, 4), features)


# a trained generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("generator")
    options = train_options(steps=60, batch_size=32, learning_rate=3e-3, precision="fp32")
    train_generator(training_set("noisy", per_class=40), NETWORK, options, 0, Run(path))
    return path


def options_of(folder, method=dmis):
    return method.Options(generator=folder, draw={"pool": 1, "sampler_steps": 3, "agree": False, "choose": "none"})


def test_a_trained_generator_is_used_again_and_its_cost_counted(folder):
    train = training_set("noisy", per_class=40)
    made = dmis.condense(train, 2, options_of(folder), 0, Run(None))
    spent = made.provenance.notes["generator"]
    assert spent["steps"] == 60 and spent["images_seen"] == 60 * 32
    assert made.provenance.cost.images_seen == 60 * 32
    drawn = 6 * (2 * 3 - 1) + 6 * 2 * 4  # Heun, then two looks at each of the classifier's four levels
    assert made.provenance.cost.network_evaluations == spent["evaluations"] + drawn
    assert made.provenance.cost.seconds > spent["seconds"]


def test_a_generator_of_other_images_classes_or_objective_is_refused(folder):
    train = training_set("noisy", per_class=4)
    wide = pictures(4, size=10)[0]
    with pytest.raises(UserError, match="makes images of 8x8x1, the data has 10x10x1"):
        dmis.condense(TrainingSet(wide, train.supervision), 1, options_of(folder), 0, Run(None))
    renamed = ImageData(train.images.images, ("a", "b", "c"), "letters", "train")
    with pytest.raises(UserError, match="knows the classes dark, light, striped, letters has a, b, c"):
        dmis.condense(TrainingSet(renamed, train.supervision), 1, options_of(folder), 0, Run(None))
    with pytest.raises(UserError, match="trained with objective 'dmis', the method is 'vanilla'"):
        vanilla.condense(train, 1, options_of(folder, vanilla), 0, Run(None))


def test_a_mistyped_run_folder_is_refused_and_not_made(tmp_path):
    with pytest.raises(UserError, match="There is no run folder"):
        dmis.condense(training_set(), 1, options_of(tmp_path / "typo"), 0, Run(None))
    assert not (tmp_path / "typo").exists()


def test_the_method_decides_the_objective_not_the_recipe():
    asked = dmis.Options(train={"objective": "vanilla"})
    assert asked.train_options("dmis").objective == "dmis"


@pytest.mark.parametrize("name", ["cad", "dmis", "tdsm", "vanilla"])
def test_every_generator_is_drawn_alike_unless_as_published_is_set(name):
    options = methods.load(name).Options
    assert options().drawn == "alike" and options().draw == DrawOptions()
    plain = options(drawn="as-published", draw={"sampler_steps": 9})
    assert plain.draw == DrawOptions(pool=1, agree=False, choose="none", sampler_steps=9) and plain.second_stage is None
    wished = options(drawn="as-published", draw={"agree": True}, second_stage={})
    assert wished.draw.agree and wished.draw.pool == 1 and wished.second_stage is not None
    assert options.model_validate(plain.model_dump(mode="json")) == plain
    with pytest.raises(ValueError, match="as-published"):
        options(drawn="somehow")


# repairing labels


def test_repaired_labels_are_better_than_the_given_ones(folder):
    from condense.generator.model import Generator

    images, truth = pictures(40)
    train = training_set("noisy", per_class=40)
    repaired, _ = repaired_by(Generator.load(Run(folder)), train, Run(None))
    before = (train.supervision.observed == truth.labels).mean()
    after = (repaired.supervision.observed == truth.labels).mean()
    assert before < 0.8 and after > 0.97
    assert repaired.supervision.kind == "noisy", "repaired labels may still be wrong"
    assert "repaired by dmis" in repaired.corruption.spec
    np.testing.assert_array_equal(repaired.images.images, images.images)


def test_repairing_keeps_trusted_labels(folder):
    from condense.generator.model import Generator

    train = training_set("partial", per_class=40)
    repaired, _ = repaired_by(Generator.load(Run(folder)), train, Run(None))
    chosen = repaired.supervision.observed
    assert train.supervision.candidates[np.arange(120), chosen].all()


def test_a_generator_of_other_classes_repairs_nothing(folder):
    from condense.generator.model import Generator

    images = ImageData(np.zeros((4, 8, 8, 1), np.uint8), ("a", "b"), "two", "train")
    train = TrainingSet(images, Supervision.from_labels(np.array([0, 1, 0, 1]), 2, trusted=False))
    with pytest.raises(UserError, match="knows the classes"):
        repaired_by(Generator.load(Run(folder)), train, Run(None))


def test_the_oracle_is_marked():
    train = training_set("noisy")
    truth = Truth(np.random.default_rng(0).integers(0, 3, 60))
    repaired = repaired_by_oracle(truth, train)
    np.testing.assert_array_equal(repaired.supervision.observed, truth.labels)
    assert "repaired by oracle" in repaired.corruption.spec


def test_torch_and_numpy_leave_no_trace_in_global_randomness():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    draw_and_choose(Marked({1: 0.5}), 2, PIXELS.model_copy(update={"choose": "kmeans"}), 0, Run(None))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_prototypes_are_cluster_means_of_the_images_believed_to_be_of_a_class():
    generator = np.random.default_rng(0)
    centres = np.array([[20, 60], [120, 160], [200, 240]])  # two clusters a class
    images = np.repeat(centres.reshape(-1), 30)[:, None, None, None] + generator.integers(-3, 4, (180, 4, 4, 1))
    known = np.repeat(np.eye(3), 60, 0) * 0.96 + 0.01
    known[0] = [0.5, 0.4, 0.1]  # too uncertain to count
    images[0] = 255
    prototypes = class_prototypes(images.astype(np.uint8), known, 2, 0)
    for y in range(3):
        means = np.sort(prototypes[y].reshape(2, -1).mean(1))
        np.testing.assert_allclose(means, centres[y], atol=1.5)


def test_a_class_with_low_beliefs_takes_its_most_probable_images_as_prototypes():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) * np.full((1, 2, 2, 1), 60, np.uint8)
    known = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    values = sorted(int(p[0, 0, 0]) for p in class_prototypes(images, known, 2, 0)[1])
    assert values == [120, 180]


def test_samples_stay_near_their_prototypes_where_these_are_hardly_noised():
    options = train_options(steps=2)
    generator = train_generator(training_set(), NETWORK, options, 0, Run(None))
    start = np.full((5, 8, 8, 1), 200, np.uint8)
    near = generator.sample(np.zeros(5, np.int64), 0, start=start, start_sigma=0.01)
    assert np.abs(near.astype(int) - 200).max() < 8
    far = generator.sample(np.zeros(5, np.int64), 0)
    assert np.abs(far.astype(int) - 200).mean() > 20


# refining what was drawn

REFINE = {"iterations": 2, "real_batch": 16, "lr_img": 0.1}
DRAW = {"pool": 1, "agree": False, "choose": "none", "sampler_steps": 2, "features": "pixels"}


def refined(folder, run, train=None, **changed):
    options = dmis.Options.model_validate({"generator": folder, "draw": DRAW, "refine": {**REFINE, **changed}})
    return dmis.condense(train or training_set("noisy", per_class=40), 2, options, 0, run)


def test_images_are_refined_from_those_drawn_on_what_the_generator_believes(folder, tmp_path):
    train = training_set("noisy", per_class=40)
    plain = dmis.condense(train, 2, dmis.Options(generator=folder, draw=DrawOptions(**DRAW)), 0, Run(None))
    made = refined(folder, Run(tmp_path))
    assert made.images.dtype == np.float32 and made.value_range == (0.0, 1.0)
    believing = replace(train, beliefs=beliefs(Generator.load(Run(folder)), train, Run(None)).posterior)
    start = made.preprocessing.normalise(planes(plain.images).float() / 255)
    reals = believed_images(believing, made.preprocessing, 1)
    learned = learn(believing, reals, start, RefineOptions.model_validate(REFINE), 0, Run(None), "dmis")
    np.testing.assert_array_equal(made.images, learned.pixels)
    assert np.abs(made.images - plain.images / 255).max() > 1e-4
    cost, before = made.provenance.cost, plain.provenance.cost
    asked = 120 * 2 * len(DEFAULT_SCHEDULE.sigmas)  # about every training image
    assert cost.network_evaluations - before.network_evaluations == 2 * (3 * 16 + 6) + asked
    assert made.provenance.notes["refined"]["believed"] is True
    assert (tmp_path / "refine" / "checkpoint.safetensors").exists()
    again = refined(folder, Run(tmp_path))
    np.testing.assert_array_equal(again.images, made.images)
    with pytest.raises(UserError, match=r"lr_img 0\.1, now 0\.02"):
        refined(folder, Run(tmp_path), lr_img=0.02)
    with pytest.raises(UserError, match=r"other iterations \(2, now 3\)"):  # the rate of every step depends on them
        refined(folder, Run(tmp_path), iterations=3)


def test_refining_packed_images_starts_from_four_drawn_ones_each(folder, monkeypatch):
    seen, cut = [], _generate.tiled
    monkeypatch.setattr(_generate, "tiled", lambda images, factor: seen.append(images) or cut(images, factor))
    made = refined(folder, Run(None), pack=2, iterations=1, lr_img=1e-12)
    assert made.images.shape == (6, 8, 8, 1) and (made.ipc, made.packing) == (2, 4)
    plain = dmis.Options(generator=folder, draw=DrawOptions(**DRAW))
    drawn = dmis.condense(training_set("noisy", per_class=40), 8, plain, 0, Run(None))
    np.testing.assert_array_equal(seen[0], drawn.images)
    blocks = drawn.images.reshape(24, 4, 2, 4, 2).astype(float).mean((2, 4))
    np.testing.assert_allclose(made.images[1, :4, 4:, 0], blocks[5] / 255, atol=0.51 / 255)
    np.testing.assert_allclose(made.images[5, 4:, 4:, 0], blocks[23] / 255, atol=0.51 / 255)


def test_beliefs_handed_on_are_used_instead_of_the_generators(folder, monkeypatch):
    train = training_set("noisy", per_class=40)
    monkeypatch.setattr(_generate, "beliefs", None)
    one_hot = refined(folder, Run(None), replace(train, beliefs=train.supervision.as_beliefs()))
    other = replace(train, beliefs=np.roll(train.supervision.as_beliefs(), 1, 1))
    assert not np.array_equal(refined(folder, Run(None), other).images, one_hot.images)
    seen = []
    monkeypatch.setattr(_generate, "class_prototypes", lambda images, known, *_: seen.append(known))
    options = dmis.Options(generator=folder, draw=DrawOptions(**{**DRAW, "prototype_sigma": 1.0}))
    dmis.condense(other, 2, options, 0, Run(None))
    np.testing.assert_array_equal(seen[0], other.beliefs)
