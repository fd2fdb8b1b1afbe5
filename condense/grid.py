"""Image grids and PNG files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from condense.data.types import Images
from condense.errors import UserError
from condense.files import atomic_path

_BACKGROUND = 255


def grid(images: Images, columns: int, *, pad: int = 1, scale: int = 1) -> Images:
    """Lay pictures out row by row on white.

    Args:
        images: uint8 [n, H, W, C].
        columns: pictures per row; the last row may be shorter.
        pad: width in pixels of the line around each picture, after scaling.
        scale: each pixel becomes a square of this side.

    Returns:
        uint8 [rows·(H·scale + pad) + pad, columns·(W·scale + pad) + pad, C].
    """
    count, _, _, channels = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    large = images.repeat(scale, axis=1).repeat(scale, axis=2)
    cells = np.full((rows * columns, *large.shape[1:]), _BACKGROUND, dtype=np.uint8)
    cells[:count] = large
    cells = np.pad(cells, ((0, 0), (pad, 0), (pad, 0), (0, 0)), constant_values=_BACKGROUND)
    height, width = cells.shape[1:3]
    sheet = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # [rows, h, columns, w, C]
    sheet = sheet.reshape(rows * height, columns * width, channels)
    return np.pad(sheet, ((0, pad), (0, pad), (0, 0)), constant_values=_BACKGROUND)


def png(image: Images) -> bytes:
    """An uint8 [H, W, 1 or 3] picture as the bytes of a PNG file.

    Raises:
        UserError: the picture has another number of channels.
    """
    channels = image.shape[2]
    if channels not in (1, 3):
        raise UserError(f"a PNG needs 1 or 3 channels, these images have {channels}; export to npz instead.")
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0] if channels == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: Path, image: Images) -> None:
    """Write an uint8 [H, W, 1 or 3] picture to `path` in one step; raises as `png` and `atomic_path`."""
    content = png(image)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
