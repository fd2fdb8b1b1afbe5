"""The command line as a shell meets it: exit codes, sentences, streams, signals."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import Dmis

from condense.errors import RunFailed
from condense.machine import best_device
from condense.precision import fast_bf16
from condense.run import Run

DMIS = [sys.executable, "-P", "-m", "condense"]
TRAIN = ["train", "--noise", "sym:0.4", "--set", "train.steps=60", "--set", "train.batch_size=16", "--json"]
TRAIN += ["--set", "network.channels=8", "--set", "network.blocks=1", "--set", "train.checkpoint_every=9999"]


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "rich", "yaml", "h5py", "matplotlib", "condense.pipeline.plan")
    code = f"""
import sys
from condense.cli import run
assert run(["-h"]) == 0 and run(["condense", "--help"]) == 0 and run(["--version"]) == 0
print([name for name in {heavy} if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    for command in (
        "demo",
        "init",
        "inspect",
        "corrupt",
        "train",
        "condense",
        "evaluate",
        "rank",
        "benchmark",
        "report",
        "audit",
        "metrics",
        "relabel",
        "classify",
        "generate",
        "export",
        "validate",
        "doctor",
    ):
        assert f"\n  {command} " in out


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An uninterrupted training in its own process: its folder and its result."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, subprocess.run([*DMIS, *TRAIN], capture_output=True, text=True, cwd=folder)


def test_a_process_answers_on_stdout_with_json_alone_and_bars_go_to_stderr(
    unbroken: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = unbroken
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert set(told) == {"run", "seconds", "evaluations", "temperature", "test_accuracy", "labels_recovered"}
    assert "dmis" in done.stderr and "60/60" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["runs"] and (folder / told["run"]).is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGHUP")
@pytest.mark.parametrize("number", [signal.SIGHUP, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_terminated_process_saves(number: signal.Signals, tmp_path: Path, hangup: None) -> None:
    """Ctrl-C has a test of its own below; a logout sends SIGHUP, a cluster SIGTERM."""
    method = ["--method", "dm", "--ipc", "1", "--set", "iterations=100000", "--set", "real_batch=8", "--quiet"]
    command = [*DMIS, "condense", *method, "--set", "checkpoint_every=100000", "--run", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "metrics.jsonl").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and out == "" and "continue with --resume" in err, err
    assert any(path.suffix == ".safetensors" for path in (tmp_path / "run").iterdir())
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".partial-")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own
def test_a_run_computes_on_the_requested_device_and_logs_to_tensorboard(tmp_path: Path, dmis: Dmis) -> None:
    short = ["--set", "train.steps=20", "--set", "train.second_opinion=false", "--quiet"]
    done = dmis(*TRAIN, *short, "--device", "cpu", "--log", "tensorboard", "--run", "run")
    assert done.code == 0, done.err
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents") and b"dmis/loss" in events.read_bytes()


@pytest.mark.parametrize(("option", "value"), [("--device", "cuda:7"), ("--log", "mlfow")])
def test_unavailable_devices_and_logs_are_refused_before_anything(
    option: str, value: str, tmp_path: Path, dmis: Dmis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DMIS_DEVICE", raising=False)
    monkeypatch.chdir(tmp_path)
    found = dmis(*TRAIN, option, value)
    assert found.code == 2 and repr(value) in found.err and "give " in found.err
    assert list(tmp_path.iterdir()) == [] and "DMIS_DEVICE" not in os.environ


def test_a_closed_pipe_ends_silently() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*DMIS, "-h"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 1 and done.stderr == ""


def test_interrupted_training_saves_and_resumes_to_the_same_generator(
    unbroken: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, dmis: Dmis
) -> None:
    process = subprocess.Popen(
        [*DMIS, *TRAIN, "--run", "stopped"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "stopped" / "metrics.jsonl").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == "" and "the state is saved" in err and "--resume" in err
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == [
        ".lock",
        "checkpoint.safetensors",
        "metrics.jsonl",
        "recipe.json",
    ]

    assert dmis(*TRAIN, "--run", "stopped").code == 2
    assert dmis(*TRAIN, "--run", "stopped", "--resume").code == 0
    resumed = Run(tmp_path / "stopped").load("generator")
    reference = Run(unbroken[0] / "runs" / "digits-dmis-seed0").load("generator")
    assert resumed is not None and reference is not None
    assert resumed[0].keys() == reference[0].keys()
    assert all(torch.equal(resumed[0][name], reference[0][name]) for name in resumed[0])
    for meta in (resumed[1], reference[1]):
        del meta["meta"]["seconds"], meta["meta"]["peak_memory_bytes"]
    assert resumed[1] == reference[1]
    steps = [json.loads(line)["step"] for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(20, 61, 20))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["condense", "--data", "digitz"], "did you mean 'digits'"),
        (["condense", "--noise", "sim:0.4"], "did you mean 'sym'"),
        (["condense", "--noise", "sym:40"], "40 % is written sym:0.4"),
        (["condense", "--method", "dmiss"], "did you mean dmis"),
        (["condense", "--set", "train.step=5"], "did you mean 'steps'"),
        (["condense", "--set", "train.steps=few"], "'train.steps'"),
        (["condense", "--set", "train.steps"], "a.b=value"),
        (["condense", "--set", "data=digits"], "section 'data'"),
        (["condense", "--method", "random", "--set", "train.steps=5"], "unknown key 'train'"),
        (["condense", "--method", "random", "--ipc", "1000"], "ipc is 1000"),
        (["condense", "--ipc", "0"], "'ipc' is 0"),
        (["condense", "-c", ""], "The value after -c is empty"),
        (["condense", "--data="], "The value after --data is empty"),
        (["condense", "--run", ""], "The value after --run is empty"),
        (["inspect", ""], "The value after inspect is empty"),
        (["condense", "--set", "network.channels=7"], "'network.channels' is 7: Input should be a multiple of 2"),
        (["condense", "--method", "random", "--set", "labeller.folds=3"], "labeller.folds=… has no effect"),
        (["condense", "--clean-first", "magic"], "'clean_first'"),
        (["condense", "--generator", "nowhere"], "nowhere holds no trained generator"),
        (["condense", "-c", "nowhere.yaml"], "digits-sym40"),
        (["condense", "--data", "fashion-mnist", "--root", "nowhere"], "--root"),
        (["train", "--method", "random"], "choose one of dmis, vanilla"),
        (["train", "--set", "clean_first=oracle"], "labels as given"),
        (["evaluate", "nowhere.h5"], "does not exist"),
        (["validate", "nowhere.h5"], "does not exist"),
        (["inspect", "nowhere.h5"], "no path 'nowhere.h5'"),
        (["corrupt", "digits", "--noise", "none", "--out", "x.npz"], "No noise"),
        (["corrupt", "digits", "--noise", "sym:0.4", "--out", "x.h5"], "ends in .npz"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_2(
    arguments: list[str], said: str, dmis: Dmis, tmp_path: Path
) -> None:
    answer = dmis(*arguments)
    assert answer.code == 2 and answer.out == ""
    (sentence,) = answer.err.splitlines()
    assert sentence.startswith("error: ") and said in sentence
    assert not list(tmp_path.rglob("*.h5")) and not list(tmp_path.rglob("*.safetensors"))


def test_usage_errors_exit_2_and_name_the_option(dmis: Dmis) -> None:
    for arguments in (["condense", "--icp", "3"], ["nonsense"], ["demo", "--ipc", "many"], ["validate"]):
        answer = dmis(*arguments)
        assert answer.code == 2 and "Usage: dmis" in answer.err and answer.out == ""


def test_impossible_outputs_are_refused(dmis: Dmis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("kept")
    random = ("condense", "--method", "random", "--ipc", "1")
    assert dmis(*random, "--out", "file").code == 2
    assert dmis(*random, "--out", "file/set.h5").code == 2
    assert dmis(*random, "--run", "file").code == 2

    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("condense.files.tempfile.TemporaryFile", read_only)
    answer = dmis(*random, "--out", "set.h5")
    assert answer.code == 2 and "Read-only file system" in answer.err
    assert contents(tmp_path) == {"file": b"kept"}


def test_a_full_disk_exits_1_and_leaves_nothing_half_written(
    dmis: Dmis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("condense.files.os.replace", full)
    answer = dmis("corrupt", "digits", "--noise", "sym:0.4", "--out", "x.npz")
    assert answer.code == 1 and "no space left" in answer.err
    assert contents(tmp_path) == {}
    monkeypatch.setattr("condense.commands.doctor.doctor", full)
    answer = dmis("doctor")
    assert answer.code == 1 and "no space left" in answer.err


KILLED = """
import os, signal, sys
from condense import files
from condense.cli import run
def die(source, target):
    os.kill(os.getpid(), signal.SIGKILL) if str(target).endswith("set.h5") else rename(source, target)
rename, files.os.replace = os.replace, die
run(sys.argv[1:])
"""


def test_a_process_killed_while_it_writes_leaves_the_old_set_or_none(dmis: Dmis, tmp_path: Path) -> None:
    """SIGKILL between the last byte and the renaming: nothing of ours runs after it."""
    random = ["condense", "--method", "random", "--ipc", "1", "--out", "set.h5", "-q"]
    killed = subprocess.run([sys.executable, "-P", "-c", KILLED, *random], cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    answer = dmis("validate", "set.h5")
    assert answer.code == 2 and "set.h5 does not exist" in answer.err
    assert dmis(*random, "--resume").code == 0
    before = Path("set.h5").read_bytes()
    other = [sys.executable, "-P", "-c", KILLED, *random, "--seed", "1", "--force"]
    assert subprocess.run(other, cwd=tmp_path, capture_output=True).returncode == -signal.SIGKILL
    assert Path("set.h5").read_bytes() == before and dmis("validate", "set.h5").code == 0


def test_unforeseen_errors_are_a_sentence_unless_debugging(dmis: Dmis, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("boom\nand more")

    monkeypatch.setattr("condense.commands.doctor.doctor", broken)
    answer = dmis("doctor")
    assert answer.code == 1
    assert answer.err == "error: RuntimeError: boom and more (with --debug it shows where)\n"
    with pytest.raises(RuntimeError):
        dmis("--debug", "doctor")
    with pytest.raises(RuntimeError, match="boom"):
        dmis("doctor", "--json", "--debug")
    monkeypatch.setenv("DMIS_DEBUG", "1")
    with pytest.raises(RuntimeError):
        dmis("doctor")


def test_exit_codes_of_failing_and_of_ctrl_c(dmis: Dmis, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, code in ((RunFailed("NaN at step 3"), 1), (KeyboardInterrupt(), 130)):

        def stop(error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("condense.commands.doctor.doctor", stop)
        answer = dmis("doctor", "--json")
        assert answer.code == code and answer.out == "" and len(answer.err.splitlines()) == 1


def test_doctor_reports_the_machine(dmis: Dmis) -> None:
    answer = dmis("doctor", "--json")
    told = json.loads(answer.out)
    assert answer.code == 0 and told["torch"] == torch.__version__
    assert told["data"].keys() == {"digits", "fashion-mnist", "cifar10", "cifar100", "imagenette"}
    assert told["data"]["digits"] and int(told["cores"]) >= 1
    assert told["bfloat16"]["fast"] == fast_bf16(best_device())
    assert told["float32"]["gflops"] > 0 and told["bfloat16"]["gflops"] >= 0
    assert told["float32"]["tf32_convolutions"] is False
    assert "data.digits" in dmis("doctor").out
