"""Readers run the language model over conversations, any number at a time, and keep the keys and values of each.

`LlamaRunner` computes what transformers does for models of the Llama shape, from the same weights, in fewer and larger
operations and into keys and values that never move: on two cores a step takes about half the time.
`TransformersRunner` serves every other model. `make_runner` chooses.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, LlamaForCausalLM, Qwen2ForCausalLM

from videollm.cpu.linear import Packed


class KVCache(Protocol):
    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        ...

    def crop(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        ...

    def fork(self, length: int) -> "KVCache":
        """The first `length` positions, apart from these."""
        ...


class ModelRunner(Protocol):
    def begin(self) -> KVCache:
        """Nothing read yet."""
        ...

    def forward(self, batch: Sequence[tuple[torch.Tensor, Any]]) -> torch.Tensor:
        """For each conversation embeds (L,H), of any length, that follow what its keys and values, from `begin`, hold,
        and join them. Logits (B,V) of what comes next."""
        ...


def make_runner(language_model: nn.Module) -> ModelRunner:
    if LlamaRunner.reads(language_model):
        return LlamaRunner(language_model)
    return TransformersRunner(language_model)


class DynamicKVCache(DynamicCache):
    @property
    def nbytes(self) -> int:
        layers: list[Any] = self.layers  # transformers has kinds without keys, and keys that are not there yet
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    def crop(self, length: int) -> None:
        if drop := self.get_seq_length() - length:
            super().crop(-drop)

    def fork(self, length: int) -> "DynamicKVCache":
        other = deepcopy(self)
        other.crop(length)
        return other


class TransformersRunner:
    """Any causal language model, through its own forward pass, one conversation after another."""

    def __init__(self, language_model: Any):
        self.language_model = language_model

    def begin(self) -> DynamicKVCache:
        return DynamicKVCache()

    def forward(self, batch: Sequence[tuple[torch.Tensor, DynamicKVCache]]) -> torch.Tensor:
        outputs = [
            self.language_model(inputs_embeds=embeds[None], past_key_values=past, use_cache=True, logits_to_keep=1)
            for embeds, past in batch
        ]
        return torch.cat([output.logits[:, -1] for output in outputs])


Layer = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Of one layer: the room of new keys and values (2,heads,L,width), then all keys and values (1,heads,positions,width),
the new ones among them."""


class StaticKVCache:
    """Keys and values (layers, 2, heads, capacity, head width), of which the first `length` positions are read."""

    def __init__(self, layers: int, heads: int, width: int):
        self.length, self.both = 0, torch.empty(layers, 2, heads, 0, width)

    @property
    def nbytes(self) -> int:
        return self.both.nbytes

    def fork(self, length: int) -> "StaticKVCache":
        layers, _, heads, _, width = self.both.shape
        other = StaticKVCache(layers, heads, width)
        other.length, other.both = length, self.both[:, :, :, :length].clone()
        return other

    def crop(self, length: int) -> None:
        self.length = min(self.length, length)

    def reserve(self, positions: int, like: torch.Tensor) -> None:
        """Room for `positions`; capacity doubles, so that copies stay rare."""
        layers, _, heads, capacity, width = self.both.shape
        if positions > capacity:
            grown = like.new_empty(layers, 2, heads, max(256, 2 * capacity, positions), width)
            grown[:, :, :, : self.length] = self.both[:, :, :, : self.length]
            self.both = grown

    def extend(self, rows: int) -> list[Layer]:
        """What `attend` needs of each layer to add as many positions, which are stored then, but not counted yet."""
        start, end = self.length, self.length + rows
        stored = self.both[:, :, :, start:end].unbind()
        keys, values = (self.both[:, None, part, :, :end].unbind() for part in (0, 1))
        return list(zip(stored, keys, values, strict=True))

    def mask(self, rows: int, like: torch.Tensor) -> torch.Tensor | None:
        """(rows,positions), to be added: what each of so many new rows may not see. None where attention knows."""
        if rows == 1 or not self.length:
            return None
        hidden = like.new_full((rows, self.length + rows), -torch.inf)
        return hidden.triu_(self.length + 1)


def attend(
    query: torch.Tensor, new: torch.Tensor, layer: Layer, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """query (L,query heads,width) as the last of a layer's positions, with its own keys and values (L,2*heads,width),
    which are stored. Returns (L,query heads*width)."""
    stored, keys, values = layer
    _, heads, rows, width = stored.shape
    stored.copy_(new.view(rows, 2, heads, width).permute(1, 2, 0, 3))
    if rows == 1:  # the query heads that share a key are as many positions that see all of it
        grouped = query.view(1, heads, -1, width)
        return F.scaled_dot_product_attention(grouped, keys, values, scale=scale).view(1, -1)
    mixed = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None], keys, values, mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return mixed[0].transpose(0, 1).flatten(1)


class LlamaRunner:
    """Llama and Qwen2: pre-norm blocks, rotary positions, grouped-query attention, gated MLP.

    The weights of q, k, v and of gate, up are laid one after another in memory, so that each group is one product;
    the model's own layers keep working on the same memory, of which `Packed` may make a copy. A model whose weights are
    moved or replaced afterwards needs a new runner.
    """

    def __init__(self, language_model: Any):
        model, config = language_model.model, language_model.config
        self.rotary, self.head = model.rotary_emb, Packed(*_stack([language_model.lm_head]))
        self.norm, self.eps = model.norm.weight, model.norm.variance_epsilon
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = model.layers[0].self_attn.head_dim
        self.layers = []
        for layer in model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            groups = (
                [attention.q_proj, attention.k_proj, attention.v_proj],
                [attention.o_proj],
                [mlp.gate_proj, mlp.up_proj],
                [mlp.down_proj],
            )
            norms = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
            self.layers.append((*norms, *(Packed(*_stack(group)) for group in groups)))
        self.scale = model.layers[0].self_attn.scaling

    @staticmethod
    def reads(language_model: nn.Module) -> bool:
        """Whether this is such a model, gated by SiLU, with plain weights (not quantised, no adapter beside them)."""
        if type(language_model) not in (LlamaForCausalLM, Qwen2ForCausalLM):
            return False
        plain = all(type(m) is nn.Linear for m in language_model.modules() if isinstance(m, nn.Linear))
        full = set(getattr(language_model.config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        return plain and full and getattr(language_model.config, "hidden_act", None) == "silu"

    def begin(self) -> StaticKVCache:
        return StaticKVCache(len(self.layers), self.kv_heads, self.width)

    def forward(self, batch: Sequence[tuple[torch.Tensor, StaticKVCache]]) -> torch.Tensor:
        """The rows of all conversations go through the linear layers together; each attends to its own."""
        x = torch.cat([embeds for embeds, _ in batch])
        lengths = [len(embeds) for embeds, _ in batch]
        pasts = [past for _, past in batch]
        for past, length in zip(pasts, lengths, strict=True):
            past.reserve(past.length + length, x)
        positions = [torch.arange(p.length, p.length + n, device=x.device) for p, n in zip(pasts, lengths, strict=True)]
        cos, sin = self._rotation(x, torch.cat(positions))
        masks = [past.mask(length, x) for past, length in zip(pasts, lengths, strict=True)]
        places = zip(*(past.extend(length) for past, length in zip(pasts, lengths, strict=True)), strict=True)
        shape, norm, query_heads, scale = x.shape[1:], torch.rms_norm, self.heads, self.scale
        rows, half = (len(x), -1, self.width), self.width // 2
        for (before_attention, before_mlp, qkv, out, gate_up, down), place in zip(self.layers, places, strict=True):
            heads = qkv(norm(x, shape, before_attention, self.eps)).view(rows)
            heads = torch.addcmul(heads * cos, heads.roll(half, -1), sin)
            query, new = heads[:, :query_heads], heads[:, query_heads:]
            if len(pasts) == 1:
                mixed = attend(query, new, place[0], masks[0], scale)
            else:
                parts = zip(query.split(lengths), new.split(lengths), place, masks, strict=True)
                mixed = torch.cat([attend(*part, scale) for part in parts])
            x = x + out(mixed)
            gate, up = gate_up(norm(x, shape, before_mlp, self.eps)).chunk(2, -1)
            x = x + down(F.silu(gate) * up)
        for past, length in zip(pasts, lengths, strict=True):
            past.length += length
        last = torch.tensor(lengths, device=x.device).cumsum(0) - 1
        return self.head(norm(x[last], shape, self.norm, self.eps))

    def _rotation(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What heads (rows,heads,width) and their halves swapped are multiplied with to turn queries and keys by their
        positions, and leave values as they are; one operation for all is quicker than one for each."""
        cos, sin = self.rotary(x, positions[None])  # (1,rows,width) each
        shape = (len(x), self.heads + 2 * self.kv_heads, self.width)
        turn, swap = x.new_ones(shape), x.new_zeros(shape)
        turn[:, : -self.kv_heads] = cos[0, :, None]
        swap[:, : -self.kv_heads] = sin[0, :, None]
        swap[..., : self.width // 2] *= -1  # "rotate half"
        return turn, swap


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
