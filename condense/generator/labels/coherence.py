"""CAD's coherence r in [0, 1]: how credible an image's label is.

r_y = p(y | x) / max_k p(k | x), with p by a classifier that never saw the image's label (`out_of_fold`) and k over the
classes its label allows. So r is 1 if the label is the most probable class, and for a trusted single label.
Source: Dufour et al. (2024), "Don't drop your samples!", https://arxiv.org/abs/2405.20324, who take the coherence as
given (CLIP scores). Our choice: p itself would hardly exceed 1 - noise rate on noisy labels, so that no image would be
near r = 1, where samples are drawn.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from condense.classifiers.cross import FoldOptions, out_of_fold
from condense.data.types import Supervision, TrainingSet
from condense.run import Run


def relative_confidence(probabilities: Tensor, supervision: Supervision) -> Tensor:
    """The coherence r [n, c] in [0, 1] from p(y | x) [n, c]; 0 for classes a trusted label excludes."""
    candidates, trusted = torch.from_numpy(supervision.candidates), torch.from_numpy(supervision.trusted)
    possible = probabilities * (candidates | ~trusted[:, None])
    return possible / possible.max(1, keepdim=True).values.clamp_min(1e-12)


def estimate_coherence(
    data: TrainingSet, options: FoldOptions, seed: int, run: Run, device: torch.device
) -> tuple[Tensor, float]:
    """The coherence r, float32 [n, c] on the CPU, and the seconds it took. Raises as `out_of_fold`."""
    supervision = data.supervision
    used = ~supervision.unlabelled
    candidates = supervision.candidates.astype(np.float32)
    targets = np.where(used[:, None], candidates / candidates.sum(1, keepdims=True), np.float32(0))
    probabilities, seconds = out_of_fold(data.images.images, targets, options, seed, run, device=device)
    return relative_confidence(probabilities, supervision), seconds
