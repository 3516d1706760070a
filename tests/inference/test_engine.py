"""The streaming engine against transformers' own `generate`, many streams against one, and the choice of a token."""

import pytest
import torch

from videollm import checkpoint
from videollm.errors import ConfigError
from videollm.features.encode import SegmentFeatures
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.runner import make_runner
from videollm.inference.sampling import GenerationConfig, choose
from videollm.inference.transformers_runner import TransformersRunner
from videollm.models.processor import Message, Prompt, shared_prefix


def test_greedy_tokens_are_those_of_transformers_generate():
    model = checkpoint.load("debug")
    generator = torch.Generator().manual_seed(0)
    segment = SegmentFeatures(
        0.0, 4.0, torch.randn(8, 5, 16, generator=generator), torch.arange(8) / 2, torch.zeros(16), ()
    )
    for question in ("What is it?", "How does it end?", "Is there a cat?"):
        prompt = model.processor([Message("user", question)], [segment])
        ours = [
            t.id
            for t in LocalEngine(model.llm, model.processor.stop_ids).stream(prompt, PromptCache(), GenerationConfig())
        ]
        theirs = model.llm.generate(
            torch.tensor([prompt.ids]),
            prompt.visual(),
            attention_mask=torch.ones(1, len(prompt)),
            max_new_tokens=96,
            do_sample=False,
            eos_token_id=sorted(model.processor.stop_ids),
            pad_token_id=1,
        )[0].tolist()
        assert ours == [t for t in theirs if t not in model.processor.stop_ids]


def test_generation_stops_at_the_end_of_turn():
    model = checkpoint.load("debug")
    prompt = model.processor([Message("user", "Hi")])
    first = next(LocalEngine(model.llm, set()).stream(prompt, PromptCache(), GenerationConfig())).id
    assert list(LocalEngine(model.llm, {first}).stream(prompt, PromptCache(), GenerationConfig())) == []


def test_greedy_and_small_top_p_take_the_likeliest():
    logits = torch.tensor([0.0, 3.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    assert choose(logits, GenerationConfig(), None) == 1
    assert {choose(logits, GenerationConfig(temperature=5.0, top_p=0.1), generator) for _ in range(50)} == {1}
    assert {choose(logits, GenerationConfig(temperature=5.0), generator) for _ in range(200)} == {0, 1, 2}
    tiny = 1e-320  # which float32 rounds to 0
    assert choose(logits, GenerationConfig(temperature=5.0, top_p=tiny), generator) == 1
    assert choose(logits, GenerationConfig(temperature=tiny), generator) == 1


def test_broken_weights_are_reported_not_answered():
    with pytest.raises(FloatingPointError, match="no finite logit"):
        choose(torch.full((3,), float("nan")), GenerationConfig(), None)


@pytest.mark.parametrize("bad", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_impossible_settings_are_refused(bad: dict[str, float]):
    with pytest.raises(ConfigError, match=str(next(iter(bad.values())))):
        GenerationConfig(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("a", "b", "n"), [([], [1], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 4], 1), ([1], [1], 1)])
def test_shared_prefix(a: list[int], b: list[int], n: int):
    assert shared_prefix(a, b) == shared_prefix(b, a) == n


def videos(model: checkpoint.Model, count: int) -> list[Prompt]:
    """Prompts of different lengths, about videos of different lengths or none."""
    generator = torch.Generator().manual_seed(1)
    prompts = []
    for number in range(count):
        segments = [
            SegmentFeatures(4.0 * i, 4.0 * i + 4, torch.randn(8, 5, 16, generator=generator), *TIMES)
            for i in range(number % 4)
        ]
        prompts.append(model.processor([Message("user", "What is it? " * (number + 1))], segments))
    return prompts


TIMES = torch.arange(8) / 2, torch.zeros(16), ()
SETTINGS = [
    GenerationConfig(max_new_tokens=24),
    GenerationConfig(max_new_tokens=7, temperature=2.0, seed=3, logprobs=2),
    GenerationConfig(max_new_tokens=40, temperature=1.5, top_p=0.9, seed=4),
    GenerationConfig(max_new_tokens=1, logprobs=0),
]


@pytest.mark.parametrize("kind", [make_runner, TransformersRunner])
def test_streams_that_are_read_in_turn_get_what_they_get_alone(kind: type):
    """They join at different times, after their own prompts, and leave when they end; each has its own settings."""
    model = checkpoint.load("debug")
    sizes: list[int] = []
    alone = LocalEngine(model.llm, model.processor.stop_ids)
    engine = LocalEngine(model.llm, model.processor.stop_ids, sizes.append)
    engine.runner = kind(model.llm.language_model)
    asked = [(prompt, SETTINGS[number % 4]) for number, prompt in enumerate(videos(model, 8))]
    expected = [list(alone.stream(prompt, PromptCache(), generation)) for prompt, generation in asked]

    caches, made = [PromptCache() for _ in asked], [[] for _ in asked]
    waiting, running = list(range(len(asked))), {}
    while waiting or running:
        if waiting:
            number = waiting.pop(0)
            running[number] = engine.stream(asked[number][0], caches[number], asked[number][1])
        for number, stream in list(running.items()):
            token = next(stream, None)
            if token is None:
                del running[number]
            else:
                made[number].append(token)
    for ours, theirs in zip(made, expected, strict=True):
        assert [token.id for token in ours] == [token.id for token in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert (a.logprob is None) == (b.logprob is None)
            assert a.logprob is None or a.logprob == pytest.approx(b.logprob, abs=1e-4)
            assert [i for i, _ in a.top] == [i for i, _ in b.top]
    assert max(sizes) >= 4 and sum(sizes) >= sum(map(len, expected)) > len(sizes)

    for (prompt, generation), cache, first in zip(asked, caches, expected, strict=True):  # the next turn
        longer = Prompt(prompt.ids + [token.id for token in first] + [5, 6, 7], [], prompt.segments)
        again = [token.id for token in engine.stream(longer, cache, generation)]
        assert again == [token.id for token in alone.stream(longer, PromptCache(), generation)]
        assert cache.reused >= len(prompt)


def test_a_closed_stream_leaves_the_batch_and_an_idle_one_is_at_most_a_token_ahead():
    model = checkpoint.load("debug")
    sizes: list[int] = []
    engine = LocalEngine(model.llm, set(), sizes.append)
    one, two, three = (engine.stream(prompt, PromptCache(), GenerationConfig()) for prompt in videos(model, 3))
    for stream in (one, two, three):
        next(stream)
    sizes.clear()
    for _ in range(3):
        next(one)
    assert sizes == [3, 1, 1]  # the others have not been asked for their second tokens yet
    next(two)
    next(three)
    assert sizes == [3, 1, 1]
    two.close()
    sizes.clear()
    for _ in range(2):
        next(one)
        next(three)
    assert sizes == [2, 2]
