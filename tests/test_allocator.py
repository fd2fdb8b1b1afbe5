"""Freed memory that is used again instead of being given back to the kernel."""

import subprocess
import sys

import pytest

from condense import allocator

FAULTS = """
import resource, sys
import numpy as np
from condense.allocator import keep_freed_memory

kept = sys.argv[1] == "kept"
assert not kept or keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(100 * 2**20, dtype=np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_asked_for(how):
    """Pages a second array of 100 MiB costs after a first one was freed."""
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_freed_block_is_used_again():
    assert pages_asked_for("plain") > 20 * pages_asked_for("kept")


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()
