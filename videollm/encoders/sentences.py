"""Sentence embeddings of all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), which reads
English, and of multilingual-e5-small (Wang et al. 2024, https://arxiv.org/abs/2402.05672).

The network is written out here, because importing transformers' takes longer than a hundred sentences do.

Shapes: B texts, L tokens, H width (384).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

from videollm import assets

WIDTH, HEADS, INNER = 384, 12, 1536  # of both models
POSITIONS = 512
KINDS = 2  # of a pair of sentences; only the first one's row is used
EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceModel:
    """A model of sentences.

    Attributes:
        asset: The asset with its weights.
        max_tokens: The largest number of tokens of a text that it was trained with.
        prefix: What each text began with in its training.
        english_only: Whether it understands no other language.
    """

    asset: str
    max_tokens: int
    prefix: str = ""
    english_only: bool = False


MINILM = SentenceModel(asset="all-minilm-l6-v2", max_tokens=256, english_only=True)
E5 = SentenceModel(asset="multilingual-e5-small", max_tokens=512, prefix="query: ")


class SentenceEncoder:
    """Sentence embeddings, as sentence-transformers defines them: the normalised mean of the last hidden states.

    Raises AssetError if the weights cannot be fetched.
    """

    def __init__(self, model: SentenceModel, device: torch.device):
        directory = assets.fetch(model.asset)
        self.model = model
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._device = device
        self.network = SentenceBert.load(directory / "model.safetensors").to(device)

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns tokens (B,L,384), a bool mask (B,L) and unit vectors embed (B,384), the masked mean of the tokens."""
        rows = [self._ids(text) for text in texts]
        length = max(map(len, rows))
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=self._device)
        mask = torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows], device=self._device)
        tokens, embed = self.network(ids, mask, padded=not mask.all())
        return tokens, mask, embed

    def reads_whole(self, text: str) -> bool:
        """Returns whether the text has at most `model.max_tokens` tokens."""
        return len(self._tokenizer.encode(self.model.prefix + text)) <= self.model.max_tokens

    def embed(self, texts: list[str], batch_size: int = 64) -> torch.Tensor:
        """Returns unit vectors (B,384). Texts of similar length share a batch, because padding takes time."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [self([texts[i] for i in order[at : at + batch_size]])[2] for at in range(0, len(order), batch_size)]
        return torch.cat(parts)[torch.tensor(order).argsort().to(parts[0].device)]

    def _ids(self, text: str) -> list[int]:
        """Returns the ids of at most `model.max_tokens` tokens. The last one always ends the sentence."""
        ids, most = self._tokenizer.encode(self.model.prefix + text).ids, self.model.max_tokens
        return ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]


class SentenceBert(nn.Module):
    """BERT (Devlin et al. 2019), and the mean of its last hidden states."""

    def __init__(self, words: int, layers: int) -> None:
        super().__init__()
        # Without random weights, which on the meta device take an import of torch.compile's modules.
        self.words, self.positions, self.kinds = (
            nn.Embedding.from_pretrained(torch.empty(rows, WIDTH)) for rows in (words, POSITIONS, KINDS)
        )
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(SentenceBertLayer() for _ in range(layers))

    @classmethod
    def load(cls, file: Path) -> "SentenceBert":
        """From a BERT state dict in a safetensors file. Weights keep their dtype: word embeddings may be float16."""
        theirs = load_file(file)
        layers = sum(name.endswith("intermediate.dense.weight") for name in theirs)
        with torch.device("meta"):
            network = cls(len(theirs["embeddings.word_embeddings.weight"]), layers)
        network.load_state_dict({name: theirs[_bert_name(name)] for name in network.state_dict()}, assign=True)
        return network.eval().requires_grad_(False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, padded: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the hidden states (B,L,H) over the norm of their masked mean, and that mean as unit vectors (B,H).

        Args:
            ids: Token ids (B,L).
            mask: bool (B,L), False at padding.
            padded: Whether there is any padding. Attention is faster without a mask.
        """
        x = self.words(ids).float() + self.kinds.weight[0]
        x = self.norm(x + self.positions.weight[: ids.shape[1]])
        seen = mask[:, None, None] if padded else None
        for layer in self.layers:
            x = layer(x, seen)
        mean = x.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
        norm = mean.norm(dim=-1, keepdim=True)
        return x / norm[..., None], mean / norm


def _bert_name(name: str) -> str:
    """Returns the name that a tensor of `SentenceBert` has in BERT state dicts."""
    *layer, part, kind = name.split(".")
    where = f"encoder.layer.{layer[1]}" if layer else "embeddings"
    return f"{where}.{(_LAYER if layer else _EMBEDDINGS)[part]}.{kind}"


_EMBEDDINGS = {
    "words": "word_embeddings",
    "positions": "position_embeddings",
    "kinds": "token_type_embeddings",
    "norm": "LayerNorm",
}
_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mixed": "attention.output.dense",
    "norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "last_norm": "output.LayerNorm",
}


class SentenceBertLayer(nn.Module):
    """Attention and MLP, each added to its input and then normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.mixed = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.last_norm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        """x (B,L,H). seen (B,1,1,L) bool: the tokens that may be looked at, None for all."""
        heads = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(*heads, attn_mask=seen).transpose(1, 2).flatten(2)
        x = self.norm(self.mixed(mixed) + x)
        return self.last_norm(self.down(F.gelu(self.up(x))) + x)
