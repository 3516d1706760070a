"""A trained retrieval head as the encoder of an index.

Shapes: T frames, S pixels on each side, E shared width, B texts.
"""

from pathlib import Path

import torch

from videollm.config import EncoderConfig
from videollm.device import upload
from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.encoders.concepts import imagenet_concepts
from videollm.encoders.images import RESIZE
from videollm.encoders.segments import SegmentEncoder
from videollm.encoders.zero_shot import fingerprint
from videollm.errors import ConfigError
from videollm.retrieval import model as directory
from videollm.retrieval.clip import TextTransformer
from videollm.retrieval.files import LOCAL
from videollm.retrieval.head import unit
from videollm.retrieval.heads.videoclip import BertText
from videollm.retrieval.inputs import normalise_for, resize_of, words_of


class HeadEncoder(SegmentEncoder):
    """The FrameEncoder of a directory that `videollm.retrieval.model.save` wrote.

    A segment has the vector that the head gives its frames. The tokens of a frame are its embedding (1,E), where the
    visual tower reads each frame by itself and the head nothing else, and otherwise its pixels, uint8 (3,S*S). There
    are no concepts, so that segments have no tags.

    Raises:
        ConfigError: If the head is not indexable or has no visual tower.
    """

    def __init__(self, config: EncoderConfig, device: torch.device | str | None = None):
        self.device = torch.device(device or "cpu")
        folder = Path(config.pretrained.removeprefix(LOCAL))
        self.model = directory.load(folder, self.device).requires_grad_(False)
        head, visual, text = self.model.head, self.model.visual, self.model.text
        kind = self.model.config.head.kind
        if visual is None or isinstance(text, BertText):
            raise ConfigError(
                f"{folder}: head {kind!r} reads features of another network instead of frames, so that it cannot "
                "index; give a model with a visual tower"
            )
        if not head.indexable:
            raise ConfigError(
                f"{folder}: head {kind!r} compares each text with each video by more than one vector, so that it "
                f"cannot index; index with another model, and give this one to `videollm search --rerank {folder}`"
            )
        self.name = f"retrieval/{kind}"
        made = self.model.config
        self.revision = fingerprint(self.model.named_parameters(), repr((made.vision, made.head)))
        self.image_size, self.embed_dim = visual.config.image_size, visual.config.embed_dim
        self.by_frame = visual.config.patches == "2d" and not head.hidden_layers
        self.tokens_per_frame, self.token_dim = (1, self.embed_dim) if self.by_frame else (3, self.image_size**2)
        self.visual, self.words = visual, words_of(text, self.model.config.head.max_words)
        self.english_only = isinstance(text, TextTransformer)  # several of open_clip's models are multilingual
        self.scale = float(self.model.scale())
        self.vocabulary = imagenet_concepts().vocabulary
        # A joint tower reads a fixed number of frames, for which those of a segment are repeated or left out.
        self.fixed = visual.config.patches == "joint"
        self.frames = self.model.config.frames

    @torch.no_grad()
    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        images = RESIZE[resize_of(self.visual)](upload(pixels, self.device), self.image_size)
        if self.by_frame:
            video = normalise_for(self.visual, images)[None]
            tokens = self.model.encode_frames(video, self._all(len(images))).embed[0][:, None]
        else:
            tokens = images.round().to(torch.uint8).flatten(2)
        zeros = images.new_zeros(len(images), self.embed_dim + len(self.vocabulary.words))
        return FrameFeatures(tokens, zeros[:, : self.embed_dim], zeros[:, self.embed_dim :])

    @torch.no_grad()
    def embed_segment(self, tokens: torch.Tensor, times_s: torch.Tensor) -> torch.Tensor:
        """Returns the unit vector (1,E) of frames. Of more frames than the model was made for, that many are read,
        evenly spread. A single frame is an image to a joint tower."""
        if len(tokens) > self.frames or (self.fixed and len(tokens) > 1):
            tokens = tokens[torch.linspace(0, len(tokens) - 1, self.frames).round().long()]
        tokens, mask = tokens.to(self.device), self._all(len(tokens))
        if self.by_frame:
            none = tokens.new_zeros(1, len(tokens), 0)
            frames = FrameFeatures(none[..., None], tokens[None, :, 0], none)
            return unit(self.model.head.encode_video(frames, mask).embed)
        pixels = tokens.unflatten(-1, (self.image_size, self.image_size))
        return unit(self.model.encode_video(normalise_for(self.visual, pixels)[None], mask).embed)

    def _all(self, frames: int) -> torch.Tensor:
        return torch.ones(1, frames, dtype=torch.bool, device=self.device)

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> TextFeatures:
        ids, mask = (x.to(self.device) for x in self.words(texts))
        found = self.model.encode_text(ids, mask)
        return TextFeatures(found.tokens, found.mask, unit(found.embed))

    def reads_whole(self, text: str) -> bool:
        return self.words.reads_whole(text)
