"""A runner for models of the Llama shape on a CPU, which uses the weights of transformers in fewer and larger
operations.

On two cores a step takes about half of transformers' time: products are stacked, weights are packed (`linear.py`), and
keys and values are written into reserved memory instead of being concatenated.

Shapes: L new tokens of one conversation, R rows (the new tokens of all conversations of a batch), H hidden width, V
vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaForCausalLM, Qwen2ForCausalLM

from videollm.cpu.attention import attend_cached
from videollm.cpu.linear import PackedLinear, stack_linears

# The frequencies of these kinds do not depend on how long a conversation is. Those of "dynamic" and "longrope" do. All
# conversations share one call of the rotary embedding here, so that a long one would change its neighbours' keys.
FIXED_ROPE = ("default", "linear", "llama3", "yarn")
FIRST_CAPACITY = 256  # positions

CacheSlot = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""The views of one layer: where new keys and values are written (2, heads, L, width), then all keys and all values with
the new ones at their end, each (1, heads, positions, width)."""


class StaticKVCache:
    """The keys and values of one conversation in reserved memory (layers, 2, heads, capacity, width).

    The first `length` positions are in use.
    """

    def __init__(self, layers: int, heads: int, width: int):
        self.length = 0
        self.storage = torch.empty(layers, 2, heads, 0, width)

    @property
    def nbytes(self) -> int:
        """The size in bytes, including reserved memory."""
        return self.storage.nbytes

    def fork(self, length: int) -> "StaticKVCache":
        """Returns a copy of the first `length` positions."""
        layers, _, heads, _, width = self.storage.shape
        other = StaticKVCache(layers, heads, width)
        other.length, other.storage = length, self.storage[:, :, :, :length].clone()
        return other

    def crop(self, length: int) -> None:
        """Removes all but the first `length` positions. The memory stays reserved."""
        self.length = min(self.length, length)

    def reserve(self, positions: int, like: torch.Tensor) -> None:
        """Reserves memory for `positions` in the dtype of `like`. Capacity doubles, so that copying stays rare."""
        layers, _, heads, capacity, width = self.storage.shape
        if positions > capacity:
            grown = like.new_empty(layers, 2, heads, max(FIRST_CAPACITY, 2 * capacity, positions), width)
            grown[:, :, :, : self.length] = self.storage[:, :, :, : self.length]
            self.storage = grown

    def slots(self, rows: int) -> list[CacheSlot]:
        """Returns, for each layer, the views for `rows` more positions. `forward` increases `length` after all
        layers have run."""
        start, end = self.length, self.length + rows
        written = self.storage[:, :, :, start:end].unbind()
        keys, values = (self.storage[:, None, part, :, :end].unbind() for part in (0, 1))
        return list(zip(written, keys, values, strict=True))

    def mask(self, rows: int, like: torch.Tensor) -> torch.Tensor | None:
        """Returns a mask (rows, positions) that is 0 where a new position may look and -inf elsewhere, or None if
        attention needs no mask."""
        if rows == 1 or not self.length:
            return None
        hidden = like.new_full((rows, self.length + rows), -torch.inf)
        return hidden.triu_(self.length + 1)


class LlamaRunner:
    """Runs Llama and Qwen2: pre-norm blocks, rotary positions, grouped-query attention, gated MLP.

    The weights of q, k, v and those of gate, up are stacked, so that each group is one product. The layers of the model
    become views of the same memory and keep working. A model whose weights are moved or replaced later needs a new
    runner.
    """

    def __init__(self, language_model: Any):
        model, config = language_model.model, language_model.config
        self.rotary, self.head = model.rotary_emb, PackedLinear(*stack_linears([language_model.lm_head]))
        self.norm, self.eps = model.norm.weight, model.norm.variance_epsilon
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width, self.scale = model.layers[0].self_attn.head_dim, model.layers[0].self_attn.scaling
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
            self.layers.append((*norms, *(PackedLinear(*stack_linears(group)) for group in groups)))

    @staticmethod
    def supports(language_model: nn.Module) -> bool:
        """Returns whether this runner computes what the model computes.

        It does for a Llama or Qwen2 on the CPU that is gated by SiLU and has full attention, fixed rotary frequencies
        and plain weights (neither quantised nor with an adapter beside them).
        """
        if type(language_model) not in (LlamaForCausalLM, Qwen2ForCausalLM):
            return False
        config: Any = language_model.config
        on_cpu = all(p.device.type == "cpu" for p in language_model.parameters())
        plain = all(type(m) is nn.Linear for m in language_model.modules() if isinstance(m, nn.Linear))
        full = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        fixed = config.rope_parameters.get("rope_type", "default") in FIXED_ROPE
        return on_cpu and plain and full and fixed and config.hidden_act == "silu"

    def begin(self) -> StaticKVCache:
        return StaticKVCache(len(self.layers), self.kv_heads, self.width)

    def forward(self, batch: Sequence[tuple[torch.Tensor, StaticKVCache]]) -> torch.Tensor:
        """See `ModelRunner.forward`. The rows of all conversations go through the linear layers together, and each
        conversation attends only to its own keys."""
        x = torch.cat([embeds for embeds, _ in batch])  # (R,H)
        lengths = [len(embeds) for embeds, _ in batch]
        caches = [cache for _, cache in batch]
        for cache, length in zip(caches, lengths, strict=True):
            cache.reserve(cache.length + length, x)
        cos, sin = self._rotation(
            x, torch.cat([c.length + torch.arange(n) for c, n in zip(caches, lengths, strict=True)])
        )
        masks = [cache.mask(length, x) for cache, length in zip(caches, lengths, strict=True)]
        slots = zip(*(cache.slots(length) for cache, length in zip(caches, lengths, strict=True)), strict=True)
        shape, norm = x.shape[1:], torch.rms_norm
        rows, half = (len(x), -1, self.width), self.width // 2
        for (before_attention, before_mlp, qkv, out, gate_up, down), slot in zip(self.layers, slots, strict=True):
            heads = qkv(norm(x, shape, before_attention, self.eps)).view(rows)
            heads = torch.addcmul(heads * cos, heads.roll(half, -1), sin)
            query, new = heads[:, : self.heads], heads[:, self.heads :]
            parts = zip(query.split(lengths), new.split(lengths), slot, masks, strict=True)
            mixed = [self._attend(*part) for part in parts]
            x = x + out(mixed[0] if len(mixed) == 1 else torch.cat(mixed))
            gate, up = gate_up(norm(x, shape, before_mlp, self.eps)).chunk(2, -1)
            x = x + down(F.silu(gate) * up)
        for cache, length in zip(caches, lengths, strict=True):
            cache.length += length
        last = torch.tensor(lengths).cumsum(0) - 1
        return self.head(norm(x[last], shape, self.norm, self.eps))

    def _attend(
        self, query: torch.Tensor, new: torch.Tensor, slot: CacheSlot, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Writes the keys and values `new` (L, 2 * heads, width) to the cache, then attends to it with query (L, query
        heads, width).

        Returns (L, query heads * width).
        """
        written, keys, values = slot
        written.copy_(new.view(len(new), 2, self.kv_heads, self.width).permute(1, 2, 0, 3))
        return attend_cached(query, keys, values, mask, self.scale)

    def _rotation(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns two factors (R, query heads + 2 * heads, width), one for all heads and one for all heads with their
        halves swapped.

        They turn queries and keys by their positions (R,) and leave values unchanged. One operation over all heads is
        faster than one per kind.
        """
        cos, sin = self.rotary(x, positions[None])  # (1, R, width) each
        shape = (len(x), self.heads + 2 * self.kv_heads, self.width)
        turn, swap = x.new_ones(shape), x.new_zeros(shape)
        turn[:, : -self.kv_heads] = cos[0, :, None]
        swap[:, : -self.kv_heads] = sin[0, :, None]
        swap[..., : self.width // 2] *= -1  # transformers' rotate_half: (x1, x2) becomes (-x2, x1)
        return turn, swap
