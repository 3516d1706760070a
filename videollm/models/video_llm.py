"""The video language model. From features of a video's segments and a prompt it computes logits, a loss or new tokens.

Shapes: B prompts, L prompt tokens, S segments in the whole batch, T frames, N patch tokens per frame, D encoder width,
Q query tokens per segment, H language-model width, V vocabulary size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from videollm.config import ModelConfig
from videollm.models.labels import IGNORE
from videollm.models.outputs import MediaOutputs
from videollm.models.visual_prompting import VisualBatch, VisualPrompting
from videollm.output_config import Modality


class VideoLLMConfig(PretrainedConfig):
    """`ModelConfig.to_dict()` and the sizes of the encoder, in the form that transformers expects of a config."""

    model_type = "videollm"

    def __init__(
        self,
        model: dict[str, Any] | None = None,
        token_dim: int = 0,
        tokens_per_frame: int = 0,
        first_signal: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.model = model or {}
        self.token_dim = token_dim
        self.tokens_per_frame = tokens_per_frame
        self.first_signal = first_signal  # the id of the first signal token of a model with outputs


@dataclass
class VideoLLMOutput(CausalLMOutputWithPast):
    """What `VideoLLM.forward` returns. With conditions, `loss` is the sum of `text_loss` and `alignment_loss`."""

    text_loss: torch.Tensor | None = None
    alignment_loss: torch.Tensor | None = None


class VideoLLM(VisualPrompting, PreTrainedModel):
    """A temporal module whose query tokens are placed among the word embeddings of a language model.

    The language model is part of this model and is never changed: it is any `AutoModelForCausalLM`, plain, quantised or
    with a PEFT adapter. Checkpoints are written and read by `videollm.checkpoint`, not by `save_pretrained` and
    `from_pretrained`.
    """

    language_model: Any
    config_class = VideoLLMConfig
    base_model_prefix = "language_model"
    supports_gradient_checkpointing = True
    # Trainer then passes `num_items_in_batch`, the number of labels of a whole step over ranks and accumulated batches.
    # A mean per batch would give the tokens of a batch with few labels more weight than others.
    accepts_loss_kwargs = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: VideoLLMConfig, language_model: Any):
        super().__init__(config)
        model = ModelConfig.from_dict(config.model)
        self.add_projector(
            model,
            config.token_dim,
            config.tokens_per_frame,
            language_model.get_input_embeddings().weight,
        )
        self.outputs: MediaOutputs | None = None
        if model.outputs.modalities:
            width = language_model.get_input_embeddings().weight.shape[1]
            self.outputs = MediaOutputs(model.outputs, width, config.first_signal)
            self.outputs.extend(language_model)
        self.language_model = language_model

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def _init_weights(self, module: nn.Module) -> None:
        """Does nothing, because submodules initialise themselves."""

    def embed_media(self, input_ids: torch.Tensor, visual: VisualBatch | None) -> torch.Tensor:
        """See `VisualPrompting.embed_media`."""
        embeds = super().embed_media(input_ids, visual)
        if visual is None and self.training:
            # Ranks reduce gradients together, so a rank whose batch holds only text needs gradients of zero: without
            # them the other ranks would wait for it forever. DeepSpeed reduces them in the order in which they come,
            # so this is computed where the tokens of a video are, before the virtual tokens.
            embeds = embeds + 0 * self.embed_segments(self._blank()).sum().to(embeds.dtype)
        if self.audio is not None and self.training and (visual is None or visual.audio is None):
            clip = self.audio.position.weight.new_zeros(1, 1, self.audio.position.embedding_dim)
            embeds = embeds + 0 * self.embed_audio(clip).sum().to(embeds.dtype)
        return embeds

    def _blank(self) -> VisualBatch:
        """Returns one segment of one frame, all zeros."""
        shape = (1, 1, self.config.tokens_per_frame, self.config.token_dim)
        one = torch.ones(1, 1, device=next(self.temporal.parameters()).device)
        return VisualBatch(one.new_zeros(shape), one, one.bool())

    def forward(
        self,
        input_ids: torch.Tensor,
        visual: VisualBatch | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        position_ids: torch.Tensor | None = None,
        conditions: Mapping[str, torch.Tensor] | None = None,
    ) -> CausalLMOutputWithPast:
        """Runs the language model on prompts whose visual tokens come from `visual`.

        Without labels, the output has `logits` (B,L,V) and no loss. With labels, it has `loss`, the language model's
        own next-token loss over the labels that are not `IGNORE`, and no logits, which are computed only where there is
        a label (see `labelled_logits`). If every label is `IGNORE`, the loss and all gradients are 0.

        Args:
            input_ids: The token ids (B,L).
            visual: The features of the segments, or None if the prompts have none.
            attention_mask: (B,L), 1 at real tokens, or bool (B,1,L,L), which tokens each token attends to. None takes
                all as real.
            labels: The labels (B,L).
            num_items_in_batch: The number that the sum of the tokens' losses is divided by. None takes the number of
                labels in this batch.
            position_ids: The positions (B,L) of the tokens. None counts them.
            conditions: For a model with outputs, the text conditions (K,Q,C) of what the prompts show, in their order,
                by modality. The distance of its own conditions from these is then part of the loss.
        """
        if labels is None:
            return self._run(input_ids, visual, attention_mask, position_ids=position_ids)
        targets, keep = _next_labels(labels)
        count = keep.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        output = self._run(
            input_ids,
            visual,
            attention_mask,
            labels=labels,  # only says that a loss is wanted; `shift_labels` holds the labels of the kept positions
            shift_labels=targets[keep],
            logits_to_keep=keep,
            num_items_in_batch=count.clamp(min=1),  # without a label the loss would be 0 / 0
            position_ids=position_ids,
            **({} if conditions is None else {"output_hidden_states": True}),
        )
        if conditions is None:
            return CausalLMOutputWithPast(loss=output.loss)
        assert self.outputs is not None, "conditions are for a model with outputs"
        aligned = self.outputs.alignment_loss(output.hidden_states[-1], input_ids, conditions)
        # The means of the batches of a step are weighted as their text is.
        share = keep.sum() / count.clamp(min=1).to(keep.device)
        loss = output.loss + share * aligned
        return VideoLLMOutput(loss=loss, text_loss=output.loss.detach(), alignment_loss=aligned.detach())

    def labelled_logits(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        visual: VisualBatch | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the float32 logits (n,V) that predict the n labels (B,L) that are not `IGNORE`, row by row.

        The first position of each row has no logits, because no token comes before it. The other arguments are those of
        `forward`.
        """
        _, keep = _next_labels(labels)
        return self._run(
            input_ids, visual, attention_mask, position_ids=position_ids, logits_to_keep=keep
        ).logits.float()

    def _run(
        self,
        input_ids: torch.Tensor,
        visual: VisualBatch | None,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> Any:
        """Calls the language model's own forward.

        Families scale logits (Granite, Cohere) or cap them (Gemma 2) after the output layer, and add losses of their
        own (mixtures of experts), which a copy of the output layer here would miss.

        kwargs may have `logits_to_keep`, a bool mask (B,L). It restricts the product with the vocabulary to positions
        that are True, and makes logits (n,V). With a vocabulary of 49,152 words this product costs as much as the
        layers of a small model.
        """
        embeds = self.embed_prompt(input_ids, visual)
        return self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False, **kwargs)

    @torch.inference_mode()
    def conditions(self, input_ids: torch.Tensor, visual: VisualBatch | None = None) -> dict[Modality, torch.Tensor]:
        """Returns the text conditions (K,Q,C) of what prompts (B,L) with their answers show, by modality."""
        assert self.outputs is not None, "conditions are those of a model with outputs"
        found = self._run(input_ids, visual, None, output_hidden_states=True, logits_to_keep=1)
        return self.outputs.conditions(found.hidden_states[-1], input_ids)

    @torch.inference_mode()
    def generate(self, input_ids: torch.Tensor, visual: VisualBatch | None = None, **kwargs: Any) -> torch.Tensor:
        """Returns the ids of new tokens only, (B, at most max_new_tokens). kwargs are those of
        `language_model.generate`."""
        return self.language_model.generate(inputs_embeds=self.embed_prompt(input_ids, visual), **kwargs)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises NotImplementedError, because a checkpoint also has a tokenizer and names the encoder."""
        raise NotImplementedError("VideoLLM has no save_pretrained; use videollm.checkpoint.save(model, directory)")

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises NotImplementedError, because the language model and the encoder have sources of their own."""
        raise NotImplementedError(
            "VideoLLM has no from_pretrained; use videollm.load(name), whose `.llm` is the VideoLLM of a checkpoint"
        )


def _next_labels(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns labels (B,L) moved to the positions whose logits predict them, and a bool mask (B,L) of those that are
    not `IGNORE`. The last position predicts nothing."""
    targets = nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)
    return targets, targets != IGNORE
