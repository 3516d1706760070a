"""The LLaMA that published video systems are built on, from the tensors inside their checkpoints.

Shapes: B prompts, L tokens, H width, V words.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from videollm.models.labels import IGNORE
from videollm.models.published.system import Config, StateShapes, setting

IGNORED = r".*\.self_attn\.rotary_emb\.inv_freq"  # a buffer that older versions of transformers saved
BOS_ID = 1  # of LLaMA's tokenizer


def build_llama(shapes: StateShapes, prefix: str, config: Config) -> LlamaForCausalLM:
    """A LLaMA whose sizes are those of the tensors `prefix`model.* and `prefix`lm_head.weight; its weights are random.

    config: {"heads": ..., "rms_norm_eps": ...}, what the shapes do not tell.
    """
    layer = f"{prefix}model.layers"
    vocabulary, width = shapes[f"{prefix}model.embed_tokens.weight"]
    heads = int(setting(config, "heads"))
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=shapes[f"{layer}.0.mlp.gate_proj.weight"][0],
            num_hidden_layers=shapes.count(layer),
            num_attention_heads=heads,
            num_key_value_heads=heads * shapes[f"{layer}.0.self_attn.k_proj.weight"][0] // width,
            rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            max_position_embeddings=2048,
            tie_word_embeddings=False,
        )
    )


def add_official_lora(
    llama: LlamaForCausalLM, shapes: StateShapes, prefix: str, alpha_per_rank: float
) -> PreTrainedModel:
    """`llama` with the adapters whose matrices the checkpoint holds below `prefix`model.layers, by PEFT's names. Their
    product is multiplied by `alpha_per_rank`, which the matrices do not tell."""
    from peft import LoraConfig, get_peft_model

    attention = f"{prefix}model.layers.0.self_attn"
    targets = [p for p in ("q_proj", "k_proj", "v_proj", "o_proj") if shapes.has(f"{attention}.{p}.lora_A.")]
    rank = shapes[f"{attention}.{targets[0]}.lora_A.default.weight"][0]
    alpha = round(alpha_per_rank * rank)
    lora = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")
    return get_peft_model(llama, lora)  # type: ignore[return-value]


def embed(llama: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Input embeddings of ids (B,L): (B,L,H)."""
    return llama.get_input_embeddings()(ids)  # type: ignore[operator]


def logits_of(llama: nn.Module, embeds: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """embeds (B,L,H), mask (B,L) or None, to logits (B,L,V)."""
    return llama(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each labelled token given those before it. logits (B,L,V); labels (B,L), -100 where there
    is none."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE)


def caption_prompt(
    llama: nn.Module,
    visual: torch.Tensor,
    caption_ids: torch.Tensor,
    caption_mask: torch.Tensor,
    pad_id: int,
    around: tuple[torch.Tensor, torch.Tensor] | None = None,
    *,
    official_compat: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[BOS, text before, visual tokens, text after, caption], for training on captions: embeddings (B,L,H), attention
    mask (B,L) and labels (B,L).

    visual (B,Q,H); caption_ids (B,C), right padded with `pad_id`; caption_mask (B,C). around: the ids (1,*) of the
    text before and after the visual tokens. official_compat: every id that equals `pad_id` is unlabelled, even a
    real one.
    """
    batch = len(visual)
    before = caption_ids.new_full((batch, 1), BOS_ID)
    after = caption_ids.new_zeros((batch, 0))
    if around is not None:
        before = torch.cat((before, around[0].expand(batch, -1)), 1)
        after = around[1].expand(batch, -1)
    parts = (embed(llama, before), visual, embed(llama, after), embed(llama, caption_ids))
    embeds = torch.cat(parts, 1)
    context = embeds.shape[1] - caption_ids.shape[1]
    mask = F.pad(caption_mask, (context, 0), value=1)
    unlabelled = caption_ids == pad_id if official_compat else caption_mask == 0
    labels = F.pad(caption_ids.masked_fill(unlabelled, IGNORE), (context, 0), value=IGNORE)
    return embeds, mask, labels


def join(llama: nn.Module, texts: Sequence[torch.Tensor], visual: Sequence[torch.Tensor]) -> torch.Tensor:
    """Embeddings of the first text, the first visual tokens, the second text, and so on: texts (1,*) of ids, one more
    than there are visual (1,Q,H). Returns (1,L,H)."""
    parts = [embed(llama, texts[0])]
    for tokens, text in zip(visual, texts[1:], strict=True):
        parts += [tokens, embed(llama, text)]
    return torch.cat(parts, 1)


def greedy_ids(llama: nn.Module, embeds: torch.Tensor, steps: int) -> torch.Tensor:
    """BOS and the `steps` most probable next tokens after a prompt (1,L,H), ends of text included: (1,1+steps)."""
    ids = [BOS_ID]
    for _ in range(steps):
        ids.append(int(logits_of(llama, embeds)[0, -1].argmax()))
        embeds = torch.cat((embeds, embed(llama, torch.tensor([ids[-1:]], device=embeds.device))), 1)
    return torch.tensor([ids], device=embeds.device)
