"""The kinds of temporal module and the one way to build them."""

from collections.abc import Callable

from videollm.config import TemporalConfig, TemporalKind
from videollm.models.concat import ConcatMLP
from videollm.models.merge import TokenMerge
from videollm.models.pool import SpatioTemporalPool
from videollm.models.qformer import TemporalQFormer
from videollm.models.temporal_base import TemporalModule

__all__ = ["TEMPORAL", "TemporalModule", "build_temporal"]

TEMPORAL: dict[TemporalKind, Callable[[TemporalConfig, int, int, int | None], TemporalModule]] = {
    "qformer": TemporalQFormer,
    "pool": SpatioTemporalPool,
    "concat": ConcatMLP,
    "merge": TokenMerge,
}


def build_temporal(
    config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None
) -> TemporalModule:
    """The module `config` names, from frame tokens of width `token_dim` to `config.queries` tokens of `out_dim`.

    tokens_per_frame: where the encoder fixes it, so that kinds that can tell places in the frame apart do.
    """
    return TEMPORAL[config.kind](config, token_dim, out_dim, tokens_per_frame)
