"""The loop that learns images: resuming, Ctrl-C, failures, cost; for all four methods that use it."""

import json
import os
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from condense import methods
from condense.errors import Interrupted, RunFailed, UserError
from condense.methods._learn import CHECKPOINT, Learning, LearnOptions, Synthetic
from condense.recipe import parse
from condense.run import Run, Tracker

NAMES = ("dc", "dsa", "dm", "datadam", "mtt")
SMALL = {
    "dc": {"iterations": 1, "outer": 3, "inner": 2, "real_batch": 8},
    "dsa": {"iterations": 1, "outer": 3, "inner": 2, "real_batch": 8},
    "dm": {"iterations": 3, "real_batch": 8},
    "datadam": {"iterations": 3, "real_batch": 8},
    "mtt": {"iterations": 3, "experts": 2, "student_steps": 2, "start_epochs": 2, "expert_gap": 1, "lr_img": 1.0},
}
STEPS = 3


class StoppedAt(Run):
    """A run in which something happens once step `step` is done."""

    def __init__(self, path, step, happen):
        super().__init__(path)
        self.step, self.happen = step, happen

    @contextmanager
    def track(self, total, description, initial=0):
        tracker = Tracker()
        if description == "learning images":
            tracker.update = lambda done, **shown: self.happen() if done == self.step else None
        yield tracker


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def crash():
    raise MemoryError("as if the power had failed")


def make(name, run=None, train=None, ipc=2, seed=0, **changed):
    method = methods.load(name)
    options = parse(method.Options, {**SMALL[name], **changed}, name)
    return method.condense(train or tiny.training_set("noisy"), ipc, options, seed, run or Run(None))


def checkpoint(path):
    tensors, meta = Run(path).load(CHECKPOINT)
    return tensors, meta


@pytest.fixture(scope="module", params=NAMES)
def uninterrupted(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    return request.param, make(request.param, Run(path)), path


def test_a_run_that_crashed_goes_on_bit_for_bit(uninterrupted, tmp_path):
    """Crashed in the middle of an iteration of dc and dsa, whose network must come back as it was."""
    name, whole, path = uninterrupted
    with pytest.raises(MemoryError):
        make(name, StoppedAt(tmp_path, 3, crash), checkpoint_every=2)
    assert checkpoint(tmp_path)[1]["step"] == 2
    resumed = make(name, Run(tmp_path), checkpoint_every=2)
    np.testing.assert_array_equal(resumed.images, whole.images)
    ours, theirs = checkpoint(tmp_path), checkpoint(path)
    assert ours[0].keys() == theirs[0].keys() and all(torch.equal(ours[0][key], theirs[0][key]) for key in ours[0])
    for count in ("images_seen", "evaluations", "step"):
        assert ours[1][count] == theirs[1][count]
    cost, wanted = resumed.provenance.cost, whole.provenance.cost
    assert (cost.images_seen, cost.network_evaluations) == (wanted.images_seen, wanted.network_evaluations)
    assert resumed.provenance.notes == whole.provenance.notes


def test_ctrl_c_saves_the_step_it_stopped_at(uninterrupted, tmp_path):
    name, whole, _ = uninterrupted
    with pytest.raises(Interrupted, match=r"Stopped at step 1 of 3; the state is saved in .*: continue with --resume"):
        make(name, StoppedAt(tmp_path, 1, ctrl_c))
    assert checkpoint(tmp_path)[1]["step"] == 1
    np.testing.assert_array_equal(make(name, Run(tmp_path)).images, whole.images)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "step" in line]
    assert steps == [STEPS] and all("loss" in line for line in lines if "step" in line)


def test_a_finished_run_can_be_given_more_iterations(tmp_path):
    """Also: with a folder and without one, the set is the same."""
    whole = make("dsa", iterations=2)
    make("dsa", Run(tmp_path))
    np.testing.assert_array_equal(make("dsa", Run(tmp_path), iterations=2).images, whole.images)
    with pytest.raises(UserError, match=r"checkpoint is at step 6, beyond the 3 requested; raise iterations"):
        make("dsa", Run(tmp_path), iterations=1)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"seed": 1}, r"other seed \(0, now 1\)"),
        ({"ipc": 3}, r"other ipc \(2, now 3\)"),
        ({"real_batch": 9}, r"other options \(real_batch 8, now 9\)"),
        ({"train": tiny.training_set("noisy", seed=1)}, "other data, labels"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changed, complaint):
    make("dm", Run(tmp_path), iterations=1)
    with pytest.raises(UserError, match=f"The checkpoint belongs to a run with {complaint}"):
        make("dm", Run(tmp_path), **changed)


def test_cost_of_dm_and_dc_counted_by_hand():
    cost = make("dm").provenance.cost
    assert cost.images_seen == 3 * 3 * 8  # steps, classes, batch
    assert cost.network_evaluations == 3 * 3 * (8 + 2)
    assert cost.seconds > 0 and cost.peak_memory_bytes > 1e6
    cost = make("dc").provenance.cost
    inner = 2 * 2 * 6  # trainings, epochs, images
    assert cost.network_evaluations == 3 * 3 * (8 + 2) + inner
    sizes = np.bincount(tiny.training_set("noisy").supervision.observed)
    frozen = 3 * np.minimum(sizes, 16).sum()  # for batch norm, in every step
    assert make("dc", backbone="convnet3-bn").provenance.cost.images_seen == 3 * 3 * 8 + frozen


@pytest.mark.parametrize("name", ["dc", "dsa", "dm", "datadam", "frepo", "idc"])
def test_a_packed_set_is_as_large_as_another_and_shows_four_times_as_many_pictures(name):
    """The network between two steps, and the cost, see the pictures too."""
    small = SMALL.get(name, {"iterations": 3, "real_batch": 16, "pool": 2, "width": 4, "max_age": 1})
    method = methods.load(name)
    train, options = tiny.training_set("noisy"), parse(method.Options, {**small, "pack": 2, "init": "real"}, name)
    made = method.condense(train, 2, options, 0, Run(None))
    assert made.images.shape == (6, 8, 8, 1) and (made.ipc, made.pack, made.packing) == (2, 2, 4)
    assert made.provenance.notes["pack"] == 2
    assert made.provenance.cost.network_evaluations == method.evaluations(train, 2, options)
    assert made.tensors()[0].shape == (24, 1, 8, 8)
    with pytest.raises(UserError, match=r"Too few images .* ipc is 10 of 4 real ones each; lower ipc"):
        method.condense(train, 10, options, 0, Run(None))
    with pytest.raises(UserError, match="Images of 8x8 pixels cannot be cut into 3x3 equal parts"):
        method.condense(train, 1, options.model_copy(update={"pack": 3, "init": "noise"}), 0, Run(None))


class Failing:
    """A task whose third step cannot be done."""

    def step(self, step: int) -> dict[str, float]:
        if step == 2:
            raise RunFailed("The loss became nan.")
        return {"loss": 1.0}

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        return {}, {}

    def restore(self, tensors, meta, step) -> None:
        raise AssertionError


def test_a_failure_saves_the_state_before_it(tmp_path):
    synthetic = Synthetic(torch.zeros(2, 1, 4, 4), 1, 0.1)
    learning = Learning(Run(tmp_path), {"seed": 0}, synthetic, Failing(), steps=5, checkpoint_every=50)
    with pytest.raises(RunFailed, match=r"The loss became nan\. The 2 steps before it are saved in .*--resume"):
        learning.finish()
    assert checkpoint(tmp_path)[1]["step"] == 2


@pytest.mark.parametrize("method", ["dm", "dc"])
def test_images_that_diverge_are_reported_and_never_saved(tmp_path, method):
    """The resume that was advised failed again; DC blamed the network's rate."""
    told = (
        r"(loss became (nan|inf)|left all bounds) in step \d; lower lr_img \(now 1e\+30\) and start over with --force"
    )
    with pytest.raises(RunFailed, match=told):
        make(method, Run(tmp_path), lr_img=1e30)
    assert checkpoint(tmp_path)[0]["images"].abs().max() < 10
    with pytest.raises(RunFailed, match="start over with --force"):
        make(method, Run(tmp_path), lr_img=1e30)


def test_a_network_that_diverges_on_good_images_blames_its_own_rate(tmp_path):
    with pytest.raises(RunFailed, match=r"lower lr_net \(now 1e\+30\)"):
        make("dc", Run(tmp_path), lr_net=1e30)


def test_mtt_may_resume_with_lower_rates_and_reports_it(tmp_path):
    with pytest.raises(RunFailed, match=r"learned rate would go from .* lower lr_lr \(now 1e\+06\)"):
        make("mtt", Run(tmp_path), lr_lr=1e6)
    stopped = checkpoint(tmp_path)[1]["step"]
    made = make("mtt", Run(tmp_path), lr_lr=1e-9)
    assert made.provenance.notes["rates_from_step"] == [[0, 1.0, 1e6], [stopped, 1.0, 1e-9]]
    assert 0 < made.provenance.notes["learned_rate"] == pytest.approx(0.01, rel=1e-2)
    assert checkpoint(tmp_path)[1]["optimizer"]["group.0.lr"] == 1.0


def test_mtt_forgets_the_experts_of_a_run_begun_anew(tmp_path):
    make("mtt", Run(tmp_path))
    (tmp_path / f"{CHECKPOINT}.safetensors").unlink()
    other = make("mtt", Run(tmp_path), seed=1)
    np.testing.assert_array_equal(other.images, make("mtt", seed=1).images)


def test_mtt_shares_experts_among_sizes_and_distinguishes_others(tmp_path):
    make("mtt", Run(tmp_path / "one"), ipc=1, expert_folder=tmp_path / "experts", start_epochs=1)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "experts").rglob("*.safetensors")}
    assert len(files) == 4  # two experts, before and after their one epoch
    shared = make("mtt", Run(tmp_path / "two"), expert_folder=tmp_path / "experts")
    np.testing.assert_array_equal(shared.images, make("mtt").images)
    assert all(file.stat().st_mtime_ns == written for file, written in files.items())
    assert len(list((tmp_path / "experts").rglob("*.safetensors"))) == 6
    other = make("mtt", seed=1, expert_folder=tmp_path / "experts")
    np.testing.assert_array_equal(other.images, make("mtt", seed=1).images)
    assert len(list((tmp_path / "experts").iterdir())) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["partial", "unlabelled"])
def test_images_without_one_label_are_refused_with_the_reason(name, kind):
    reason = {
        "partial": "sorts real images by their one label",
        "unlabelled": "have no label, but this method compares",
    }
    with pytest.raises(UserError, match=reason[kind]):
        make(name, train=tiny.training_set(kind))


@pytest.mark.parametrize("name", NAMES)
def test_more_images_than_a_class_has_are_refused_when_learning_starts_from_them(name):
    with pytest.raises(UserError, match=r"Too few images .* ipc is 40"):
        make(name, ipc=40, init="real")


def test_noise_needs_no_images_to_start_from():
    assert make("dm", ipc=40, init="noise", iterations=1).ipc == 40


@pytest.mark.parametrize("name", NAMES)
def test_unknown_backbones_are_refused_before_anything_runs(name):
    with pytest.raises(UserError, match='no network is called "convnat3"; nearest: convnet3'):
        parse(methods.load(name).Options, {"backbone": "convnat3"}, name)
    with pytest.raises(UserError, match="resnet18 needs images of at least"):
        make(name, backbone="resnet18")


def test_augmentation_is_checked_and_may_be_none():
    with pytest.raises(UserError, match='names "mixup"'):
        parse(methods.load("dsa").Options, {"augment": "crop_mixup"}, "dsa")
    assert make("dm", augment="none", iterations=1).provenance.notes["augmentation"] is None
    assert make("dc").provenance.notes["augmentation"] is None
    assert make("dsa").provenance.notes["augmentation"] == "color_crop_cutout_flip_scale_rotate"
    assert LearnOptions.FREE == {"iterations", "checkpoint_every"}
