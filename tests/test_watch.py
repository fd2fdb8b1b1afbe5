"""Bars with the next stages and the time left of all, lines where there is no terminal, and trackers."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from condense import watch
from condense.errors import UserError
from condense.run import Run
from condense.watch import Stage, Stages, expected


def test_what_is_left_of_all_follows_the_pace_so_far() -> None:
    stages = Stages([Stage("helper", 10), Stage("dmis", 100), Stage("sampling", 20)])
    first = stages.begin("helper")
    assert first is not None and (first.number, first.of, first.then) == (1, 3, ("dmis", "sampling"))
    assert stages.seconds_left(0.0, 0.0, 0.0) is None
    assert stages.seconds_left(0.5, 0.0, 1.0) == pytest.approx((5 + 100 + 20) / 5)  # 5 units a second
    stages.seconds_left(1.0, 0.0, 2.0)
    stages.end(2.0)
    stages.begin("dmis")
    assert stages.seconds_left(0.0, 0.0, 0.0) == pytest.approx(120 / 5)
    assert stages.seconds_left(0.5, 0.0, 28.0) == pytest.approx((50 + 20) * (2 + 28) / (10 + 50))


def test_a_resumed_stage_counts_what_it_did_itself() -> None:
    stages = Stages([Stage("dmis", 100), Stage("sampling", 50)])
    stages.begin("dmis")
    assert stages.seconds_left(0.75, 0.5, 5.0) == pytest.approx((25 + 50) * 5 / 25)


def test_stages_that_were_done_before_are_passed_over_and_others_are_not_counted() -> None:
    stages = Stages([Stage("helper", 1), Stage("dmis", 1), Stage("net", 1), Stage("net", 1)])
    place = stages.begin("dmis")
    assert place is not None and (place.number, place.of) == (2, 4)
    assert stages.begin("helper") is None and stages.begin("surprise") is None
    again = [stages.begin("net"), stages.begin("net"), stages.begin("net")]
    assert [found and found.number for found in again] == [3, 4, None]


def test_without_a_terminal_there_is_a_line_now_and_then(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(10 * next(clock)))
    with expected([Stage("helper", 1), Stage("dmis", 9)]), Run(None, progress=True).track(20, "helper") as tracker:
        for done in range(1, 21):
            tracker.update(done, loss=0.5)
    lines = capfd.readouterr().err.splitlines()
    assert 1 < len(lines) < 8
    assert lines[0].startswith("stage 1 of 2: helper ") and "loss 0.5" in lines[0] and lines[0].endswith("then dmis")
    assert " left, " in lines[0] and " of all, " in lines[0]
    assert lines[-1].startswith("stage 1 of 2: helper 20/20, loss 0.5, in 0:")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_the_bar_shows_the_stage_and_the_next() -> None:
    import pty

    code = """
import time
from condense.run import Run
from condense.watch import Stage, expected
with expected([Stage("helper", 1), Stage("dmis", 3)]):
    for name in ("helper", "dmis"):
        with Run(None, progress=True).track(10, name) as tracker:
            for done in range(1, 11):
                time.sleep(0.02)
                tracker.update(done, loss=0.25)
"""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140"}
    with subprocess.Popen([sys.executable, "-P", "-c", code], stderr=slave, env=environment) as process:
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 65536):
                shown += piece
        except OSError:  # the other end is closed
            pass
    os.close(master)
    assert process.returncode == 0
    text = shown.decode()
    assert "stage 1 of 2: helper" in text and "stage 2 of 2: dmis" in text
    assert "10/10" in text and "loss 0.25" in text and "then dmis" in text and "left" in text


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00:00"), (59.2, "0:01:00"), (3725, "1:02:05")])
def test_times_are_formatted_as_on_a_clock(seconds: float, shown: str) -> None:
    assert watch.clock_time(seconds) == shown


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    """Read by tensorboard's own reader, in a separate process: protobuf warns on import."""
    code = f"""
from pathlib import Path
from condense.run import Run
from condense.watch import check_log, logged
check_log("tensorboard")
run = Run(Path({str(tmp_path)!r}))
with logged("tensorboard", run.path):
    with run.track(3, "dmis"):
        for step in (1, 2, 3):
            run.metric(step=step, loss=1 / step, kind="x", rate=float("nan"))
    with run.track(1, "helper"):
        run.metric(helper_step=1, held_out_loss=0.5)
run.metric(step=4, loss=9.0)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(str(run.path / "tensorboard")).Reload()
print(events.Tags()["scalars"], [(e.step, round(e.value, 3)) for e in events.Scalars("dmis/loss")])
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dmis/loss', 'helper/held_out_loss'] [(1, 1.0), (2, 0.5), (3, 0.333)]"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 5


def test_a_missing_tracker_is_reported_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate.tracking

    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", list)
    with pytest.raises(UserError, match="--log wandb needs the library wandb; run: pip install wandb"):
        watch.check_log("wandb")
    with pytest.raises(UserError, match="--log is 'mlfow'; give tensorboard or wandb"):
        watch.check_log("mlfow")
    watch.check_log(None)
