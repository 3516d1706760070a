import pytest
import torch

from videollm.device import resolve_device, resolve_dtype
from videollm.errors import ConfigError


def test_a_named_dtype_is_taken_as_it_is():
    assert resolve_dtype("float16", "cpu") == torch.float16
    assert resolve_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "faster"),
    [
        ({"cpu_name": "AMD EPYC", "avx2": True}, torch.float32),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, torch.float32),
    ],
)
def test_auto_on_a_cpu_is_the_dtype_that_it_multiplies_faster(
    capabilities: dict[str, object], faster: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_dtype("auto", "cpu") == faster


def test_auto_elsewhere_is_float32():
    assert resolve_dtype("auto", "meta") == torch.float32


def test_a_device_is_named_given_or_read_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert resolve_device("cpu") == resolve_device() == torch.device("cpu")
    assert resolve_device(torch.device("meta")) == torch.device("meta")
    monkeypatch.setenv("VIDEOLLM_DEVICE", "gpu")
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="'gpu'; it must be auto, cpu"):
        resolve_device()


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there_is_refused_with_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"'{name}', but PyTorch finds no .*--device cpu"):
        resolve_device(name)
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:-1", "cuda:x", "GPU", " cpu"])
def test_other_names_are_refused(name: str):
    with pytest.raises(ConfigError, match="it must be auto, cpu, cuda, cuda:N or mps"):
        resolve_device(name)
