"""Reading a training's losses: rarely on a GPU, where reading means waiting; every non-finite loss is detected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from condense.errors import RunFailed

READ_EVERY = 10  # steps between reads of the losses on a GPU


@dataclass(frozen=True)
class ReadLosses:
    """Means over a batch: the loss and its two terms, and the confidence of the beliefs, mean of max_y pi_y."""

    loss: float = math.nan
    generative: float = math.nan
    classification: float = math.nan
    sharpness: float = math.nan


class LossReader:
    """Keeps each step's losses until they are read.

    Attributes:
        latest: losses of the last step read, NaN before.
    """

    def __init__(self, accelerator: Accelerator, learning_rate: float) -> None:
        self.accelerator, self.learning_rate = accelerator, learning_rate
        self.latest = ReadLosses()
        self._unread: list[tuple[int, Tensor]] = []

    def add(self, step: int, parts: tuple[Tensor, Tensor, Tensor, Tensor], *, last: bool) -> None:
        """Note the parts of `ReadLosses` of a step; read now on a CPU, else every `READ_EVERY` steps."""
        self._unread.append((step, torch.stack(parts).detach()))
        if self.accelerator.device.type == "cpu" or (step + 1) % READ_EVERY == 0 or last:
            self.check()

    def check(self) -> None:
        """Read the losses of the steps since the last read; all processes must call this at the same step.

        Raises:
            RunFailed: one of them is not finite, in any process: one that stopped alone would leave the others
                waiting for ever.
        """
        if not self._unread:
            return
        steps, parts = zip(*self._unread, strict=True)
        mine = torch.stack(parts)[None]  # [1, steps, 4]
        found = self.accelerator.gather(mine) if self.accelerator.num_processes > 1 else mine
        read = found.tolist()
        self._unread, self.latest = [], ReadLosses(*read[self.accelerator.process_index][-1])
        for place, step in enumerate(steps):
            lost = [of_process[place][0] for of_process in read if not math.isfinite(of_process[place][0])]
            if lost:
                raise RunFailed(
                    f"The loss became {lost[0]} at step {step}; lower train.learning_rate "
                    f"(now {self.learning_rate}) or set train.precision to fp32, and start over with --force."
                )
