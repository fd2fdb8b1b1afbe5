"""The run folder: metrics, checkpoints, optimiser state, interrupts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from condense.errors import RunFailed, UserError
from condense.machine import revision_of
from condense.run import (
    Run,
    as_described,
    interrupt_guard,
    locked,
    machine,
    pack_optimizer,
    peak_memory_bytes,
    unpack_optimizer,
)


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_json_lines(tmp_path: Path) -> None:
    run = Run(tmp_path / "deep" / "run")
    run.metric(step=1, loss=0.5, phase="train")
    run.metric(step=2, loss=float("nan"), rate=float("inf"))
    assert lines(tmp_path / "deep" / "run") == [
        {"step": 1, "loss": 0.5, "phase": "train"},
        {"step": 2, "loss": None, "rate": None},
    ]


def test_rewind_drops_what_will_be_written_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.rewind(5)  # no metrics yet
    run.metric(note="start")
    for step in (1, 2, 3, 4):
        run.metric(step=step)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # the process died here
    run.rewind(2)
    run.metric(step=3)
    assert lines(tmp_path) == [{"note": "start"}, {"step": 1}, {"step": 2}, {"step": 3}]


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    run = Run(tmp_path)
    w = torch.randn(3, 4)
    tensors = {
        "w": w,
        "transposed": w.T,
        "row": w[1],
        "half": w.to(torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 2),
    }
    meta = {"step": 3, "best": 0.1 + 0.2, "names": ["ä", None], "nested": {"on": True}, "worst": float("inf")}
    run.save("state", tensors, meta)
    loaded = run.load("state")
    assert loaded is not None
    assert loaded[1] == meta
    assert loaded[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[0][name].dtype == tensor.dtype
        assert torch.equal(loaded[0][name], tensor)
    assert run.load("other") is None


def rewritten(file: Path, tensors: dict[str, torch.Tensor], **header: str) -> None:
    from safetensors.torch import save_file

    save_file(tensors, file, metadata=header)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """974 of 1,485 edited checkpoints were accepted."""
    run = Run(tmp_path)
    run.save("state", {"w": torch.linspace(-1, 1, 12), "flags": torch.tensor([True, False])}, {"step": 1})
    file = tmp_path / "state.safetensors"
    content = file.read_bytes()
    accepted = 0
    for bit in range(8 * len(content)):
        place, mask = divmod(bit, 8)
        file.write_bytes(content[:place] + bytes([content[place] ^ (1 << mask)]) + content[place + 1 :])
        try:
            found = run.load("state")
        except UserError:
            continue
        assert found is not None and found[1] == {"step": 1}, bit
        assert torch.equal(found[0]["w"], torch.linspace(-1, 1, 12)), bit
        assert found[0]["flags"].tolist() == [True, False], bit
        accepted += 1
    assert accepted <= 7  # the bits of True beside its lowest


def test_files_from_before_the_seal_are_read_where_they_are_finite(tmp_path: Path) -> None:
    """NaN weights were taken."""
    rewritten(tmp_path / "old.safetensors", {"w": torch.ones(3)}, meta='{"step": 7}')
    loaded = Run(tmp_path).load("old")
    assert loaded is not None and loaded[1] == {"step": 7}
    rewritten(tmp_path / "nan.safetensors", {"w": torch.tensor([1.0, float("nan")])}, meta='{"step": 7}')
    with pytest.raises(UserError, match="holds NaN or infinity in 'w'"):
        Run(tmp_path).load("nan")


@pytest.mark.parametrize("header", ["[1]", "null", "{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_a_header_of_another_kind_is_a_sentence(tmp_path: Path, header: str) -> None:
    rewritten(tmp_path / "state.safetensors", {"w": torch.ones(3)}, meta=header)
    with pytest.raises(UserError, match="not a readable checkpoint") as caught:
        Run(tmp_path).load("state")
    assert len(str(caught.value)) < 1000


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_named_pipe_is_not_a_checkpoint(tmp_path: Path) -> None:
    """Opening a pipe hung for ever."""
    os.mkfifo(tmp_path / "state.safetensors")
    with pytest.raises(UserError, match="not a regular file"):
        Run(tmp_path).load("state")


def test_what_a_file_does_not_hold_is_a_sentence(tmp_path: Path) -> None:
    """424 tracebacks."""
    for error in (KeyError("step"), TypeError("x"), IndexError("y"), ValueError("z"), RuntimeError("size mismatch")):
        with pytest.raises(UserError, match=r"state\.safetensors does not hold what it should \("):
            with as_described(Run(tmp_path).file("state")):
                raise error


def test_same_state_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        Run(tmp_path).save(name, {"x": torch.arange(5), "y": torch.ones(2)}, {"one": 1, "two": [2]})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.99])
def test_cut_checkpoint_is_a_sentence(tmp_path: Path, share: float) -> None:
    run = Run(tmp_path)
    run.save("state", {"x": torch.arange(100)}, {"step": 1})
    file = tmp_path / "state.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        run.load("state")


def test_foreign_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "state.safetensors")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        Run(tmp_path).load("state")


def test_failed_save_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    run.save("state", {"x": torch.zeros(2)}, {"step": 1})

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(RunFailed, match="no space left"):
            run.save("state", {"x": torch.ones(2)}, {"step": 2})
    loaded = run.load("state")
    assert loaded is not None and loaded[1] == {"step": 1} and loaded[0]["x"].tolist() == [0, 0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.safetensors"]


def test_run_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        Run(tmp_path / "file" / "run")


def test_run_without_folder_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run(None)
    run.metric(step=1)
    run.save("state", {"x": torch.zeros(1)}, {})
    run.rewind(0)
    assert run.load("state") is None
    assert list(tmp_path.iterdir()) == []


def test_progress_shows_count_and_loss_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with Run(None, progress=True).track(5, "training", initial=2) as tracker:
        tracker.update(4, loss=0.125)
    out, err = capfd.readouterr()
    assert out == ""
    assert "training" in err and "4/5" in err and "loss 0.125" in err
    with Run(None).track(5, "training") as tracker:
        tracker.update(4, loss=0.125)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01, betas=(0.8, 0.95), amsgrad=True),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
        lambda parameters: torch.optim.AdamW(parameters, lr=torch.tensor(0.01), capturable=False),
    ],
)
def test_optimizer_resumes_bit_for_bit(
    tmp_path: Path, optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
) -> None:
    def start() -> tuple[list[torch.Tensor], torch.optim.Optimizer]:
        parameters = [torch.linspace(-1, 1, 6, requires_grad=True), torch.ones(2, 3, requires_grad=True)]
        return parameters, optimizer(parameters)

    def step(parameters: list[torch.Tensor], used: torch.optim.Optimizer) -> None:
        used.zero_grad()
        sum((p.sin() * p).sum() for p in parameters).backward()
        used.step()

    parameters, used = start()
    for _ in range(3):
        step(parameters, used)
    tensors, meta = pack_optimizer(used.state_dict())
    run = Run(tmp_path)
    run.save("optimizer", tensors, meta)
    saved = [p.detach().clone() for p in parameters]
    for _ in range(3):
        step(parameters, used)

    again, fresh = start()
    loaded = run.load("optimizer")
    assert loaded is not None
    fresh.load_state_dict(unpack_optimizer(*loaded))
    with torch.no_grad():
        for parameter, value in zip(again, saved, strict=True):
            parameter.copy_(value)
    for _ in range(3):
        step(again, fresh)
    for a, b in zip(parameters, again, strict=True):
        assert torch.equal(a, b)


def test_unpacked_optimizer_state_is_what_was_packed() -> None:
    parameter = torch.ones(2, requires_grad=True)
    used = torch.optim.SGD([{"params": [parameter], "lr": 0.1}], momentum=0.9)
    state = used.state_dict()  # before any step
    assert unpack_optimizer(*pack_optimizer(state)) == state
    adam = torch.optim.Adam([parameter]).state_dict()
    tensors, meta = pack_optimizer(adam)
    restored = unpack_optimizer(tensors, json.loads(json.dumps(meta)))
    assert restored == adam and isinstance(restored["param_groups"][0]["betas"], tuple)


CHILD = """
import sys, time
from condense.run import interrupt_guard
with interrupt_guard() as guard:
    print("ready", flush=True)
    while not guard.requested:
        time.sleep(0.01)
    print("saved", flush=True)
    if "twice" in sys.argv:
        print("again", flush=True)
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            print("at once", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_second_stops(number: signal.Signals) -> None:
    child = subprocess.Popen([sys.executable, "-P", "-c", CHILD, "twice"], stdout=subprocess.PIPE, text=True, bufsize=1)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        assert child.stdout.readline() == "saved\n"
        assert child.stdout.readline() == "again\n"
        time.sleep(0.05)
        child.send_signal(number)
        assert child.stdout.readline() == "at once\n"
    assert child.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_terminal_is_told_once_how_to_stop_and_a_log_is_not() -> None:
    import pty

    ours, theirs = pty.openpty()
    for number, err in ((signal.SIGINT, theirs), (signal.SIGTERM, theirs), (signal.SIGINT, subprocess.PIPE)):
        child = subprocess.Popen([sys.executable, "-P", "-c", CHILD], stdout=subprocess.PIPE, stderr=err, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        out, log = child.communicate(timeout=60)
        assert out == "saved\n" and not log
    os.close(theirs)
    assert os.read(ours, 1000).count(b"Ctrl-C again stops at once") == 1
    os.close(ours)


def test_guard_restores_handlers_and_is_idle_in_threads() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interrupt_guard() as guard:
        assert signal.getsignal(signal.SIGINT) != before[0]
        os.kill(os.getpid(), signal.SIGTERM)
        assert guard.requested
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

    seen = []

    def elsewhere() -> None:
        with interrupt_guard() as guard:
            seen.append((guard.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(False, before[0])]


def git(folder: Path, *arguments: str) -> str:
    person = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *person, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_revision_of_a_package_is_that_of_its_own_checkout_only(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "condense").mkdir(parents=True)
    (checkout / "condense" / "machine.py").write_text("")
    assert revision_of(checkout) is None  # no checkout
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "first")
    head = git(checkout, "rev-parse", "HEAD")
    assert revision_of(checkout) == head
    (checkout / "condense" / "machine.py").write_text("changed")
    assert revision_of(checkout) == f"{head}-dirty"
    installed = checkout / "env" / "site-packages"  # in someone's checkout
    installed.mkdir(parents=True)
    assert revision_of(installed) is None


def test_machine_and_memory_are_reported() -> None:
    told = machine()
    assert all(isinstance(value, str) and value for value in told.values())
    assert told["torch"] == torch.__version__ and int(told["cores"]) >= 1
    assert 2**26 < peak_memory_bytes() < 2**37  # a wrong unit would be off by 1024


def test_importing_run_does_not_import_torch() -> None:
    script = "import sys, condense.run; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_a_run_folder_has_one_process_at_a_time(tmp_path: Path) -> None:
    """Two runs shared a folder; one generator was overwritten, metrics doubled."""
    with locked(tmp_path / "run", "run"):
        (tmp_path / "run" / ".partial-0123abcd-x.safetensors").write_bytes(b"of a process that was killed")
        with pytest.raises(
            UserError, match=r"Another run is in progress in .*run; wait for it, or choose another folder"
        ):
            with locked(tmp_path / "run", "run"):
                raise AssertionError
    with locked(tmp_path / "run", "run"):  # is free again, and swept: case 31
        assert [entry.name for entry in (tmp_path / "run").iterdir()] == [".lock"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"), locked(tmp_path / "file", "run"):
        raise AssertionError


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_closed_connection_saves_like_sigterm(hangup: None) -> None:
    """SIGHUP lost everything since the last checkpoint."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        with interrupt_guard() as guard:
            os.kill(os.getpid(), number)
            assert guard.requested
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with interrupt_guard() as guard:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not guard.requested
    finally:
        signal.signal(signal.SIGHUP, before)
