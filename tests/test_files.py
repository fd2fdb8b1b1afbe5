"""Writing in one step: the old file or the whole new one, and a sentence for every failure."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from condense.errors import RunFailed, UserError
from condense.files import atomic_path, atomic_write_text, prepare_folder, prepare_output, sweep


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    atomic_write_text(target, "old")
    atomic_write_text(target, "größer\n")
    assert target.read_bytes() == "größer\n".encode()
    assert names(tmp_path) == ["a.txt"]


def test_temporary_name_is_beside_and_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.png") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".png"
        temporary.write_bytes(b"x")
        assert names(tmp_path) == [temporary.name]
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_cut_off_write_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("ne")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_cut_off_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "folder") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "a").write_text("x")
        raise RuntimeError
    assert names(tmp_path) == []


def test_link_keeps_pointing(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    atomic_write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, RunFailed, "no space left to write .*a.txt; free some"),
        (errno.EDQUOT, RunFailed, "no space left"),
        (errno.EIO, RunFailed, "writing .*a.txt failed: Input/output error"),
        (errno.EROFS, UserError, "may not be written .*choose a folder you can write to"),
        (errno.EACCES, UserError, "may not be written"),
    ],
)
def test_failed_flush_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception], message: str
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=message):
        atomic_write_text(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_fills_up_during_the_write(tmp_path: Path) -> None:
    """The system itself refuses to let files grow beyond 4 kB: checkpoint and condensed file alike."""
    script = f"""
import resource, signal, sys
from pathlib import Path
import numpy as np, torch
from condense.sets.hdf5 import CondensedSet, Preprocessing, Provenance, write
from condense.errors import RunFailed
from condense.run import Run
folder = Path({str(tmp_path)!r})
images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
told = Provenance("m", 1, 0, None, "d", "", "noisy", "none", None)
condensed = CondensedSet(images, np.arange(2), ("a", "b"), Preprocessing((0.0,) * 3, (1.0,) * 3), told)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for attempt in (
    lambda: Run(folder).save("state", {{"w": torch.zeros(5000)}}, {{}}),
    lambda: write(folder / "set.h5", condensed),
):
    try:
        attempt()
    except RunFailed as error:
        print("no space left" in str(error))
"""
    answer = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["True", "True"], answer.stderr
    assert names(tmp_path) == []


def test_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "set.h5", tmp_path / "file" / "deep" / "set.h5"):
        with pytest.raises(UserError, match="cannot be written"):
            prepare_output(target, force=True)
        with pytest.raises(UserError, match="cannot be written"):
            atomic_write_text(target, "x")


@pytest.mark.parametrize("prepare", [prepare_output, prepare_folder])
@pytest.mark.parametrize("link", [False, True])
def test_the_root_folder_is_no_output(tmp_path: Path, prepare: Callable[..., None], link: bool) -> None:
    root = Path(tmp_path.anchor)
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(UserError, match="is the root folder"):
        prepare(tmp_path / "link" if link else root, force=True)


def test_prepare_output(tmp_path: Path) -> None:
    prepare_output(tmp_path / "new" / "deep" / "set.h5", force=False)
    assert names(tmp_path / "new" / "deep") == []  # the folder is made, nothing else
    target = tmp_path / "a"
    target.write_text("x")
    with pytest.raises(UserError, match="--force"):
        prepare_output(target, force=False)
    prepare_output(target, force=True)
    assert target.read_text() == "x"


def test_prepare_folder(tmp_path: Path) -> None:
    (tmp_path / "new" / "deep").mkdir(parents=True)
    prepare_folder(tmp_path / "new" / "deep", force=False)  # an empty folder is free
    with pytest.raises(UserError, match=r"new exists already; .*--force"):
        prepare_folder(tmp_path / "new", force=False)
    prepare_folder(tmp_path / "new", force=True)
    assert (tmp_path / "new" / "deep").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file; give the name of a folder"):
        prepare_folder(tmp_path / "file", force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_not_a_place_for_a_file(tmp_path: Path, force: bool) -> None:
    """`--out` an existing folder was noticed after the work."""
    (tmp_path / "set.h5").mkdir()
    with pytest.raises(UserError, match="is a folder; give the name of a file to write"):
        prepare_output(tmp_path / "set.h5", force=force)


def test_names_up_to_the_systems_limit_can_be_written(tmp_path: Path) -> None:
    """Names of 238 bytes and more failed after the work."""
    longest = tmp_path / ("n" * 252 + ".h5")
    prepare_output(longest, force=False)
    atomic_write_text(longest, "x")
    assert longest.read_text() == "x"
    for prepare in (prepare_output, prepare_folder):
        with pytest.raises(UserError, match="File name too long"):
            prepare(tmp_path / ("n" * 253 + ".h5"), force=False)
        with pytest.raises(UserError, match=r"null byte|null character"):
            prepare(tmp_path / "a\0b", force=False)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not looked up there")
def test_leftovers_of_killed_writes_are_removed(tmp_path: Path) -> None:
    """`.partial-*` files of killed writes stayed for ever."""
    script = f"""
import os, signal
from pathlib import Path
from condense.files import atomic_path
with atomic_path(Path({str(tmp_path / "set.h5")!r})) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-P", "-c", script], check=False)
    (orphan,) = names(tmp_path)
    assert orphan.startswith(".partial-") and orphan.endswith(".h5")
    with atomic_path(tmp_path / "other.h5") as temporary:
        temporary.write_bytes(b"mine")
        sweep(tmp_path)
        assert names(tmp_path) == [temporary.name]  # that of a living process stays
    (tmp_path / ".partial-0123abcd-checkpoint.safetensors").write_bytes(b"of an earlier version")
    prepare_output(tmp_path / "set.h5", force=False)
    assert names(tmp_path) == [".partial-0123abcd-checkpoint.safetensors", "other.h5"]
    sweep(tmp_path, alone=True)
    assert names(tmp_path) == ["other.h5"]


def test_file_cannot_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        atomic_write_text(tmp_path / "folder", "x")
    assert names(tmp_path) == ["folder"]
