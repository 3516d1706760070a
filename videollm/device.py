"""The choice of a device and of a dtype, and copies of tensors between the CPU and a GPU."""

import os
import re

import torch

from videollm.config import Dtype
from videollm.device_arguments import DEVICE_VARIABLE
from videollm.errors import ConfigError

_NAMES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """Returns the device that a name stands for, with an index if a machine may have several.

    Args:
        device: "auto" (the best that the machine has: cuda:0, else mps, else cpu), "cpu", "cuda", "cuda:N" or "mps".
            None reads $VIDEOLLM_DEVICE and falls back to "auto". A torch.device is returned as it is.

    Raises:
        ConfigError: If the name is unknown, or this machine does not have the device.
    """
    if isinstance(device, torch.device):
        return device
    name = device or os.environ.get(DEVICE_VARIABLE) or "auto"
    if not _NAMES.fullmatch(name):
        raise ConfigError(f"device is {name!r}; it must be auto, cpu, cuda, cuda:N or mps")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda:0" if cards else "mps" if mps else "cpu")
    chosen = torch.device(name)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", chosen.index or 0)
        if not cards:
            raise ConfigError(
                f"device is {name!r}, but PyTorch finds no CUDA device; check nvidia-smi and that PyTorch is "
                "a CUDA build, or use --device cpu"
            )
        if chosen.index >= cards:
            raise ConfigError(
                f"device is {name!r}, but this machine has {cards} GPUs; choose from cuda:0 to cuda:{cards - 1}"
            )
    if chosen.type == "mps" and not mps:
        raise ConfigError("device is 'mps', but PyTorch finds no Apple GPU here; use --device cpu")
    return chosen


def resolve_dtype(dtype: Dtype, device: torch.device | str) -> torch.dtype:
    """Returns the dtype of weights. "auto" is bfloat16 if the device multiplies it faster than float32, else float32.

    Weights are cast and not autocast, because under inference_mode autocast to bfloat16 ran at 0.14 of the speed of
    bfloat16 weights on a CPU.
    """
    if dtype != "auto":
        return getattr(torch, dtype)
    kind = torch.device(device).type
    if kind == "cuda":
        faster = torch.cuda.is_bf16_supported(including_emulation=False)
    elif kind == "cpu":
        cpu = torch.cpu.get_capabilities()
        # Without its matrix unit (AMX), an Intel Xeon multiplies bfloat16 at half its rate of float32 (78 against 150
        # GFLOP/s on one core). AMD's processors multiply it at twice that rate.
        vector_unit = cpu.get("avx512_bf16", False) and "Intel" not in cpu.get("cpu_name", "")
        faster = bool(cpu.get("amx_bf16") or vector_unit)
    else:
        faster = False
    return torch.bfloat16 if faster else torch.float32


def total_memory(device: torch.device) -> int:
    """Returns the memory of the device in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copies a tensor to the device.

    To a GPU, the copy goes through pinned memory and is not waited for, so that the CPU can decode the next frames
    meanwhile.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # a copy from pageable memory would wait for all work that the GPU has queued
    return tensor.to(device, non_blocking=True)


def wait_for(device: torch.device) -> None:
    """Waits until the device has completed all queued work, including copies to the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
