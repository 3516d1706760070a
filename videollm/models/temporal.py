"""The kinds of temporal module, and the function that builds them."""

from collections.abc import Callable
from dataclasses import replace

from videollm.config import TemporalConfig, TemporalKind
from videollm.models.attentive import AttentivePool
from videollm.models.concat import ConcatMLP
from videollm.models.merge import TokenMerge
from videollm.models.motion import WIDTH, MotionStem, StemModule, stem_tokens
from videollm.models.pool import SpatioTemporalPool, VideoChatGptPool
from videollm.models.published.video_llama import VideoLlamaQFormer
from videollm.models.published.videochat2_qformer import VideoChat2QFormer
from videollm.models.qformer import QFormerConfig, TemporalQFormer
from videollm.models.temporal_base import TemporalModule
from videollm.models.tower import TowerModule, tower_tokens

__all__ = ["PUBLISHED", "TEMPORAL", "TemporalModule", "build_temporal"]


def _video_llama(
    config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None
) -> VideoLlamaQFormer:
    frame = QFormerConfig(
        queries=config.frame_queries,
        width=config.width,
        layers=config.frame_layers,
        heads=config.heads,
        ffn_width=round(config.mlp_ratio * config.width),
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


def _videochat2(
    config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None
) -> VideoChat2QFormer:
    sizes = QFormerConfig(
        queries=config.queries,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        ffn_width=round(config.mlp_ratio * config.width),
        encoder_width=token_dim,
        cross_attention_every=config.cross_attention_every,
        dropout=config.dropout,
        vocab_size=config.words or None,
        max_positions=config.positions,
    )
    return VideoChat2QFormer(sizes, out_dim, config.instruction)


TEMPORAL: dict[TemporalKind, Callable[[TemporalConfig, int, int, int | None], TemporalModule]] = {
    "qformer": TemporalQFormer,
    "pool": SpatioTemporalPool,
    "concat": ConcatMLP,
    "merge": TokenMerge,
    "attentive": AttentivePool,
}
# The modules of published systems have limits that those above do not have: "video_llama" takes at most `max_frames`
# frames, and "video_chatgpt" returns one fixed number of tokens.
PUBLISHED: dict[TemporalKind, Callable[[TemporalConfig, int, int, int | None], TemporalModule]] = {
    "video_llama": _video_llama,
    "video_chatgpt": VideoChatGptPool,
    "videochat2": _videochat2,
}


def build_temporal(
    config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None
) -> TemporalModule:
    """Builds the module that `config.kind` names.

    Args:
        config: The kind and the sizes.
        token_dim: D, the width of frame tokens. A module with a tower reads pixels, of which D is the number in one
            colour.
        out_dim: H, the width of the `config.queries` tokens that the module returns.
        tokens_per_frame: N, if the encoder fixes it. Some kinds then learn an embedding for each position in the frame.

    Raises:
        ConfigError: If the sizes do not fit each other.
    """
    if (tower := config.tower) is not None:
        inner = replace(config, tower=None)
        return TowerModule(tower, build_temporal(inner, tower.width, out_dim, tower_tokens(tower)))
    build = (TEMPORAL | PUBLISHED)[config.kind]
    if config.stem == "none":
        return build(config, token_dim, out_dim, tokens_per_frame)
    stem = MotionStem(token_dim)
    return StemModule(stem, build(config, WIDTH, out_dim, stem_tokens(tokens_per_frame)))
