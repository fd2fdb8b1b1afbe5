"""`dmis export`: a condensed set in another program's file format."""

from __future__ import annotations

from pathlib import Path

from condense.errors import UserError
from condense.json_values import JSON
from condense.sets.export import export as write_export
from condense.sets.export import left_out
from condense.sets.hdf5 import read


def export(path: Path, out: Path, format: str, *, force: bool = False) -> dict[str, JSON]:
    """Export the condensed set at `path` to `out` in one of `condense.sets.export.FORMATS`.

    Returns:
        path, format, images; files and bytes, the number and size of the files written; left_out, the parts of the set
        that the format cannot hold.

    Raises:
        UserError: `out` is `path`; otherwise as `condense.sets.hdf5.read` and `condense.sets.export.export`.
        RunFailed: the disk is full.
    """
    condensed = read(path).unpacked()
    if out.resolve() == path.resolve():
        raise UserError(f"{out} is the set itself, which would be overwritten; export it to another name.")
    write_export(condensed, out, format, force=force)
    files = [file for file in out.rglob("*") if file.is_file()] if out.is_dir() else [out]
    return {
        "path": str(out),
        "format": format,
        "images": len(condensed),
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "left_out": list(left_out(condensed, format)),
    }
