"""A second look at found moments: a language model says how well a text describes what it sees there."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from videollm.chat.caption import QUESTION
from videollm.checkpoint import Model
from videollm.features.encode import encode_video
from videollm.models.processor import Message, collate
from videollm.retrieval.search import Moment

# What a nat of log-likelihood a token is worth in cosines. Ranked by likelihood alone, `lite` finds 4 of 11 captions'
# clips first, by cosines 9, by the sum with a weight from 0.02 to 0.1 also 9.
WEIGHT = 0.05


def rerank(model: Model, query: str, moments: Sequence[Moment]) -> list[Moment]:
    """The moments by a new score, best first: the old one plus WEIGHT times `likelihood`.

    Each moment is decoded and encoded again; raises the VideoError family where a video has gone since.
    """
    scored = [replace(m, score=m.score + WEIGHT * likelihood(model, query, m)) for m in moments]
    return sorted(scored, key=lambda m: -m.score)


@torch.inference_mode()
def likelihood(model: Model, text: str, moment: Moment) -> float:
    """Mean log-probability (nats) of the text's tokens as the model's description of the moment, 0 at most.

    For one text, moments compare as by how much more likely each makes it than no video at all does.
    """
    sampling = replace(model.config.sampling, start_s=moment.start_s, end_s=moment.end_s)
    video = encode_video(moment.path, model.encoder, sampling)
    segments = video.segments(model.config, model.encoder.vocabulary)
    prompt = model.processor([Message("user", QUESTION), Message("assistant", text)], segments)
    return -float(model.llm(**collate([prompt], pad_id=0)).loss)
