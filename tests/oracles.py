"""Small mixtures that are known exactly."""

from __future__ import annotations

import torch

from condense.generator.exact import MixtureDenoiser

__all__ = ["MixtureDenoiser", "three_classes"]


def three_classes() -> MixtureDenoiser:
    """Three overlapping classes of 1x1x2 "images", one of them with two components."""
    means = torch.tensor([[[-0.5, 0.0], [-0.5, 0.0]], [[0.4, 0.3], [0.4, 0.3]], [[0.5, -0.5], [0.0, 0.6]]])
    return MixtureDenoiser(
        torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.7, 0.3]]),
        means[:, :, None, None],
        torch.tensor([[0.35, 0.35], [0.3, 0.3], [0.2, 0.25]]),
    )
