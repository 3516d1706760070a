"""Re-ranking of search results by how well the text describes each of them, according to the language model."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from videollm.chat.caption import QUESTION
from videollm.features.encode import encode_video
from videollm.model import Model
from videollm.models.processor import Message
from videollm.retrieval.search import Moment

# Cosine per nat of mean log-likelihood. For 4 of 11 captions, `lite` ranks the right clip first by likelihood alone. It
# does so for 9 by cosines, and also for 9 by the sum with any weight from 0.02 to 0.1.
WEIGHT = 0.05


def rerank(model: Model, query: str, moments: Sequence[Moment]) -> list[Moment]:
    """Returns the moments in a new order, best first. A new score is the old one plus `WEIGHT` times `likelihood`.

    Each moment is decoded and encoded again. Raises VideoError if a video was removed or damaged after it was indexed.
    """
    scored = [replace(m, score=m.score + WEIGHT * likelihood(model, query, m)) for m in moments]
    return sorted(scored, key=lambda m: -m.score)


@torch.inference_mode()
def likelihood(model: Model, text: str, moment: Moment) -> float:
    """Returns the mean log probability, in nats and at most 0, of the text's tokens as a description of the moment.

    For one text, the differences between moments are those of the pointwise mutual information of text and video,
    because the text's likelihood without a video is the same for all moments.
    """
    sampling = replace(model.config.sampling, start_s=moment.start_s, end_s=moment.end_s)
    video = encode_video(moment.path, model.encoder, sampling)
    segments = video.segments(model.config, model.encoder.vocabulary)
    prompt = model.processor([Message("user", QUESTION), Message("assistant", text)], segments)
    return -float(model.llm(**model.processor.arguments(prompt, model.device)).loss)
