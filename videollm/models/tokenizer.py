"""The tokenizer of a directory that has tokenizer.json, read without transformers' table of all models."""

import functools
import re
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

BYTE = re.compile("<0x([0-9A-F]{2})>")  # how SentencePiece writes a byte that is not part of a word of its vocabulary


def read_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """Returns what `AutoTokenizer` does for a directory whose tokenizer has no class of its own."""
    return PreTrainedTokenizerFast.from_pretrained(directory, trust_remote_code=False)


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """Returns the UTF-8 bytes that a token stands for, which may be a part of a character only."""
    text = tokenizer.decode([token])
    if "\ufffd" not in text:
        return text.encode()
    piece = tokenizer.convert_ids_to_tokens(token)
    if found := BYTE.fullmatch(piece):
        return bytes.fromhex(found[1])
    known = _bytes_of_characters()
    return bytes(known[c] for c in piece) if all(c in known for c in piece) else text.encode()


@functools.lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[str, int]:
    """The characters that byte-level BPE (GPT-2) writes for bytes."""
    return {character: byte for byte, character in bytes_to_unicode().items()}
