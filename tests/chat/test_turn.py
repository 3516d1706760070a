"""Turns about several videos, stop texts, log probabilities, and KV caches that conversations share."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest
import torch

from videollm.chat.answer import Answer
from videollm.chat.prompt_video import PromptVideo
from videollm.chat.turn import Piece, fit_to_context, generate_answer
from videollm.checkpoint import Model, load
from videollm.config import SamplingConfig
from videollm.errors import ConfigError
from videollm.features.encode import EncodedVideo, encode_video
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.inference.transformers_runner import TransformersRunner
from videollm.models.processor import Message
from videollm.models.visual_prompting import VISUAL_TOKEN_ID

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
TALK = [Message("user", "What is it?"), Message("assistant", "A cat."), Message("user", "And this?")]


@pytest.fixture(scope="module")
def model() -> Model:
    return load("debug")


@pytest.fixture(scope="module")
def video(model: Model) -> EncodedVideo:
    return encode_video(SAMPLE, model.encoder, SamplingConfig(fps=1.0))


def turn(
    model: Model,
    messages: list[Message],
    shown: list[PromptVideo],
    generation: GenerationConfig,
    cache: PromptCache | None = None,
) -> tuple[list[Piece], Answer]:
    prompt = fit_to_context(model, messages, shown, generation.max_new_tokens)
    engine = LocalEngine(model.llm, model.processor.stop_ids)
    now = perf_counter()
    *pieces, answer = generate_answer(
        model, engine, prompt, messages[-1].content, shown, cache or PromptCache(), generation, {}, now
    )
    assert isinstance(answer, Answer)
    return [p for p in pieces if isinstance(p, Piece)], answer


def test_each_video_stands_before_its_message(model: Model, video: EncodedVideo):
    shown = [PromptVideo(model, video), PromptVideo(model, video.part(0, 4), before=2)]
    prompt = fit_to_context(model, TALK, shown, 8)
    text = model.processor.tokenizer.decode([i for i in prompt.ids if i != VISUAL_TOKEN_ID])
    places = [text.index(part) for part in ("Video 0:12", "What is it?", "A cat.", "Video 0:04", "And this?")]
    assert places == sorted(places)
    assert prompt.ids.count(VISUAL_TOKEN_ID) == model.config.temporal.queries * sum(len(s.segments) for s in shown)
    _, answer = turn(model, TALK, shown, GenerationConfig(max_new_tokens=4))
    assert {e.video for e in answer.evidence} <= {0, 1}


def test_no_video_is_a_conversation_too(model: Model):
    pieces, answer = turn(model, TALK, [], GenerationConfig(max_new_tokens=8))
    assert "".join(p.text for p in pieces) == answer.text
    assert answer.evidence == () and answer.receipt.frames == answer.receipt.segments == 0


def test_a_stop_text_ends_the_answer_and_is_never_shown(model: Model):
    varied = GenerationConfig(max_new_tokens=48, temperature=2.0, seed=3)  # greedy, these weights say nothing
    _, whole = turn(model, TALK, [], varied)
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + 3]
    at = whole.text.index(stop)
    pieces, answer = turn(model, TALK, [], replace(varied, stop=("never said", stop)))
    assert answer.text == whole.text[:at] == "".join(p.text for p in pieces)
    assert answer.receipt.finish == "stop" and answer.receipt.completion_tokens < 48
    assert whole.receipt.finish == "length" and whole.receipt.truncated
    with pytest.raises(ConfigError, match="stop text is empty"):
        GenerationConfig(stop=("",))


def test_log_probabilities_are_those_of_the_chosen_tokens(model: Model):
    pieces, answer = turn(model, TALK, [], GenerationConfig(max_new_tokens=6, logprobs=3))
    tokens = [piece.token for piece in pieces if piece.token]
    assert len(tokens) == answer.receipt.completion_tokens == 6
    ids = fit_to_context(model, TALK, [], 6).ids
    for token in tokens:
        expected = model.llm(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        assert token.logprob == pytest.approx(float(expected[token.id]), abs=1e-4)
        assert token.top[0] == (token.id, token.logprob) and len(token.top) == 3  # greedy
        ids.append(token.id)


@pytest.mark.parametrize("plain", [False, True])
def test_a_forked_cache_answers_as_a_fresh_one_and_leaves_the_first_alone(
    model: Model, video: EncodedVideo, plain: bool
):
    engine = LocalEngine(model.llm, model.processor.stop_ids)
    if plain:
        engine.runner = TransformersRunner(model.llm.language_model)
    generation = GenerationConfig(max_new_tokens=8)
    prompts = [
        fit_to_context(model, [Message("user", question)], [PromptVideo(model, video)], 8)
        for question in ("One?", "Two?")
    ]
    first = PromptCache()
    answers = [list(engine.stream(prompts[0], first, generation))]
    held, size = list(first.ids), first.nbytes
    second = first.fork(len(prompts[0]) - 20)
    answers.append(list(engine.stream(prompts[1], second, generation)))
    assert second.reused > 0.7 * len(prompts[1]) and second.nbytes > 0
    assert answers == [list(engine.stream(p, PromptCache(), generation)) for p in prompts]
    assert (first.ids, first.nbytes) == (held, size)
    assert list(engine.stream(prompts[0], first, generation)) == answers[0]
    assert first.reused == len(prompts[0]) - 1
