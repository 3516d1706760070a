"""Video-LLaMA's video branch: one Q-Former reads each frame, a second reads the queries of all frames.

Zhang et al. 2023; DAMO-NLP-SG Video-LLaMA `video_llama/models/video_llama.py`.

Shapes: B segments, T frames, N tokens per frame, D encoder width, F queries per frame, Q queries per video, W width of
the Q-Formers, H language-model width.
"""

from collections.abc import Mapping

import torch
from torch import nn

from videollm.errors import ConfigError
from videollm.models.published.key_mapping import bert_name, load_official
from videollm.models.qformer import QFormer, QFormerConfig
from videollm.models.temporal_base import TemporalModule, init_weights

FRAME = QFormerConfig()  # BLIP-2 without text
VIDEO = QFormerConfig(layers=2, encoder_width=FRAME.width, cross_attention_every=1)


class VideoLlamaQFormer(TemporalModule):
    """A Q-Former per frame, a learned embedding of each frame's index, a Q-Former over all frames and a linear layer.

    The module sees the order of the frames and not their times. More than `max_frames` frames raise ConfigError.
    """

    def __init__(
        self, out_dim: int, frame: QFormerConfig = FRAME, video: QFormerConfig = VIDEO, *, max_frames: int = 32
    ):
        super().__init__(video.queries)
        self.norm = nn.LayerNorm(frame.encoder_width)
        self.frame_position = nn.Embedding(max_frames, frame.width)
        self.output = nn.Linear(video.width, out_dim)
        self.apply(init_weights)
        self.frame_qformer = QFormer(frame)
        self.video_qformer = QFormer(video)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.output(self.video_hidden(self.frame_hidden(tokens, mask), mask))

    def frame_hidden(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return each frame's queries plus the embedding of its index: (B,T,N,D) with mask (B,T) to (B,T,F,W)."""
        frames, most = int(mask.sum(1).max()), self.frame_position.num_embeddings
        if frames > most:
            raise ConfigError(f"a segment has {frames} frames; Video-LLaMA has positions for {most}, so sample fewer")
        hidden, _ = self.frame_qformer(self.norm(tokens.flatten(0, 1)))
        # Index among the real frames; padding before the first real frame would have -1.
        position = (mask.cumsum(1) - 1).clamp(min=0)
        return hidden.unflatten(0, mask.shape) + self.frame_position(position)[:, :, None]

    def video_hidden(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the video's queries: (B,T,F,W) with mask (B,T) to (B,Q,W)."""
        hidden, _ = self.video_qformer(frames.flatten(1, 2), mask.repeat_interleave(frames.shape[2], dim=1))
        return hidden


_OFFICIAL = {
    "norm.": "ln_vision.",
    "frame_position.": "video_frame_position_embedding.",
    "output.": "llama_proj.",
    "frame_qformer.query_tokens": "query_tokens",
    "video_qformer.query_tokens": "video_query_tokens",
}
_NOT_OURS = (
    r"visual_encoder\..*",  # the encoder is a module of its own here
    r"(video_)?Qformer\.bert\.embeddings\.position_ids",  # 0, 1, 2, ...
)


def official_names(model: VideoLlamaQFormer) -> dict[str, str]:
    """Map each name in `model.state_dict()` to its name in Video-LLaMA."""

    def official(name: str) -> str:
        for ours, theirs in _OFFICIAL.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        owner, inside = name.split(".", 1)
        return {"frame_qformer": "Qformer.", "video_qformer": "video_Qformer."}[owner] + bert_name(inside)

    return {name: official(name) for name in model.state_dict()}


def load_video_llama(model: VideoLlamaQFormer, state: Mapping[str, torch.Tensor]) -> None:
    """Copy the tensors of Video-LLaMA's video branch into `model`.

    state: the entry "model" of its checkpoint together with the BLIP-2 Q-Former that it was trained on.

    Raises CheckpointError that lists missing and unknown names and wrong shapes.
    """
    load_official(model, state, official_names(model), _NOT_OURS)
