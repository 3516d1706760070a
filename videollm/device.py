"""Which number format weights are cast to."""

import torch

from videollm.config import Dtype


def resolve_dtype(dtype: Dtype, device: torch.device | str) -> torch.dtype:
    """`auto` is bfloat16 where the device multiplies it natively, else float32, which is faster there.

    Cast the weights to it; do not autocast: bf16 autocast under inference_mode ran at 0.14x of bf16 weights on CPU.
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
