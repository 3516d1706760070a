"""The two BERTs of VideoCLIP: one over the S3D features of each second of the video, one over the words of the text."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.errors import ConfigError
from videollm.models.qformer import BERT_EPS, QFormerAttention, QFormerConfig, QFormerFeedForward
from videollm.models.temporal_base import init_weights
from videollm.retrieval.head import RetrievalHead, VideoRepr, masked_mean

CLS_ID, SEP_ID = 101, 102  # of bert-base-uncased


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Sizes of one BERT. The defaults are those of bert-base."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    ffn_width: int = 3072
    vocab_size: int = 30522
    max_positions: int = 512
    dropout: float = 0.1


class BertBlock(nn.Module):
    """BERT's post-norm block: self-attention and a feed-forward network (Devlin et al. 2019)."""

    def __init__(self, config: QFormerConfig):
        super().__init__()
        self.self_attention = QFormerAttention(config, config.width)
        self.text_ffn = QFormerFeedForward(config)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.text_ffn(self.self_attention(x, x, mask[:, None, None])[0])


class Bert(nn.Module):
    """h = blocks(LN(x + position + type_0)) (Devlin et al. 2019)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        sizes = QFormerConfig(
            width=config.width,
            heads=config.heads,
            ffn_width=config.ffn_width,
            dropout=config.dropout,
        )
        self.word_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.max_positions, config.width)
        self.type_embedding = nn.Embedding(2, config.width)
        self.norm = nn.LayerNorm(config.width, eps=BERT_EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(BertBlock(sizes) for _ in range(config.layers))
        self.apply(init_weights)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the last hidden states (B,L,W) for word embeddings x (B,L,W) and a mask (B,L), bool.

        Raises ConfigError if a sequence has more tokens than there are positions.
        """
        if x.shape[1] > self.config.max_positions:
            raise ConfigError(f"a sequence has {x.shape[1]} tokens, at most {self.config.max_positions} fit: cut it")
        x = x + self.position_embedding.weight[: x.shape[1]] + self.type_embedding.weight[0]
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x = block(x, mask)
        return x


class BertText(nn.Module):
    """t = the mean of BERT([CLS] words [SEP]) over all real tokens but [CLS]."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.bert = Bert(config)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> TextFeatures:
        """Returns the text features for ids (B,L), int64 with [CLS] first, and a mask (B,L), bool."""
        hidden = self.bert(self.bert.word_embedding(ids), mask)
        words = mask & (torch.arange(ids.shape[1], device=ids.device) > 0)
        return TextFeatures(hidden, words, masked_mean(hidden, words))


class VideoCLIP(RetrievalHead):
    """The video side of VideoCLIP. With v_t the S3D features of second t:

        x_t = W_2 LN(GELU(W_1 v_t + b_1)) + b_2;  h = BERT([CLS] x_1..x_T [SEP])
        V = the mean of h over the real frames and [SEP];  score = t · V, neither normalised nor scaled

    `frames.embed` holds v (Nv,T,F). The official code, and `official_compat`, put [SEP] after the padding, so that its
    position depends on the padded length, which is always 32 there. Otherwise [SEP] follows the last real frame, and
    the result does not depend on padding.

    Source: VideoCLIP (Xu et al. 2021), fairseq `examples/MMPT/mmpt/models/mmfusion.py`, MMFusionSeparate.
    """

    unit_length: ClassVar[bool] = False

    def __init__(self, config: BertConfig, feature_dim: int = 512, official_compat: bool = False):
        super().__init__()
        self.official_compat = official_compat
        self.bert = Bert(config)
        self.linear1 = nn.Linear(feature_dim, config.width)
        self.norm = nn.LayerNorm(config.width)  # eps 1e-5, unlike the layer norms of BERT
        self.linear2 = nn.Linear(config.width, config.width)

    def encode_video(
        self, frames: FrameFeatures, mask: torch.Tensor, special_ids: tuple[int, int] = (CLS_ID, SEP_ID)
    ) -> VideoRepr:
        """Returns V (Nv,W). special_ids: the ids of [CLS] and [SEP] in the vocabulary."""
        hidden, real = self.hidden(frames.embed, mask, special_ids)
        return VideoRepr.of(masked_mean(hidden[:, 1:], real[:, 1:]))

    def hidden(
        self, features: torch.Tensor, mask: torch.Tensor, special_ids: tuple[int, int] = (CLS_ID, SEP_ID)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the last hidden states (B,1+T+1,W) and the mask (B,1+T+1) of the real ones."""
        cls, sep = self.bert.word_embedding.weight[list(special_ids)]
        seconds = self.linear2(self.norm(F.gelu(self.linear1(features))))
        real = F.pad(mask, (1, 1), value=True)
        if self.official_compat:
            x = torch.cat((seconds, sep.expand(len(seconds), 1, -1)), 1)
        else:
            place = torch.arange(mask.shape[1] + 1, device=mask.device) == mask.sum(1, keepdim=True)
            x = torch.where(place[..., None], sep, F.pad(seconds, (0, 0, 0, 1)))
            real = F.pad(F.pad(mask, (0, 1)) | place, (1, 0), value=True)
        return self.bert(torch.cat((cls.expand(len(x), 1, -1), x), 1), real), real
