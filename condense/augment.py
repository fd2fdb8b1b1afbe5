"""Differentiable augmentation of image batches, shared by condensing and evaluation (DSA).

One randomly chosen operation is applied to the whole batch (mode "S" of the public code). `draw` with a count of 1
gives every image the same parameters, so that a real and a synthetic batch can be transformed alike; `independent`
draws them per image, as in ordinary training.

Source: Zhao & Bilen (2021), "Dataset Condensation with Differentiable Siamese Augmentation",
https://arxiv.org/abs/2102.08259. Images are normalised, not in [0, 1]: values are not clamped, and pixels cut
out or shifted in from outside are 0, the mean colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.errors import UserError

Operation = Callable[[Tensor, Tensor], Tensor]

MAX_SHIFT = 0.125
CUTOUT_SIDE = 0.5
MAX_SCALE = 1.2
MAX_DEGREES = 15.0
NUM_UNIFORM = 3  # an operation needs at most three random numbers per image
DSA = "color_crop_cutout_flip_scale_rotate"


def independent(x: Tensor, strategy: str, generator: torch.Generator) -> Tensor:
    """One random operation of `strategy`, its parameters drawn per image, on float [B, C, H, W]."""
    return draw(strategy, len(x), generator)(x)


@dataclass(frozen=True, eq=False)
class Drawn:
    """An operation with its parameters, uniform numbers [1 or B, NUM_UNIFORM]; call it with images [B, C, H, W]."""

    operation: Operation
    uniform: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The transformed images, of the same shape."""
        return self.operation(x, self.uniform.to(x))


def draw(strategy: str, count: int, generator: torch.Generator) -> Drawn:
    """One random operation of `strategy`, its parameters for `count` images or, with 1, the same for all.

    With 1 they do not depend on the batch: with equally seeded generators 10 and 256 images are transformed alike.

    Args:
        strategy: operations joined by "_", of color, crop, cutout, flip, scale, rotate.
        count: the images, or 1.
        generator: a CPU generator.

    Raises:
        UserError: the strategy names an unknown operation.
    """
    operation = _choose(strategy, generator)
    return Drawn(operation, torch.rand(count, NUM_UNIFORM, generator=generator))


def moved(drawn: Sequence[Drawn], device: torch.device) -> list[Drawn]:
    """The same operations with all parameters on `device`, copied at once."""
    together = torch.cat([one.uniform for one in drawn]).to(device)
    parts = torch.split(together, [len(one.uniform) for one in drawn])
    return [Drawn(one.operation, part) for one, part in zip(drawn, parts, strict=True)]


def check_strategy(strategy: str) -> tuple[str, ...]:
    """The operations `strategy` names.

    Raises:
        UserError: one of them is unknown.
    """
    names = tuple(strategy.split("_"))
    unknown = [name for name in names if name not in OPERATIONS]
    if unknown:
        raise UserError(f'augmentation "{strategy}" names "{unknown[0]}"; join any of {", ".join(OPERATIONS)} by "_".')
    return names


def allowed(strategy: str, *, may_flip: bool) -> str:
    """`strategy` without "flip" where a mirror image may show another class (see `ImageData.may_flip`)."""
    if may_flip:
        return strategy
    return "_".join(name for name in strategy.split("_") if name != "flip")


def _choose(strategy: str, generator: torch.Generator) -> Operation:
    names = check_strategy(strategy)
    return OPERATIONS[names[int(torch.randint(len(names), (), generator=generator))]]


# Every operation takes x [B, C, H, W] and uniform random numbers u in [0, 1), [1 or B, NUM_UNIFORM].


def color(x: Tensor, u: Tensor) -> Tensor:
    """Brightness + U(-0.5, 0.5), then saturation x U(0, 2), then contrast x U(0.5, 1.5).

    Saturation scales the distance from the grey of each pixel: it leaves one-channel images as they are.
    """
    u = u[:, :, None, None, None]
    x = x + (u[:, 0] - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * u[:, 1])
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (0.5 + u[:, 2])


def crop(x: Tensor, u: Tensor) -> Tensor:
    """Shift by whole pixels, up to 12.5 % of the side each way, filling with zeros."""
    return _shift(_shift(x, 2, u[:, 0]), 3, u[:, 1])


def cutout(x: Tensor, u: Tensor) -> Tensor:
    """Zero a square of half the side around a random pixel; it may reach over the edge."""
    height, width = x.shape[2:]
    rows = _cut(u[:, 0], height)  # [1 or B, H]
    columns = _cut(u[:, 1], width)  # [1 or B, W]
    return x * ~(rows[:, :, None] & columns[:, None])[:, None]


def flip(x: Tensor, u: Tensor) -> Tensor:
    """Mirror left to right with probability one half."""
    return torch.where(u[:, 0, None, None, None] < 0.5, x.flip(3), x)


def scale(x: Tensor, u: Tensor) -> Tensor:
    """Shrink or enlarge by U(1/1.2, 1.2), height and width independently."""
    factor = 1 / MAX_SCALE + u * (MAX_SCALE - 1 / MAX_SCALE)
    zero = torch.zeros_like(u[:, 0])
    return _warp(x, [[factor[:, 0], zero, zero], [zero, factor[:, 1], zero]])


def rotate(x: Tensor, u: Tensor) -> Tensor:
    """Turn by U(-15, 15) degrees about the centre."""
    angle = (2 * u[:, 0] - 1) * math.radians(MAX_DEGREES)
    zero = torch.zeros_like(angle)
    return _warp(x, [[angle.cos(), -angle.sin(), zero], [angle.sin(), angle.cos(), zero]])


OPERATIONS: dict[str, Operation] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}


def _shift(x: Tensor, dim: int, u: Tensor) -> Tensor:
    """Shift x along `dim` by whole pixels, uniform on -m … m with m = 12.5 % of the side; from u [1 or B]."""
    size = x.shape[dim]
    largest = int(size * MAX_SHIFT + 0.5)
    by = (u * (2 * largest + 1)).floor().long() - largest
    source = torch.arange(size, device=x.device) - by[:, None]  # [1 or B, size], where each pixel comes from
    shape = (len(source), 1, size, 1) if dim == 2 else (len(source), 1, 1, size)
    moved = x.gather(dim, (source % size).view(shape).expand(x.shape))
    return moved * _within(source, size).view(shape)


def _within(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)


def _cut(u: Tensor, size: int) -> Tensor:
    """Mask bool [n, size]: a run of half of `size` whose centre is uniform on the pixels, from u [n]."""
    side = int(size * CUTOUT_SIDE + 0.5)
    start = (u * size).floor() - side // 2
    return _within(torch.arange(size, device=u.device) - start[:, None], side)


def _warp(x: Tensor, rows: list[list[Tensor]]) -> Tensor:
    """Sample x where the affine map [n, 2, 3] points to: bilinear, zeros outside.

    `align_corners=False`, torch's default since 1.3: coordinates -1 and 1 are the outer edges of the border
    pixels. (The public code of DSA was written for torch 1.2, where they were the centres.)
    """
    theta = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)  # [1 or B, 2, 3]
    grid = F.affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
