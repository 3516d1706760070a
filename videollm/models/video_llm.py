"""The video language model: segment features in, text out.

Shapes: B prompts, L prompt tokens, S segments over the whole batch, T frames, N tokens a frame, D encoder width,
Q query tokens a segment, H language-model width.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from videollm.config import ModelConfig
from videollm.models.temporal import build_temporal

VISUAL_TOKEN_ID = -1  # stands for one visual token in input_ids; no vocabulary has it, so none is lost


@dataclass(frozen=True, slots=True)
class VisualBatch:
    """Features of all segments of a batch, in prompt order: tokens (S,T,N,D), times_s (S,T) in seconds, and
    mask (S,T), True at real frames."""

    tokens: torch.Tensor
    times_s: torch.Tensor
    mask: torch.Tensor

    def to(self, *args: Any) -> "VisualBatch":
        return VisualBatch(self.tokens.to(*args), self.times_s.to(*args), self.mask.to(*args))

    @staticmethod
    def pad(tokens: list[torch.Tensor], times_s: list[torch.Tensor]) -> "VisualBatch":
        """Stack segments (T_i,N,D) with their times (T_i,), padding frames with zeros."""
        pad = nn.utils.rnn.pad_sequence
        mask = [torch.ones(len(t), dtype=torch.bool) for t in times_s]
        return VisualBatch(
            pad(tokens, batch_first=True),
            pad([t.float() for t in times_s], batch_first=True),
            pad(mask, batch_first=True),
        )


class VideoLLMConfig(PretrainedConfig):
    """Holds `ModelConfig.to_dict()` and the encoder's widths where transformers expects a config."""

    model_type = "videollm"

    def __init__(self, model: dict[str, Any] | None = None, token_dim: int = 0, tokens_per_frame: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.model = model or {}
        self.token_dim = token_dim
        self.tokens_per_frame = tokens_per_frame


class VideoLLM(PreTrainedModel):
    """A temporal module whose tokens are placed among the embeddings of a language model.

    language_model is composed, never changed: any `AutoModelForCausalLM`, bare, quantised or with a PEFT adapter.
    """

    language_model: Any
    config_class = VideoLLMConfig
    base_model_prefix = "language_model"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True  # Trainer counts the labels of a step, over ranks and accumulated batches
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: VideoLLMConfig, language_model: Any):
        super().__init__(config)
        settings = ModelConfig.from_dict(config.model)
        embeddings = language_model.get_input_embeddings().weight
        width = embeddings.shape[1]
        self.temporal = build_temporal(settings.temporal, config.token_dim, width, config.tokens_per_frame)
        # Visual tokens start at the scale of word embeddings, else the language model sees only noise or nothing.
        self.visual_norm = nn.LayerNorm(width)
        nn.init.constant_(self.visual_norm.weight, embeddings.detach().float().pow(2).mean().sqrt().item())
        self.language_model = language_model

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def _init_weights(self, module: nn.Module) -> None:
        """Submodules initialise themselves."""

    def embed_segments(self, visual: VisualBatch) -> torch.Tensor:
        """(S,Q,H): each segment's query tokens."""
        dtype = self.visual_norm.weight.dtype
        tokens = self.temporal(visual.tokens.to(dtype), visual.times_s, visual.mask)
        return self.visual_norm(tokens)

    def embed_prompt(self, input_ids: torch.Tensor, visual: VisualBatch | None) -> torch.Tensor:
        """Word embeddings of `input_ids` (B,L) with visual tokens at `VISUAL_TOKEN_ID`: (B,L,H).

        Raises ValueError where the number of places differs from the number of visual tokens.
        """
        embeds = self.get_input_embeddings()(input_ids.clamp(min=0))
        places = input_ids == VISUAL_TOKEN_ID
        have = 0 if visual is None else len(visual.tokens) * self.temporal.queries
        if places.sum() != have:
            raise ValueError(f"the prompt has {places.sum()} places for visual tokens, the video gives {have}")
        if visual is not None:
            embeds = embeds.masked_scatter(places[..., None], self.embed_segments(visual).to(embeds.dtype))
        elif self.training:
            # Ranks reduce gradients together: one whose batch holds text alone must have gradients too, of zero.
            embeds = embeds + 0 * self.embed_segments(self._blank()).sum().to(embeds.dtype)
        return embeds

    def _blank(self) -> VisualBatch:
        shape = (1, 1, self.config.tokens_per_frame, self.config.token_dim)
        one = torch.ones(1, 1, device=self.visual_norm.weight.device)
        return VisualBatch(one.new_zeros(shape), one, one.bool())

    def forward(
        self,
        input_ids: torch.Tensor,
        visual: VisualBatch | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> CausalLMOutputWithPast:
        """Next-token loss over `labels` (B,L) that are not -100; without labels, logits (B,L,V).

        The vocabulary product is taken only where there is a label: at 49k words it costs as much as the layers.
        """
        embeds = self.embed_prompt(input_ids, visual)
        if labels is None:
            return self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False)
        decoder = self.language_model.get_decoder()
        hidden = decoder(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False).last_hidden_state
        targets = labels[:, 1:]
        labelled = targets != -100
        logits = self.language_model.get_output_embeddings()(hidden[:, :-1][labelled]).float()
        loss = F.cross_entropy(logits, targets[labelled], reduction="sum")
        loss = loss / (labelled.sum() if num_items_in_batch is None else num_items_in_batch)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    @torch.inference_mode()
    def generate(self, input_ids: torch.Tensor, visual: VisualBatch | None = None, **kwargs: Any) -> torch.Tensor:
        """`language_model.generate` from the fused prompt; new token ids only (B,<=max_new_tokens)."""
        return self.language_model.generate(inputs_embeds=self.embed_prompt(input_ids, visual), **kwargs)
