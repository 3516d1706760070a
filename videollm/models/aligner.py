"""Texts for the temporal Q-Former: a second path through its own blocks, so that one module aligns, matches, captions
(BLIP-2's first stage) and embeds videos and texts for search.

Shapes: B videos or texts, T frames, N tokens a frame, Q queries, W Q-Former width, L text tokens, E shared width.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from videollm.errors import CheckpointError, ConfigError
from videollm.models.blip2 import Blip2QFormer
from videollm.models.qformer import TemporalQFormer
from videollm.models.temporal_base import TemporalModule, clean
from videollm.models.video_llm import VisualBatch

FILE = "aligner.safetensors"  # in a checkpoint directory, beside the projector
MAX_WORDS = 64
EMBED_DIM = 256
START, DECODE, MASK = range(3)  # ids that follow the tokenizer's own


class Aligner(nn.Module):
    """`pair` is BLIP-2's model whose query side is `temporal`'s: the same parameters, trained by either.

    Raises ConfigError for a temporal module that is no Q-Former.
    """

    def __init__(self, temporal: TemporalModule, tokenizer: Any):
        super().__init__()
        if not isinstance(temporal, TemporalQFormer):
            raise ConfigError(f"texts are read by a Q-Former; this temporal module is a {type(temporal).__name__}")
        self.tokenizer, self.words = tokenizer, len(tokenizer)
        own = temporal.qformer
        config = replace(own.config, vocab_size=self.words + 3, max_positions=MAX_WORDS)
        self.pair = Blip2QFormer(config, embed_dim=EMBED_DIM, bos_id=self.words + DECODE)
        self.pair.vision_norm = nn.Identity()
        for made, shared in zip(self.pair.qformer.blocks, own.blocks, strict=True):
            made.self_attention = shared.self_attention
            made.cross_attention = shared.cross_attention
            made.query_ffn = shared.query_ffn
        self.pair.qformer.query_tokens = own.query_tokens
        self.pair.qformer.norm = own.norm
        self.temporal = temporal

    @property
    def mask_id(self) -> int:
        return self.words + MASK

    def tokenize(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """ids (B,L) that start with the start token, and mask (B,L), True at real ones."""
        rows = [[self.words + START, *ids[: MAX_WORDS - 1]] for ids in self._ids(texts)]
        pad = nn.utils.rnn.pad_sequence
        return (
            pad([torch.tensor(row) for row in rows], batch_first=True),
            pad([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True),
        )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer([f"{text}{self.tokenizer.eos_token}" for text in texts], add_special_tokens=False)[
            "input_ids"
        ]

    def memory(self, visual: VisualBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the queries read of each segment, (B,T*N,W), and where it is real, (B,T*N)."""
        tokens, elapsed_s = clean(visual.tokens.to(self.temporal.time.weight.dtype), visual.times_s, visual.mask)
        return self.temporal.memory(tokens, elapsed_s), visual.mask.repeat_interleave(tokens.shape[2], dim=1)

    @torch.inference_mode()
    def embed_segments(self, visual: VisualBatch) -> torch.Tensor:
        """Unit vectors (B,Q,E), one a query; a text is as near as its nearest query."""
        hidden, _ = self.pair.encode_images(*self.memory(visual))
        return self.pair.embed_images(hidden)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors (B,E)."""
        device = self.pair.temperature.device
        ids, mask = self.tokenize(texts)
        return self.pair.embed_texts(ids.to(device), mask.to(device))

    def similarity(self, segments: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Cosines of the best query, (I,Q,E) and (B,E) to (I,B)."""
        return torch.einsum("iqe,be->ibq", segments, texts).amax(-1)

    def own_state(self) -> dict[str, torch.Tensor]:
        """What is not the temporal module's: the checkpoint's projector holds that."""
        shared = {id(p) for p in self.temporal.parameters()}
        return {n: p.detach() for n, p in self.named_parameters() if id(p) not in shared}

    def save(self, directory: Path, state: dict[str, torch.Tensor] | None = None) -> None:
        """state: by the names of `own_state`, where ZeRO-3 holds the parameters in shards."""
        save_file({k: v.contiguous() for k, v in (state or self.own_state()).items()}, directory / FILE)


def load_aligner(directory: Path, temporal: TemporalModule, tokenizer: Any) -> Aligner:
    """What `Aligner.save` wrote, for the temporal module of the same checkpoint. Raises CheckpointError."""
    path = directory / FILE
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; stage 1 writes it where it trains on texts (itc, itm, itg)")
    aligner = Aligner(temporal, tokenizer)
    state, own = load_file(path), aligner.own_state()
    if state.keys() != own.keys():
        raise CheckpointError(f"{path}: missing {sorted(own.keys() - state)}, unknown {sorted(state.keys() - own)}")
    aligner.load_state_dict(state, strict=False)
    return aligner.eval()
