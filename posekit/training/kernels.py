"""Which kernels compute attention and matrix products in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from posekit.errors import ConfigError

_BACKENDS = {
    "flash": [SDPBackend.FLASH_ATTENTION],
    "efficient": [SDPBackend.EFFICIENT_ATTENTION],
    "math": [SDPBackend.MATH],
    # cuDNN's gradient in bfloat16 is NaN now and then (seen with torch 2.11 on an H100); masks
    # and head sizes that flash attention lacks fall to the others
    "auto": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
}


def choose_attention(
    model: nn.Module, choice: str, device: torch.device, precision: str
) -> tuple[str, ...]:
    """Set a model's blocks to fused or plain attention.

    `auto` is fused, except in bf16 on CPUs, where the plain product is faster
    (benchmarks/cpu_attention.py measures both).

    Args:
        model: timm's attention layers in it are set.
        choice: `training.attention` of the recipe.
        device, precision: where and in what arithmetic the model trains.

    Returns:
        The kernels that training may take, best first; for the run's log.

    Raises:
        ConfigError: the device has no such kernel.
    """
    if choice == "efficient" and device.type != "cuda":
        raise ConfigError(
            f"training.attention: efficient needs a GPU, found {device.type}; set it to auto"
        )
    if choice == "flash" and device.type == "cuda" and precision == "fp32":
        raise ConfigError(
            "training.attention: flash computes in half precision only, but training.precision is "
            "fp32; set it to bf16, or attention to auto"
        )
    plain = choice == "auto" and device.type == "cpu" and precision == "bf16"
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", not plain)  # noqa: B010 - timm's attribute
    kernels = ["math"] if plain else [b.name.lower().split("_")[0] for b in _BACKENDS[choice]]
    return tuple(kernels)


@contextmanager
def attention_kernels(choice: str) -> Iterator[None]:
    """Let only the chosen kernels run inside; the process is as before afterwards."""
    with sdpa_kernel(_BACKENDS[choice]):
        yield


@contextmanager
def fast_products() -> Iterator[None]:
    """Let float32 products run as TF32 on GPUs inside; the process is as before afterwards."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@cache
def has_fast_bf16(device: str) -> bool:
    """Return whether a kind of device multiplies in bf16; CPUs that emulate it are 20 times slower.

    Args:
        device: 'cuda' or 'cpu'.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public question
    return any(getattr(torch.cpu, name, bool)() for name in asked)
