"""The idx format of MNIST and its relatives: a short header, then bytes; raw or gzipped."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense.data.memory import check_expansion, check_fits
from condense.errors import UserError

_UNSIGNED_BYTES = 0x08


def read(path: Path, num_axes: int) -> npt.NDArray[np.uint8]:
    """An idx file of unsigned bytes with `num_axes` axes, as a uint8 array.

    Header: two zero bytes, the type (8: unsigned byte), the number of axes, each length as big-endian uint32.

    Raises:
        UserError: the file is truncated, of another type, or larger than the free memory.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            header = stream.read(4 + 4 * num_axes)
            if len(header) < 4 + 4 * num_axes or header[:4] != bytes([0, 0, _UNSIGNED_BYTES, num_axes]):
                raise UserError(f"{path} is not an idx file of {num_axes} axes (it starts with {header[:4].hex()!r}).")
            shape = struct.unpack(f">{num_axes}I", header[4:])
            num_bytes = int(np.prod(shape, dtype=object))
            check_fits(num_bytes, f"{path}")
            check_expansion(path.stat().st_size, num_bytes, f"{path}")
            content = stream.read(num_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); fetch it again.") from error
    if len(content) != num_bytes:
        found = "more" if len(content) > num_bytes else f"{len(content)}"
        raise UserError(f"{path} announces {num_bytes} bytes {list(shape)}, but holds {found}; fetch it again.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape).copy()  # writable
