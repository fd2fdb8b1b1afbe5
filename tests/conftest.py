"""What several folders of tests share: the command line in this process, and one tiny trained generator."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread a worker, also in the processes tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # after the above, which it reads

from condense.cli import run

Dmis = Callable[..., "Answer"]

TINY = (
    *("--set", "train.steps=20", "--set", "train.batch_size=16", "--set", "network.channels=8"),
    *("--set", "network.blocks=1"),
)
DRAWN = ("--set", "draw.sampler_steps=3", "--set", "draw.pool=2", "--set", "draw.agree=false")


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def hangup() -> Iterator[None]:
    """SIGHUP as a terminal's programs have it, also where the tests run under nohup, which has it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def measuring() -> None:
    """`--dry-run` measures in earnest, if for an instant."""


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """A test that draws without a seed of its own draws the same wherever and after whatever it runs."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def quick_dry_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--dry-run` estimates no time, since it would have to train, except with the fixture `measuring`."""
    from condense.pipeline import timing

    monkeypatch.setattr(timing, "SECONDS", 0.01)
    if "measuring" not in request.fixturenames:
        monkeypatch.setattr(timing, "measured", lambda plan, parts: [0.0 for _ in parts])


@pytest.fixture(autouse=True, scope="session")
def quick_disk() -> Iterator[None]:
    """Files need not survive a power cut while tests run."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def dmis(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dmis:
    """`dmis(*arguments)` as the shell would run it, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DMIS_DEBUG", raising=False)

    def call(*arguments: Any) -> Answer:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """Options that make a generator train in a second."""
    return TINY


@pytest.fixture
def drawn() -> tuple[str, ...]:
    """Options that make drawing quick."""
    return DRAWN


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of twenty digits per class to train on and five to test on. Not to be written to."""
    from condense.data import digits

    file, source = tmp_path_factory.mktemp("digits") / "few.npz", digits.load()
    assert source.test is not None and source.test_truth is not None
    train, test = (
        np.concatenate([np.flatnonzero(labels == y)[:count] for y in range(10)])
        for labels, count in ((source.truth.labels, 20), (source.test_truth.labels, 5))
    )
    np.savez(
        file,
        images=source.train.images[train],
        labels=source.truth.labels[train],
        test_images=source.test.images[test],
        test_labels=source.test_truth.labels[test],
    )
    return file


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a generator trained for twenty steps on digits with noisy labels. Not to be written to."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run(["train", "--noise", "sym:0.4", *TINY, "--run", str(folder), "--json"]) == 0
    return folder


@pytest.fixture(scope="session")
def made(trained: Path) -> Path:
    """A condensed set of two images per class drawn from it. Not to be written to."""
    file = trained.parent / "made.h5"
    arguments = ["condense", "--noise", "sym:0.4", "--ipc", "2", *DRAWN, "--generator", str(trained)]
    assert run([*arguments, "--out", str(file), "--run", str(trained.parent / "drawn"), "--quiet", "--json"]) == 0
    return file
