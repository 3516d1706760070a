"""The aligner of stage 1 as the encoder of an index."""

from pathlib import Path

import torch
from torch.nn import functional as F

from videollm.checkpoint_files import read_finite
from videollm.config import EncoderConfig
from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.encoders.build import build_encoder
from videollm.encoders.segments import SegmentEncoder
from videollm.encoders.zero_shot import fingerprint
from videollm.errors import CheckpointError
from videollm.model import base, check_revision, read_config
from videollm.models.aligner import EMBED_DIM, load_aligner
from videollm.models.language import load_tokenizer
from videollm.models.temporal import build_temporal
from videollm.models.visual_prompting import VisualBatch
from videollm.retrieval.files import LOCAL

PROJECTOR, TEMPORAL = "projector.safetensors", "temporal."


class AlignerEncoder(SegmentEncoder):
    """The FrameEncoder of a checkpoint directory of stage 1 that was trained on texts (itc, itm, itg).

    A segment has one vector for each query of the Q-Former. Tokens and concepts are those of the checkpoint's frame
    encoder. The language model is not loaded.

    Raises:
        CheckpointError: If a file of the directory is missing or does not fit.
    """

    english_only = False

    def __init__(self, config: EncoderConfig, device: torch.device | str | None = None):
        folder = Path(config.pretrained.removeprefix(LOCAL))
        model, towers = read_config(folder)
        self.frames = build_encoder(model.encoder, device)
        check_revision(folder, model, towers, self.frames)
        state = read_finite(folder / PROJECTOR)
        state = {name.removeprefix(TEMPORAL): x for name, x in state.items() if name.startswith(TEMPORAL)}
        try:
            width = len(state["output.weight"])
            temporal = build_temporal(model.temporal, self.frames.token_dim, width, self.frames.tokens_per_frame)
            temporal.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{folder / PROJECTOR}: does not fit {model.temporal} in config.json") from error
        aligner = load_aligner(folder, temporal, load_tokenizer(base(model.llm, folder)))
        self.device = torch.device(device or "cpu")
        self.aligner = aligner.requires_grad_(False).to(self.device)
        self.name = f"aligner on {self.frames.name}"
        self.revision = fingerprint(aligner.named_parameters(), self.frames.revision)
        self.image_size = self.frames.image_size
        self.tokens_per_frame, self.token_dim = self.frames.tokens_per_frame, self.frames.token_dim
        self.vectors, self.embed_dim = model.temporal.queries, EMBED_DIM
        self.vocabulary, self.scale = self.frames.vocabulary, 1 / float(aligner.pair.temperature)

    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        seen = self.frames.encode_frames(pixels)
        return FrameFeatures(seen.tokens, seen.embed.new_zeros(len(pixels), self.embed_dim), seen.concepts)

    def embed_segment(self, tokens: torch.Tensor, times_s: torch.Tensor) -> torch.Tensor:
        """Returns unit vectors (Q,E), one for each query."""
        return self.aligner.embed_segments(VisualBatch.pad([tokens], [times_s]).to(self.device))[0]

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> TextFeatures:
        ids, mask = (x.to(self.device) for x in self.aligner.tokenize(texts))
        hidden, _ = self.aligner.pair.qformer(ids=ids, text_mask=mask)
        tokens = self.aligner.pair.text_proj(hidden)
        return TextFeatures(tokens, mask, F.normalize(tokens[:, 0], dim=-1))

    def reads_whole(self, text: str) -> bool:
        return self.aligner.reads_whole(text)
