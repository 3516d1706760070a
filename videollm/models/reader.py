"""Readers run the language model over one conversation and keep its keys and values.

`LlamaReader` computes what transformers does for models of the Llama shape, from the same weights, in fewer and larger
operations and into keys and values that never move: on two cores a step takes about half the time.
`TransformersReader` serves every other model. `reader` chooses.
"""

from copy import deepcopy
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, LlamaForCausalLM, Qwen2ForCausalLM


class KeysValues(Protocol):
    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        ...

    def keep(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        ...

    def copy(self, length: int) -> "KeysValues":
        """The first `length` positions, apart from these."""
        ...


class Reader(Protocol):
    def begin(self) -> KeysValues:
        """Nothing read yet."""
        ...

    def read(self, embeds: torch.Tensor, past: Any) -> torch.Tensor:
        """embeds (L,H) follow what `past`, from `begin`, holds, and join it. Logits (V,) of what comes next."""
        ...


def reader(language_model: nn.Module) -> Reader:
    if LlamaReader.reads(language_model):
        return LlamaReader(language_model)
    return TransformersReader(language_model)


class GrownCache(DynamicCache):
    @property
    def nbytes(self) -> int:
        layers: list[Any] = self.layers  # transformers has kinds without keys, and keys that are not there yet
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    def keep(self, length: int) -> None:
        if drop := self.get_seq_length() - length:
            self.crop(-drop)

    def copy(self, length: int) -> "GrownCache":
        other = deepcopy(self)
        other.keep(length)
        return other


class TransformersReader:
    """Any causal language model, through its own forward pass."""

    def __init__(self, language_model: Any):
        self.language_model = language_model

    def begin(self) -> GrownCache:
        return GrownCache()

    def read(self, embeds: torch.Tensor, past: GrownCache) -> torch.Tensor:
        output = self.language_model(inputs_embeds=embeds[None], past_key_values=past, use_cache=True, logits_to_keep=1)
        return output.logits[0, -1]


class StaticKeysValues:
    """keys and values (layers, heads, capacity, head width), of which the first `length` positions are read."""

    def __init__(self, layers: int, heads: int, width: int):
        self.shape = (layers, heads, width)
        self.length = 0
        self.keys = self.values = torch.empty(0)

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def copy(self, length: int) -> "StaticKeysValues":
        other = StaticKeysValues(*self.shape)
        other.length = length
        other.keys, other.values = self.keys[:, :, :length].clone(), self.values[:, :, :length].clone()
        return other

    def keep(self, length: int) -> None:
        self.length = min(self.length, length)

    def reserve(self, positions: int, like: torch.Tensor) -> None:
        """Room for `positions`; capacity doubles, so that copies stay rare."""
        layers, heads, width = self.shape
        capacity = self.keys.shape[2] if self.keys.dim() == 4 else 0
        if positions > capacity:
            old = self.keys, self.values
            capacity = max(256, 2 * capacity, positions)
            self.keys, self.values = (like.new_empty(layers, heads, capacity, width) for _ in old)
            for new, kept in zip((self.keys, self.values), old, strict=True):
                if self.length:
                    new[:, :, : self.length] = kept[:, :, : self.length]


class LlamaReader:
    """Llama and Qwen2: pre-norm blocks, rotary positions, grouped-query attention, gated MLP.

    The weights of q, k, v and of gate, up are laid one after another in memory, so that each group is one product;
    the model's own layers keep working on the same memory. A model whose weights are moved or replaced afterwards
    needs a new reader.
    """

    def __init__(self, language_model: Any):
        model, config = language_model.model, language_model.config
        self.rotary, self.head = model.rotary_emb, language_model.lm_head
        self.norm = model.norm
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = model.layers[0].self_attn.head_dim
        self.layers = []
        for layer in model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            qkv = _stack([attention.q_proj, attention.k_proj, attention.v_proj])
            gate_up = _stack([mlp.gate_proj, mlp.up_proj])
            self.layers.append((layer, qkv, gate_up))

    @staticmethod
    def reads(language_model: nn.Module) -> bool:
        """Whether this is such a model, with plain weights (not quantised, without an adapter beside them)."""
        if type(language_model) not in (LlamaForCausalLM, Qwen2ForCausalLM):
            return False
        plain = all(type(m) is nn.Linear for m in language_model.modules() if isinstance(m, nn.Linear))
        full = set(getattr(language_model.config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        return plain and full

    def begin(self) -> StaticKeysValues:
        return StaticKeysValues(len(self.layers), self.kv_heads, self.width)

    def read(self, embeds: torch.Tensor, past: StaticKeysValues) -> torch.Tensor:
        start, end = past.length, past.length + len(embeds)
        past.reserve(end, embeds)
        cos, sin = self.rotary(embeds, torch.arange(start, end, device=embeds.device)[None])  # (1,L,width) each
        cos, half = cos[0, :, None], self.width // 2
        sin = torch.cat([-sin[0, :, None, :half], sin[0, :, None, half:]], dim=-1)  # signs of "rotate half"
        mask = None
        if start and len(embeds) > 1:
            mask = torch.ones(len(embeds), end, dtype=torch.bool, device=embeds.device).tril(start)
        x = embeds
        for i, (layer, qkv, gate_up) in enumerate(self.layers):
            heads = F.linear(_norm(layer.input_layernorm, x), *qkv).view(len(x), -1, self.width)
            rotated, value = heads[:, : -self.kv_heads], heads[:, -self.kv_heads :]
            rotated = torch.addcmul(rotated * cos, rotated.roll(half, -1), sin)
            query, key = rotated[:, : self.heads], rotated[:, self.heads :]
            past.keys[i, :, start:end] = key.transpose(0, 1)
            past.values[i, :, start:end] = value.transpose(0, 1)
            mixed = F.scaled_dot_product_attention(
                query.transpose(0, 1)[None],
                past.keys[i, None, :, :end],
                past.values[i, None, :, :end],
                attn_mask=mask,
                is_causal=start == 0 and len(x) > 1,
                scale=layer.self_attn.scaling,
                enable_gqa=True,
            )
            x = x + layer.self_attn.o_proj(mixed[0].transpose(0, 1).flatten(1))
            gate, up = F.linear(_norm(layer.post_attention_layernorm, x), *gate_up).chunk(2, -1)
            x = x + layer.mlp.down_proj(layer.mlp.act_fn(gate) * up)
        past.length = end
        return self.head(_norm(self.norm, x[-1]))


def _norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _stack(linears: list[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The layers' weights as one matrix, and their biases as one vector. The layers become parts of that matrix,
    unless they are already."""
    weights = [linear.weight.detach() for linear in linears]
    rows, first = [len(w) for w in weights], weights[0]
    ends = [w.storage_offset() + w.numel() for w in weights]
    together = all(w.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() for w in weights) and all(
        w.storage_offset() == end for w, end in zip(weights[1:], ends, strict=False)
    )
    if together:
        stacked = first.as_strided((sum(rows), first.shape[1]), first.stride())
    else:
        stacked = torch.cat(weights)
        for linear, part in zip(linears, stacked.split(rows), strict=True):
            linear.weight.data = part
    biases = [linear.bias for linear in linears]
    return stacked, torch.cat([*biases]) if biases[0] is not None else None
