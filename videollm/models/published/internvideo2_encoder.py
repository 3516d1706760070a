"""InternVideo2 of the second stage as the encoder of an index: it embeds clips of a few frames, and texts, and tells
how well a text fits a clip (Wang et al. 2024; OpenGVLab InternVideo `InternVideo2/multi_modality/demo`).

Shapes: T frames, G clips of n frames, P patches, W tower width, E shared width, B texts, L text tokens.
"""

import functools
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoTokenizer

from videollm.config import EncoderConfig
from videollm.device import resolve_dtype, upload
from videollm.encoders.base import FrameFeatures, TextFeatures, batch_size
from videollm.encoders.concepts import imagenet_concepts, membership
from videollm.encoders.images import squash
from videollm.encoders.tags import concept_probabilities
from videollm.encoders.zero_shot import class_text, fingerprint
from videollm.errors import AssetError
from videollm.models.published.internvideo2_stage2 import InternVideo2Stage2, load_internvideo2_stage2
from videollm.models.published.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise

LOCAL = "local-dir:"
WEIGHTS, SETTINGS = "model.safetensors", "settings.json"
LONGEST = 40  # tokens of a text that were trained


class InternVideo2Encoder:
    """The FrameEncoder of InternVideo2's second stage.

    The tower reads n frames together, so the frames of a clip share its embedding. Frames are taken n at a time; the
    last clip repeats its last frame until it has n. A single frame is an image. tokens (T,P,W) are those of the last
    block, in the dtype of the weights; embed and concepts are float32.

    Raises:
        AssetError: If `config.pretrained` is not `local-dir:` and a folder that `videollm import-official` wrote.
    """

    english_only = True

    def __init__(self, config: EncoderConfig, device: torch.device | str | None = None):
        self.device = torch.device(device or "cpu")
        folder = Path(config.pretrained.removeprefix(LOCAL))
        if not (folder / SETTINGS).is_file():
            raise AssetError(f"{folder} has no {SETTINGS}; give the directory that `videollm import-official` wrote")
        self.settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
        state = load_file(folder / WEIGHTS)
        self.revision = fingerprint(sorted(state.items()), json.dumps(self.settings))
        self.model: InternVideo2Stage2 = load_internvideo2_stage2(state, self.settings)
        self.model.requires_grad_(False).to(self.device, resolve_dtype(config.dtype, self.device))
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.name = "internvideo2"
        vision = self.model.vision_encoder
        self.longest = min(LONGEST, self.model.text_encoder.position_embedding.num_embeddings)
        self.frames, patches = vision.frames, (vision.pos_embed.shape[1] - 1) // vision.frames
        self.image_size = vision.patch * round(patches**0.5)
        self.tokens_per_frame, self.token_dim = patches, vision.pos_embed.shape[2]
        self.embed_dim = self.model.vision_proj.out_features
        self.scale = 1 / float(self.model.temp)
        self.vocabulary = imagenet_concepts().vocabulary
        self._membership = membership(self.vocabulary).to(self.device)

    @torch.no_grad()
    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        clips, size = self._clips(pixels), max(1, batch_size(self.device) // self.frames)
        tokens, embeds = zip(*map(self.embed_clips, clips.split(size)), strict=True)
        frames = clips.shape[1]
        embed = torch.cat(embeds).repeat_interleave(frames, 0)[: len(pixels)]
        concepts = concept_probabilities(embed, self._class_text, self.scale) @ self._membership
        return FrameFeatures(torch.cat(tokens).flatten(0, 1)[: len(pixels)], embed, concepts)

    def embed_clips(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised pixels (G,n,3,S,S), n = 1 for images, to patch tokens (G,n,P,W) and unit vectors (G,E)."""
        tokens, pooled = self.model.vision_encoder(clips)
        embed = F.normalize(self.model.vision_proj(pooled).float(), dim=-1)
        return tokens[:, 1:].unflatten(1, (clips.shape[1], -1)), embed

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> TextFeatures:
        return self.embed_words(*self._words(texts))

    def embed_words(self, ids: torch.Tensor, mask: torch.Tensor) -> TextFeatures:
        """BERT's ids (B,L) and mask (B,L) bool to the features of texts."""
        tokens = self.model.text_proj(self.model.text_encoder.encode_text(ids, mask)).float()
        return TextFeatures(tokens, mask, F.normalize(tokens[:, 0], dim=-1))

    def reads_whole(self, text: str) -> bool:
        return len(self.tokenizer(text)["input_ids"]) <= self.longest

    @torch.no_grad()
    def match(self, pixels: torch.Tensor, texts: list[str]) -> torch.Tensor:
        """Returns the probability (B,) that each text describes the clip, uint8 pixels (T,3,H,W), of which the first n
        frames are read."""
        tokens, _ = self.model.vision_encoder(self._clips(pixels[: self.frames]))
        ids, mask = self._words(texts)
        hidden = self.model.text_encoder.encode_text(ids, mask)
        return self.model.match(tokens.expand(len(texts), -1, -1), hidden, mask).float().softmax(-1)[:, 1]

    def _clips(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (T,3,H,W) to normalised (G,n,3,S,S)."""
        images = normalise(squash(upload(pixels, self.device), self.image_size) / 255, IMAGENET_MEAN, IMAGENET_STD)
        images = images.to(self.model.temp.dtype)
        if len(images) == 1:
            return images[None]
        missing = -len(images) % self.frames
        return torch.cat((images, images[-1:].expand(missing, -1, -1, -1))).unflatten(0, (-1, self.frames))

    def _words(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.tokenizer(texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
        return found["input_ids"].to(self.device), found["attention_mask"].bool().to(self.device)

    @functools.cached_property
    def _class_text(self) -> torch.Tensor:
        return class_text(self, "internvideo2", self.device, keep=True)
