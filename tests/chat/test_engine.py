"""The streaming engine against transformers' own `generate`, and the choice of a token."""

import pytest
import torch

from videollm import checkpoint
from videollm.chat.engine import Cache, Generation, LocalEngine, choose, shared_prefix
from videollm.errors import ConfigError
from videollm.models.encode import SegmentFeatures
from videollm.models.processor import Message


def test_greedy_tokens_are_those_of_transformers_generate():
    model = checkpoint.load("debug")
    generator = torch.Generator().manual_seed(0)
    segment = SegmentFeatures(
        0.0, 4.0, torch.randn(8, 5, 16, generator=generator), torch.arange(8) / 2, torch.zeros(16), ()
    )
    for question in ("What is it?", "How does it end?", "Is there a cat?"):
        prompt = model.processor([Message("user", question)], [segment])
        ours = [t.id for t in LocalEngine(model.llm, model.processor.stop_ids).stream(prompt, Cache(), Generation())]
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
    first = next(LocalEngine(model.llm, set()).stream(prompt, Cache(), Generation())).id
    assert list(LocalEngine(model.llm, {first}).stream(prompt, Cache(), Generation())) == []


def test_greedy_and_small_top_p_take_the_likeliest():
    logits = torch.tensor([0.0, 3.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    assert choose(logits, Generation(), None) == 1
    assert {choose(logits, Generation(temperature=5.0, top_p=0.1), generator) for _ in range(50)} == {1}
    assert {choose(logits, Generation(temperature=5.0), generator) for _ in range(200)} == {0, 1, 2}


def test_broken_weights_are_reported_not_answered():
    with pytest.raises(FloatingPointError, match="no finite logit"):
        choose(torch.full((3,), float("nan")), Generation(), None)


@pytest.mark.parametrize("bad", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_impossible_settings_are_refused(bad: dict[str, float]):
    with pytest.raises(ConfigError, match=str(next(iter(bad.values())))):
        Generation(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("a", "b", "n"), [([], [1], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 4], 1), ([1], [1], 1)])
def test_shared_prefix(a: list[int], b: list[int], n: int):
    assert shared_prefix(a, b) == shared_prefix(b, a) == n
