"""Files made or damaged to harm, thousands of them, over all readers: a sentence or the content, nothing else."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

SECONDS, MEGABYTES = 20.0, 2048
COUNT = int(os.environ.get("DMIS_HOSTILE", "150"))
WORKER = Path(__file__).with_name("hostile.py")


class Worker:
    """The process that reads, from mutation number `skip` on."""

    def __init__(self, folder: Path, skip: int) -> None:
        quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent), "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(folder), "0", str(COUNT), str(skip)],
            stdout=subprocess.PIPE,
            env=quiet,
            text=True,
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def end(self, *, kill: bool) -> None:
        if kill:
            self.process.kill()
        self.process.wait(60)
        self.listener.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def next(self, seconds: float) -> dict[str, object] | None:
        """Its next line of output; None at the end."""
        line = self.lines.get(timeout=seconds)
        return json.loads(line) if line else None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="counts memory as only Unix does")
def test_thousands_of_mutated_files_are_a_sentence_or_read(tmp_path: Path) -> None:
    """No traceback, no hang, no memory for nothing, no silent change, no code run.

    DMIS_HOSTILE is the number of mutations of each kind of file (150 without it). `SECONDS` is processor time, so that
    a busy machine is no hang; one that does not answer for ten minutes is.
    """
    how: Counter[str] = Counter()
    by_kind: Counter[tuple[str, str]] = Counter()
    wrong, slowest, highest, done = [], 0.0, 0, 0
    while True:
        worker, asked = Worker(tmp_path / f"from-{done}", done), None
        try:
            while (asked := worker.next(1800)) is not None:
                try:
                    answer = worker.next(600)
                except queue.Empty:
                    answer = {"how": "hang"}
                answer = answer or {"how": "crash"}
                done = int(str(asked["number"])) + 1
                how[str(answer["how"])] += 1
                by_kind[str(asked["kind"]), str(answer["how"])] += 1
                slowest = max(slowest, float(str(answer.get("seconds", 0))))
                highest = max(highest, int(str(answer.get("peak_mb", 0))))
                if answer["how"] not in ("read", "refused") or float(str(answer.get("seconds", 0))) > SECONDS:
                    wrong.append((asked, answer))
                if answer["how"] in ("hang", "crash"):
                    break
        finally:
            worker.end(kill=asked is not None)
        if asked is None:
            assert worker.process.returncode == 0, "the worker itself failed"
            break
    report = {"inputs": done, **how, "slowest_seconds": round(slowest, 1), "peak_mb": highest}
    told = json.dumps(report) + "\n" + "\n".join(f"{kind}: {what} {n}" for (kind, what), n in sorted(by_kind.items()))
    if "DMIS_HOSTILE_REPORT" in os.environ:
        wrongs = "\n".join(f"{asked} {answer.get('told') or answer}" for asked, answer in wrong)
        Path(os.environ["DMIS_HOSTILE_REPORT"]).write_text(f"{told}\n{wrongs}\n")
    assert done >= 30 * COUNT, told
    assert not wrong, (told, wrong[:3])
    assert highest < MEGABYTES, told
