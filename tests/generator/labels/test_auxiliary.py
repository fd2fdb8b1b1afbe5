"""Networks trained before the generator: VolMinNet learns T, h learns the classes, and both resume after a stop."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from tiny import CONDITIONAL, NETWORK, pictures, train_options, training_set

from condense.data.batches import to_unit
from condense.data.types import Supervision, TrainingSet
from condense.errors import Interrupted, RunFailed, UserError
from condense.generator.labels.auxiliary import HELD_PART, HelperData
from condense.generator.labels.noisy_classifier import NoisyClassifier, train_noisy_classifier
from condense.generator.labels.volminnet import TransitionMatrix, VolMinNet, estimate_by_volume
from condense.generator.training.prerequisites import prepare
from condense.generator.training.session import train_generator
from condense.run import Run

CPU = torch.device("cpu")
KNOWN = np.array([[0.7, 0.2, 0.1], [0.05, 0.85, 0.1], [0.1, 0.3, 0.6]])


def flipped(per_class, seed=0, matrix=KNOWN):
    """Separable pictures whose labels are flipped by `matrix`, and their classes."""
    images, truth = pictures(per_class)
    uniform = np.random.default_rng(seed).random(len(truth))
    labels = (matrix[truth.labels].cumsum(1) < uniform[:, None]).sum(1)
    return TrainingSet(images, Supervision.from_labels(labels, 3, trusted=False)), truth


# VolMinNet


def test_rows_sum_to_one_with_the_diagonal_on_top_wherever_the_weights_are():
    matrix = TransitionMatrix(5)
    torch.testing.assert_close(matrix(), torch.full((5, 5), 0.125) + 0.375 * torch.eye(5))
    torch.nn.init.normal_(matrix.weight, std=5.0)
    found = matrix()
    torch.testing.assert_close(found.sum(1), torch.ones(5))
    assert (found >= 0).all() and torch.equal(found.argmax(1), torch.arange(5))


def test_the_loss_is_cross_entropy_plus_volume():
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    net = VolMinNet(classifier, 3)
    torch.nn.init.normal_(net.transition.weight)
    x, observed = torch.randn(7, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    transition = net.transition().detach().double().numpy()
    noisy = classifier(x).softmax(1).detach().double().numpy() @ transition
    direct = -np.log(noisy[np.arange(7), observed]).mean() + 0.3 * np.log(np.linalg.det(transition))
    assert float(net.loss(x, torch.eye(3).bool()[observed], 0.3).detach()) == pytest.approx(direct, rel=1e-5, abs=1e-6)


def test_volminnet_recovers_a_known_matrix_within_two_hundredths():
    """Mean absolute error against the matrix that made the labels; the labels' own counts are 0.007 off."""
    train, truth = flipped(1000)
    made = np.array([np.bincount(train.supervision.observed[truth.labels == y], minlength=3) for y in range(3)])
    assert abs(made / 1000 - KNOWN).mean() < 0.01
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    torch.nn.init.zeros_(linear[1].weight)
    options = train_options(helper={"steps": 300, "batch_size": 256, "learning_rate": 1e-2})
    found, seconds = estimate_by_volume(train, linear, options, 0, Run(None), CPU)
    assert abs(found.numpy() - KNOWN).mean() < 0.02 and seconds > 0
    identity, start = abs(np.eye(3) - KNOWN).mean(), abs(TransitionMatrix(3)().detach().numpy() - KNOWN).mean()
    assert min(identity, start) > 0.1, "neither no noise nor the start would pass"


def test_the_matrix_gets_far_enough_in_few_steps_where_some_classes_are_never_mislabelled():
    """It starts with half of every class mislabelled; 200 steps at a tenth of the rate left it near there."""
    asymmetric = np.array([[1.0, 0, 0], [0.4, 0.6, 0], [0, 0, 1.0]])
    train, _ = flipped(1000, matrix=asymmetric)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    options = train_options(helper={"steps": 200, "batch_size": 128, "learning_rate": 1e-2})
    found, _ = estimate_by_volume(train, linear, options, 0, Run(None), CPU)
    assert abs(found.numpy() - asymmetric).mean() < 0.03
    assert found[0, 0] > 0.95 and found[2, 2] > 0.95


def test_volminnet_needs_labels_that_may_be_wrong():
    with pytest.raises(UserError, match="none here"):
        estimate_by_volume(training_set("partial"), torch.nn.Identity(), train_options(), 0, Run(None), CPU)


@pytest.mark.parametrize("kind", ["labelled", "partial", "unlabelled"])
def test_dmis_does_without_volminnet_where_no_label_may_be_wrong(kind):
    data, options = training_set(kind), train_options(steps=2, transition="volmin")
    prepared = prepare(data, NETWORK, options, 0, Run(None), CPU)
    assert prepared.transition is None and prepared.images_seen == 0
    assert train_generator(data, NETWORK, options, 0, Run(None)).record.prepared_seconds is None
    with pytest.raises(UserError, match="none here"):
        prepare(data, NETWORK, options.model_copy(update={"objective": "tdsm"}), 0, Run(None), CPU)


def test_the_held_out_mean_is_taken_in_parts_of_all_looks():
    data = training_set("noisy", per_class=400)
    parts = HelperData(data, data.supervision.noisy, train_options(held_out=0.4), 0, CPU)
    sizes, held = [], parts.held.float()
    mean = parts.held_mean(lambda part: sizes.append(len(part)) or part.float().mean(), 2)
    assert mean == pytest.approx(float(held.mean())) and sum(sizes) == 2 * len(held)
    assert max(sizes) <= HELD_PART < len(held)


def test_helpers_count_among_the_evaluations():
    options = train_options(objective="tdsm", steps=2, transition="volmin", helper={"steps": 3, "batch_size": 8})
    helped = train_generator(training_set(), CONDITIONAL, options, 0, Run(None)).record.evaluations
    plain = train_options(objective="vanilla", steps=2)
    alone = train_generator(training_set(), CONDITIONAL, plain, 0, Run(None)).record.evaluations
    asked = 2 * 16 * (3 - 1)  # tdsm asks for every class, vanilla for one
    assert helped - alone == asked + 2 * 16 + 2 * 3 * 8


def test_volmin_fixes_the_matrix_of_dmis(tmp_path):
    options = train_options(steps=2, transition="volmin", helper={"steps": 2, "batch_size": 8})
    generator = train_generator(training_set(), NETWORK, options, 0, Run(tmp_path))
    assert set(generator.record.prepared_seconds) == {"volminnet"}
    assert generator.record.images_seen == 2 * 16 + 2 * 8
    kept, _ = Run(tmp_path).load("volminnet")
    net = VolMinNet(torch.nn.Identity(), 3)
    net.transition.weight.data = kept["best.transition.weight"]
    torch.testing.assert_close(generator.transition, net.transition().detach())


# the classifier of noisy images


def test_the_classifier_learns_the_clean_classes_of_noisy_images():
    train, truth = flipped(100)
    options = train_options(steps=40, held_out=0.1, helper={"batch_size": 64, "learning_rate": 5e-3, "look_every": 10})
    h, _ = train_noisy_classifier(train, torch.from_numpy(KNOWN).float(), NETWORK, options, 0, Run(None), CPU)
    x = to_unit(torch.from_numpy(train.images.images).permute(0, 3, 1, 2))
    x_t = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    p = h(x_t, torch.full((len(x),), 0.3)).softmax(1)
    assert (p.argmax(1).numpy() == truth.labels).mean() > 0.97
    assert p.max(1).values.mean() > 0.8, "the clean posterior is sharp; the noisy one would stop at 0.72"
    assert not h.training and not any(parameter.requires_grad for parameter in h.parameters())


def test_the_classifier_is_preconditioned_like_the_denoiser():
    h = NoisyClassifier(NETWORK.shape(), 1, 3)
    seen = {}
    h.unet.forward = lambda x, c_noise, labels: seen.update(x=x, c_noise=c_noise) or torch.zeros(len(x), 3, 8, 8)
    sigma = torch.tensor([0.1, 0.5, 10.0])
    h(torch.ones(3, 1, 8, 8), sigma)
    torch.testing.assert_close(seen["x"][:, 0, 0, 0], 1 / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(seen["c_noise"], sigma.log() / 4)


def test_images_without_a_label_alone_teach_it_nothing():
    images, _ = pictures()
    nothing = Supervision(np.ones((60, 3), dtype=np.bool_), np.ones(60, dtype=np.bool_))
    with pytest.raises(UserError, match="every image is unlabelled"):
        train_noisy_classifier(TrainingSet(images, nothing), torch.eye(3), NETWORK, train_options(), 0, Run(None), CPU)


def test_a_helper_that_explodes_names_the_option():
    options = train_options(helper={"learning_rate": 1e12}, precision="fp32")
    with pytest.raises(RunFailed, match=r"noisy-classifier became (nan|inf).*train.helper.learning_rate"):
        train_noisy_classifier(training_set(), torch.eye(3), NETWORK, options, 0, Run(None), CPU)


# stopping and going on


def everything(run):
    """Tensors and meta of every file of a run, times left out, and its metrics."""
    found = {}
    for file in sorted(run.path.glob("*.safetensors")):
        tensors, meta = run.load(file.stem)
        inner = meta.get("meta", {})
        for measured in (meta, inner):
            for changing in {"seconds", "peak_memory_bytes", "prepared_seconds"} & measured.keys():
                del measured[changing]
        found[file.stem] = tensors, meta
    return found, (run.path / "metrics.jsonl").read_text()


def assert_equal_runs(mine, theirs):
    assert mine[1:] == theirs[1:]
    assert mine[0].keys() == theirs[0].keys()
    for name, (tensors, meta) in mine[0].items():
        others, other_meta = theirs[0][name]
        assert meta == other_meta
        assert tensors.keys() == others.keys() and all(torch.equal(tensors[key], others[key]) for key in tensors)


class StoppedAt(Run):
    """Ctrl-C when a line of metrics with these values is written."""

    def __init__(self, path, **values):
        super().__init__(path)
        self.values = values

    def metric(self, **values):
        super().metric(**values)
        if self.values.items() <= values.items():
            os.kill(os.getpid(), signal.SIGINT)


DROPOUT = NETWORK.model_copy(update={"dropout": 0.2})
TDSM = {
    "objective": "tdsm",
    "transition": "volmin",
    "steps": 6,
    "helper": {"steps": 4, "batch_size": 16, "look_every": 2},
    "augment_probability": 0.5,
    "held_out": 0.2,
    "precision": "fp32",
}
CAD = {"objective": "cad", "steps": 6, "coherence": {"folds": 2, "epochs": 1}, "precision": "fp32"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs by objective."""
    runs = {}
    for options in (TDSM, CAD):
        runs[options["objective"]] = run = Run(tmp_path_factory.mktemp("whole"))
        train_generator(training_set(), DROPOUT, train_options(**options), 5, run)
    return runs


@pytest.mark.parametrize("stop", ["volminnet", "noisy-classifier"])
def test_ctrl_c_in_the_preparation_and_the_same_call_goes_on_bit_for_bit(stop, whole, tmp_path):
    arguments = training_set(), DROPOUT, train_options(**TDSM), 5
    with pytest.raises(Interrupted, match=f"Stopped at step 2 of 4 of {stop}; the state is saved in"):
        train_generator(*arguments, StoppedAt(tmp_path, **{f"{stop}_step": 2}))
    assert not (tmp_path / "checkpoint.safetensors").exists()
    run = Run(tmp_path)
    train_generator(*arguments, run)
    assert_equal_runs(everything(run), everything(whole["tdsm"]))


@pytest.mark.parametrize("options", [TDSM, CAD])
def test_a_generator_stopped_halfway_goes_on_bit_for_bit(options, whole, tmp_path, monkeypatch):
    from condense.generator.training import session

    monkeypatch.setattr(session, "METRIC_EVERY", 1)
    arguments = training_set(), DROPOUT, train_options(**options), 5
    with pytest.raises(Interrupted, match="Stopped at step 3 of 6"):
        train_generator(*arguments, StoppedAt(tmp_path, step=3))
    run = Run(tmp_path)
    train_generator(*arguments, run)
    assert_equal_runs(everything(run)[:1], everything(whole[options["objective"]])[:1])


def test_what_was_prepared_for_another_run_is_refused(whole, tmp_path):
    tensors, meta = whole["tdsm"].load("volminnet")
    Run(tmp_path).save("volminnet", tensors, meta)
    with pytest.raises(UserError, match=r"volminnet in this run folder belongs to a run with other seed"):
        train_generator(training_set(), NETWORK, train_options(**TDSM), 6, Run(tmp_path))


def test_metrics_of_the_preparation_stay_when_the_generator_starts(whole):
    lines = [json.loads(line) for line in (whole["tdsm"].path / "metrics.jsonl").read_text().splitlines()]
    looks = [next(iter(line.items())) for line in lines if "held_out_loss" in line]
    assert looks == [(f"{name}_step", step) for name in ("volminnet", "noisy-classifier") for step in (2, 4)]


def test_checkpoints_from_before_an_option_was_added_are_still_read(tmp_path):
    """A checkpoint of a training without helper options can be resumed."""
    options = train_options(steps=2)
    train_generator(training_set(), NETWORK, options, 5, Run(tmp_path))
    tensors, meta = Run(tmp_path).load("checkpoint")
    for later in ("helper", "coherence"):
        del meta["options"][later]
    Run(tmp_path).save("checkpoint", tensors, meta)
    assert train_generator(training_set(), NETWORK, options, 5, Run(tmp_path)).record.steps == 2
