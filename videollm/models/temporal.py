"""The kinds of temporal module and the one way to build them."""

from collections.abc import Callable
from dataclasses import replace

from videollm.config import TemporalConfig, TemporalKind
from videollm.models.concat import ConcatMLP
from videollm.models.merge import TokenMerge
from videollm.models.pool import SpatioTemporalPool, VideoChatGptPool
from videollm.models.published.video_llama import VideoLlamaQFormer
from videollm.models.qformer import QFormerConfig, TemporalQFormer
from videollm.models.temporal_base import TemporalModule

__all__ = ["PUBLISHED", "TEMPORAL", "TemporalModule", "build_temporal"]


def _video_llama(
    config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None
) -> VideoLlamaQFormer:
    frame = QFormerConfig(
        queries=config.frame_queries,
        width=config.width,
        layers=config.frame_layers,
        heads=config.heads,
        ffn_width=config.mlp_ratio * config.width,
        encoder_width=token_dim,
        cross_attention_every=2,  # BLIP-2's Q-Former reads the frame in every second layer
        dropout=config.dropout,
    )
    video = replace(
        frame,
        queries=config.queries,
        layers=config.layers,
        encoder_width=config.width,
        cross_attention_every=config.cross_attention_every,
    )
    return VideoLlamaQFormer(out_dim, frame, video, max_frames=config.max_frames)


TEMPORAL: dict[TemporalKind, Callable[[TemporalConfig, int, int, int | None], TemporalModule]] = {
    "qformer": TemporalQFormer,
    "pool": SpatioTemporalPool,
    "concat": ConcatMLP,
    "merge": TokenMerge,
}
# The modules of published systems, with their limits: "video_llama" takes at most `max_frames` frames, "video_chatgpt"
# gives one fixed number of tokens.
PUBLISHED: dict[TemporalKind, Callable[[TemporalConfig, int, int, int | None], TemporalModule]] = {
    "video_llama": _video_llama,
    "video_chatgpt": VideoChatGptPool,
}


def build_temporal(
    config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None
) -> TemporalModule:
    """The module `config` names, from frame tokens of width `token_dim` to `config.queries` tokens of `out_dim`.

    tokens_per_frame: where the encoder fixes it, so that kinds that can tell places in the frame apart do.
    """
    return (TEMPORAL | PUBLISHED)[config.kind](config, token_dim, out_dim, tokens_per_frame)
