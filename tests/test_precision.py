"""The type networks run in: by instruction flags where they speak, by a measurement where they are silent."""

import os
import platform
import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from condense import precision
from condense.errors import UserError
from condense.machine import best_device, check_device
from condense.precision import (
    arithmetic,
    deterministic,
    fast_bf16,
    float32_settings,
    frozen_autocast,
    gflops,
    settle_float32,
    wants_bf16,
)

CPU = torch.device("cpu")
FLAGS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    """Every test decides anew, and what it decided is forgotten."""
    for name in precision.ISA_LIMITS:
        monkeypatch.delenv(name, raising=False)
    precision.automatic.cache_clear()
    yield
    precision.automatic.cache_clear()


@pytest.fixture
def machine(monkeypatch):
    """`machine(architecture, capability, bf16, amx)`: a CPU of that kind; a flag of None is not in torch."""

    def become(architecture="x86_64", capability="AVX512", bf16=False, amx=False):
        monkeypatch.setattr(platform, "machine", lambda: architecture)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        for name, answer in zip(FLAGS, (bf16, amx), strict=True):
            if answer is None:
                monkeypatch.delattr(torch.cpu, name, raising=False)
            else:
                monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer, raising=False)

    return become


@pytest.fixture
def timed(monkeypatch):
    """`timed(bf16, fp32)`: what a convolution reaches, and how often each was timed."""
    asked = []

    def become(bf16, fp32):
        def measured(device_type, dtype):
            asked.append(dtype)
            return bf16 if dtype == torch.bfloat16 else fp32

        monkeypatch.setattr(precision, "gflops", measured)
        return asked

    return become


@pytest.mark.parametrize(
    ("capability", "bf16", "amx", "fast"),
    [
        ("AVX512", False, False, False),  # emulated there: oneDNN calls it supported, and it is slow
        ("AVX2", False, False, False),
        ("AVX512", True, False, True),
        ("AVX512", False, True, True),
        ("AVX512", True, None, True),
    ],
)
def test_instructions_decide_where_they_are_known(machine, timed, capability, bf16, amx, fast):
    asked = timed(1.0 if fast else 9.0, 3.0)  # the opposite, if anyone asked
    machine(capability=capability, bf16=bf16, amx=amx)
    assert fast_bf16(CPU) is fast and not asked
    assert arithmetic("auto", CPU).decided == "by its instructions"


@pytest.mark.parametrize(
    "silent",
    [
        {"architecture": "aarch64", "capability": "DEFAULT"},
        {"architecture": "arm64", "capability": "SVE256"},
        {"capability": "DEFAULT"},  # vectors torch has no kernels for
        {"bf16": None},
        {"amx": None},
        {"bf16": None, "amx": None},
    ],
)
@pytest.mark.parametrize(("bf16", "fp32", "fast"), [(9.0, 3.0, True), (3.1, 3.0, False), (0.0, 3.0, False)])
def test_a_convolution_decides_where_flags_are_silent_and_is_timed_once(machine, timed, silent, bf16, fp32, fast):
    machine(**silent)
    asked = timed(bf16, fp32)
    assert [fast_bf16(CPU) for _ in range(3)] == [fast] * 3
    assert sorted(map(str, asked)) == ["torch.bfloat16", "torch.float32"]
    told = arithmetic("auto", CPU)
    assert told.decided == "by timing a convolution"
    assert told.precision == ("bfloat16" if fast else "float32")


def test_a_limit_on_the_instructions_used_is_heeded(machine, timed, monkeypatch):
    machine(bf16=True)
    asked = timed(1.0, 3.0)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not fast_bf16(CPU) and asked


def test_an_explicit_precision_is_used(machine):
    machine(bf16=True)
    assert wants_bf16("bf16", CPU) and wants_bf16("auto", CPU) and not wants_bf16("fp32", CPU)
    assert arithmetic("fp32", CPU).to_json() == {"device": "cpu", "precision": "float32", "decided": "asked for"}


def test_a_convolution_is_really_timed_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    with torch.inference_mode():
        assert gflops.__wrapped__("cpu", torch.float32) > 0.01
    assert torch.equal(torch.get_rng_state(), before)


def test_a_type_the_device_does_not_know_has_no_speed():
    assert gflops("cpu", torch.uint8) == 0


def casts_of(network, passes, *, apart):
    """The number of weights cast to bfloat16 in several passes, each in its own context or all in one."""

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            is_weight = isinstance(args[0], torch.Tensor) and args[0].shape == (6, 5)
            Counting.count += func is torch.ops.aten._to_copy.default and is_weight
            return func(*args, **(kwargs or {}))

    def once():
        with frozen_autocast(network, CPU, True):
            for _ in range(1 if apart else passes):
                network(torch.ones(2, 5))

    with Counting():
        for _ in range(passes if apart else 1):
            once()
    return Counting.count


def test_frozen_weights_are_cast_once_in_a_context():
    network = torch.nn.Linear(5, 6).requires_grad_(False)
    assert casts_of(network, 4, apart=False) == 1 and casts_of(network, 4, apart=True) == 4
    assert not any(weight.requires_grad for weight in network.parameters())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = network(torch.ones(2, 5))
    with frozen_autocast(network, CPU, True):
        found = network(torch.ones(2, 5))
    assert torch.equal(found, expected) and found.dtype == torch.bfloat16 and not found.requires_grad


def test_deterministic_algorithms_are_temporary(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(ZeroDivisionError), deterministic(True):
        assert float32_settings()["deterministic"] and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise ZeroDivisionError
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic


def test_choosing_a_device_turns_tf32_off(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    assert float32_settings()["tf32_convolutions"]
    best_device()
    off = {"tf32_products": False, "tf32_convolutions": False, "cudnn_benchmark": False, "deterministic": False}
    assert float32_settings() == off
    assert torch.backends.cudnn.conv.fp32_precision != "tf32" and torch.get_float32_matmul_precision() == "highest"
    settle_float32()
    assert float32_settings() == off


@pytest.mark.parametrize(("rank", "count", "index"), [("0", 1, 0), ("3", 4, 3), ("5", 4, 1)])
def test_each_process_takes_its_own_gpu(monkeypatch, rank, count, index):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert best_device() == torch.device("cuda", index)


def test_apples_gpu_is_found(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("mps"))
    assert best_device() == torch.device("mps")


def test_the_requested_device_is_used(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("DMIS_DEVICE", "cuda:1")
    assert best_device() == torch.device("cuda", 1) and chosen == [torch.device("cuda", 1)]
    monkeypatch.setenv("DMIS_DEVICE", "cpu")
    assert best_device() == torch.device("cpu")
    monkeypatch.setenv("DMIS_DEVICE", "cuda:2")
    with pytest.raises(UserError, match="no device 'cuda:2' on this machine; give auto or cpu or cuda or cuda:0 or"):
        best_device()
    monkeypatch.setenv("DMIS_DEVICE", "cuda:1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="give --device cuda, not cuda:1"):
        best_device()
    monkeypatch.setenv("DMIS_DEVICE", "cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert best_device() == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "gpu", "", "cpu:7"])
def test_unavailable_devices_are_refused(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    with pytest.raises(UserError, match=re.escape(f"There is no device {name!r} on this machine; give auto or cpu.")):
        check_device(name)
