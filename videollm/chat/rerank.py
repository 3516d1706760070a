"""Rank found moments again by how well, for a language model, the text describes each of them."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from videollm.chat.caption import QUESTION
from videollm.checkpoint import Model
from videollm.features.encode import encode_video
from videollm.models.processor import Message
from videollm.retrieval.search import Moment

# Cosines for each nat of mean log-likelihood. Of 11 captions `lite` ranks the right clip first for 4 by likelihood
# alone, for 9 by cosines, and also for 9 by the sum with any weight from 0.02 to 0.1.
WEIGHT = 0.05


def rerank(model: Model, query: str, moments: Sequence[Moment]) -> list[Moment]:
    """The moments with a new score, best first: the old one plus WEIGHT times `likelihood`.

    Each moment is decoded and encoded again. Raises the `VideoError` family where a video has been removed since.
    """
    scored = [replace(m, score=m.score + WEIGHT * likelihood(model, query, m)) for m in moments]
    return sorted(scored, key=lambda m: -m.score)


@torch.inference_mode()
def likelihood(model: Model, text: str, moment: Moment) -> float:
    """Mean log probability in nats of the text's tokens as the model's description of the moment; 0 at most.

    For one text, differences between moments are those of the pointwise mutual information of text and video, because
    the text's likelihood without a video is the same for all of them.
    """
    sampling = replace(model.config.sampling, start_s=moment.start_s, end_s=moment.end_s)
    video = encode_video(moment.path, model.encoder, sampling)
    segments = video.segments(model.config, model.encoder.vocabulary)
    prompt = model.processor([Message("user", QUESTION), Message("assistant", text)], segments)
    return -float(model.llm(**model.processor.arguments(prompt, model.device)).loss)
