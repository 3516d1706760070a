"""What the tiny models of transformers are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import transformers
from transformers import PretrainedConfig, PreTrainedTokenizerBase, ProcessorMixin

PIXELS = {"shortest_edge": 56 * 56, "longest_edge": 56 * 112}  # of a frame, for processors that keep its shape
SQUARE = {"height": 56, "width": 56}
Sizes = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """tokens: special ones. named: those that the tokenizer has an attribute for. video, image: what the chat template
    writes for them. config: from the tokenizer. processor: from the tokenizer."""

    tokens: tuple[str, ...] = ()
    named: dict[str, str]
    video: str
    image: str
    config: Callable[[PreTrainedTokenizerBase], PretrainedConfig]
    processor: Callable[[PreTrainedTokenizerBase], ProcessorMixin]


def of(name: str, **values: Any) -> Any:
    """An object of a class of transformers."""
    return getattr(transformers, name)(**values)


def text(tokenizer: PreTrainedTokenizerBase, **values: Any) -> Sizes:
    """The sizes of a language model of two layers."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        **values,
    }


def mrope(*section: int, **values: Any) -> Sizes:
    """Positions in time, height and width."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(section), **values}}


def tower(**values: Any) -> Sizes:
    """The sizes of a vision tower of two layers."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {**sizes, "image_size": 56, "patch_size": 14, **values}


def qwen_tower(**values: Any) -> Sizes:
    return {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32, **values}


def ids(tokenizer: PreTrainedTokenizerBase, **names: str) -> dict[str, Any]:
    """The ids of tokens, by the fields of a config."""
    return {field: tokenizer.convert_tokens_to_ids(token) for field, token in names.items()}
