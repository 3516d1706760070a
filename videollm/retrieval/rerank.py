"""A second look at found moments: a retrieval model compares the text with their frames, as finely as its head does."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn import functional as F

from videollm.config import SamplingConfig
from videollm.encoders.images import resize_crop
from videollm.errors import ConfigError
from videollm.retrieval.clip import TextTransformer
from videollm.retrieval.inputs import Words, normalise
from videollm.retrieval.model import RetrievalModel
from videollm.retrieval.queries import split_text
from videollm.retrieval.search import Moment
from videollm.video.decode import decode


@torch.inference_mode()
def rerank(model: RetrievalModel, query: str, moments: Sequence[Moment]) -> list[Moment]:
    """The moments with the head's scores in place of their cosines, best first: what their subtitles gained them is
    theirs still. A text longer than the model reads is split, and its parts' scores are averaged, each weighted by its
    length.

    Each moment is decoded again, `max_frames` of it: raises the VideoError family where a video has gone since, and
    ConfigError where the model reads features of another network.
    """
    if model.visual is None or not isinstance(model.text, TextTransformer):
        raise ConfigError(
            f"head {model.config.head.kind!r} reads features of another network, not frames: it cannot look"
        )
    if not moments:
        return []
    read = [_frames(model, moment, model.visual.config.image_size) for moment in moments]
    device = next(model.parameters()).device
    video = model.encode_video(*(torch.stack(x).to(device) for x in zip(*read, strict=True)))
    words = Words(min(model.config.head.max_words, model.text.config.context - model.text.config.prompts))
    parts = split_text(query, words)
    weights = torch.tensor([float(len(part)) for part in parts])
    texts = model.encode_text(*(x.to(device) for x in words(parts)))
    scores = weights / weights.sum() @ model.head.score(texts, video).cpu()
    scored = [replace(m, score=score + m.bonus) for m, score in zip(moments, scores.tolist(), strict=True)]
    return sorted(scored, key=lambda m: -m.score)


def _frames(model: RetrievalModel, moment: Moment, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (T,3,S,S), zeros behind the last, and the mask (T,) of real ones; T is the head's `max_frames`."""
    length = model.config.head.max_frames
    sampling = SamplingConfig(frames=length, start_s=moment.start_s, end_s=moment.end_s)
    pixels = normalise(resize_crop(decode(moment.path, sampling, short_side=size).pixels, size))
    return F.pad(pixels, (0,) * 7 + (length - len(pixels),)), torch.arange(length) < len(pixels)
