"""A second look at found moments."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.retrieval.library import BLUE, GREEN, RED, write_film
from videollm.chat.caption import QUESTION
from videollm.chat.rerank import WEIGHT, likelihood, rerank
from videollm.checkpoint import load
from videollm.features.encode import encode_video
from videollm.models.processor import Message
from videollm.retrieval.search import Moment


def test_scores_gain_the_likelihood_of_the_text_given_the_moment(tmp_path: Path):
    model = load("debug")
    film = write_film(tmp_path / "f.mp4", [RED] * 4 + [GREEN] * 4 + [BLUE] * 4)
    moments = [Moment(str(film), s, s + 4, score, (), "", 12.0) for s, score in ((0, 0.5), (4, 0.5), (8, 0.1))]
    found = rerank(model, "a green thing", moments)
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
    by_start = {m.start_s: m for m in found}
    for moment in moments:
        gain = WEIGHT * likelihood(model, "a green thing", moment)
        assert by_start[moment.start_s] == replace(moment, score=moment.score + gain) and gain < 0


def test_likelihood_is_that_of_each_token_read_one_by_one(tmp_path: Path):
    model = load("debug")
    film = write_film(tmp_path / "f.mp4", [RED] * 2 + [GREEN] * 4)
    sampling = replace(model.config.sampling, start_s=2.0, end_s=6.0)
    segments = encode_video(film, model.encoder, sampling).segments(model.config, model.encoder.vocabulary)
    prompt = model.processor([Message("user", QUESTION), Message("assistant", "a thing")], segments)
    with torch.inference_mode():
        out = model.llm(torch.tensor([prompt.ids]), prompt.visual())
    logprobs = out.logits[0, :-1].float().log_softmax(-1)
    said = [float(logprobs[i, label]) for i, label in enumerate(prompt.labels[1:]) if label >= 0]
    moment = Moment(str(film), 2.0, 6.0, 0.0, (), "", 6.0)
    assert likelihood(model, "a thing", moment) == pytest.approx(sum(said) / len(said), abs=1e-5)
