"""The weights of a Llama as `LlamaRunner` reads them, and the file that keeps them.

The file is memory-mapped: starting with it copies nothing, and processes share its memory.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from videollm.cpu.linear import PackedLinear


@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaShape:
    """Sizes and constants of a Llama.

    Attributes:
        layers: The number of layers.
        heads: The number of query heads.
        kv_heads: The number of key heads, which is that of value heads.
        width: The width of a head.
        scale: What scores are multiplied by.
        epsilon: What the norms add to the mean square.
        rotary_scale: What sines and cosines of positions are multiplied by.
    """

    layers: int
    heads: int
    kv_heads: int
    width: int
    scale: float
    epsilon: float
    rotary_scale: float


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """A Llama's tensors by name.

    words (V,H): the word embeddings. head (V,H): the output layer, absent where it is `words`. norm (H,): the last
    norm. frequencies (width / 2,): radians a position. Of layer N: N.before_attention, N.before_mlp (H,), and the
    linear layers N.qkv, N.out, N.gate_up and N.down, with N.qkv.bias and so on where they have one.
    """

    shape: LlamaShape
    tensors: dict[str, torch.Tensor]

    def linear(self, name: str) -> PackedLinear:
        return PackedLinear(self.tensors[name], self.tensors.get(f"{name}.bias"))

    def save(self, file: Path) -> None:
        tensors = {name: tensor.detach().contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, file, {"shape": json.dumps(asdict(self.shape))})

    @classmethod
    def load(cls, file: Path) -> "LlamaWeights":
        """Returns what `save` wrote. The tensors are views of the file."""
        with safe_open(file, "pt") as opened:
            shape = LlamaShape(**json.loads(opened.metadata()["shape"]))
            return cls(shape, {name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
