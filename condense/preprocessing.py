"""What happens to pixels before a network sees them: the same for condensed, training and test images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense.errors import UserError


def planes(images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> Tensor:
    """Images [n, H, W, C] as [n, C, H, W] of the same type, contiguous in memory.

    Torch takes transposed images for channels_last, grey ones even after `contiguous()`; convolutions propagate that
    layout, and on a CPU group norm is then several times slower: ResNet-34 on grey 28x28 trains 2.3 times as long.
    """
    return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))  # one copy, writable


_COUNTED = 4096  # images counted at once
_MOVED = 4096  # images brought to a device at once
CONSTANT = 1e-4  # standard deviation of pixels in [0, 1] below which a channel counts as constant


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """The map from pixels in [0, 1] to network input, and back.

    First (x - mean) / std for each channel, then, if given, ZCA: (flatten(x) - zca_mean) @ zca_matrix, with
    flatten in C, H, W order and d = C·H·W (Krizhevsky 2009, appendix A; as kornia's ZCAWhitening). Sets that
    follow MTT (Cazenavette et al. 2022) use ZCA with mean 0 and std 1.

    Attributes:
        mean: one value per channel.
        std: one positive value per channel.
        zca_mean: float32 [d], or None without ZCA.
        zca_matrix: float32 [d, d].
        zca_inverse: float32 [d, d], the inverse of `zca_matrix`.

    Raises:
        UserError: lengths disagree, std is not positive, a value is not finite, or only part of ZCA is given.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    zca_mean: npt.NDArray[np.float32] | None = None
    zca_matrix: npt.NDArray[np.float32] | None = None
    zca_inverse: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0:
            raise UserError(
                "preprocessing needs one finite mean and one positive std per channel, "
                f"found mean {list(self.mean)} and std {list(self.std)}."
            )
        given = [array for array in (self.zca_mean, self.zca_matrix, self.zca_inverse) if array is not None]
        if not given:
            return
        size = given[0].shape[:1]
        shapes = [size, size * 2, size * 2]
        if [array.shape for array in given] != shapes or any(array.dtype != np.float32 for array in given):
            found = [f"{array.dtype} {list(array.shape)}" for array in given]
            raise UserError(f"ZCA needs float32 mean [d], matrix [d, d] and inverse [d, d], found {found}.")
        if not all(np.isfinite(array).all() for array in given):
            raise UserError("ZCA holds values that are not finite.")

    def normalise(self, pixels: Tensor) -> Tensor:
        """Network input, float32 [n, C, H, W], from pixels float32 [n, C, H, W] in [0, 1]."""
        x = (pixels - self._channels(self.mean, pixels)) / self._channels(self.std, pixels)
        if self.zca_mean is None or self.zca_matrix is None:
            return x
        centred = x.flatten(1) - torch.as_tensor(self.zca_mean, device=x.device)
        return (centred @ torch.as_tensor(self.zca_matrix, device=x.device)).reshape(x.shape)

    def denormalise(self, x: Tensor) -> Tensor:
        """Pixels float32 [n, C, H, W], the inverse of `normalise`; values outside [0, 1] are kept."""
        if self.zca_mean is not None and self.zca_inverse is not None:
            flat = x.flatten(1) @ torch.as_tensor(self.zca_inverse, device=x.device)
            x = (flat + torch.as_tensor(self.zca_mean, device=x.device)).reshape(x.shape)
        return x * self._channels(self.std, x) + self._channels(self.mean, x)

    @staticmethod
    def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
        # created on the device: a copy would make the GPU wait
        return torch.cat([like.new_full((1,), value) for value in values])[:, None, None]  # [C, 1, 1]


class Pixels:
    """uint8 images of which batches are taken in the order torch uses.

    For the CPU the array itself is kept, in memory or memory-mapped; on another device the images lie whole.

    Args:
        images: uint8 [n, H, W, C].
        device: where batches are needed.
    """

    def __init__(self, images: npt.NDArray[np.uint8], device: torch.device | str = "cpu") -> None:
        n, height, width, channels = images.shape
        self.shape, self.device = torch.Size((n, channels, height, width)), torch.device(device)
        self._kept: npt.NDArray[np.uint8] | Tensor = images
        if self.device.type != "cpu":
            self._kept = torch.empty(self.shape, dtype=torch.uint8, device=self.device)
            for start in range(0, n, _MOVED):
                self._kept[start : start + _MOVED] = planes(images[start : start + _MOVED]).to(self.device)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Tensor | slice) -> Tensor:
        """uint8 [B, C, H, W]."""
        if isinstance(self._kept, Tensor):
            return self._kept[indices]
        return planes(self._kept[indices if isinstance(indices, slice) else indices.numpy()])


class NormalisedImages:
    """uint8 images of which batches are taken normalised, so that all of them need not be held as float32.

    An image taken in a batch has the very bits that `Preprocessing.normalise` would give it among all, except after
    ZCA, whose sums may be rounded in another order.

    Args:
        images: uint8 [n, H, W, C].
        preprocessing: what a network of these images expects.
        device: where batches are needed.
    """

    def __init__(
        self, images: npt.NDArray[np.uint8], preprocessing: Preprocessing, device: torch.device | str = "cpu"
    ) -> None:
        self.preprocessing, self._images, self._pixels = preprocessing, images, Pixels(images, device)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, indices: Tensor | slice) -> Tensor:
        """Network input, float32 [B, C, H, W]."""
        return self.preprocessing.normalise(self._pixels[indices].float() / 255)

    @property
    def shape(self) -> torch.Size:
        """[n, C, H, W]."""
        return self._pixels.shape

    @property
    def device(self) -> torch.device:
        """Where batches come to lie."""
        return self._pixels.device

    def to(self, device: torch.device | str) -> NormalisedImages:
        """The same for `device`."""
        if torch.device(device) == self.device:
            return self
        return NormalisedImages(self._images, self.preprocessing, device)


def standardisation(pixels: npt.NDArray[np.uint8]) -> Preprocessing:
    """Per-channel standardisation fitted to uint8 images [n, H, W, C], scaled to [0, 1].

    A (nearly) constant channel keeps its scale: divided by its standard deviation, the slightest deviation in a test
    image would outweigh all other channels.
    """
    channels = pixels.shape[3]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for part in np.array_split(pixels, -(-len(pixels) // _COUNTED)):
        for channel in range(channels):
            counts[channel] += np.bincount(part[..., channel].ravel(), minlength=256)
    share, values = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(1))
    return Preprocessing(tuple(map(float, mean)), tuple(map(float, np.where(std < CONSTANT, 1.0, std))))
