"""Checks the files of a checkpoint directory before anything is built from them.

Each problem is one CheckpointError that names the file and what is wrong in it: a field, or tensors.
"""

import json
import re
from collections.abc import Collection
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from videollm.adapter_kinds import ADAPTERS, is_named
from videollm.config import LoraConfig
from videollm.errors import CheckpointError

ADAPTER = "adapter/adapter_model.safetensors"
ADAPTER_CONFIG = "adapter/adapter_config.json"
_MODULE = re.compile(r"[\w.]+")
# Fields of an adapter that are checked apart, or that change nothing about the model.
_FREE = {"lora_dropout", "target_modules", "base_model_name_or_path", "revision"}
_FREE |= {"peft_version", "inference_mode", "task_type", "init_lora_weights", "init_ia3_weights"}


def read_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file. Raises CheckpointError if it is none, or names Python code (`auto_map`)."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({type(error).__name__}); copy it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds {type(found).__name__}, not an object")
    if found.get("auto_map"):
        raise CheckpointError(f"{path}: auto_map names Python code of its own, which is never run; remove the field")
    return found


def check_objects(directory: Path) -> None:
    """Reads every JSON file of the directory and of its folders. Raises CheckpointError, see `read_object`."""
    for pattern in ("*.json", "*/*config.json", "*/tokenizer.json"):
        for file in sorted(directory.glob(pattern)):
            read_object(file)


def read_tensors(path: Path, expected: dict[str, torch.Size], unused: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """Returns the tensors of a file, which must be exactly the expected ones: finite floating-point numbers.

    Names, shapes and number formats are compared before any tensor is read. Names that begin with one of `unused` may
    be there too. Raises CheckpointError.
    """
    check_tensors(path, expected, unused)
    return read_finite(path, expected)


def read_finite(path: Path, names: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """Returns the named tensors of a file, None for all. Raises CheckpointError for numbers that are not finite."""
    names = _header(path)[0] if names is None else names
    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in names}
    if broken := [name for name, tensor in state.items() if not tensor.float().isfinite().all()]:
        raise CheckpointError(f"{path}: {', '.join(broken)} hold numbers that are infinite or not numbers")
    return state


def check_tensors(path: Path, expected: dict[str, torch.Size], unused: tuple[str, ...] = ()) -> None:
    """Compares names, shapes and number formats in the header of a file. See `read_tensors`."""
    shapes, formats = _header(path)
    missing, unknown = sorted(set(expected) - set(shapes)), sorted(set(shapes) - set(expected))
    unknown = [name for name in unknown if not name.startswith(unused)]
    wrong = [name for name in expected if name in shapes and shapes[name] != tuple(expected[name])]
    if missing or unknown or wrong:
        raise CheckpointError(f"{path}: missing {missing}, unknown {unknown}, wrong shape {wrong}")
    if whole := [name for name, kind in formats.items() if not kind.startswith(("F", "BF"))]:
        raise CheckpointError(f"{path}: {', '.join(whole)} are not floating-point numbers")


def count_tensors(path: Path) -> int:
    """Returns the number of tensors in a file. Raises CheckpointError."""
    return len(_header(path)[0])


def _header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Returns shapes and number formats by name."""
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            return {n: tuple(s.get_shape()) for n, s in slices.items()}, {n: s.get_dtype() for n, s in slices.items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({str(error).splitlines()[0]}); copy it again") from error


def check_adapter(directory: Path, config: LoraConfig, language_model: torch.nn.Module) -> None:
    """Compares a checkpoint's adapter with the language model and with the `lora` of config.json.

    Raises CheckpointError, also for a kind of adapter that `save` does not write.
    """
    path, found = directory / ADAPTER_CONFIG, read_object(directory / ADAPTER_CONFIG)
    targets, kind = _targets(path, config, found.get("target_modules")), ADAPTERS[config.kind]
    settings = kind.settings(config, list(targets))
    wanted, plain = settings.to_dict(), type(settings)().to_dict()
    for name in kind.fields:
        value = _plain(wanted[name])
        if _plain(found.get(name, plain[name])) != value:
            raise CheckpointError(f"{path}: {name} is {found.get(name)!r}, and config.json says {value!r}")
    for name, value in found.items():
        if name not in {*kind.fields, *_FREE} and value and value != plain.get(name):
            raise CheckpointError(f"{path}: {name} is {value!r}; a checkpoint has {plain.get(name)!r}")
    linear: dict[str, Any] = {n: m for n, m in language_model.named_modules() if hasattr(m, "in_features")}
    expected = {
        f"base_model.model.{layer}.{name}": torch.Size(shape)
        for layer, module in linear.items()
        if is_named(layer, targets)
        for name, shape in kind.tensors(config, layer, module.in_features, module.out_features).items()
    }
    read_tensors(directory / ADAPTER, expected)


def _plain(value: Any) -> Any:
    """Returns a value of PEFT's configuration as JSON has it, with names in order."""
    if isinstance(value, set | list):
        return sorted(map(str, value))
    return value.value if isinstance(value, Enum) else value


def _targets(path: Path, config: LoraConfig, found: Any) -> tuple[str, ...]:
    """Returns the names of the adapted modules. A text would be a regular expression, which can take for ever."""
    if not isinstance(found, list) or not all(isinstance(name, str) and _MODULE.fullmatch(name) for name in found):
        raise CheckpointError(f"{path}: target_modules is {str(found)[:100]!r}; it must be a list of names of modules")
    wanted = ADAPTERS[config.kind].targets(config)
    if wanted != "all-linear" and {*found} != {*wanted}:
        raise CheckpointError(f"{path}: target_modules are {sorted(found)}, and config.json says {wanted}")
    return tuple(found)
