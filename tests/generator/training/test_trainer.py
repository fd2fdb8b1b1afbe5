"""Training: what each kind of label teaches, the schedules, cost, and going on after a stop bit for bit."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from tiny import CONDITIONAL, NETWORK, pictures, supervision, train_options, training_set

from condense.data.batches import EpochBatches, LabelledBatches
from condense.data.types import Supervision, TrainingSet
from condense.errors import Interrupted, RunFailed, UserError
from condense.generator.training import session
from condense.generator.training.prerequisites import given_transition
from condense.generator.training.schedules import cold_steps, ema_decay, learning_rate
from condense.generator.training.session import train_generator
from condense.generator.training.trainer import Trainer
from condense.run import Run


def trainer_of(kind="noisy", network=NETWORK, seed=0, **options):
    return Trainer(training_set(kind), network, train_options(**options), seed)


def finish(trainer):
    return list(trainer.steps())[-1]


# learning


def recovered(kind, network=NETWORK, **options):
    """Share of the training images given their true class by p(y | x) after a short training."""
    train = training_set(kind, per_class=40)
    options = {"steps": 60, "batch_size": 32, "learning_rate": 3e-3, "precision": "fp32", **options}
    generator = train_generator(train, network, train_options(**options), 0, Run(None))
    posterior = generator.posterior(train.images.images)
    return (posterior.argmax(1) == pictures(40)[1].labels).mean()


def test_the_generator_sees_through_labels_of_all_kinds_at_once():
    assert recovered("mixture") > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noisy", "partial", "unlabelled"])
def test_the_generator_sees_through_every_kind_of_label(kind):
    assert recovered(kind) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("form", ["expected", "sampled", "mixture"])
@pytest.mark.parametrize("top_k", [None, 2])
def test_the_conditional_network_and_the_other_forms_learn_too(form, top_k):
    assert recovered("noisy", CONDITIONAL, steps=120, form=form, top_k=top_k) > 0.78  # 0.72 as given


# what reaches the loss


def test_cold_start_takes_labels_as_given():
    trainer = trainer_of("mixture", cold_start=1.0)
    batch = trainer.batch(torch.arange(60), torch.Generator().manual_seed(0))
    candidates = torch.from_numpy(training_set("mixture").supervision.candidates)
    torch.testing.assert_close(batch.pi, candidates / candidates.sum(1, keepdim=True))
    torch.testing.assert_close(batch.likelihood, candidates.float())


def test_after_the_cold_start_the_matrix_is_believed():
    matrix = ((0.6, 0.4, 0.0), (0.4, 0.6, 0.0), (0.0, 0.0, 1.0))
    trainer = trainer_of("noisy", cold_start=0.0, transition=matrix)
    batch = trainer.batch(torch.arange(60), torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.likelihood, torch.tensor(matrix).T[batch.candidates.long().argmax(1)])


def test_beliefs_about_trusted_labels_begin_after_the_cold_start():
    trainer = trainer_of("mixture", cold_start=0.5, steps=40, batch_size=30)
    candidates, trusted = trainer.labels.candidates.float(), trainer.labels.trusted
    steps = trainer.steps()
    for _ in range(cold_steps(trainer.options)):
        next(steps)
    visited = trainer.labels.bank.visited
    assert visited[~trusted].any() and not visited[trusted].any()
    next(steps)
    assert trainer.labels.bank.visited[trusted].any()
    uniform = (candidates / candidates.sum(1, keepdim=True)).half()
    unseen = trusted & ~trainer.labels.bank.visited
    torch.testing.assert_close(trainer.labels.bank.posterior[unseen], uniform[unseen])


def test_data_without_any_label_starts_uniform():
    images, _ = pictures()
    nothing = Supervision(np.ones((60, 3), dtype=np.bool_), np.ones(60, dtype=np.bool_))
    trainer = Trainer(TrainingSet(images, nothing), NETWORK, train_options(cold_start=1.0), 0)
    batch = trainer.batch(torch.arange(5), torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.pi, torch.full((5, 3), 1 / 3))
    with pytest.raises(UserError, match="every image is unlabelled"):
        Trainer(TrainingSet(images, nothing), NETWORK, train_options(objective="vanilla"), 0)


@pytest.mark.parametrize(
    ("share", "steps", "cold"), [(0.02, 3000, 60), (0.02, 600, 60), (0.02, 40, 4), (0.5, 40, 20), (0.0, 3000, 0)]
)
def test_a_short_run_has_a_cold_start_long_enough_for_beliefs(share, steps, cold):
    assert cold_steps(train_options(cold_start=share, steps=steps)) == cold


def test_after_the_cold_start_pi_is_the_bank_given_the_label():
    trainer = trainer_of("mixture", cold_start=0.0)
    finish(trainer)
    batch = trainer.batch(torch.arange(60), torch.Generator().manual_seed(0))
    joint = trainer.labels.bank[torch.arange(60)].clamp_min(1e-8) * batch.likelihood
    torch.testing.assert_close(batch.pi, joint / joint.sum(1, keepdim=True))
    assert (batch.pi[batch.trusted] * ~batch.candidates[batch.trusted] == 0).all()


def test_vanilla_trains_on_labels_as_given_and_on_the_labelled_only():
    trainer = trainer_of("unlabelled", objective="vanilla")
    given = trainer.data.supervision
    assert not given.unlabelled[trainer.train_indices.numpy()].any()
    batch = trainer.batch(trainer.train_indices, torch.Generator().manual_seed(0))
    assert torch.equal(batch.pi, torch.from_numpy(given.candidates).float()[trainer.train_indices])
    assert not finish(trainer).losses.classification
    assert not trainer.labels.bank.visited.any()


def test_held_out_images_are_never_trained_on():
    trainer = trainer_of("noisy", held_out=0.2)
    seen = torch.cat([trainer.train_indices[trainer.batches[step]] for step in range(30)])
    assert len(trainer.held_indices) == 12
    assert not set(seen.tolist()) & set(trainer.held_indices.tolist())


def test_data_too_small_for_a_held_out_part_gets_the_usual_share_of_the_temperature():
    images, truth = pictures(3)
    train = TrainingSet(images, supervision("noisy", truth))
    trainer = Trainer(train, NETWORK, train_options(steps=2, temperature=3.5), 0)
    assert not len(trainer.held_indices)
    finish(trainer)
    assert trainer.generator().temperature == 0.3 * 3.5


def test_a_given_transition_matrix_is_kept_and_checked():
    matrix = [[0.8, 0.1, 0.1], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]]
    trainer = trainer_of(transition=matrix, steps=8)
    finish(trainer)
    torch.testing.assert_close(trainer.labels.transition, torch.tensor(matrix))
    for wrong in ([[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.1, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]]):
        with pytest.raises(UserError, match="3x3 with rows that sum to 1"):
            trainer_of(transition=wrong)
    with pytest.raises(UserError, match="singular"):
        trainer_of(transition=[[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])


def test_candidate_sets_that_the_matrix_makes_impossible_are_refused():
    given = Supervision(np.array([[True, True, False], [True, False, True]]), np.zeros(2, dtype=np.bool_))
    assert given_transition([[0.6, 0.4, 0.0], [0.0, 0.5, 0.5], [0.2, 0.0, 0.8]], given).shape == (3, 3)
    with pytest.raises(UserError, match=r"of 1 images \(the first is number 1, labelled \[0, 2\]\)"):
        given_transition([[0.6, 0.4, 0.0], [0.0, 0.5, 0.5], [0.0, 0.2, 0.8]], given)


def test_classes_are_chosen_for_conditional_networks_alone():
    with pytest.raises(UserError, match="top_k 2 saves nothing with an all-class network"):
        trainer_of(top_k=2)


# schedules


def test_learning_rate_rises_holds_and_falls():
    options = train_options(steps=100, warmup=0.1, cooldown=0.2, learning_rate=0.01)
    rate = [learning_rate(options, step) / 0.01 for step in range(100)]
    assert rate[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert rate[10:80] == pytest.approx([1.0] * 70)
    assert rate[89] == pytest.approx(0.5, abs=0.002)
    assert 0 < rate[99] < 0.002
    flat = train_options(steps=10, warmup=0.0, cooldown=0.0, learning_rate=0.01)
    assert [learning_rate(flat, step) for step in range(10)] == [0.01] * 10


def test_the_rate_of_the_schedule_reaches_the_optimiser():
    trainer = trainer_of(steps=10, warmup=1.0, cooldown=0.0)
    for step in trainer.steps():
        assert trainer.optimizer.param_groups[0]["lr"] == learning_rate(trainer.options, step.step - 1)


def test_half_life_images_halve_the_weight_of_the_past():
    options = train_options(batch_size=16, ema_half_life=160, ema_share=1.0)
    # after 1616 images the half-life is no longer a share of them
    assert ema_decay(options, 100) ** 10 == pytest.approx(0.5, rel=1e-9)


def test_half_life_is_a_share_of_the_images_seen_at_first():
    options = train_options(batch_size=16, ema_half_life=10**6, ema_share=0.05)
    assert ema_decay(options, 199) == pytest.approx(0.5**0.1, rel=1e-9), "3200 images seen with this step"


def test_the_generator_is_the_average_not_the_last_weights():
    trainer = trainer_of(ema_share=1.0)
    steps = trainer.steps()
    next(steps)
    for mine, ema in zip(trainer.denoiser.parameters(), trainer.ema_denoiser.parameters(), strict=True):
        assert torch.equal(mine, ema), "the first update copies"
    before = [p.clone() for p in trainer.ema_denoiser.parameters()]
    next(steps)
    beta = 0.5 ** (16 / 32)
    for ema, old, new in zip(trainer.ema_denoiser.parameters(), before, trainer.denoiser.parameters(), strict=True):
        torch.testing.assert_close(ema, beta * old + (1 - beta) * new)


def test_the_best_weights_on_the_held_out_part_are_kept():
    trainer = trainer_of(select="best", select_every=1, held_out=0.2, learning_rate=0.02, precision="fp32")
    losses, weights = {}, {}
    for step in trainer.steps():
        losses[step.step] = trainer.generator().record.held_out_loss
        weights[step.step] = {k: v.clone() for k, v in trainer.ema_denoiser.network.state_dict().items()}
    best = min(losses, key=losses.get)
    generator = trainer.finish()
    assert generator.record.selected_step == best
    kept = generator.denoiser.network.state_dict()
    assert all(torch.equal(kept[name], weights[best][name]) for name in kept)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (10, 10), (7, 20)])
def test_every_epoch_is_a_permutation(n, batch_size):
    batches = EpochBatches(n, batch_size, seed=1)
    stream = torch.cat([batches[step] for step in range(3 * n)])
    epochs = stream[: len(stream) // n * n].reshape(-1, n)
    assert (epochs.sort(1).values == torch.arange(n)).all()
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(EpochBatches(n, batch_size, seed=1)[5], batches[5]), "any step, in any order"
    assert not torch.equal(torch.cat([EpochBatches(n, n, seed=2)[0]]), epochs[0])


def test_batches_are_topped_up_with_labelled_images():
    labelled = torch.zeros(100, dtype=torch.bool)
    labelled[[3, 50, 97]] = True
    plain, batches = EpochBatches(100, 20, seed=1), LabelledBatches(labelled, 20, 0.25, seed=1)
    seen = []
    for step in range(60):
        before, after = plain[step], batches[step]
        assert labelled[after].sum() == 5
        changed = before != after
        assert not labelled[before[changed]].any() and labelled[after[changed]].all()
        seen.append(after[changed])
        assert labelled[batches.only_labelled(step)].all()
    counts = torch.bincount(torch.cat(seen), minlength=100)[labelled]
    assert counts.min() > 0.8 * counts.max(), "none of the labelled images is favoured"


@pytest.mark.parametrize("beliefs", [None, torch.full((60, 3), 1 / 3)])
def test_labelled_images_are_favoured_by_a_network_that_learns_the_classes_alone(beliefs):
    options = train_options(steps=10, batch_size=30, cold_start=0.5, labelled_share=0.8)
    trainer = Trainer(training_set("unlabelled"), NETWORK, options, 0, beliefs=beliefs)
    unlabelled = trainer.data.supervision.unlabelled
    seen = []
    trainer.batch = lambda indices, random, look=trainer.batch: seen.append(indices) or look(indices, random)
    finish(trainer)
    shares = [1 - unlabelled[indices].mean() for indices in seen]
    if beliefs is None:
        assert set(shares[:5]) == {1.0} and min(shares[5:]) >= 0.8
    else:
        assert max(shares) < 0.8


@pytest.mark.parametrize("labelled", [torch.ones(30, dtype=torch.bool), torch.zeros(30, dtype=torch.bool)])
def test_batches_are_left_alone_where_all_or_none_are_labelled(labelled):
    plain, batches = EpochBatches(30, 8, seed=1), LabelledBatches(labelled, 8, 0.5, seed=1)
    assert all(torch.equal(batches[step], plain[step]) for step in range(10))
    assert torch.equal(batches.only_labelled(3), plain[3])


def test_enough_labelled_images_are_not_added_to():
    labelled = torch.arange(100) % 2 == 0
    plain, batches = EpochBatches(100, 100, seed=1), LabelledBatches(labelled, 100, 0.5, seed=1)
    assert torch.equal(batches[0], plain[0])


# cost


@pytest.mark.parametrize(
    ("network", "options", "each"),
    [
        (NETWORK, {"objective": "vanilla"}, 1),
        (NETWORK, {"form": "expected"}, 1),
        (NETWORK, {"form": "mixture"}, 3),
        (CONDITIONAL, {"form": "expected"}, 3),
        (CONDITIONAL, {"form": "mixture"}, 9),
        (CONDITIONAL, {"form": "expected", "top_k": 1}, 3 + 1),
        (CONDITIONAL, {"form": "mixture", "top_k": 2}, 3 + 2 + 6),
        (CONDITIONAL, {"form": "sampled", "classification_weight": 0.0}, 1),
    ],
)
def test_evaluations_of_a_step(network, options, each):
    """`each` an image, and for beliefs 2 T (times c where a pass gives one class) on the share that is refreshed."""
    trainer = trainer_of(
        network=network,
        steps=3,
        cold_start=0.0,
        refresh_share=0.25,
        posterior_sigmas=(0.4, 0.8),
        eliminate=None,
        **options,
    )
    look = 1 if network is NETWORK else 3
    refresh = 0 if "objective" in options else 2 * 2 * (16 // 4) * look
    assert [step.evaluations for step in trainer.steps()] == [k * (16 * each + refresh) for k in (1, 2, 3)]


# stopping and going on


def files(run):
    tensors, meta = run.load("checkpoint")
    generator, described = run.load("generator")
    for measured in (meta, described["meta"]):
        for changing in {"seconds", "peak_memory_bytes"} & measured.keys():
            del measured[changing]
    return tensors, meta, generator, described, (run.path / "metrics.jsonl").read_text()


def assert_same(found, wanted):
    for mine, theirs in zip(found, wanted, strict=True):
        if isinstance(mine, dict) and mine and isinstance(next(iter(mine.values())), torch.Tensor):
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[key], theirs[key]) for key in mine)
        else:
            assert mine == theirs


def uninterrupted(tmp_path, options, network=NETWORK):
    run = Run(tmp_path / "whole")
    train_generator(training_set("mixture"), network, options, 5, run)
    return files(run)


class StoppedAt(Run):
    """Does something when metrics are recorded at one step."""

    def __init__(self, path, step, act):
        super().__init__(path)
        self.step, self.act = step, act

    def metric(self, **values):
        super().metric(**values)
        if values["step"] == self.step:
            self.act()


@pytest.fixture
def metrics_every_step(monkeypatch):
    monkeypatch.setattr(session, "METRIC_EVERY", 1)


DROPOUT = NETWORK.model_copy(update={"dropout": 0.2})


def test_ctrl_c_saves_and_the_same_call_goes_on_bit_for_bit(tmp_path, metrics_every_step):
    options = train_options(cold_start=0.2, augment_probability=0.5, select="best", select_every=4, held_out=0.2)
    wanted = uninterrupted(tmp_path, options, DROPOUT)
    stopping = StoppedAt(tmp_path / "stopped", 8, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match=r"Stopped at step 8 of 15; the state is saved in .*stopped"):
        train_generator(training_set("mixture"), DROPOUT, options, 5, stopping)
    assert not (tmp_path / "stopped" / "generator.safetensors").exists()
    run = Run(tmp_path / "stopped")
    train_generator(training_set("mixture"), DROPOUT, options, 5, run)
    assert_same(files(run), wanted)


def test_a_crash_loses_only_the_steps_since_the_checkpoint(tmp_path, metrics_every_step):
    class Crash(Exception):
        pass

    def crash():
        raise Crash

    options = train_options()  # checkpoints at 5, 10, 15
    wanted = uninterrupted(tmp_path, options)
    with pytest.raises(Crash):
        train_generator(training_set("mixture"), NETWORK, options, 5, StoppedAt(tmp_path / "crashed", 8, crash))
    run = Run(tmp_path / "crashed")
    assert run.load("checkpoint")[1]["step"] == 5
    train_generator(training_set("mixture"), NETWORK, options, 5, run)
    steps = [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 16))
    assert_same(files(run), wanted)


def test_a_finished_run_is_not_trained_again(tmp_path):
    wanted = uninterrupted(tmp_path, train_options())
    again = Run(tmp_path / "whole")
    train_generator(training_set("mixture"), NETWORK, train_options(), 5, again)
    assert_same(files(again), wanted)


def test_the_seed_decides_everything(tmp_path):
    first, again, other = (
        train_generator(training_set(), NETWORK, train_options(steps=5), seed, Run(None)) for seed in (1, 1, 2)
    )
    weights = [torch.cat([p.flatten() for p in g.denoiser.parameters()]) for g in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"options": train_options(steps=16)}, r"options \(steps 15, now 16\)"),
        ({"network": CONDITIONAL}, r"network \(kind .*, now \"conditional\".*\)"),
        ({"seed": 6}, r"seed \(5, now 6\)"),
        ({"data": training_set("mixture", seed=1)}, "data, labels"),
        ({"data": training_set("noisy")}, "labels"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, metrics_every_step, changed, named):
    """Case 17: which option differs is said."""
    given = {"data": training_set("mixture"), "network": NETWORK, "options": train_options(), "seed": 5}
    stopping = StoppedAt(tmp_path, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        train_generator(**given, run=stopping)
    with pytest.raises(UserError, match=f"other {named}; use the same or start afresh"):
        train_generator(**{**given, **changed}, run=Run(tmp_path))


def test_a_loss_that_explodes_stops_with_the_step_and_advice(tmp_path):
    options = train_options(learning_rate=1e12, warmup=0.0, precision="fp32")
    with pytest.raises(RunFailed, match=r"loss became (nan|inf) at step \d+; lower train.learning_rate \(now 10+\.0\)"):
        train_generator(training_set(), NETWORK, options, 0, Run(tmp_path))
    assert not (tmp_path / "generator.safetensors").exists()


def test_warmup_and_cooldown_must_fit_into_the_run():
    with pytest.raises(UserError, match=r"warmup 0.6 \+ cooldown 0.5"):
        train_options(warmup=0.6, cooldown=0.5)
