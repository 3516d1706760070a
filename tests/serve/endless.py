"""A model whose answers end only where they must: as long as the tests of stopping them need."""

from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from videollm.checkpoint import build, save
from videollm.config import LanguageModelConfig
from videollm.models.language import debug_tokenizer
from videollm.presets import DEBUG

CONTEXT = 1 << 15  # minutes of answering
NEVER = 1e4


def save_endless(folder: Path) -> Path:
    """The checkpoint of a random model that writes small letters only, thus never the end of its turn. One number of
    its state is 1 at every place, and speaks against all other tokens."""
    tokenizer = debug_tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
        )
    )
    model.get_input_embeddings().weight.data[:, 0] = 1
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data[0] = layer.mlp.down_proj.weight.data[0] = 0
    letters = tokenizer.convert_tokens_to_ids(list(ascii_lowercase))
    model.lm_head.weight.data[:, 0] = -NEVER
    model.lm_head.weight.data[letters, 0] = 0
    model.save_pretrained(folder / "language_model")
    tokenizer.save_pretrained(folder / "language_model")
    config = replace(
        DEBUG,
        name="endless",
        llm=LanguageModelConfig(source=str(folder / "language_model"), dtype="float32"),
        prompt=replace(DEBUG.prompt, context=CONTEXT, max_new_tokens=CONTEXT - 2048),
    )
    save(build(config), folder / "checkpoint")
    return folder / "checkpoint"
