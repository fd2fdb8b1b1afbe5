import os
import signal

import pytest
import tiny
import torch

from condense.classifiers.fit import FitOptions, Teaching, fit
from condense.errors import Interrupted, RunFailed, UserError
from condense.methods import _experts
from condense.methods._augmentation import per_image
from condense.methods._experts import Experts, Snapshots, expert_folder, train_experts
from condense.methods._pixels import RealImages
from condense.preprocessing import standardisation
from condense.rng import derive
from condense.run import Run

OPTIONS = FitOptions(3, 16, learning_rate=0.05, momentum=0.0, weight_decay=0.0, schedule="constant")
AUGMENT = per_image("crop_scale")


def reals():
    train = tiny.training_set("noisy")
    return RealImages(train, standardisation(train.images.images), 1)


def train_two(run, snapshots=None):
    real = reals()
    snapshots = snapshots or Snapshots(expert_folder(run, None, {}))
    experts = Experts(
        2, lambda expert: real.network("convnet3", expert), real[:], real.labels, OPTIONS, AUGMENT, seed=7
    )
    seconds = train_experts(experts, snapshots, run)
    return snapshots, seconds


def flat(parameters):
    return torch.cat([value.detach().flatten() for _, value in sorted(parameters.items())])


@pytest.fixture(scope="module")
def in_memory():
    return train_two(Run(None))


def test_snapshots_are_not_aliases_of_the_network_in_training(in_memory):
    snapshots, seconds = in_memory
    all_of_them = [flat(snapshots.parameters(expert, epoch)) for expert in range(2) for epoch in range(4)]
    for i, one in enumerate(all_of_them):
        assert not any(torch.equal(one, other) for other in all_of_them[:i])
    assert torch.equal(all_of_them[0], flat(dict(reals().network("convnet3", 0).named_parameters())))
    assert 0 < snapshots.seconds(0, 1) < snapshots.seconds(1, 3) == seconds


def test_an_expert_is_what_fit_makes_of_the_real_images(in_memory):
    real = reals()
    network = real.network("convnet3", 1)
    for epoch in fit(
        network, real[:], real.labels, OPTIONS, seed=derive(7, "expert", 1), teaching=Teaching(augment=AUGMENT)
    ):
        expected = flat(dict(network.named_parameters()))
        assert torch.equal(flat(in_memory[0].parameters(1, epoch.epoch)), expected)


def test_training_goes_on_from_the_last_snapshot_bit_for_bit(in_memory, tmp_path):
    run = Run(tmp_path)
    on_disk, _ = train_two(run)
    assert len(list((tmp_path / _experts.FOLDER).glob("*.safetensors"))) == 8
    kept = (tmp_path / _experts.FOLDER / "0000-001.safetensors").stat().st_mtime_ns
    for name in ("0000-003", "0001-000", "0001-001", "0001-002", "0001-003"):
        (tmp_path / _experts.FOLDER / f"{name}.safetensors").unlink()
    with pytest.raises(RunFailed, match=r"0001-002\.safetensors is gone"):
        on_disk.parameters(1, 2)
    train_two(run)
    assert (tmp_path / _experts.FOLDER / "0000-001.safetensors").stat().st_mtime_ns == kept
    for expert in range(2):
        for epoch in range(4):
            expected = flat(in_memory[0].parameters(expert, epoch))
            assert torch.equal(flat(on_disk.parameters(expert, epoch)), expected)


def test_ctrl_c_stops_after_an_epoch(in_memory, tmp_path, monkeypatch):
    run, snapshots = Run(tmp_path), Snapshots(tmp_path / _experts.FOLDER)
    original = snapshots.put

    def put(expert, epoch, network, seconds):
        original(expert, epoch, network, seconds)
        if (expert, epoch) == (1, 1):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(snapshots, "put", put)
    with pytest.raises(Interrupted, match=r"epoch 1 of expert 2 of 2.*--resume"):
        train_two(run, snapshots)
    assert snapshots.has(1, 1) and not snapshots.has(1, 2)
    monkeypatch.undo()
    train_two(run)
    assert torch.equal(
        flat(Snapshots(tmp_path / _experts.FOLDER).parameters(1, 3)), flat(in_memory[0].parameters(1, 3))
    )


def test_a_damaged_snapshot_is_named_and_clearing_removes_all(tmp_path):
    snapshots = Snapshots(tmp_path / _experts.FOLDER)
    snapshots.put(0, 0, reals().network("convnet3", 0), 0.0)
    file = tmp_path / _experts.FOLDER / "0000-000.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"0000-000\.safetensors is not a readable checkpoint"):
        snapshots.parameters(0, 0)
    snapshots.clear()
    assert not snapshots.has(0, 0) and not list((tmp_path / _experts.FOLDER).iterdir())
