"""Our forward pass for models of the Llama shape against transformers' own, on the same weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
)

from videollm.cpu.llama import LlamaRunner
from videollm.inference.runner import ModelRunner, make_runner
from videollm.inference.transformers_runner import TransformersRunner

SIZES = {
    "vocab_size": 90,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
ROPE |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def make(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if name == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**SIZES))
    elif name == "llama, wide heads, scaled positions":
        model = LlamaForCausalLM(LlamaConfig(**SIZES, head_dim=20, rope_parameters=ROPE))
    else:
        model = LlamaForCausalLM(LlamaConfig(**SIZES))
    for parameter in model.parameters():  # biases and norms start at 0 and 1, which would hide them
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


MODELS = ["llama", "llama, wide heads, scaled positions", "qwen2"]


def embeds(length: int) -> torch.Tensor:
    return torch.randn(length, SIZES["hidden_size"], generator=torch.Generator().manual_seed(length))


def read(by: ModelRunner, pieces: list[torch.Tensor]) -> torch.Tensor:
    past = by.begin()
    for piece in pieces:
        logits = by.forward([(piece, past)])[0]
    return logits


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pieces", [[1], [7], [7, 1, 1], [5, 4, 3], [300, 1, 20, 1]])
def test_logits_are_those_of_transformers(name: str, pieces: list[int]):
    model = make(name)
    x = embeds(sum(pieces))
    expected = model(inputs_embeds=x[None]).logits[0, -1]
    ours = make_runner(model)
    assert isinstance(ours, LlamaRunner)
    torch.testing.assert_close(read(ours, list(x.split(pieces))), expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(read(TransformersRunner(model), list(x.split(pieces))), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [make_runner, TransformersRunner])
@settings(max_examples=25, deadline=None)
@given(read_first=st.integers(1, 40), kept=st.integers(0, 40), then=st.integers(1, 300))
def test_what_is_forgotten_leaves_no_trace(kind: Callable[[Any], ModelRunner], read_first: int, kept: int, then: int):
    by = kind(make("qwen2"))
    kept = min(kept, read_first)
    x, new = embeds(read_first), embeds(then)
    past = by.begin()
    by.forward([(x, past)])
    past.crop(kept)
    torch.testing.assert_close(
        by.forward([(new, past)])[0], read(by, [torch.cat([x[:kept], new])]), atol=2e-5, rtol=1e-5
    )


def test_bfloat16_stays_within_its_rounding():
    model, x = make("llama"), embeds(20)
    exact = model(inputs_embeds=x[None]).logits[0, -1]
    half = model.to(torch.bfloat16)  # type: ignore[arg-type]
    theirs = half(inputs_embeds=x[None].bfloat16()).logits[0, -1]
    ours = read(make_runner(half), list(x.bfloat16().split([12, 1, 7])))
    assert (ours - exact).abs().max() <= 1.5 * (theirs - exact).abs().max()


def test_the_model_keeps_its_weights_and_memory_is_shared():
    model, x = make("qwen2"), embeds(9)
    before, expected = {k: v.clone() for k, v in model.state_dict().items()}, model(inputs_embeds=x[None]).logits
    one, two = make_runner(model), make_runner(model)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)
    torch.testing.assert_close(model(inputs_embeds=x[None]).logits, expected)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    for made in (one, two):
        assert {m.weight.untyped_storage().data_ptr() for _, _, *products in made.layers for m in products} <= own


def test_other_models_are_read_by_transformers():
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=90, n_embd=48, n_layer=1, n_head=2)).eval()
    adapted = get_peft_model(make("llama"), LoraConfig(r=2, target_modules=["q_proj"]))
    sliding = Qwen2ForCausalLM(Qwen2Config(**SIZES, use_sliding_window=True, max_window_layers=1))
    for model in (gpt2, adapted, sliding):
        assert isinstance(make_runner(model), TransformersRunner)
    x = embeds(5)
    torch.testing.assert_close(
        read(make_runner(gpt2), list(x.split([3, 2]))), gpt2(inputs_embeds=x[None]).logits[0, -1]
    )


@pytest.mark.parametrize("kind", [make_runner, TransformersRunner])
@settings(max_examples=25, deadline=None)
@given(data=st.data(), pieces=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=3), min_size=1, max_size=6))
def test_conversations_read_together_do_not_mix(
    kind: Callable[[Any], ModelRunner], data: st.DataObject, pieces: list[list[int]]
):
    """Each of any number of conversations of different lengths, which join and leave the batch at any time, gets what
    it would get alone."""
    by = kind(make("qwen2"))
    texts = [list(embeds(sum(lengths) + i)[i:].split(lengths)) for i, lengths in enumerate(pieces)]
    expected, pasts = [read(by, parts) for parts in texts], [by.begin() for _ in texts]
    while left := [i for i, parts in enumerate(texts) if parts]:
        together = data.draw(st.permutations(left))[: data.draw(st.integers(1, len(left)))]
        for i, logits in zip(together, by.forward([(texts[i].pop(0), pasts[i]) for i in together]), strict=True):
            if not texts[i]:
                torch.testing.assert_close(logits, expected[i], atol=2e-5, rtol=1e-5)


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
LONG |= {"original_max_position_embeddings": 32, "factor": 4.0}


@pytest.mark.parametrize("rope", [DYNAMIC, LONG])
@pytest.mark.parametrize("new", [[1, 1, 1], [4, 1, 9]])
def test_a_long_neighbour_does_not_change_rotary_frequencies_that_follow_the_length(rope: dict, new: list[int]):
    """Such frequencies belong to one conversation: one beyond the trained length must not change the others', whether
    they run in the same call or after it."""
    torch.manual_seed(0)
    config = LlamaConfig(**(SIZES | {"max_position_embeddings": 32}), rope_parameters=rope)
    prompts, following = [embeds(n) for n in (10, 200, 40)], [embeds(n + 20) for n in new]

    def logits(together: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        runner = make_runner(LlamaForCausalLM(config).eval().requires_grad_(False))
        assert isinstance(runner, TransformersRunner)
        caches = [runner.begin() for _ in prompts]
        rows = [(piece[:n], cache) for piece, n, cache in zip(following, new, caches, strict=True)]
        if together:
            for prompt, cache in zip(prompts, caches, strict=True):
                runner.forward([(prompt, cache)])
            return list(runner.forward(rows))
        alone = []
        for prompt, (piece, _) in zip(prompts, rows, strict=True):
            torch.manual_seed(0)
            runner = make_runner(LlamaForCausalLM(config).eval().requires_grad_(False))
            cache = runner.begin()
            runner.forward([(prompt, cache)])
            alone.append(runner.forward([(piece, cache)])[0])
        return alone

    for ours, alone in zip(logits(together=True), logits(together=False), strict=True):
        torch.testing.assert_close(ours, alone, atol=1e-6, rtol=1e-5)


FAMILIES: dict[str, type] = {
    "gemma2": Gemma2Config,
    "gemma3": Gemma3TextConfig,
    "gpt2": GPT2Config,
    "mistral": MistralConfig,
    "phi3": Phi3Config,
    "qwen3": Qwen3Config,
    "bloom": BloomConfig,
}


def tiny(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if family == "gpt2":
        config = GPT2Config(vocab_size=90, n_embd=48, n_layer=2, n_head=2)
    elif family == "bloom":
        config = BloomConfig(vocab_size=90, hidden_size=48, n_layer=2, n_head=2)
    else:
        window = {"sliding_window": 8} if family in ("gemma2", "gemma3", "mistral") else {}
        config = FAMILIES[family](**SIZES, head_dim=8, pad_token_id=0, **window)
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_batch_of_any_family_gives_what_each_conversation_gives_alone(family: str):
    """Conversations of different lengths, beyond the sliding window too, continued for several tokens."""
    model = tiny(family)
    runner, lengths = make_runner(model), (3, 30, 11)
    texts = [embeds(n + 4) for n in lengths]
    caches = [runner.begin() for _ in texts]
    for text, cache, length in zip(texts, caches, lengths, strict=True):
        runner.forward([(text[:length], cache)])
    for step in range(4):
        rows = [(text[n + step : n + step + 1], cache) for text, n, cache in zip(texts, lengths, caches, strict=True)]
        for row, text, n in zip(runner.forward(rows), texts, lengths, strict=True):
            alone = model(inputs_embeds=text[None, : n + step + 1]).logits[0, -1]
            torch.testing.assert_close(row, alone, atol=2e-5, rtol=1e-5)
