"""BLIP-2's first stage: a Q-Former that learns from pairs of an image (or a video) and a text by contrast, matching and
captioning (Li et al. 2023; LAVIS `blip2_models/blip2_qformer.py`).

Shapes: B pairs, I images, N image tokens, D encoder width, Q queries, W width of the Q-Former, L text tokens,
V vocabulary size, E width of the space shared by images and texts.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videollm.errors import CheckpointError
from videollm.models.published.key_mapping import bert_name, load_official
from videollm.models.qformer import BERT_EPS, KeyValue, QFormer, QFormerConfig
from videollm.models.temporal_base import init_weights

SMOOTHING = 0.1  # label smoothing of the contrastive and the captioning loss
BLIP2 = QFormerConfig(vocab_size=30523)  # BERT's 30,522 words and [DEC]


class Blip2Losses(NamedTuple):
    """The contrastive, matching and captioning loss. BLIP-2 minimises their unweighted sum."""

    itc: torch.Tensor
    itm: torch.Tensor
    itg: torch.Tensor


class Blip2QFormer(nn.Module):
    """A Q-Former that also reads text, with the three heads of BLIP-2.

    Text ids start with the tokenizer's [CLS]; a text mask is True at real tokens and False at padding. Every method but
    `forward` takes `encoder_hidden_states`, image tokens to which `vision_norm` was applied.

    embed_dim: E. bos_id: the id of [DEC], which replaces [CLS] when the text is to be generated.
    """

    def __init__(self, config: QFormerConfig = BLIP2, *, embed_dim: int = 256, bos_id: int = 30522):
        super().__init__()
        assert config.vocab_size is not None, "BLIP-2 reads text, so its QFormerConfig needs vocab_size"
        self.bos_id = bos_id
        self.vision_norm: nn.Module = nn.LayerNorm(config.encoder_width)
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
        self, encoder_hidden_states: torch.Tensor, encoder_attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, tuple[KeyValue, ...]]:
        """Return the queries' hidden states (B,Q,W), and the cache that `predict_words` takes.

        encoder_hidden_states (B,N,D); encoder_attention_mask (B,N) bool, False at padding.
        """
        return self.qformer(encoder_hidden_states, encoder_attention_mask)

    def embed_images(self, hidden: torch.Tensor) -> torch.Tensor:
        """Project the queries' hidden states (B,Q,W) to unit vectors (B,Q,E)."""
        return F.normalize(self.vision_proj(hidden), dim=-1)

    def embed_texts(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return unit vectors (B,E) of texts with ids (B,L) and mask (B,L) bool."""
        hidden, _ = self.qformer(ids=ids, text_mask=mask)
        return F.normalize(self.text_proj(hidden[:, 0]), dim=-1)

    def similarity(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Return (I,B): the cosine of each text (B,E) with the nearest query of each image (I,Q,E), divided by the
        temperature."""
        return torch.einsum("iqe,be->ibq", images, texts).amax(-1) / self.temperature

    def match(
        self,
        encoder_hidden_states: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return logits (B,2) of "no match" and "match" for pairs of encoder_hidden_states (B,N,D) and ids (B,L)."""
        hidden, _ = self.qformer(encoder_hidden_states, encoder_attention_mask, ids=ids, text_mask=mask)
        return self.match_head(hidden[:, : self.qformer.config.queries]).mean(1)

    def match_matrix(self, encoder_hidden_states: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the "match" logit of every image, (I,N,D), with every text, ids (B,L): (I,B). It serves re-ranking."""
        rows = [self.match(image.expand(len(ids), -1, -1), ids, mask)[:, 1] for image in encoder_hidden_states]
        return torch.stack(rows)

    def predict_words(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        cache: tuple[KeyValue, ...],
        prefix: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return next-word logits (B,L,V) of texts (B,L), given the images whose `cache` `encode_images` returned.

        prefix (B,): how many first words of each text are read in both directions; None reads all of it from the left.
        """
        ids = torch.cat((torch.full_like(ids[:, :1], self.bos_id), ids[:, 1:]), 1)
        hidden, _ = self.qformer(ids=ids, text_mask=mask, past=cache, prefix=prefix)
        return self.word_head(self.word_transform(hidden))

    def forward(
        self,
        tokens: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor,
        image_ids: torch.Tensor | None = None,
        negatives: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Blip2Losses:
        """Return the losses of one process's batch of pairs: tokens (B,N,D), ids (B,L), mask (B,L) bool.

        image_ids (B,): pairs with equal ids share an image, so the texts of each match it; None means that all images
        differ. negatives: for each text the index of an image that does not match it, and for each image that of a
        text, each (B,); None samples them by similarity.
        """
        image_ids = torch.arange(len(ids), device=ids.device) if image_ids is None else image_ids
        fits = image_ids[:, None] == image_ids
        states = self.vision_norm(tokens)
        hidden, cache = self.encode_images(states)
        images, texts = self.embed_images(hidden), self.embed_texts(ids, mask)
        # LAVIS gathers the other side of each comparison across processes without its gradient, so each similarity has
        # a gradient on one side only, even with one process.
        image_to_text = self.similarity(images, texts.detach())
        text_to_image = self.similarity(images.detach(), texts).T
        if negatives is None:
            negatives = sample_negatives(text_to_image, fits), sample_negatives(image_to_text, fits)
        image, text = negatives
        logits = self.match(
            torch.cat((states, states[image], states)),
            torch.cat((ids, ids, ids[text])),
            torch.cat((mask, mask, mask[text])),
        )
        return Blip2Losses(
            itc=(contrastive_loss(image_to_text, fits) + contrastive_loss(text_to_image, fits)) / 2,
            itm=matching_loss(logits),
            itg=caption_loss(self.predict_words(ids, mask, cache), ids, mask),
        )


def contrastive_loss(similarity: torch.Tensor, fits: torch.Tensor, smoothing: float = SMOOTHING) -> torch.Tensor:
    """Return InfoNCE: the cross-entropy of each row of similarity (B,C) with a uniform distribution over the columns
    for which `fits` (B,C) bool is True. smoothing: label smoothing."""
    targets = fits / fits.sum(1, keepdim=True)
    return F.cross_entropy(similarity, targets, label_smoothing=smoothing)


def negative_weights(similarity: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """Return the probability with which each column is drawn as a hard negative of each row, (B,C)."""
    return similarity.detach().masked_fill(fits, -1e4).softmax(1)


def sample_negatives(similarity: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """Draw one column for each row, (B,); more similar columns are more likely."""
    return torch.multinomial(negative_weights(similarity, fits), 1).squeeze(1)


def matching_loss(logits: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of logits (3B,2), of which the first B pairs match and the other 2B do not."""
    labels = torch.arange(len(logits), device=logits.device) < len(logits) // 3
    return F.cross_entropy(logits, labels.long())


def caption_loss(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of next-word logits (B,L,V) with ids (B,L), over ids for which mask (B,L) is True."""
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
    r"visual_encoder\..*",  # the encoder is a module of its own here
    r"Qformer\.bert\.embeddings\.position_ids",  # 0, 1, 2, ...
    r"Qformer\.cls\.predictions\.bias",  # decoder.bias under a second name
)


def official_names(model: Blip2QFormer) -> dict[str, str]:
    """Map each name in `model.state_dict()` to its name in LAVIS."""
    names = {}
    for name in model.state_dict():
        inside = name.removeprefix("qformer.")
        names[name] = _OFFICIAL.get(name, f"Qformer.{bert_name(inside)}" if inside != name else name)
    return names


def load_blip2(model: Blip2QFormer, state: Mapping[str, torch.Tensor]) -> None:
    """Copy a LAVIS checkpoint of `Blip2Qformer`, its entry "model", into `model`.

    Raises CheckpointError that lists missing and unknown names and wrong shapes.
    """
    load_official(model, state, official_names(model), _NOT_OURS)
    if not torch.equal(state[_OFFICIAL["word_head.weight"]], state["Qformer.bert.embeddings.word_embeddings.weight"]):
        raise CheckpointError("the word embeddings and the decoder differ; BLIP-2 has one matrix for both")
