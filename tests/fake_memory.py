"""Peak memory of a pass through a network on a GPU, without one: fake CUDA tensors whose storages are counted.

Forward passes and CUDA's autocast work under FakeTensorMode; backward does not, so what forward keeps for it is counted
with gradients on. Blind to what kernels take for themselves and to fragments of the allocator.
"""

import contextlib
import weakref
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

GIB = 2**30


class Peak(TorchDispatchMode):
    """Bytes of live fake CUDA storages, and the most they were."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_flatten(out)[0]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda":
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage):
        if storage not in self.seen:
            size = storage.nbytes()
            self.seen[storage] = size
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, size)

    def _free(self, size):
        self.now -= size


@contextlib.contextmanager
def fake_gpu(free=None):
    """Everything made on cuda:0 is fake; queries report `free` bytes of memory."""
    with (
        FakeTensorMode(),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        mock.patch("torch.cuda.is_bf16_supported", lambda *args, **kwargs: True),
        mock.patch("torch.cuda.is_available", lambda: True),
        mock.patch("torch.cuda.mem_get_info", lambda *args: (free, free)),
        mock.patch("torch.cuda.memory_reserved", lambda *args: 0),
        mock.patch("torch.cuda.memory_allocated", lambda *args: 0),
    ):
        yield


def peak_bytes(run, *, grad=False, bf16=True):
    """The most that `run()` holds at once besides what there was before; inside `fake_gpu`."""
    peak = Peak()
    with peak, torch.set_grad_enabled(grad), torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        run()
    return peak.peak


def weight_bytes(network):
    """Of the network's parameters."""
    return sum(weight.numel() * weight.element_size() for weight in network.parameters())
