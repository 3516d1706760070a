"""Visual tokens among word embeddings: what all models of this library do before their language model reads a prompt.

Shapes: B prompts, L prompt tokens, S segments in the whole batch, T frames, N patch tokens per frame, D encoder width,
Q query tokens per segment, H language-model width, V vocabulary size. In a model that hears: A segments with audio, C
clips, E width of a clip's features, R query tokens per audio.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from videollm.config import ModelConfig
from videollm.models.audio import AudioQFormer, build_audio
from videollm.models.temporal import build_temporal
from videollm.models.temporal_base import TemporalModule
from videollm.models.virtual_tokens import build_virtual_tokens

# The id of one visual token in `input_ids`. It is negative because ids of the vocabulary are not, so that no word of
# any tokenizer is taken for a visual token and the language model needs no new row of embeddings.
VISUAL_TOKEN_ID = -1
AUDIO_TOKEN_ID = -2  # of one token of audio, likewise
FIRST_VIRTUAL_ID = -3  # of the first virtual token of prompt tuning; those after it count down


@dataclass(frozen=True, slots=True)
class VisualBatch:
    """Features of all segments of a batch, in the order in which the prompts contain them.

    Attributes:
        tokens: The patch tokens (S,T,N,D).
        times_s: The times of the frames in seconds (S,T).
        mask: bool (S,T), True at real frames and False at padding.
        audio: The clips of the segments that have audio in the prompt (A,C,E), None if none has.
        audio_mask: bool (A,C), True at real clips.
    """

    tokens: torch.Tensor
    times_s: torch.Tensor
    mask: torch.Tensor
    audio: torch.Tensor | None = None
    audio_mask: torch.Tensor | None = None

    def to(self, *args: Any) -> "VisualBatch":
        """Applies `torch.Tensor.to` to every field."""
        parts = (self.tokens, self.times_s, self.mask, self.audio, self.audio_mask)
        return VisualBatch(*(None if part is None else part.to(*args) for part in parts))  # type: ignore[arg-type]

    @staticmethod
    def pad(
        tokens: list[torch.Tensor], times_s: list[torch.Tensor], audio: Sequence[torch.Tensor] = ()
    ) -> "VisualBatch":
        """Stacks segments (T_i,N,D) with their times (T_i,), and audio (C_i,E). Padding is zero."""
        pad = nn.utils.rnn.pad_sequence
        mask, audio_mask = ([torch.ones(len(x), dtype=torch.bool) for x in part] for part in (times_s, audio))
        return VisualBatch(
            pad(tokens, batch_first=True),
            pad([t.float() for t in times_s], batch_first=True),
            pad(mask, batch_first=True),
            pad(list(audio), batch_first=True) if audio else None,
            pad(audio_mask, batch_first=True) if audio else None,
        )


class VisualPrompting(nn.Module):
    """The part of a model that turns ids and features into embeddings. Subclasses have a language model."""

    temporal: TemporalModule
    visual_norm: nn.Module
    audio: AudioQFormer | None
    audio_norm: nn.Module
    virtual_tokens: nn.Embedding | None

    def add_projector(
        self, config: ModelConfig, token_dim: int, tokens_per_frame: int, embeddings: torch.Tensor
    ) -> None:
        """Adds an untrained temporal module for encoder tokens of that width and number, the audio branch, and the
        virtual tokens of prompt tuning.

        Args:
            embeddings: The word embeddings (V,H) among which its tokens are placed.
        """
        width = embeddings.shape[1]
        self.temporal = build_temporal(config.temporal, token_dim, width, tokens_per_frame)
        self.audio = build_audio(config.audio, width)
        self.visual_norm = self.audio_norm = nn.Identity()
        if config.temporal.output_norm:
            # Visual tokens start at the scale of word embeddings. At a larger scale the language model sees only noise,
            # at a smaller one it sees nothing.
            scale = embeddings.detach().float().pow(2).mean().sqrt().item()
            self.visual_norm = _norm(width, scale)
            if self.audio is not None:
                self.audio_norm = _norm(width, scale)
        self.virtual_tokens = build_virtual_tokens(config.llm, embeddings)

    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """The device where prompts are embedded."""
        return self.get_input_embeddings().weight.device  # type: ignore[return-value]

    def embed_segments(self, visual: VisualBatch) -> torch.Tensor:
        """Returns the query tokens of each segment, (S,Q,H)."""
        dtype = next(self.temporal.parameters()).dtype
        tokens = self.temporal(visual.tokens.to(dtype), visual.times_s, visual.mask)
        return self.visual_norm(tokens)

    def embed_audio(self, audio: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the query tokens (A,R,H) of clips (A,C,E) with mask (A,C). The model must have an audio branch."""
        assert self.audio is not None
        return self.audio_norm(self.audio(audio.to(self.audio.output.weight.dtype), mask))

    def embed_prompt(self, input_ids: torch.Tensor, visual: VisualBatch | None) -> torch.Tensor:
        """Returns the word embeddings of `input_ids` (B,L) with query tokens at `VISUAL_TOKEN_ID` and at
        `AUDIO_TOKEN_ID`, and virtual tokens at `FIRST_VIRTUAL_ID` and below: (B,L,H).

        Raises ValueError if the number of placeholders in `input_ids` is not the number of query tokens, S * Q.
        """
        embeds = self.embed_media(input_ids, visual)
        if self.virtual_tokens is not None:
            learned = self.virtual_tokens(
                (FIRST_VIRTUAL_ID - input_ids).clamp(0, self.virtual_tokens.num_embeddings - 1)
            )
            embeds = torch.where((input_ids <= FIRST_VIRTUAL_ID)[..., None], learned.to(embeds.dtype), embeds)
        return embeds

    def embed_media(self, input_ids: torch.Tensor, visual: VisualBatch | None) -> torch.Tensor:
        """Returns what `embed_prompt` does, with any rows at virtual tokens."""
        # `VISUAL_TOKEN_ID` has no row in the embedding; any row does, because it is overwritten below.
        embeds = self.get_input_embeddings()(input_ids.clamp(min=0))
        is_visual = input_ids == VISUAL_TOKEN_ID
        have = 0 if visual is None else len(visual.tokens) * self.temporal.queries
        if is_visual.sum() != have:
            raise ValueError(
                f"the prompt has {is_visual.sum()} placeholders for visual tokens, but the video has {have} tokens"
            )
        if visual is not None:
            embeds = embeds.masked_scatter(is_visual[..., None], self.embed_segments(visual).to(embeds.dtype))
        if visual is not None and visual.audio is not None:
            heard = self.embed_audio(visual.audio, visual.audio_mask).to(embeds.dtype)
            embeds = embeds.masked_scatter((input_ids == AUDIO_TOKEN_ID)[..., None], heard)
        return embeds

    def embed_words(self, ids: list[int]) -> torch.Tensor:
        """Returns the embeddings (L,H) of tokens of the vocabulary."""
        return self.get_input_embeddings()(torch.tensor(ids, device=self.device))


def _norm(width: int, scale: float) -> nn.LayerNorm:
    """Returns a norm whose outputs start with this root mean square."""
    norm = nn.LayerNorm(width)
    nn.init.constant_(norm.weight, scale)
    return norm
