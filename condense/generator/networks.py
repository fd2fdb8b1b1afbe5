"""The two networks a generator can have: `AllClass` (every class in one pass) and `Conditional` (one class per pass).

Both share `UNet`, the DDPM++ architecture: residual blocks with GroupNorm and SiLU, nearest/average resampling,
self-attention at chosen levels, a noise embedding added after the first convolution, skip scale 1/sqrt(2).
Source: Song et al. (2021), https://arxiv.org/abs/2011.13456, Appendix H; Karras et al. (2022),
https://arxiv.org/abs/2206.00364, Table 7. Departures: an optional patch stem (pixel unshuffle), which makes large
images and CPUs affordable, and the class-free trunk with c heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AUGMENT_DIM = 4


@dataclass(frozen=True)
class UNetShape:
    """Size of a `UNet`.

    Attributes:
        channels: channels of the first level.
        multipliers: channels of each level as multiples of `channels`; each level halves the resolution.
        blocks: residual blocks per level in the encoder (one more in the decoder).
        attention: levels (0 = finest) whose blocks have self-attention.
        dropout: dropout rate inside the residual blocks.
        patch: side of the patches folded into channels before the first convolution; 1 for none.
    """

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 2
    attention: tuple[int, ...] = ()
    dropout: float = 0.0
    patch: int = 1


def noise_embedding(c_noise: Tensor, dim: int) -> Tensor:
    """Sines and cosines of c_noise [B] at `dim`/2 frequencies 1 … 1/10,000, as [B, dim]."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=c_noise.device) / max(half - 1, 1))
    angles = c_noise.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _norm(channels: int) -> nn.GroupNorm:
    """Up to 32 groups of at least 4 channels, as many as divide the channels evenly."""
    groups = next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, eps=1e-5)


def _conv(c_in: int, c_out: int, size: int = 3, scale: float = 1.0) -> nn.Conv2d:
    """Convolution with Xavier-uniform weights times `scale` and zero bias."""
    conv = nn.Conv2d(c_in, c_out, size, padding=size // 2)
    nn.init.xavier_uniform_(conv.weight)
    with torch.no_grad():
        conv.weight.mul_(scale)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class SelfAttention(nn.Module):
    """Residual single-head self-attention over the pixels of [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.qkv = _conv(channels, 3 * channels, 1, scale=math.sqrt(0.2))
        self.out = _conv(channels, channels, 1, scale=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        query, key, value = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)
        if x.device.type != "cpu":  # fused kernels want channels side by side
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        attended = F.scaled_dot_product_attention(query, key, value)
        change: Tensor = self.out(attended.squeeze(1).transpose(1, 2).reshape(x.shape))
        return (x + change) * math.sqrt(0.5)


class Block(nn.Module):
    """Residual block [B, c_in, H, W] -> [B, c_out, H', W'], H' = H, H/2 ("down") or 2H ("up")."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        embedding: int,
        *,
        resample: str = "",
        attention: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in = _norm(c_in)
        self.conv_in = _conv(c_in, c_out)
        self.embed = nn.Linear(embedding, c_out)
        self.norm_out = _norm(c_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = _conv(c_out, c_out, scale=1e-5)
        self.skip = _conv(c_in, c_out, 1) if c_in != c_out or resample else nn.Identity()
        self.attention = SelfAttention(c_out) if attention else nn.Identity()

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """[B, c_in, H, W] with embedding [B, E] -> [B, c_out, H', W']."""
        h = self.conv_in(self._resampled(F.silu(self.norm_in(x))))
        h = h + self.embed(embedding)[:, :, None, None].to(h.dtype)
        h = self.conv_out(self.dropout(F.silu(self.norm_out(h))))
        attended: Tensor = self.attention((self.skip(self._resampled(x)) + h) * math.sqrt(0.5))
        return attended


class UNet(nn.Module):
    """x [B, C, H, W], c_noise [B], augment [B, 4] or None, classes [B] or None -> [B, out_channels, H, W].

    Any H and W work: the input is padded to a multiple of the total stride and the output cropped. With `coherent`
    there is one more input, r [B] in [0, 1], the credibility of the label, 1 by default.
    """

    def __init__(
        self,
        shape: UNetShape,
        in_channels: int,
        out_channels: int,
        num_classes: int = 0,
        out_scale: float = 1e-5,
        coherent: bool = False,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.num_classes = num_classes
        embedding = 4 * shape.channels
        self.embed_augment = nn.Linear(AUGMENT_DIM, shape.channels, bias=False)
        self.embed_class = nn.Embedding(num_classes, shape.channels) if num_classes else None
        self.embed = nn.Sequential(
            nn.Linear(shape.channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        area = shape.patch**2
        self.encoder = nn.ModuleList([_conv(in_channels * area, shape.channels)])
        self.decoder = nn.ModuleList()
        width, skips = shape.channels, [shape.channels]
        for level, multiplier in enumerate(shape.multipliers):
            attention = level in shape.attention
            if level:
                self.encoder.append(Block(width, width, embedding, resample="down", dropout=shape.dropout))
                skips.append(width)
            for _ in range(shape.blocks):
                c_out = shape.channels * multiplier
                self.encoder.append(Block(width, c_out, embedding, attention=attention, dropout=shape.dropout))
                width = c_out
                skips.append(width)
        self.middle = nn.ModuleList(
            [
                Block(width, width, embedding, attention=True, dropout=shape.dropout),
                Block(width, width, embedding, dropout=shape.dropout),
            ]
        )
        for level, multiplier in reversed(list(enumerate(shape.multipliers))):
            for block in range(shape.blocks + 1):
                c_out = shape.channels * multiplier
                attention = block == shape.blocks and level in shape.attention
                self.decoder.append(
                    Block(width + skips.pop(), c_out, embedding, attention=attention, dropout=shape.dropout)
                )
                width = c_out
            if level:
                self.decoder.append(Block(width, width, embedding, resample="up", dropout=shape.dropout))
        self.norm_out = _norm(width)
        self.conv_out = _conv(width, out_channels * area, scale=out_scale)
        self.embed_coherence = nn.Linear(1, shape.channels) if coherent else None

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        augment: Tensor | None,
        classes: Tensor | None = None,
        coherence: Tensor | None = None,
    ) -> Tensor:
        """Raw output F of the network; see the class."""
        embedding = noise_embedding(c_noise, self.shape.channels)
        if augment is not None:
            embedding = embedding + self.embed_augment(augment)
        if self.embed_class is not None:
            assert classes is not None
            embedding = embedding + self.embed_class(classes) * math.sqrt(self.num_classes)
        if self.embed_coherence is not None:
            coherence = x.new_ones(len(x)) if coherence is None else coherence
            embedding = embedding + self.embed_coherence(coherence[:, None])
        embedding = self.embed(embedding)

        height, width = x.shape[-2:]
        stride = self.shape.patch * 2 ** (len(self.shape.multipliers) - 1)
        x = F.pad(x, (0, -width % stride, 0, -height % stride), mode="replicate")
        x = self.encoder[0](F.pixel_unshuffle(x, self.shape.patch))
        skips = [x]
        for layer in self.encoder[1:]:
            x = layer(x, embedding)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, embedding)
        for layer in self.decoder:
            x = layer(x if layer.resample else torch.cat([x, skips.pop()], dim=1), embedding)
        x = self.conv_out(F.silu(self.norm_out(x)))
        return F.pixel_shuffle(x, self.shape.patch)[..., :height, :width]


class AllClass(nn.Module):
    """A class-free trunk whose last convolution emits every class's image: one pass gives [B, c, C, H, W]."""

    def __init__(self, shape: UNetShape, channels: int, num_classes: int, coherent: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        # One more image, added to all: shared content is learned from every sample, not from one in c.
        # Equal initial heads are a saddle of the classification loss: their errors differ by |D_y - D_y'|^2.
        self.unet = UNet(shape, channels, channels * (num_classes + 1), out_scale=0.5, coherent=coherent)

    def forward(self, x: Tensor, c_noise: Tensor, augment: Tensor | None, coherence: Tensor | None = None) -> Tensor:
        """[B, C, H, W] -> [B, c, C, H, W]."""
        images: Tensor = self.unet(x, c_noise, augment, coherence=coherence)
        images = images.reshape(len(x), self.num_classes + 1, *x.shape[1:])
        return images[:, :1] + images[:, 1:]


class Conditional(nn.Module):
    """DDPM++ with a class embedding: one pass gives the image of one class, [B, C, H, W]."""

    def __init__(self, shape: UNetShape, channels: int, num_classes: int, coherent: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.unet = UNet(shape, channels, channels, num_classes, coherent=coherent)

    def forward(
        self, x: Tensor, c_noise: Tensor, augment: Tensor | None, classes: Tensor, coherence: Tensor | None = None
    ) -> Tensor:
        """[B, C, H, W] with classes [B] -> [B, C, H, W]."""
        images: Tensor = self.unet(x, c_noise, augment, classes, coherence)
        return images
