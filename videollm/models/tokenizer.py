"""The tokenizer of a directory that has tokenizer.json, read without transformers' table of all models."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast


def read_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """Returns what `AutoTokenizer` does for a directory whose tokenizer has no class of its own."""
    return PreTrainedTokenizerFast.from_pretrained(directory, trust_remote_code=False)
