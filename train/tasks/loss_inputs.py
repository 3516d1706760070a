"""What the losses of stage 1 read of a batch.

Shapes: B pairs of a video and a text, C pairs of all ranks, T frames, N tokens per frame, Q queries, W Q-Former width,
E shared width.
"""

from functools import cached_property

import torch

from train.data.batches import PairBatch, fits
from videollm.models.aligner import Aligner
from videollm.models.qformer import KeyValue
from videollm.models.video_llm import VideoLLM


class LossInputs:
    """A batch, and the values that several losses compute from it. Each is computed when it is first read."""

    def __init__(self, llm: VideoLLM | None, aligner: Aligner | None, pairs: PairBatch):
        self._llm, self._aligner, self.pairs = llm, aligner, pairs

    @property
    def llm(self) -> VideoLLM:
        assert self._llm is not None, "the run has losses on the language model"
        return self._llm

    @property
    def aligner(self) -> Aligner:
        assert self._aligner is not None, "the run has losses on texts"
        return self._aligner

    @cached_property
    def encoder_hidden_states(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the queries attend to, (B,T*N,W), and the mask of real tokens, (B,T*N)."""
        return self.aligner.encoder_hidden_states(self.pairs.videos)

    @cached_property
    def queries(self) -> tuple[torch.Tensor, tuple[KeyValue, ...]]:
        """The hidden states of the queries, (B,Q,W), and the KV cache that texts continue."""
        return self.aligner.pair.encode_images(*self.encoder_hidden_states)

    @cached_property
    def images(self) -> torch.Tensor:
        """Unit embeddings of the queries, (B,Q,E)."""
        return self.aligner.pair.embed_images(self.queries[0])

    @cached_property
    def embeds(self) -> torch.Tensor:
        """Unit embeddings of the texts, (B,E)."""
        return self.aligner.pair.embed_texts(self.pairs.texts.ids, self.pairs.texts.mask)

    def fits(self, groups: torch.Tensor) -> torch.Tensor:
        """Returns bool (B,C): which of the C pairs with these groups are right answers to each pair of the batch."""
        return fits(self.pairs.groups, groups)
