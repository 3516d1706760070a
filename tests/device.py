"""A CUDA device that is not there: tensors that say they are on cuda:0, computed on the CPU.

Inside `fake_cuda()` PyTorch reports one CUDA device. What is moved or created there becomes a `FakeCudaTensor`, whose
operations run on ordinary CPU tensors behind it. An operation on tensors of different devices raises the error that
CUDA raises, so the tests find every tensor that was left behind, on a machine without a GPU.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
_attention = torch.nn.functional.scaled_dot_product_attention
# Its first call remembers for good the `torch.tensor` that a `torch.device` context redirects.
_device_constructors()
COPIES = {aten.copy_.default, aten._to_copy.default}  # take tensors of any devices
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class FakeCudaTensor(torch.Tensor):
    """A tensor on cuda:0 whose values are those of the CPU tensor `inner`.

    For PyTorch's C++ code it is on the meta device, because with CUDA's that code asks the driver.
    """

    inner: torch.Tensor
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "FakeCudaTensor":
        with torch.inference_mode(False):  # views of parameters share a version counter, which it does not make
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                inner.size(),
                inner.stride(),
                inner.storage_offset(),
                dtype=inner.dtype,
                device=torch.device("meta"),
            )
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"FakeCudaTensor({self.inner!r})"

    def tolist(self) -> Any:
        return self.inner.tolist()  # PyTorch refuses it for every subclass

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.inner.numpy(force=True)
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {})


class _FakeCudaMode(TorchDispatchMode):
    """Also sees operations without a fake tensor among their arguments, which may ask for one."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {})


def run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run one operation on the CPU tensors, after checking the devices of what it was given."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"):
        with _FakeCudaMode():  # inference_mode leaves operations whole that are made of others
            return function.decompose(*args, **kwargs)
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    wanted = kwargs.get("device")
    if function not in COPIES:
        _check(function, args, tensors)
    if wanted is None:
        on_cuda = _result_on_cuda(function, args, tensors)
    else:  # C++ code finds a fake tensor on meta, also for the number that is assigned to one of its elements
        for_fake = function is aten.scalar_tensor.default or any(isinstance(x, FakeCudaTensor) for x in tensors)
        on_cuda = wanted.type == "cuda" or (wanted.type == "meta" and for_fake)
    if wanted is not None and (on_cuda or wanted.type == "cuda"):
        kwargs = kwargs | {"device": torch.device("cpu")}
    if kwargs.get("pin_memory"):
        kwargs = kwargs | {"pin_memory": False}
    result = function(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
    _operations.count += on_cuda and function not in COPIES
    given = {id(_unwrap(x)): x for x in tensors}  # what is changed in place is returned as the object it was

    def wrap(value: Any) -> Any:
        if not on_cuda or not isinstance(value, torch.Tensor):
            return value
        return given[id(value)] if id(value) in given else FakeCudaTensor(value)

    return tree_map(wrap, result)


def _unwrap(value: Any) -> Any:
    return value.inner if isinstance(value, FakeCudaTensor) else value


def _result_on_cuda(function: Any, args: tuple[Any, ...], tensors: list[torch.Tensor]) -> bool:
    if function in COPIES or function in INDEXING:
        return isinstance(args[0], FakeCudaTensor)
    return any(isinstance(x, FakeCudaTensor) for x in tensors)


def _check(function: Any, args: tuple[Any, ...], tensors: list[torch.Tensor]) -> None:
    """Raise what CUDA raises, which takes CPU tensors of no dimension beside its own, and CPU indices."""
    if function in INDEXING and isinstance(args[0], FakeCudaTensor):
        tensors = [args[0], *args[2:3]]
        tensors = [x for x in tensors if isinstance(x, torch.Tensor)]
    devices = {x.device.type for x in tensors if x.dim() or isinstance(x, FakeCudaTensor)}
    if len(devices) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {function} got "
            f"{[(tuple(x.shape), str(x.device)) for x in tensors]}"
        )


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """F.scaled_dot_product_attention, which makes tensors of its own where C++ code believes its arguments to be."""
    given = (query, key, value, *args)
    tensors = [x for x in (*given, *kwargs.values()) if isinstance(x, torch.Tensor)]
    _check("scaled_dot_product_attention", given, tensors)
    result = _attention(*map(_unwrap, given), **tree_map(_unwrap, kwargs))
    return FakeCudaTensor(result) if isinstance(query, FakeCudaTensor) else result


class _CpuGenerator(torch.Generator):
    """Random numbers for any device."""

    def __new__(cls, device: Any = "cpu") -> "_CpuGenerator":
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]


@dataclass
class Operations:
    """How many operations computed something on the device."""

    count: int = 0


_operations = Operations()


@contextmanager
def fake_cuda() -> Iterator[Operations]:
    """Let PyTorch report one CUDA device, which this thread and those that it starts can use."""
    _operations.count = 0
    in_thread: Callable[[threading.Thread], None] = threading.Thread.run

    def run_thread(thread: threading.Thread) -> None:
        with _FakeCudaMode():  # modes belong to a thread
            in_thread(thread)

    tensor = torch.tensor

    def tensor_there(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        made = tensor(*args, **kwargs)  # torch.tensor asks the CUDA driver before it reaches the mode
        return made if device is None else made.to(device)

    with (
        patch("torch.cuda.is_available", lambda: True),
        patch("torch.cuda.device_count", lambda: 1),
        patch("torch.cuda.current_device", lambda: 0),
        patch("torch.cuda._lazy_init", lambda: None),
        patch("torch.cuda.is_bf16_supported", lambda including_emulation=True: True),
        patch("torch.cuda.mem_get_info", lambda device=None: (8 << 30, 16 << 30)),
        patch("torch.cuda.synchronize", lambda device=None: None),
        patch("torch.cuda.get_device_name", lambda device=None: "fake"),
        patch.object(torch.Tensor, "pin_memory", lambda tensor, device=None: tensor),
        patch("torch.tensor", tensor_there),
        patch("torch.nn.functional.scaled_dot_product_attention", attention),
        patch("torch.Generator", _CpuGenerator),
        patch.object(threading.Thread, "run", run_thread),
        _FakeCudaMode(),
    ):
        yield _operations
