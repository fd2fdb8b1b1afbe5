"""Two stages: the labels of the second, the network that draws and the one that judges, and the run folder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import CONDITIONAL, NETWORK, pictures, train_options, training_set

from condense import rng
from condense.data.batches import to_unit
from condense.data.types import Supervision, TrainingSet
from condense.errors import UserError
from condense.generator.generator_file import SECOND
from condense.generator.labels.coherence import estimate_coherence
from condense.generator.model import Generator
from condense.generator.options import SecondStage
from condense.generator.training import two_stage
from condense.generator.training.prerequisites import Prerequisites
from condense.generator.training.session import train_generator
from condense.generator.training.trainer import Trainer
from condense.generator.training.two_stage import beliefs, train_stages
from condense.preprocessing import planes
from condense.run import Run

STAGE = SecondStage(network=CONDITIONAL, train=train_options(steps=4))


def two_stages(run, seed=0, **options):
    return train_stages(training_set(), NETWORK, train_options(steps=6, **options), STAGE, seed, run)


def weights(generator):
    return torch.cat([p.flatten() for p in generator.denoiser.parameters()])


def test_certain_beliefs_teach_what_the_same_labels_teach_without_any():
    images, truth = pictures()
    data = TrainingSet(images, Supervision.from_labels(truth.labels, 3, trusted=False))
    options = train_options(objective="vanilla")
    plain = train_generator(data, CONDITIONAL, options, 0, Run(None))
    certain = torch.eye(3)[torch.from_numpy(truth.labels)]
    told = train_generator(data, CONDITIONAL, options, 0, Run(None), beliefs=certain)
    assert torch.equal(weights(plain), weights(told))
    other = train_generator(data, CONDITIONAL, options, 0, Run(None), beliefs=certain.roll(1, 1))
    assert not torch.equal(weights(plain), weights(other))


def test_labels_are_drawn_from_the_beliefs_of_unlabelled_images_too():
    known = torch.rand(60, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    for objective in ("dmis", "vanilla"):
        trainer = Trainer(training_set("unlabelled"), CONDITIONAL, train_options(objective=objective), 0, beliefs=known)
        batch = trainer.batch(torch.arange(60), torch.Generator().manual_seed(0))
        torch.testing.assert_close(batch.pi, known)
        assert not trainer.labels.bank.visited.any()


def test_the_second_network_draws_and_the_first_one_judges():
    generator = two_stages(Run(None))
    labels = np.array([0, 1, 2, 2])
    np.testing.assert_array_equal(generator.sample(labels, 3), generator.second.sample(labels, 3))
    first = train_generator(training_set(), NETWORK, train_options(steps=6), 0, Run(None))
    assert torch.equal(weights(generator), weights(first))
    images = training_set().images.images
    np.testing.assert_array_equal(generator.posterior(images), first.posterior(images))
    assert generator.evaluations == generator.denoiser.evaluations + generator.second.denoiser.evaluations


def test_both_stages_come_back_from_the_run_folder(tmp_path):
    made = two_stages(Run(tmp_path))
    found = Generator.load(Run(tmp_path))
    labels = np.array([0, 1, 2])
    np.testing.assert_array_equal(made.sample(labels, 1), found.sample(labels, 1))
    assert found.second.network.kind == "conditional"
    found.save(tmp_path / "copy")
    np.testing.assert_array_equal(Generator.load(tmp_path / "copy").sample(labels, 1), made.sample(labels, 1))
    again = two_stages(Run(tmp_path))
    assert torch.equal(weights(again.second), weights(made.second))


def test_a_stopped_second_stage_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    whole = two_stages(Run(None))
    real = two_stage.train_generator

    def stops(data, network, options, seed, run, beliefs=None, prepared=None):
        if beliefs is not None:
            options = options.model_copy(update={"checkpoint_every": 2})
            trainer = Trainer(data, network, STAGE.train, seed, None, beliefs)
            next(iter(trainer.steps()))
            run.save("checkpoint", trainer.state()[0], {**trainer.state()[1], "seconds": 0.0})
            raise KeyboardInterrupt
        return real(data, network, options, seed, run, prepared=prepared)

    monkeypatch.setattr(two_stage, "train_generator", stops)
    with pytest.raises(KeyboardInterrupt):
        two_stages(Run(tmp_path))
    monkeypatch.setattr(two_stage, "train_generator", real)
    assert torch.equal(weights(two_stages(Run(tmp_path)).second), weights(whole.second))
    other = torch.full((60, 3), 1 / 3)
    with pytest.raises(UserError, match="other beliefs"):
        train_generator(
            training_set(), CONDITIONAL, STAGE.train, rng.derive(0, SECOND), Run(tmp_path / SECOND), beliefs=other
        )


@pytest.mark.parametrize("kind", ["noisy", "unlabelled"])
def test_the_second_network_of_vanilla_is_trained_by_vanilla_on_the_labels_as_given(kind):
    data = training_set(kind)
    made = train_stages(data, NETWORK, train_options(steps=2, objective="vanilla"), STAGE, 0, Run(None))
    options = STAGE.train.model_copy(update={"objective": "vanilla"})
    alone = train_generator(data, CONDITIONAL, options, rng.derive(0, SECOND), Run(None))
    assert torch.equal(weights(made.second), weights(alone))


def test_the_second_network_of_cad_takes_the_same_coherence_and_draws_at_one():
    data, short = training_set(), {"folds": 2, "epochs": 1}
    options = train_options(steps=2, objective="cad", coherence=short)
    made = train_stages(data, NETWORK, options, STAGE, 0, Run(None))
    coherence, _ = estimate_coherence(data, options.coherence, 0, Run(None), torch.device("cpu"))
    drawing = STAGE.train.model_copy(update={"objective": "cad"})
    seed = rng.derive(0, SECOND)
    alone = train_generator(data, CONDITIONAL, drawing, seed, Run(None), prepared=Prerequisites(coherence=coherence))
    assert made.second.denoiser.coherent and torch.equal(weights(made.second), weights(alone))
    blind = train_generator(
        data, CONDITIONAL, drawing, seed, Run(None), prepared=Prerequisites(coherence=torch.ones(60, 3))
    )
    assert not torch.equal(weights(alone), weights(blind))
    assert made.record.prepared_seconds and made.second.record.prepared_seconds is None, "it is paid for once"
    x_t, sigma, labels = torch.randn(3, 1, 8, 8), torch.ones(3), torch.arange(3)[:, None]
    told, untold = (made.second.denoiser(x_t, sigma, labels, None, *r) for r in ((torch.ones(3),), ()))
    assert torch.equal(told, untold), "drawn without a coherence is drawn at r = 1"


def test_tdsm_believes_its_classifier_weighed_by_the_matrix(tmp_path):
    data = training_set()
    matrix = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]
    options = train_options(steps=6, objective="tdsm", transition=matrix, helper={"steps": 40}, precision="fp32")
    made = train_stages(data, NETWORK, options, STAGE, 0, Run(tmp_path))
    x_0 = to_unit(planes(data.images.images))
    h = made.noisy_classifier(x_0, torch.full((60,), 0.01414)).softmax(1)
    joint = h * torch.tensor(matrix)[:, data.supervision.observed].T
    asked = made.evaluations
    found = beliefs(made, data, Run(None))
    np.testing.assert_allclose(found.posterior, joint / joint.sum(1, keepdim=True), atol=1e-4)
    assert found.evaluations == made.evaluations - asked == 60, "one look per image, by h alone"
    drawing = STAGE.train.model_copy(update={"objective": "tdsm"})
    known = torch.from_numpy(found.posterior)
    alone = train_generator(data, CONDITIONAL, drawing, rng.derive(0, SECOND), Run(None), beliefs=known)
    assert torch.equal(weights(made.second), weights(alone))
    again = Generator.load(Run(tmp_path))
    np.testing.assert_array_equal(beliefs(again, data, Run(None)).posterior, found.posterior)


@pytest.mark.parametrize("objective", ["dmis", "vanilla"])
def test_a_second_stage_learns_from_beliefs_that_are_handed_on(objective, monkeypatch):
    data = training_set()
    handed = np.roll(data.supervision.as_beliefs(), 1, 1)
    monkeypatch.setattr(two_stage, "beliefs", None)
    options = train_options(steps=6, objective=objective)
    made = train_stages(replace(data, beliefs=handed), NETWORK, options, STAGE, 0, Run(None))
    drawing = STAGE.train.model_copy(update={"objective": objective})
    known = torch.from_numpy(handed)
    alone = train_generator(data, CONDITIONAL, drawing, rng.derive(0, SECOND), Run(None), beliefs=known)
    assert torch.equal(weights(made.second), weights(alone))


def test_beliefs_are_kept_for_the_same_labels_only(tmp_path):
    data, generator = training_set(), two_stages(Run(None))
    made = generator.denoiser.evaluations
    first = beliefs(generator, data, Run(tmp_path)).posterior
    np.testing.assert_allclose(first.sum(1), 1, atol=1e-5)
    before = generator.denoiser.evaluations
    again = beliefs(generator, data, Run(tmp_path))
    np.testing.assert_array_equal(again.posterior, first)
    assert again.evaluations == before - made
    assert generator.denoiser.evaluations == before
    other = TrainingSet(data.images, Supervision.from_labels(np.zeros(60, np.int64), 3, trusted=False))
    assert not np.array_equal(beliefs(generator, other, Run(tmp_path)).posterior, first)
    assert generator.denoiser.evaluations > before


def test_a_vanilla_generator_believes_the_labels_as_given():
    data = training_set("partial")
    generator = train_generator(data, NETWORK, train_options(objective="vanilla", steps=2), 0, Run(None))
    given = data.supervision.candidates
    np.testing.assert_allclose(
        beliefs(generator, data, Run(None)).posterior, given / given.sum(1, keepdims=True), rtol=1e-6
    )
