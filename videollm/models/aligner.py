"""A text path for the temporal Q-Former: the blocks of the Q-Former also read text.

One module then aligns, matches and captions (the first stage of BLIP-2), and embeds videos and texts for search.

Shapes: B videos or texts, I segments, T frames, N tokens per frame, Q queries, W width of the Q-Former, L text tokens,
E width of the space shared by videos and texts.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from videollm.errors import CheckpointError, ConfigError
from videollm.models.published.blip2 import Blip2QFormer
from videollm.models.qformer import TemporalQFormer
from videollm.models.temporal_base import TemporalModule, clean
from videollm.models.visual_prompting import VisualBatch

FILE = "aligner.safetensors"  # in a checkpoint directory, beside the projector
MAX_WORDS = 64  # text tokens, the start token included; longer texts are cut
EMBED_DIM = 256
START, DECODE, MASK = range(3)  # special tokens, whose ids follow the tokenizer's own


class Aligner(nn.Module):
    """BLIP-2's model, whose query side shares its parameters with the temporal module, so that training either trains
    both.

    Raises ConfigError if the temporal module is not a Q-Former.
    """

    def __init__(self, temporal: TemporalModule, tokenizer: Any):
        super().__init__()
        if not isinstance(temporal, TemporalQFormer):
            raise ConfigError(
                f"training on texts (itc, itm, itg) needs the temporal module qformer; this one is a "
                f"{type(temporal).__name__}"
            )
        self.tokenizer, self.words = tokenizer, len(tokenizer)
        own = temporal.qformer
        config = replace(own.config, vocab_size=self.words + 3, max_positions=MAX_WORDS)
        self.pair = Blip2QFormer(config, embed_dim=EMBED_DIM, bos_id=self.words + DECODE)
        # The temporal module normalises the encoder's tokens itself, before it adds times and positions to them.
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
        """Returns ids (B,L), which begin with the start token, and a bool mask (B,L), False at padding."""
        rows = [[self.words + START, *ids[: MAX_WORDS - 1]] for ids in self._ids(texts)]
        pad = nn.utils.rnn.pad_sequence
        return (
            pad([torch.tensor(row) for row in rows], batch_first=True),
            pad([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True),
        )

    def reads_whole(self, text: str) -> bool:
        """Whether a text fits with its start and end tokens, without being cut."""
        return 1 + len(self._ids([text])[0]) <= MAX_WORDS

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer([f"{text}{self.tokenizer.eos_token}" for text in texts], add_special_tokens=False)[
            "input_ids"
        ]

    def encoder_hidden_states(self, visual: VisualBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what the queries attend to in each segment, (B,T*N,W), and its mask (B,T*N), False at padding."""
        tokens, elapsed_s = clean(visual.tokens.to(self.temporal.time.weight.dtype), visual.times_s, visual.mask)
        mask = visual.mask.repeat_interleave(tokens.shape[2], dim=1)
        return self.temporal.encoder_hidden_states(tokens, elapsed_s), mask

    @torch.inference_mode()
    def embed_segments(self, visual: VisualBatch) -> torch.Tensor:
        """Returns unit vectors (B,Q,E), one for each query."""
        hidden, _ = self.pair.encode_images(*self.encoder_hidden_states(visual))
        return self.pair.embed_images(hidden)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns unit vectors (B,E)."""
        device = self.pair.temperature.device
        ids, mask = self.tokenize(texts)
        return self.pair.embed_texts(ids.to(device), mask.to(device))

    def similarity(self, segments: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Returns the cosines (I,B) of each text (B,E) with the nearest query of each segment (I,Q,E)."""
        return torch.einsum("iqe,be->ibq", segments, texts).amax(-1)

    def own_state(self) -> dict[str, torch.Tensor]:
        """Returns the parameters that are not those of the temporal module, which the checkpoint's projector holds."""
        shared = {id(p) for p in self.temporal.parameters()}
        return {n: p.detach() for n, p in self.named_parameters() if id(p) not in shared}

    def save(self, directory: Path, state: dict[str, torch.Tensor] | None = None) -> None:
        """Writes `FILE` to a directory.

        Args:
            directory: The directory.
            state: The tensors by the names of `own_state`. It must be given under ZeRO-3, which divides the parameters
                among ranks. None takes `own_state`.
        """
        save_file({k: v.contiguous() for k, v in (state or self.own_state()).items()}, directory / FILE)


def load_aligner(directory: Path, temporal: TemporalModule, tokenizer: Any) -> Aligner:
    """Reads what `Aligner.save` wrote, for the temporal module of the same checkpoint.

    Raises CheckpointError if the file is missing, or its names are not those of this aligner.
    """
    path = directory / FILE
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; stage 1 writes it if it trains on texts (itc, itm, itg)")
    aligner = Aligner(temporal, tokenizer)
    state, own = load_file(path), aligner.own_state()
    if state.keys() != own.keys():
        raise CheckpointError(f"{path}: missing {sorted(own.keys() - state)}, unknown {sorted(state.keys() - own)}")
    aligner.load_state_dict(state, strict=False)
    return aligner.eval()
