"""BLIP-2's first stage: a Q-Former that learns from pairs of images (or videos) and texts by contrast, matching and
captioning (Li et al. 2023; LAVIS `blip2_models/blip2_qformer.py`).

Shapes: B pairs, I images, N image tokens, D encoder width, Q queries, W width, L text tokens, V words, E shared width.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videollm.errors import CheckpointError
from videollm.models.official import bert_name, load_official
from videollm.models.qformer import BERT_EPS, KeyValue, QFormer, QFormerConfig
from videollm.models.temporal_base import init_weights

SMOOTHING = 0.1  # of the labels of contrast and captioning
BLIP2 = QFormerConfig(vocab_size=30523)  # BERT's words and [DEC]


class Blip2Losses(NamedTuple):
    """Contrast, matching and captioning. BLIP-2 minimises their plain sum."""

    itc: torch.Tensor
    itm: torch.Tensor
    itg: torch.Tensor


class Blip2QFormer(nn.Module):
    """A Q-Former with text, and BLIP-2's three heads.

    Text ids start with the tokenizer's [CLS], and mask is True at real tokens. Every method but `forward` takes
    `memory`: image tokens after `vision_norm`. embed_dim: E. bos_id: [DEC], which stands for [CLS] when the text is to
    be generated.
    """

    def __init__(self, config: QFormerConfig = BLIP2, *, embed_dim: int = 256, bos_id: int = 30522):
        super().__init__()
        assert config.vocab_size is not None, "BLIP-2 reads text; give vocab_size"
        self.bos_id = bos_id
        self.vision_norm: nn.Module = nn.LayerNorm(config.memory_width)
        self.vision_proj = nn.Linear(config.width, embed_dim)
        self.text_proj = nn.Linear(config.width, embed_dim)
        self.match_head = nn.Linear(config.width, 2)
        self.word_transform = nn.Sequential(
            nn.Linear(config.width, config.width), nn.GELU(), nn.LayerNorm(config.width, eps=BERT_EPS)
        )
        self.word_head = nn.Linear(config.width, config.vocab_size)
        self.temperature = nn.Parameter(torch.tensor(0.07))
        self.apply(init_weights)
        self.qformer = QFormer(config)
        self.word_head.weight = self.qformer.word_embedding.weight

    def encode_images(
        self, memory: torch.Tensor, memory_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, tuple[KeyValue, ...]]:
        """memory (B,N,D), real where memory_mask (B,N) is, to the queries' hidden states (B,Q,W) and the cache that
        `predict_words` takes."""
        return self.qformer(memory, memory_mask)

    def embed_images(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B,Q,W) to unit vectors (B,Q,E)."""
        return F.normalize(self.vision_proj(hidden), dim=-1)

    def embed_texts(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """ids (B,L), mask (B,L) bool, to unit vectors (B,E)."""
        hidden, _ = self.qformer(ids=ids, text_mask=mask)
        return F.normalize(self.text_proj(hidden[:, 0]), dim=-1)

    def similarity(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Best query's cosine over the temperature: (I,Q,E) and (B,E) to (I,B)."""
        return torch.einsum("iqe,be->ibq", images, texts).amax(-1) / self.temperature

    def match(
        self, memory: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, memory_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits (B,2) of no match and match, for pairs of memory (B,N,D) and ids (B,L)."""
        hidden, _ = self.qformer(memory, memory_mask, ids=ids, text_mask=mask)
        return self.match_head(hidden[:, : self.qformer.config.queries]).mean(1)

    def match_matrix(self, memory: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The match logit of every image, memory (I,N,D), with every text, ids (B,L): (I,B). For re-ranking."""
        return torch.stack([self.match(image.expand(len(ids), -1, -1), ids, mask)[:, 1] for image in memory])

    def predict_words(self, ids: torch.Tensor, mask: torch.Tensor, cache: tuple[KeyValue, ...]) -> torch.Tensor:
        """Next-word logits (B,L,V) of texts (B,L), given the images whose `cache` `encode_images` returned."""
        ids = torch.cat((torch.full_like(ids[:, :1], self.bos_id), ids[:, 1:]), 1)
        hidden, _ = self.qformer(ids=ids, text_mask=mask, past=cache)
        return self.word_head(self.word_transform(hidden))

    def forward(
        self,
        tokens: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor,
        image_ids: torch.Tensor | None = None,
        negatives: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Blip2Losses:
        """The losses of one process's batch of pairs: tokens (B,N,D), ids (B,L), mask (B,L) bool.

        image_ids (B,): pairs of equal id share an image, so each text of theirs fits; None where all differ.
        negatives: for each text the index of an image and for each image that of a text that do not fit, each (B,);
        None samples them by similarity.
        """
        image_ids = torch.arange(len(ids), device=ids.device) if image_ids is None else image_ids
        fits = image_ids[:, None] == image_ids
        memory = self.vision_norm(tokens)
        hidden, cache = self.encode_images(memory)
        images, texts = self.embed_images(hidden), self.embed_texts(ids, mask)
        # LAVIS gathers what each side is compared with across processes without its gradient.
        image_to_text = self.similarity(images, texts.detach())
        text_to_image = self.similarity(images.detach(), texts).T
        if negatives is None:
            negatives = sample_negatives(text_to_image, fits), sample_negatives(image_to_text, fits)
        image, text = negatives
        logits = self.match(
            torch.cat((memory, memory[image], memory)),
            torch.cat((ids, ids, ids[text])),
            torch.cat((mask, mask, mask[text])),
        )
        return Blip2Losses(
            itc=(contrastive_loss(image_to_text, fits) + contrastive_loss(text_to_image, fits)) / 2,
            itm=matching_loss(logits),
            itg=caption_loss(self.predict_words(ids, mask, cache), ids, mask),
        )


def contrastive_loss(similarity: torch.Tensor, fits: torch.Tensor, smoothing: float = SMOOTHING) -> torch.Tensor:
    """InfoNCE of similarity (B,C) whose right answers are the columns that fits (B,C) bool marks, all to an equal
    share."""
    targets = fits / fits.sum(1, keepdim=True)
    return F.cross_entropy(similarity, targets, label_smoothing=smoothing)


def negative_weights(similarity: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """With what probability each column is taken as a hard negative of each row, (B,C)."""
    return similarity.detach().masked_fill(fits, -1e4).softmax(1)


def sample_negatives(similarity: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """A column for each row, (B,), the likelier the more similar it is."""
    return torch.multinomial(negative_weights(similarity, fits), 1).squeeze(1)


def matching_loss(logits: torch.Tensor) -> torch.Tensor:
    """logits (3B,2): first B that match, then 2B that do not."""
    labels = torch.arange(len(logits), device=logits.device) < len(logits) // 3
    return F.cross_entropy(logits, labels.long())


def caption_loss(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Of each next word among logits (B,L,V), at the ids (B,L) that are real."""
    real = mask[:, 1:]
    return F.cross_entropy(logits[:, :-1][real], ids[:, 1:][real], label_smoothing=SMOOTHING)


_OFFICIAL = {
    "qformer.query_tokens": "query_tokens",
    "temperature": "temp",
    "vision_norm.weight": "ln_vision.weight",
    "vision_norm.bias": "ln_vision.bias",
    "match_head.weight": "itm_head.weight",
    "match_head.bias": "itm_head.bias",
    "word_transform.0.weight": "Qformer.cls.predictions.transform.dense.weight",
    "word_transform.0.bias": "Qformer.cls.predictions.transform.dense.bias",
    "word_transform.2.weight": "Qformer.cls.predictions.transform.LayerNorm.weight",
    "word_transform.2.bias": "Qformer.cls.predictions.transform.LayerNorm.bias",
    "word_head.weight": "Qformer.cls.predictions.decoder.weight",
    "word_head.bias": "Qformer.cls.predictions.decoder.bias",
}
_NOT_OURS = (
    r"visual_encoder\..*",  # any of our encoders takes its place
    r"Qformer\.bert\.embeddings\.position_ids",  # 0, 1, 2, ...
    r"Qformer\.cls\.predictions\.bias",  # decoder.bias under a second name
)


def official_names(model: Blip2QFormer) -> dict[str, str]:
    """Each name in `model.state_dict()` and what LAVIS calls it."""
    names = {}
    for name in model.state_dict():
        inside = name.removeprefix("qformer.")
        names[name] = _OFFICIAL.get(name, f"Qformer.{bert_name(inside)}" if inside != name else name)
    return names


def load_blip2(model: Blip2QFormer, state: Mapping[str, torch.Tensor]) -> None:
    """Fill `model` from a LAVIS checkpoint of `Blip2Qformer` (what it holds under "model").

    Raises CheckpointError that lists missing and unknown names and wrong shapes.
    """
    load_official(model, state, official_names(model), _NOT_OURS)
    if not torch.equal(state[_OFFICIAL["word_head.weight"]], state["Qformer.bert.embeddings.word_embeddings.weight"]):
        raise CheckpointError("word embeddings and decoder differ; BLIP-2 has one matrix for both")
