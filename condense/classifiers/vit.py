"""A small vision transformer for small images."""

from __future__ import annotations

from torch import nn

from condense.classifiers.layers import Network

PATCH = 4
WIDTH = 512


def vit_tiny(in_channels: int, image_size: int, num_classes: int) -> Network:
    """The ViT of torchvision with patches of 4x4, width 512, depth 6, 8 heads and an MLP of 512, as in DC-Bench.

    Without dropout (DC-Bench: 0.1), because it would draw from torch's global random state.
    Sources: Dosovitskiy et al. (2021), https://arxiv.org/abs/2010.11929; Cui et al. (2022), DC-Bench,
    https://arxiv.org/abs/2207.09639.
    """
    from torchvision.models.vision_transformer import VisionTransformer  # a second to import, for this one alone

    trunk = VisionTransformer(
        image_size=image_size,
        patch_size=PATCH,
        num_layers=6,
        num_heads=8,
        hidden_dim=WIDTH,
        mlp_dim=WIDTH,
        num_classes=num_classes,
    )
    if in_channels != 3:
        trunk.conv_proj = nn.Conv2d(in_channels, WIDTH, PATCH, PATCH)
    trunk.heads = nn.Identity()
    return Network(trunk, WIDTH, num_classes)
