"""What all published systems share: their sizes read from a state dict, their official names, strict loading."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from videollm.errors import CheckpointError, ConfigError
from videollm.models.published.key_mapping import load_official

State = Mapping[str, torch.Tensor]
Config = Mapping[str, Any]
Tensors = dict[str, torch.Tensor]
OfficialName = str | tuple[str, ...]


class StateShapes:
    """Sizes of a model, read from the shapes of its state dict. A missing tensor is an error that names it."""

    def __init__(self, state: State):
        self.state = state

    def __getitem__(self, name: str) -> torch.Size:
        if name not in self.state:
            raise CheckpointError(f"the state dict has no tensor {name}; is it a complete checkpoint of this system?")
        return self.state[name].shape

    def has(self, *prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in self.state)

    def count(self, prefix: str) -> int:
        """The number of entries of a module list: N + 1 where the last is named `prefix`.N."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        found = [int(match[1]) for name in self.state if (match := pattern.match(name))]
        if not found:
            raise CheckpointError(f"the state dict has no tensor {prefix}.0.*; is it a complete checkpoint?")
        return max(found) + 1


def setting(config: Config, *path: str) -> Any:
    """The value at `path` in nested settings. Raises ConfigError that names it where it is missing: numbers of heads
    and the like cannot be read from the weights."""
    value: Any = config
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            raise ConfigError(f"the config has no {'.'.join(path)}; it cannot be read from the weights, so give it")
        value = value[key]
    return value


def official_compat(config: Config) -> bool:
    """Whether a system keeps what the official code does against its own intent, so that its numbers come out: the
    entry "official_compat", True where there is none. Without it:

    - VideoChat2's training sequences begin with the embedding of BOS and not with the number 1 in every channel.
    - Captions of Video-LLaMA and VideoChat2 have labels at all real tokens, also at those that equal the padding's id.
    - Clips of sound that overlap are each computed from the sound as it was (Video-LLaMA).
    - Frames of training are clamped where bicubic interpolation overshoots, and do not wrap around (Video-LLaMA).
    - Features of frames are not rounded to float16 (Video-ChatGPT).
    - Padding does not count in heads of text-video retrieval, see `videollm.retrieval.model.HeadConfig`.

    Prompts and label masks of training are functions of their own (`*_text.py`); checkpoint directories train on the
    exact labels of `videollm.models.processor`.
    """
    return bool(config.get("official_compat", True))


class PublishedSystem(nn.Module):
    """A published system, built from its official state dict, under its official names.

    RENAMES: regular expressions that turn our parameter names into official ones, applied in order, all that match.
    A replacement that contains "{q,k,v}" stands for three official tensors, each a third of the rows.
    IGNORED: regular expressions of official names that this system has no use for.
    """

    RENAMES: ClassVar[Sequence[tuple[str, str]]] = ()
    IGNORED: ClassVar[Sequence[str]] = ()

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        """Everything the official code computes from `inputs`, by the name of its output. What is absent from the
        inputs is not computed."""
        raise NotImplementedError

    def official_names(self) -> dict[str, OfficialName]:
        """Each name in `state_dict()` and its official name, or the official names of equal parts of its rows."""
        return {name: self._official_name(name) for name in self.state_dict()}

    def _official_name(self, name: str) -> OfficialName:
        for pattern, replacement in self.RENAMES:
            name = re.sub(pattern, replacement, name)
        if "{q,k,v}" in name:
            return tuple(name.replace("{q,k,v}", part) for part in "qkv")
        return name

    def load(self, state: State) -> None:
        """Raises CheckpointError that lists missing and unknown tensors and wrong shapes."""
        load_official(self, state, self.official_names(), self.IGNORED)

    def train_only(self, pattern: str) -> None:
        """Let gradients reach only the parameters whose official names begin with a match of `pattern`."""
        names = self.official_names()
        for name, parameter in self.named_parameters():
            official = names[name]
            first = official if isinstance(official, str) else official[0]
            parameter.requires_grad_(re.match(pattern, first) is not None)
