"""Downstream networks by name, with which condensed sets are made and evaluated.

Instance norm is the default where there is a choice ("-bn" is batch norm): batch statistics of a few synthetic
images mislead batch norm.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from pydantic import AfterValidator

from condense.classifiers.convnets import alexnet, convnet, lenet, mlp, vgg11
from condense.classifiers.layers import Network, Norm, batch_norm, instance_norm
from condense.classifiers.resnets import resnet, wide_resnet
from condense.classifiers.vit import PATCH, vit_tiny
from condense.errors import UserError

__all__ = ["CROSS", "NAMES", "Network", "NetworkName", "build", "check_fits", "check_name", "fits"]


@dataclass(frozen=True)
class _Architecture:
    make: Callable[[int, int, int], Network]  # (in_channels, image_size, num_classes)
    smallest: int = 1  # image size below which a map would vanish, or the last norm would see a single pixel
    multiple_of: int = 1  # what the image size must be a multiple of


def _convnet(depth: int, norm: Norm) -> _Architecture:
    return _Architecture(partial(convnet, depth=depth, norm=norm), 2**depth)


def _vgg11(norm: Norm) -> _Architecture:
    # Five halvings, the last norm before the last of them; 28 to 31 pixels are padded to 32.
    return _Architecture(partial(vgg11, norm=norm), 28)


def _resnet(num_blocks: tuple[int, ...], norm: Norm) -> _Architecture:
    def make(in_channels: int, image_size: int, num_classes: int) -> Network:
        return resnet(in_channels, num_classes, num_blocks, norm)

    # Three halvings, rounded up, leave 1x1 up to size 8; the instance norm of one pixel is 0.
    return _Architecture(make, 9 if norm is instance_norm else 1)


def _wide_resnet(depth: int, widening: int, norm: Norm) -> _Architecture:
    def make(in_channels: int, image_size: int, num_classes: int) -> Network:
        return wide_resnet(in_channels, num_classes, depth, widening, norm)

    return _Architecture(make, 5 if norm is instance_norm else 1)  # two halvings


def _with_norms(name: str, entry: Callable[[Norm], _Architecture]) -> dict[str, _Architecture]:
    return {name: entry(instance_norm), f"{name}-bn": entry(batch_norm)}


_NETWORKS: dict[str, _Architecture] = {
    "mlp": _Architecture(mlp),
    **_with_norms("convnet1", partial(_convnet, 1)),
    **_with_norms("convnet2", partial(_convnet, 2)),
    **_with_norms("convnet3", partial(_convnet, 3)),
    **_with_norms("convnet4", partial(_convnet, 4)),
    "lenet": _Architecture(lenet, 12),
    "alexnet": _Architecture(alexnet, 8),
    **_with_norms("vgg11", _vgg11),
    **_with_norms("resnet18", partial(_resnet, (2, 2, 2, 2))),
    **_with_norms("resnet34", partial(_resnet, (3, 4, 6, 3))),
    **_with_norms("wrn16-4", partial(_wide_resnet, 16, 4)),
    **_with_norms("wrn40-10", partial(_wide_resnet, 40, 10)),
    "vit-tiny": _Architecture(vit_tiny, PATCH, multiple_of=PATCH),
}
NAMES: tuple[str, ...] = tuple(_NETWORKS)
CROSS: tuple[str, ...] = ("mlp", "convnet3", "lenet", "alexnet", "vgg11", "resnet18", "vit-tiny")
"""One network of each kind, for cross-architecture tables (the first six as in DC's Table 4)."""


def check_name(name: str) -> str:
    """`name`, unchanged. Raises `UserError` with the nearest names unless it is one of `NAMES`."""
    if name not in _NETWORKS:
        close = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.3) or list(NAMES)
        raise UserError(f'no network is called "{name}"; nearest: {", ".join(close)}.')
    return name


NetworkName = Annotated[str, AfterValidator(check_name)]
"""An option that names a network."""


def check_fits(name: str, image_size: int) -> None:
    """Raise `UserError` unless images of `image_size` suit the network `name`."""
    check_name(name)
    if fits(name, image_size):
        return
    entry = _NETWORKS[name]
    multiple = f" and a multiple of {entry.multiple_of}" if entry.multiple_of > 1 else ""
    others = [other for other in NAMES if fits(other, image_size)]
    raise UserError(
        f"{name} needs images of at least {entry.smallest}x{entry.smallest}{multiple}, "
        f"found {image_size}x{image_size}; choose {', '.join(others)}."
    )


def fits(name: str, image_size: int) -> bool:
    """Whether images of `image_size` suit the network `name`, one of `NAMES`."""
    entry = _NETWORKS[name]
    return image_size >= entry.smallest and image_size % entry.multiple_of == 0


def check_width(name: str) -> None:
    """Raise `UserError` unless the width of the network `name` can be chosen."""
    _of_width(name)


def _of_width(name: str) -> Callable[..., Network]:
    if not name.startswith("convnet"):
        raise UserError(f"{name} has fixed widths; only ConvNets (convnet3, …) can be made narrower or wider.")
    return _NETWORKS[name].make


def build(
    name: str,
    *,
    in_channels: int,
    image_size: int,
    num_classes: int,
    seed: int,
    device: torch.device | str = "cpu",
    width: int | None = None,
) -> Network:
    """A fresh network, torch's default initialisation drawn from `seed` alone.

    Args:
        name: one of `NAMES`; "-bn" means batch norm instead of instance norm.
        in_channels: channels of the images, 1 or 3.
        image_size: height and width of the (square) images.
        num_classes: length c of the logits.
        seed: equal seeds give equal weights; the global random state is neither read nor changed.
        device: device to build on; one seed gives different weights on a GPU and on the CPU.
        width: channels of each layer of a ConvNet; its own, 128, when None.

    Raises:
        UserError: the name is unknown, the images do not suit the network, or `width` is given without a ConvNet.
    """
    check_fits(name, image_size)
    make = _NETWORKS[name].make if width is None else partial(_of_width(name), width=width)
    device = torch.device(device)
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which reseeds every GPU too
            return make(in_channels, image_size, num_classes)
    gpu = torch.get_device_module(device)
    with torch.random.fork_rng(devices=[gpu.current_device()], device_type=device.type), device:
        gpu.manual_seed(seed)
        return make(in_channels, image_size, num_classes)
