"""A model that shows pictures, videos and sounds, whatever it is asked, with pipelines of random weights."""

from dataclasses import replace
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from scripts import tiny_pipeline
from videollm.checkpoint import build, save
from videollm.config import LanguageModelConfig
from videollm.models.language import debug_tokenizer
from videollm.output_config import MODALITIES, OutputConfig
from videollm.presets import DEBUG

SAYS = "Hi"


def save_showing(folder: Path) -> Path:
    """The checkpoint of a model that answers "Hi" with a picture, a video and a sound. Its pipelines are beside it.

    Its layers change nothing, so that a token decides the next one.
    """
    for modality in MODALITIES:
        tiny_pipeline.write(modality, folder / modality)
    tokenizer = debug_tokenizer()
    first = len(tokenizer)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=first,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=DEBUG.prompt.context,
        )
    )
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    answer = [*tokenizer.convert_tokens_to_ids(list(SAYS)), *range(first, first + 3)]
    embedding, head = _chain(first + 3, 16, [*answer, tokenizer.eos_token_id])
    model.get_input_embeddings().weight.data.copy_(embedding[:first])
    model.get_output_embeddings().weight.data.copy_(head[:first])
    model.save_pretrained(folder / "language_model")
    tokenizer.save_pretrained(folder / "language_model")
    config = replace(
        DEBUG,
        name="showing",
        llm=LanguageModelConfig(source=str(folder / "language_model"), dtype="float32"),
        outputs=OutputConfig(
            kind="transformer",
            decoders=tuple(str(folder / modality) for modality in MODALITIES),
            tokens=(1, 1, 1),
            embeddings=(tiny_pipeline.WORDS, tiny_pipeline.WORDS, 1),
            widths=(16, 24, 12),
            width=8,
            layers=1,
            heads=2,
        ),
    )
    made = build(config)
    assert made.llm.outputs is not None and made.llm.outputs.first == first
    made.llm.outputs.embeddings.data.copy_(embedding[first:])
    made.llm.outputs.head.data.copy_(head[first:])
    save(made, folder / "checkpoint")
    return folder / "checkpoint"


def _chain(vocabulary: int, width: int, answer: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding and the output layer with which tokens follow one another. Any other token leads to the first."""
    embedding, head = torch.zeros(vocabulary, width), torch.zeros(vocabulary, width)
    embedding[:, 0] = 1
    for place, token in enumerate(answer):
        head[token, place] = 1
        embedding[token] = 0
        embedding[token, place + 1] = 1
    return embedding, head
