"""The gradient through a student's whole training, in the memory of one of its steps.

The student starts at an expert's parameters θ_0 and takes N steps of SGD on the learned images S,

    θ_{n+1} = θ_n - α g_n,   g_n = ∇_θ L(θ_n; A_n(S_n)),

with a learned rate α. The objective, to be differentiated in S and α, is

    ‖θ_N - θ*‖² / ‖θ_0 - θ*‖²,

with θ* the expert's parameters some epochs later (Cazenavette et al. 2022, Eq. 2 and Algorithm 1,
https://arxiv.org/abs/2203.11932). The chain rule is applied step by step backwards from the last one, each earlier step
computed once more from the stored θ_n: exactly the gradient of the unrolled graph, which for N = 30 would keep the
activations of thirty double backward passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Parameters = dict[str, Tensor]
Batch = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From learned images and step number: the student's batch, differentiable in the images, and its labels."""


@dataclass(frozen=True)
class Matched:
    """Loss (a scalar), and its gradients in the images, of their shape, and in the student's rate, a scalar."""

    loss: Tensor
    images: Tensor
    rate: Tensor


def match_trajectory(
    network: nn.Module,
    start: Parameters,
    target: Parameters,
    images: Tensor,
    rate: Tensor,
    batch: Batch,
    steps: int,
) -> Matched:
    """The loss and gradients above.

    Args:
        network: normalised images to logits; its own parameters are not used.
        start: θ_0, by parameter name.
        target: θ*, by parameter name.
        images: S, float [n, C, H, W].
        rate: α, a scalar.
        batch: gives the student's batch in step n; called twice per step but the last, with the same result.
        steps: N, at least 1.
    """
    path = [_leaves(start)]
    for n in range(steps - 1):
        x, y = batch(images.detach(), n)
        path.append(_leaves(student_step(network, path[-1], x, y, rate.detach(), create_graph=False)))
    images, rate = images.detach().requires_grad_(), rate.detach().requires_grad_()
    after = student_step(network, path[-1], *batch(images, steps - 1), rate, create_graph=True)
    with torch.no_grad():
        scale = 1 / squared_distance(start, target)
        loss = scale * squared_distance(after, target)
        adjoint = [2 * scale * (end - target[name]) for name, end in after.items()]  # ∂loss / ∂θ_N
    images_gradient, rate_gradient = torch.zeros_like(images), torch.zeros_like(rate)
    for n in reversed(range(steps)):
        if n < steps - 1:
            after = student_step(network, path[n], *batch(images, n), rate, create_graph=True)
        wanted = [*path[n].values(), images, rate]
        *adjoint, in_images, in_rate = torch.autograd.grad(list(after.values()), wanted, adjoint)
        images_gradient += in_images
        rate_gradient += in_rate
    return Matched(loss, images_gradient, rate_gradient)


def student_step(
    network: nn.Module, theta: Parameters, x: Tensor, y: Tensor, rate: Tensor, *, create_graph: bool
) -> Parameters:
    """θ - α ∇_θ L(θ; x, y) with L the mean cross-entropy.

    Args:
        network: normalised images to logits.
        theta: θ, tensors that require gradients.
        x: float [B, C, H, W], the student's batch.
        y: int64 [B].
        rate: α, a scalar.
        create_graph: whether the result is to be differentiated in θ, x and α.
    """
    loss = F.cross_entropy(functional_call(network, theta, (x,)), y)
    gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=create_graph)
    return {name: value - rate * g for (name, value), g in zip(theta.items(), gradients, strict=True)}


def squared_distance(a: Parameters, b: Parameters) -> Tensor:
    """‖a - b‖² over all parameters, a scalar."""
    return torch.stack([(value - b[name]).square().sum() for name, value in a.items()]).sum()


def _leaves(parameters: Parameters) -> Parameters:
    return {name: value.detach().requires_grad_() for name, value in parameters.items()}
