"""The one place that chooses a device and a number format, and copies tensors between the CPU and a GPU."""

import os
import re

import torch

from videollm.config import Dtype
from videollm.device_arguments import DEVICE_VARIABLE
from videollm.errors import ConfigError

_NAMES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """The device that a name stands for, always with an index where a machine may have several.

    device: "auto" (the best there is: cuda:0, else mps, else cpu), "cpu", "cuda", "cuda:N" or "mps"; None reads
    $VIDEOLLM_DEVICE and falls back to "auto"; a torch.device is returned as it is.
    Raises ConfigError for another name, and for a device that this machine does not have.
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
            raise ConfigError(f"device is {name!r}, but this machine has {cards}: cuda:0 to cuda:{cards - 1}")
    if chosen.type == "mps" and not mps:
        raise ConfigError("device is 'mps', but PyTorch finds no Apple GPU here; use --device cpu")
    return chosen


def resolve_dtype(dtype: Dtype, device: torch.device | str) -> torch.dtype:
    """The dtype of weights. "auto" is bfloat16 where the device multiplies it natively, else float32, which is faster
    there.

    Weights are cast to it. They are not autocast: under inference_mode bf16 autocast ran at 0.14 of the speed of bf16
    weights on a CPU.
    """
    if dtype != "auto":
        return getattr(torch, dtype)
    kind = torch.device(device).type
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif kind == "cpu":
        cpu = torch.cpu.get_capabilities()
        native = bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def total_memory(device: torch.device) -> int:
    """Bytes of memory that the device has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to the device. To a GPU the copy goes through pinned memory and does not wait, so that the CPU decodes the
    next frames meanwhile."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # a copy from pageable memory would wait for everything the GPU has queued
    return tensor.to(device, non_blocking=True)


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that was queued, copies to the CPU among it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
