"""Expert trajectories for MTT: networks trained on the real images, with a snapshot after every epoch.

A snapshot is a file, written once, so that training resumes where it stopped and matching reads two snapshots at a
time. Files lie in experts/ in the run folder, or in a folder shared by runs of other sizes; else they stay in memory.
Source: Cazenavette et al. (2022), section 3.1, https://arxiv.org/abs/2203.11932.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense import rng
from condense.classifiers.fit import Augment, Epoch, FitOptions, Sitting, Teaching, fit
from condense.classifiers.networks import Network
from condense.errors import RunFailed
from condense.resumable import Loop, LoopPlan, Step
from condense.run import JSON, Run

FOLDER = "experts"
KEPT_BYTES = 2**30  # of most recently used snapshots on the device; one of a ConvNet-3 for 28x28 takes 1.3 MB

Parameters = dict[str, Tensor]


def expert_folder(run: Run, shared: Path | None, whose: Mapping[str, JSON]) -> Path | None:
    """Folder of a run's experts: in its own folder, or below `shared`, named after everything they depend on."""
    if shared is None:
        return None if run.path is None else run.path / FOLDER
    return shared / sha256(json.dumps(whose, sort_keys=True).encode()).hexdigest()[:12]


class Snapshots:
    """Parameters of every expert after every epoch, epoch 0 being the start.

    Args:
        folder: where their files are; in memory when None.
    """

    def __init__(self, folder: Path | None) -> None:
        self._run = Run(folder)
        self._memory: dict[str, tuple[Parameters, dict[str, Any]]] = {}
        self._ready: OrderedDict[tuple[str, str], Parameters] = OrderedDict()

    def clear(self) -> None:
        """Remove another run's files from the folder."""
        self._ready.clear()
        for file in [] if self._run.path is None else self._run.path.glob("*.safetensors"):
            file.unlink()

    def has(self, expert: int, epoch: int) -> bool:
        """Whether this snapshot exists."""
        name = _name(expert, epoch)
        return name in self._memory if self._run.path is None else (self._run.path / f"{name}.safetensors").exists()

    def put(self, expert: int, epoch: int, network: Network, seconds: float) -> None:
        """Keep a copy of the network's current parameters and the seconds of all training so far."""
        # In the order of a file, so that sums over them agree to the bit.
        self._ready.clear()
        copies = {name: value.detach().cpu().clone() for name, value in sorted(network.named_parameters())}
        if self._run.path is None:
            self._memory[_name(expert, epoch)] = copies, {"seconds": seconds}
        self._run.save(_name(expert, epoch), copies, {"seconds": seconds})

    def parameters(self, expert: int, epoch: int, device: torch.device | str = "cpu") -> Parameters:
        """The parameters by name, on `device`, not to be changed in place. Raises `RunFailed` if the file is gone.

        The most recently used stay on the device, up to `KEPT_BYTES`.
        """
        key = _name(expert, epoch), str(device)
        if key not in self._ready:
            self._ready[key] = _on_device(self._load(expert, epoch)[0], torch.device(device))
            most = max(2, KEPT_BYTES // max(1, sum(value.nbytes for value in self._ready[key].values())))
            while len(self._ready) > most:
                self._ready.popitem(last=False)
        self._ready.move_to_end(key)
        return self._ready[key]

    def seconds(self, expert: int, epoch: int) -> float:
        """Seconds all training had taken at this snapshot."""
        return float(self._load(expert, epoch)[1]["seconds"])

    def _load(self, expert: int, epoch: int) -> tuple[Parameters, Mapping[str, Any]]:
        name = _name(expert, epoch)
        found = self._memory.get(name) if self._run.path is None else self._run.load(name)
        if found is None:
            raise RunFailed(f"{name}.safetensors is gone from {self._run.path}; --resume trains what is missing.")
        return found


@dataclass(frozen=True)
class Experts:
    """The experts to train and their training data.

    Attributes:
        count: number of experts.
        new_network: makes the untrained network of an expert.
        images: normalised float32 [n, C, H, W].
        labels: int64 [n].
        options: training options; schedule "constant" and no momentum.
        augment: see `fit`.
        seed: the initial weights and image order of expert e depend on (seed, e).
    """

    count: int
    new_network: Callable[[int], Network]
    images: Tensor
    labels: Tensor
    options: FitOptions
    augment: Augment | None
    seed: int

    def epochs(self, expert: int, network: Network, first: int) -> Iterator[Epoch]:
        """Train the network of an expert from epoch `first` on."""
        seed, device = rng.derive(self.seed, "expert", expert), self.images.device
        return fit(
            network,
            self.images,
            self.labels,
            self.options,
            seed=seed,
            teaching=Teaching(self.augment),
            device=device,
            sitting=Sitting(first_epoch=first),
        )


def train_experts(experts: Experts, snapshots: Snapshots, run: Run) -> float:
    """Train all experts whose snapshots are missing.

    Plain SGD at a constant learning rate has no state besides the weights, so an expert resumes from its last snapshot
    as if it had not been interrupted.

    Args:
        experts: see `Experts`.
        snapshots: existing snapshots, and the place for new ones.
        run: for progress.

    Returns:
        Seconds of training, in all sessions.

    Raises:
        Interrupted: stopped by Ctrl-C after an epoch.
        RunFailed: the loss is no longer finite.
    """
    epochs = experts.options.epochs

    def place(done: int) -> str:
        expert, before = divmod(done - 1, epochs)
        return f"at epoch {before + 1} of expert {expert + 1} of {experts.count}"

    plan = LoopPlan("experts", experts.count * epochs, counter=None, place=place, kept="what there is is")
    spent = _Stopwatch()
    Loop(run, plan).finish(_missing_epochs(experts, snapshots, spent))
    return spent.seconds


class _Stopwatch:
    """Seconds of all sessions, counted up to the last snapshot."""

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, time.perf_counter()

    def start(self, before: float) -> None:
        self.seconds, self._since = before, time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        return self.seconds


def _missing_epochs(experts: Experts, snapshots: Snapshots, spent: _Stopwatch) -> Iterator[Step]:
    """Train epochs without a snapshot, and keep one after each."""
    epochs = experts.options.epochs
    for expert in range(experts.count):
        done = _last_epoch(snapshots, expert, epochs)
        network = experts.new_network(expert)
        if done is None:
            snapshots.put(expert, 0, network, spent.seconds)
        else:
            network.load_state_dict(snapshots.parameters(expert, done), strict=False)  # no batch statistics
        spent.start(spent.seconds if done is None else snapshots.seconds(expert, done))
        for epoch in experts.epochs(expert, network, (done or 0) + 1):
            snapshots.put(expert, epoch.epoch, network, spent.lap())
            line = {"expert": expert, "epoch": epoch.epoch, "expert_loss": epoch.loss}
            yield Step(expert * epochs + epoch.epoch, {"loss": epoch.loss}, line)


def _on_device(parameters: Parameters, device: torch.device) -> Parameters:
    """The same on `device`, in one copy unless that is the CPU."""
    if device.type == "cpu":
        return parameters
    flat = torch.cat([value.flatten() for value in parameters.values()]).to(device)
    parts = torch.split(flat, [value.numel() for value in parameters.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(parameters.items(), parts, strict=True)}


def _last_epoch(snapshots: Snapshots, expert: int, epochs: int) -> int | None:
    """The last epoch up to which nothing is missing."""
    missing = (epoch for epoch in range(epochs + 1) if not snapshots.has(expert, epoch))
    first = next(missing, epochs + 1)
    return first - 1 if first else None


def _name(expert: int, epoch: int) -> str:
    return f"{expert:04d}-{epoch:03d}"
