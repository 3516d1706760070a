import torch

from videollm.device import resolve_dtype


def test_a_named_dtype_is_taken_as_it_is():
    assert resolve_dtype("float16", "cpu") == torch.float16
    assert resolve_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16


def test_auto_on_cpu_follows_the_instruction_set():
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    assert resolve_dtype("auto", "cpu") == (torch.bfloat16 if native else torch.float32)


def test_auto_elsewhere_is_float32():
    assert resolve_dtype("auto", "meta") == torch.float32
