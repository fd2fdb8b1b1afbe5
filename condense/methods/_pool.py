"""A pool of networks in training, from untrained to some age, of which each step of a method uses the next.

Networks of one age alone would give images that suit that age; Zhou, Nezhadarya & Ba (2022), Algorithm 1,
https://arxiv.org/abs/2206.00719, keep several, each replaced by a fresh one at an age of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from condense import rng
from condense.classifiers import networks
from condense.classifiers.networks import Network
from condense.data.memory import check_fits
from condense.errors import UserError
from condense.methods._learn import LearnOptions
from condense.methods._pixels import RealImages
from condense.run import JSON, pack_optimizer, part_of, unpack_optimizer

NewOptimizer = Callable[[Network], torch.optim.Optimizer]


class PoolOptions(LearnOptions):
    """Options of methods that learn images by a pool of networks."""

    FREE: ClassVar[frozenset[str]] = frozenset({"checkpoint_every"})  # not `iterations`: the rate falls over all steps

    pool: int = Field(8, ge=1, description="networks in training, used in turn")
    max_age: int = Field(80, ge=1, description="most steps of such a network before a fresh one takes its place")
    width: int | None = Field(
        64, ge=1, le=1024, description="channels of the backbone's layers; its own, 128, when empty"
    )

    @field_validator("backbone")
    @classmethod
    def _images_by_themselves(cls, name: str) -> str:
        if name.endswith("-bn"):
            raise UserError(
                f"With batch norm what a network makes of an image depends on the others of its batch, which may not "
                f"be here; choose {name.removesuffix('-bn')}."
            )
        return name

    @model_validator(mode="after")
    def _width_can_be_chosen(self) -> PoolOptions:
        if self.width is not None:
            networks.check_width(self.backbone)
        return self


class Pool:
    """Networks of all ages up to `max_age` steps.

    Args:
        reals: the images they are for.
        options: their number, largest age, kind and width.
        new_optimizer: makes the optimiser of a network.
        seed: initial weights and ages at which networks are replaced depend on it.
    """

    def __init__(self, reals: RealImages, options: PoolOptions, new_optimizer: NewOptimizer, seed: int) -> None:
        self.reals, self.options, self.new_optimizer, self.seed = reals, options, new_optimizer, seed
        self.generations = [0]
        first = self._fresh(0)
        in_training = 3 * sum(weight.nbytes for weight in first[0].parameters())  # and an optimiser's two moments
        check_fits(options.pool * in_training, f"A pool of {options.pool} networks", "lower pool or width")
        self.generations, self.ages = [0] * options.pool, [0] * options.pool
        made = [first, *(self._fresh(slot) for slot in range(1, options.pool))]
        self.networks, self.optimizers = [network for network, _ in made], [optimizer for _, optimizer in made]

    def at(self, step: int) -> Network:
        """The network used in a step."""
        return self.networks[step % len(self.networks)]

    def train(self, step: int, loss_of: Callable[[Network], Tensor]) -> None:
        """Train the network of `step` for a step on the loss that `loss_of` gives, or replace it."""
        slot = step % len(self.networks)
        if self.ages[slot] >= self.limit(slot):
            self.generations[slot] += 1
            self.ages[slot] = 0
            self.networks[slot], self.optimizers[slot] = self._fresh(slot)
            return
        network, optimizer = self.networks[slot].requires_grad_(True), self.optimizers[slot]
        optimizer.zero_grad(set_to_none=True)
        loss_of(network).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        self.ages[slot] += 1

    def limit(self, slot: int) -> int:
        """The age in [0, max_age] at which the network in `slot` is replaced: random, so that ages are mixed."""
        purpose = rng.derive(self.seed, "age of a network", slot, self.generations[slot])
        return purpose % (self.options.max_age + 1)

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """Weights, optimisers, ages and generations."""
        tensors: dict[str, Tensor] = {}
        packed: list[JSON] = []
        for slot, (network, optimizer) in enumerate(zip(self.networks, self.optimizers, strict=True)):
            moments, rest = pack_optimizer(optimizer.state_dict())
            tensors |= {f"{slot}.weights.{name}": weight for name, weight in network.state_dict().items()}
            tensors |= {f"{slot}.optimizer.{name}": moment for name, moment in moments.items()}
            packed.append(rest)
        return tensors, {"ages": list(self.ages), "generations": list(self.generations), "optimizers": packed}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.ages, self.generations = list(meta["ages"]), list(meta["generations"])
        for slot, (network, optimizer) in enumerate(zip(self.networks, self.optimizers, strict=True)):
            network.load_state_dict(part_of(tensors, f"{slot}.weights"))
            optimizer.load_state_dict(unpack_optimizer(part_of(tensors, f"{slot}.optimizer"), meta["optimizers"][slot]))

    def _fresh(self, slot: int) -> tuple[Network, torch.optim.Optimizer]:
        options, seed = self.options, rng.derive(self.seed, "network", slot, self.generations[slot])
        network = self.reals.network(options.backbone, seed, options.width)
        return network, self.new_optimizer(network)
