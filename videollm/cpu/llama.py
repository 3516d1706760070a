"""A runner for models of the Llama shape on a CPU, which uses the weights of transformers in fewer and larger
operations.

On two cores a step takes about half of transformers' time: products are stacked, weights are packed (`linear.py`), and
keys and values are written into reserved memory instead of being concatenated.

Shapes: L new tokens of one conversation, R rows (the new tokens of all conversations of a batch), H hidden width, V
vocabulary.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from videollm.cpu.attention import attend_cached
from videollm.cpu.llama_weights import LlamaWeights

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
    """Runs Llama and Qwen2: pre-norm blocks, rotary positions, grouped-query attention, gated MLP."""

    def __init__(self, weights: LlamaWeights):
        tensors, self.shape = weights.tensors, weights.shape
        self.frequencies, self.norm = tensors["frequencies"], tensors["norm"]
        self.head = weights.linear("head" if "head" in tensors else "words")
        self.layers = [
            (
                tensors[f"{number}.before_attention"],
                tensors[f"{number}.before_mlp"],
                *(weights.linear(f"{number}.{name}") for name in ("qkv", "out", "gate_up", "down")),
            )
            for number in range(self.shape.layers)
        ]

    def begin(self) -> StaticKVCache:
        return StaticKVCache(self.shape.layers, self.shape.kv_heads, self.shape.width)

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
        rows, half = (len(x), -1, self.shape.width), self.shape.width // 2
        for (before_attention, before_mlp, qkv, out, gate_up, down), slot in zip(self.layers, slots, strict=True):
            heads = qkv(norm(x, shape, before_attention, self.shape.epsilon)).view(rows)
            heads = torch.addcmul(heads * cos, heads.roll(half, -1), sin)
            query, new = heads[:, : self.shape.heads], heads[:, self.shape.heads :]
            parts = zip(query.split(lengths), new.split(lengths), slot, masks, strict=True)
            mixed = [self._attend(*part) for part in parts]
            x = x + out(mixed[0] if len(mixed) == 1 else torch.cat(mixed))
            gate, up = gate_up(norm(x, shape, before_mlp, self.shape.epsilon)).chunk(2, -1)
            x = x + down(F.silu(gate) * up)
        for cache, length in zip(caches, lengths, strict=True):
            cache.length += length
        last = torch.tensor(lengths).cumsum(0) - 1
        return self.head(norm(x[last], shape, self.norm, self.shape.epsilon))

    def _attend(
        self, query: torch.Tensor, new: torch.Tensor, slot: CacheSlot, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Writes the keys and values `new` (L, 2 * heads, width) to the cache, then attends to it with query (L, query
        heads, width).

        Returns (L, query heads * width).
        """
        written, keys, values = slot
        written.copy_(new.view(len(new), 2, self.shape.kv_heads, self.shape.width).permute(1, 2, 0, 3))
        return attend_cached(query, keys, values, mask, self.shape.scale)

    def _rotation(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns two factors (R, query heads + 2 * heads, width), one for all heads and one for all heads with their
        halves swapped.

        They turn queries and keys by their positions (R,) and leave values unchanged. One operation over all heads is
        faster than one per kind.
        """
        angles = (positions.float()[:, None] * self.frequencies).repeat(1, 2)  # (R, width)
        cos, sin = ((angle * self.shape.rotary_scale).to(x.dtype) for angle in (angles.cos(), angles.sin()))
        shape = (len(x), self.shape.heads + 2 * self.shape.kv_heads, self.shape.width)
        turn, swap = x.new_ones(shape), x.new_zeros(shape)
        turn[:, : -self.shape.kv_heads] = cos[:, None]
        swap[:, : -self.shape.kv_heads] = sin[:, None]
        swap[..., : self.shape.width // 2] *= -1  # transformers' rotate_half: (x1, x2) becomes (-x2, x1)
        return turn, swap
