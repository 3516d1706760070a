"""Sentence embeddings of all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2).

The network is written out here, because importing transformers' takes longer than a hundred sentences do.

Shapes: B texts, L tokens, H width (384).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

MAX_TOKENS = 256  # the model was trained with at most so many
WIDTH, HEADS, LAYERS, INNER = 384, 12, 6, 1536
EPSILON = 1e-12


class SentenceEncoder:
    """English sentence embeddings, as sentence-transformers defines them: the normalised mean of the last hidden
    states."""

    def __init__(self, directory: Path, device: torch.device):
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._device = device
        self.network = MiniLM().eval().requires_grad_(False).to(device)
        self.network.load(directory / "model.safetensors")

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
        """Returns whether the text has at most `MAX_TOKENS` tokens."""
        return len(self._tokenizer.encode(text)) <= MAX_TOKENS

    def embed(self, texts: list[str], batch_size: int = 64) -> torch.Tensor:
        """Returns unit vectors (B,384). Texts of similar length share a batch, because padding takes time."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [self([texts[i] for i in order[at : at + batch_size]])[2] for at in range(0, len(order), batch_size)]
        return torch.cat(parts)[torch.tensor(order).argsort().to(parts[0].device)]

    def _ids(self, text: str) -> list[int]:
        """Returns the ids of at most `MAX_TOKENS` tokens. The last one always ends the sentence."""
        ids = self._tokenizer.encode(text).ids
        return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]]


class MiniLM(nn.Module):
    """BERT (Devlin et al. 2019) with six layers, and the mean of its last hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, WIDTH)
        self.positions = nn.Embedding(512, WIDTH)
        self.kinds = nn.Embedding(2, WIDTH)  # of a pair of sentences; only the first one's row is used
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(MiniLMLayer() for _ in range(LAYERS))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, padded: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the hidden states (B,L,H) over the norm of their masked mean, and that mean as unit vectors (B,H).

        Args:
            ids: Token ids (B,L).
            mask: bool (B,L), False at padding.
            padded: Whether there is any padding. Attention is faster without a mask.
        """
        x = self.words(ids) + self.kinds.weight[0]
        x = self.norm(x + self.positions.weight[: ids.shape[1]])
        seen = mask[:, None, None] if padded else None
        for layer in self.layers:
            x = layer(x, seen)
        mean = x.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
        norm = mean.norm(dim=-1, keepdim=True)
        return x / norm[..., None], mean / norm

    def load(self, file: Path) -> None:
        """Fills the weights from a BERT state dict in a safetensors file."""
        theirs = load_file(file)
        self.load_state_dict({name: theirs[_bert_name(name)] for name in self.state_dict()})


def _bert_name(name: str) -> str:
    """Returns the name that a tensor of `MiniLM` has in BERT state dicts."""
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


class MiniLMLayer(nn.Module):
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
