"""One answer about labels: all users of a generator's beliefs take the same pooled p(y | x, z)."""

import numpy as np
import pytest
from tiny import CONDITIONAL, NETWORK, train_options, training_set

import condense
from condense.generator.options import SecondStage
from condense.generator.training import two_stage
from condense.generator.training.two_stage import BELIEFS, train_stages
from condense.methods import _generate, dmis
from condense.pipeline.relabel import repaired_by
from condense.run import Run

VOLMIN = {"transition": "volmin", "helper": {"steps": 2, "batch_size": 16}, "held_out": 0.3, "steps": 3}
STAGE = SecondStage(network=CONDITIONAL, train=train_options(steps=2))


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """A generator of two stages with a second opinion, its run folder, and what its second stage learned from."""
    folder, seen = tmp_path_factory.mktemp("one answer") / "run", []
    real = two_stage.train_generator

    def spy(*arguments, beliefs=None, **changed):
        seen.append(beliefs)
        return real(*arguments, beliefs=beliefs, **changed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_stage, "train_generator", spy)
        generator = train_stages(training_set(), NETWORK, train_options(**VOLMIN), STAGE, 5, Run(folder))
    return generator, folder, seen[1].numpy()


def test_relabel_clean_first_the_second_stage_and_prototypes_take_the_same_array(stages, tmp_path, monkeypatch):
    generator, folder, learned = stages
    train, prototypes_of = training_set(), []
    answer = condense.relabel(train, generator=generator, seed=1)  # the noise is of the seed of the training
    assert answer.to_json()["asked"].keys() == {"generator", "classifier"}
    np.testing.assert_array_equal(learned, answer.posterior)
    np.testing.assert_array_equal(Run(folder).load(BELIEFS)[0][BELIEFS].numpy(), answer.posterior)
    np.testing.assert_array_equal(condense.relabel(train, generator=folder).posterior, answer.posterior)

    repaired, believed = repaired_by(generator, train, Run(tmp_path))
    np.testing.assert_array_equal(believed.posterior, answer.posterior)
    np.testing.assert_array_equal(repaired.supervision.observed, answer.suggested)
    np.testing.assert_array_equal(repaired.beliefs, answer.posterior)

    real = _generate.class_prototypes
    monkeypatch.setattr(
        _generate,
        "class_prototypes",
        lambda images, known, *rest: prototypes_of.append(known) or real(images, known, *rest),
    )
    draw = {"pool": 1, "agree": False, "choose": "none", "sampler_steps": 2, "prototype_sigma": 0.5}
    dmis.condense(train, 1, dmis.Options.model_validate({"generator": folder, "draw": draw}), 0, Run(None))
    np.testing.assert_array_equal(prototypes_of[0], answer.posterior)


def test_the_answer_is_pooled_and_not_the_generators_alone(stages):
    generator, train = stages[0], training_set()
    by_itself = generator.label_posterior(train.images.images, train.supervision, seed=5)
    assert not np.allclose(condense.relabel(train, generator=generator).posterior, by_itself)


def test_beliefs_kept_by_an_earlier_version_are_not_taken(stages, tmp_path):
    generator, train = stages[0], training_set()
    two_stage.beliefs(generator, train, Run(tmp_path))
    tensors, meta = Run(tmp_path).load(BELIEFS)
    older = {key: value for key, value in meta.items() if key not in ("version", "opinion")}
    Run(tmp_path).save(BELIEFS, {BELIEFS: tensors[BELIEFS] * 0 + 1 / 3}, older)
    np.testing.assert_array_equal(
        two_stage.beliefs(generator, train, Run(tmp_path)).posterior, tensors[BELIEFS].numpy()
    )
