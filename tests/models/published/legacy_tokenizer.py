"""LLaMA's tokenizer as transformers 4.28 had it: SentencePiece's BPE with byte fallback, from its model file.

The official code of the published systems ran with it, so their recorded ids and label masks are made of its pieces:
every piece of text between special tokens begins with a leading space of its own, and is stripped beside those that the
system added.
"""

import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from tests.models.published.recorded import tokenizer_file

NO_PIECE = float("-inf")


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Field numbers and values of a protobuf message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, data[at : at + size]
        at += size


class LegacyTokenizer:
    """special: tokens beyond those of the model file, with their ids."""

    def __init__(self, path: Path, special: dict[str, int]):
        pieces = [dict(_fields(value)) for field, value in _fields(path.read_bytes()) if field == 1]  # type: ignore[arg-type]
        self.ids = {piece[1].decode(): i for i, piece in enumerate(pieces)}  # type: ignore[union-attr]
        self.scores = {
            piece[1].decode(): struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0]  # type: ignore[union-attr,arg-type]
            for piece in pieces
        }
        self.special = {"<s>": 1, "</s>": 2, "<unk>": 0, **special}
        self.stripping = set(special)  # those that were added as plain strings
        self.split = re.compile("(" + "|".join(re.escape(token) for token in self.special) + ")")

    def __call__(self, text: str, bos: bool = True) -> list[int]:
        ids = [1] if bos else []
        parts = self.split.split(text)
        for i, part in enumerate(parts):
            if i % 2:
                ids.append(self.special[part])
                continue
            if i > 0 and parts[i - 1] in self.stripping:
                part = part.lstrip()
            if i < len(parts) - 1 and parts[i + 1] in self.stripping:
                part = part.rstrip()
            ids += self._pieces(part) if part else []
        return ids

    def _pieces(self, text: str) -> list[int]:
        pieces = list("▁" + text.replace(" ", "▁"))
        while len(pieces) > 1:
            scores = [self.scores.get(first + second, NO_PIECE) for first, second in pairwise(pieces)]
            best = max(scores)
            if best == NO_PIECE:
                break
            at = scores.index(best)  # of equal scores the leftmost merges first
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        ids = []
        for piece in pieces:
            found = self.ids.get(piece)
            ids += [self.ids[f"<0x{byte:02X}>"] for byte in piece.encode()] if found is None else [found]
        return ids


def llama_tokenizer(added: list[str]) -> PreTrainedTokenizerFast:
    """The recorded SentencePiece model as transformers now loads one."""
    legacy = LegacyTokenizer(tokenizer_file(), {})
    merges = sorted(
        (
            (piece[:i], piece[i:])
            for piece in legacy.scores
            for i in range(1, len(piece))
            if piece[:i] in legacy.ids and piece[i:] in legacy.ids and not piece.startswith("<")
        ),
        key=lambda pair: -legacy.scores["".join(pair)],
    )
    tokenizer = Tokenizer(models.BPE(legacy.ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
    fast.add_tokens(added, special_tokens=True)
    return fast
