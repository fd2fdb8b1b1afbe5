"""A GPU that is not there: tensors say they lie on cuda:0, are held and computed on the CPU, and obey CUDA's rules.

torch's Python backend for PrivateUse1 supplies device, autograd streams and autocast key; `Sim` tensors wrap CPU ones.
It sees tensors on the wrong device, CPU generators for device tensors, indices on the CPU and `.numpy()` on the device,
and counts kernels, what the host must wait for, and copies between the two. It is blind to missing CUDA kernels, TF32,
order of summation, NCCL and memory (for memory see `fake_memory.py`).

Registering the device changes torch for the whole process and must come before the first backward pass: each user runs
in a process of its own.
"""

import collections
import contextlib
import traceback
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten
SHOWN = torch.device("cuda", 0)
HELD = None  # torch.device("sim", 0), once the backend is registered
MEMORY = 24 * 2**30  # bytes, all of them free
HAS_FLOAT64 = True

# Operations whose result the host must wait for.
WAITS = set(
    "_local_scalar_dense nonzero masked_select equal _unique2 unique_dim unique_consecutive "
    "_linalg_check_errors".split()
)
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
# Operations that start no kernel, or that are counted as copies.
VIEWS = set(
    "view _unsafe_view expand permute transpose t slice select detach alias unsqueeze squeeze as_strided split "
    "split_with_sizes unbind _reshape_alias unfold lift_fresh diagonal empty empty_like new_empty empty_strided set_ "
    "detach_ unsqueeze_ view_as_real _to_copy copy_".split()
)
# What CUDA's autocast runs in bfloat16, and what in float32.
LOWER = (
    "conv1d conv2d conv3d conv_transpose2d linear matmul mm mv addmm bmm baddbmm addbmm einsum "
    "scaled_dot_product_attention prelu"
).split()
FLOAT32 = (
    "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus layer_norm "
    "native_layer_norm group_norm nuclear_norm cosine_similarity poisson_nll_loss cosine_embedding_loss nll_loss "
    "nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss "
    "multilabel_margin_loss soft_margin_loss triplet_margin_loss binary_cross_entropy_with_logits dist pdist cdist "
    "renorm logsumexp prod softmax log_softmax cumprod cumsum norm sum frobenius_norm"
).split()

COUNTS: collections.Counter = collections.Counter()
"""How many of "kernel", "sync", "to device", "to host" there were since `reset`."""
PLACES: collections.Counter = collections.Counter()
"""The same but kernels, by kind and line of our code."""


def reset():
    COUNTS.clear()
    PLACES.clear()


def waits():
    """How often the host waited for the device."""
    return COUNTS["sync"]


def copies():
    """How often something was copied between the two."""
    return COUNTS["to device"] + COUNTS["to host"]


def places(kind, times=1):
    """Where a kind of thing happened, and how often in each of `times`: for messages."""
    return [f"{n / times:.2f} {place}" for place, n in PLACES.most_common() if place.startswith(kind)]


def _note(kind, what=""):
    COUNTS[kind] += 1
    if kind == "kernel":
        return
    frames = [f for f in traceback.extract_stack(limit=60) if "simulated_gpu" not in f.filename]
    ours = [f for f in frames if "/condense/" in f.filename or "/evaluate/" in f.filename] or frames
    PLACES[f"{kind} {'/'.join(ours[-1].filename.split('/')[-2:])}:{ours[-1].lineno} {ours[-1].name} [{what}]"] += 1


class Sim(torch.Tensor):
    """A tensor of the simulated device around the CPU tensor `raw`."""

    @staticmethod
    def __new__(cls, raw):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            layout=raw.layout,
            device=HELD,
        )

    def __init__(self, raw):
        self.raw = raw

    device = property(lambda self: SHOWN)
    is_cuda = property(lambda self: True)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def numpy(self, *args, **kwargs):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it to the host.")

    def __array__(self, *args, **kwargs):
        return self.numpy()

    def tolist(self):
        _note("sync", "tolist")
        return self.raw.tolist()

    def __repr__(self):
        return f"Sim({self.raw!r})"

    def data_ptr(self):
        return self.raw.data_ptr()

    def untyped_storage(self):
        return self.raw.untyped_storage()

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            copy = Sim(self.raw.clone())
            if isinstance(self, torch.nn.Parameter):
                copy = torch.nn.Parameter(copy, self.requires_grad)
            memo[id(self)] = copy.requires_grad_(self.requires_grad)
        return memo[id(self)]


class Generator(torch.Generator):
    """A generator that reports its device."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.shown = torch.device(device)
        return made

    def __init__(self, device="cpu"):
        super().__init__()

    device = property(lambda self: self.shown)

    def manual_seed(self, seed):
        super().manual_seed(seed)
        return self


def _run(func, args, kwargs):
    """One operation: checked and counted, then done on the CPU."""
    kwargs = dict(kwargs)
    flat, spec = tree_flatten((args, kwargs))
    sims = [t for t in flat if isinstance(t, Sim)]
    others = [t for t in flat if isinstance(t, torch.Tensor) and not isinstance(t, Sim)]
    device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    if not sims and (device is None or device.type != "sim"):
        return func(*args, **kwargs)
    here = device is None or device.type == "sim"
    _judge(func, args, kwargs, sims, others, here)
    plain_args, plain = tree_unflatten([t.raw if isinstance(t, Sim) else t for t in flat], spec)
    if plain.get("device") is not None:
        plain["device"] = torch.device("cpu")
    out = func(*plain_args, **plain)
    own = {id(t.raw): t for t in sims} | {id(t): t for t in others}

    def wrap(value):
        if not isinstance(value, torch.Tensor):
            return value
        if here and value.dtype == torch.float64 and not HAS_FLOAT64:
            raise TypeError(f"The device has no float64 ({func})")
        return own.get(id(value)) if id(value) in own else Sim(value) if here else value

    return tree_map(wrap, out)


def _judge(func, args, kwargs, sims, others, here):
    """Refuse what CUDA refuses, and count the rest."""
    name = func.overloadpacket.__name__
    if name in WAITS:
        _note("sync", name)
    elif name in ("_to_copy", "copy_"):
        target_here = here if name == "_to_copy" else isinstance(args[0], Sim)
        source_here = isinstance(args[0 if name == "_to_copy" else 1], Sim)
        _note("kernel" if target_here == source_here else "to device" if target_here else "to host", name)
    elif name in INDEXING:
        _judge_indexing(name, args)
    else:
        if sims and any(t.dim() > 0 for t in others):
            raise RuntimeError(f"Expected all tensors to be on the same device, found cuda:0 and cpu! ({func})")
        if name == "repeat_interleave" and kwargs.get("output_size") is None:
            _note("sync", name)
        if name not in VIEWS:
            _note("kernel", name)


def _judge_indexing(name, args):
    if not isinstance(args[0], Sim):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    for index in (i for i in args[1] if i is not None):
        if not isinstance(index, Sim):
            _note("to device", name + " by a CPU index")
        if index.dtype in (torch.bool, torch.uint8):
            _note("sync", name + " by a mask")
    if len(args) > 2 and not isinstance(args[2], Sim) and args[2].dim() > 0:
        raise RuntimeError("index_put: values on cpu, self on cuda:0")
    _note("kernel", name)


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _held(value):
    """The registered device in the place of "cuda"."""
    shown = (isinstance(value, torch.device) and value.type == "cuda") or (
        isinstance(value, str) and value.startswith("cuda")
    )
    return HELD if shown else value


class _Function(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.device:
            return func(*args, **kwargs)
        if func in (torch.tensor, torch.as_tensor) and _held(kwargs.get("device")) == HELD:
            if not (args and isinstance(args[0], Sim)):
                wanted = {k: v for k, v in kwargs.items() if k not in ("device", "requires_grad")}
                return func(*args, **wanted).to(HELD).requires_grad_(bool(kwargs.get("requires_grad")))
        if func is torch.Tensor.new_tensor and isinstance(args[0], Sim):
            return torch.tensor(args[1], dtype=args[0].dtype).to(HELD)
        generator = kwargs.get("generator")
        if generator is not None:
            on_device = _held(kwargs.get("device")) == HELD or any(isinstance(a, Sim) for a in args)
            if (generator.device.type == "cuda") != on_device:
                raise RuntimeError(f"Expected a generator of the tensor's device, found {generator.device} ({func})")
        return func(*[_held(a) for a in args], **{k: _held(v) for k, v in kwargs.items()})


_KEPT: list = []  # libraries of kernels, which must live as long as the process


def _register():
    """Make the device known to torch, with CUDA's autocast."""
    global HELD
    if _KEPT:
        return
    from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

    class Module(_DummyBackendModule):
        def get_amp_supported_dtype(self):
            return [torch.bfloat16, torch.float16]

        def _lazy_init(self):
            pass

        def is_autocast_available(self):
            return True

    _setup_privateuseone_for_python_backend("sim", Module())
    HELD = torch.device("sim", 0)
    every = torch.library.Library("_", "IMPL")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    library = torch.library.Library("aten", "IMPL")
    library.impl("silu_backward", lambda *args: None, "PrivateUse1")
    for names, to in ((LOWER, torch.bfloat16), (FLOAT32, torch.float32)):
        for packet_name in names:
            packet = getattr(aten, packet_name, None)
            for overload in [] if packet is None else packet.overloads():
                if "out" in overload or "dimname" in overload:
                    continue
                full = packet_name if overload == "default" else f"{packet_name}.{overload}"
                with contextlib.suppress(RuntimeError):  # some are not to be overridden
                    library.impl(full, _cast(getattr(packet, overload), to), "AutocastPrivateUse1")
    _KEPT.extend([every, library])


def _cast(operation, to):
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def change(value):
        floating = isinstance(value, Sim) and value.is_floating_point() and value.dtype not in (torch.float64, to)
        return value.to(to) if floating else value

    def kernel(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(key):
            return operation(*tree_map(change, args), **tree_map(change, kwargs))

    return kernel


def missing():
    """Why this torch cannot simulate a device; None where it can."""
    try:
        from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend
    except ImportError as error:
        return f"torch {torch.__version__} has no Python backends: {error}"
    assert _DummyBackendModule and _setup_privateuseone_for_python_backend
    return None


@contextlib.contextmanager
def without_float64():
    """Within `simulated`: the device refuses float64 as Apple's GPUs do, and is known to."""
    global HAS_FLOAT64
    from condense import precision

    HAS_FLOAT64 = False
    with mock.patch.object(precision, "WITHOUT_FLOAT64", ("cuda",)):
        yield
    HAS_FLOAT64 = True


@contextlib.contextmanager
def simulated(bf16=True):
    """As if this machine had one GPU; whether it is quick at bfloat16 is up to `bf16`."""
    _register()
    from accelerate import PartialState
    from torch.optim import optimizer as optimizers
    from torch.utils import _foreach_utils

    from condense import precision

    real = torch.autocast
    answers = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: bf16,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: "simulated",
        "max_memory_allocated": lambda *args: 0,
        "mem_get_info": lambda *args: (MEMORY, MEMORY),
        "empty_cache": lambda: None,
        "manual_seed": lambda seed: torch.default_generator.manual_seed(seed),
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=0: torch.default_generator.get_state(),
        "set_rng_state": lambda state, device=0: torch.default_generator.set_state(state),
        "synchronize": lambda *args: None,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
    }
    types = [torch.Tensor, torch.nn.Parameter, Sim]
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    PartialState()
    precision.automatic.cache_clear()
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(
            mock.patch.object(
                torch,
                "autocast",
                lambda device_type, *args, **kw: real("sim" if device_type == "cuda" else device_type, *args, **kw),
            )
        )
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(_foreach_utils, "_foreach_supported_types", types))
        stack.enter_context(mock.patch.object(optimizers, "_foreach_supported_types", types))
        stack.enter_context(mock.patch.dict(PartialState._shared_state, {"device": SHOWN}))
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        stack.enter_context(_Function())
        stack.enter_context(_Dispatch())
        yield
    torch.__future__.set_overwrite_module_params_on_conversion(False)
    precision.automatic.cache_clear()
