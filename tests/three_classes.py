"""Three classes whose posteriors Bayes' rule gives exactly."""

import torch

PRIOR = torch.tensor([0.5, 0.3, 0.2])


def gaussian(n: int, noise: float, truth: torch.Tensor, seed: int) -> torch.Tensor:
    """Log p(y | u) [n, 3], u = the class plus normal noise, by Bayes' rule."""
    u = truth + noise * torch.randn(n, generator=torch.Generator().manual_seed(seed))
    misfit = -((u[:, None] - torch.arange(3.0)) ** 2) / (2 * noise**2)
    return (misfit + PRIOR.log()).log_softmax(1)


def drawn(n: int, seed: int = 0) -> torch.Tensor:
    """Classes int64 [n], drawn from the prior."""
    return torch.multinomial(PRIOR, n, replacement=True, generator=torch.Generator().manual_seed(seed))
