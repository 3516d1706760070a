"""VideoChat2's Q-Former, whose queries read all patches of a video and, with them, an instruction
(Li et al. 2023; OpenGVLab Ask-Anything `video_chat2/models/videochat_vicuna/videochat2_it_vicuna.py`, encode_img).

Shapes: B segments, T frames, N tokens per frame, D encoder width, Q query tokens, L text tokens, H language-model
width.
"""

from collections.abc import Sequence

import torch
from torch import nn

from videollm.models.published.key_mapping import bert_name
from videollm.models.qformer import BERT_EPS, QFormer, QFormerConfig
from videollm.models.temporal_base import TemporalModule, init_weights


class VideoChat2QFormer(TemporalModule):
    """A norm, a Q-Former over the tokens of all frames of a segment, and one linear layer.

    Args:
        config: The sizes. Its queries are those of both official parameters, query_tokens and extra_query_tokens.
        out_dim: H.
        instruction: The ids of BERT's words that the queries attend to, [CLS] and [SEP] included. The demo has one
            instruction for all questions. Without any, the queries read the frames alone, as in the caption stage.
    """

    instruction: torch.Tensor

    def __init__(self, config: QFormerConfig, out_dim: int, instruction: Sequence[int] = ()):
        super().__init__(config.queries)
        self.norm = nn.LayerNorm(config.encoder_width, eps=BERT_EPS)
        self.output = nn.Linear(config.width, out_dim)
        self.apply(init_weights)
        self.qformer = QFormer(config)
        # The configuration has the instruction, so that the weights need not.
        self.register_buffer("instruction", torch.tensor(instruction, dtype=torch.long), persistent=False)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        ids = self.instruction.expand(len(tokens), -1) if len(self.instruction) else None
        return self.read(tokens.flatten(1, 2), mask.repeat_interleave(tokens.shape[2], dim=1), ids)

    def read(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor | None,
        ids: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        queries: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the query tokens (B,Q,H).

        Args:
            tokens: The tokens of all frames (B,T*N,D).
            mask: bool (B,T*N), True at real frames. None takes all as real.
            ids: The instruction (B,L), or None.
            text_mask: bool (B,L), False at padding. None takes all as real.
            queries: Queries to use instead of the module's own (1,Q,W).
        """
        if ids is not None and text_mask is None:
            text_mask = torch.ones_like(ids, dtype=torch.bool)
        hidden, _ = self.qformer(self.norm(tokens), mask, ids, text_mask, queries=queries)
        count = self.queries if queries is None else queries.shape[1]
        return self.output(hidden[:, :count])


def official_name(name: str) -> str:
    """Returns the official name of a parameter of `VideoChat2QFormer`."""
    part, _, inside = name.partition(".")
    if part == "qformer":
        return inside if inside == "query_tokens" else f"qformer.{bert_name(inside)}"
    return {"norm": "vision_layernorm.", "output": "llama_proj."}[part] + inside
