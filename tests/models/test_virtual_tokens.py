"""Prompt tuning: what virtual tokens do to a model, in its checkpoint, in its engine and in its export."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from tests.models.test_video_llm import TALK, segments
from train.data.packing import PackedPrompt, collate_packed
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.config import LoraConfig
from videollm.errors import CheckpointError
from videollm.export import export
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.inference.transformers_runner import TransformersRunner
from videollm.models.language import debug_language_model
from videollm.models.processor import Message, Prompt, collate
from videollm.presets import DEBUG

COUNT = 5
CONFIG = replace(DEBUG, llm=replace(DEBUG.llm, lora=LoraConfig(kind="prompt", virtual_tokens=COUNT)))
ANSWER = GenerationConfig(max_new_tokens=8)


@pytest.fixture(scope="module")
def model() -> Model:
    made = checkpoint.build(CONFIG, seed=3)
    assert made.llm.virtual_tokens is not None
    torch.nn.init.normal_(made.llm.virtual_tokens.weight, generator=torch.Generator().manual_seed(1))
    made.llm.eval()
    return made


@pytest.fixture(scope="module")
def saved(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("prompt") / "saved"
    checkpoint.save(model, directory)
    return directory


def asked(model: Model, question: str = "What is it?", count: int = 2) -> Prompt:
    return model.processor([Message("user", question)], segments(count) if count else [])


@torch.inference_mode()
def naive(model: Model, prompt: Prompt, steps: int) -> list[int]:
    """Greedy tokens by a whole forward pass of the bare language model for each, on concatenated embeddings."""
    ids = torch.tensor([[i for i in prompt.ids if i >= -2]])
    plain = checkpoint.build(DEBUG, seed=3).llm.eval()
    plain.load_state_dict(model.llm.state_dict(), strict=False)
    tokens = model.llm.virtual_tokens
    assert tokens is not None and ids.shape[1] == len(prompt) - COUNT
    embeds, said = torch.cat([tokens.weight[None], plain.embed_prompt(ids, prompt.visual())], 1), []
    for _ in range(steps):
        said.append(int(plain.language_model(inputs_embeds=embeds).logits[0, -1].argmax()))
        embeds = torch.cat([embeds, plain.embed_words(said[-1:])[None]], 1)
    return said


@pytest.mark.parametrize("count", [0, 2], ids=["text alone", "video"])
def test_a_saved_model_answers_as_a_naive_loop_and_as_peft(model: Model, saved: Path, count: int):
    loaded, prompt = checkpoint.load(str(saved)), asked(model, count=count)
    assert loaded.config == model.config and loaded.processor(TALK).ids == model.processor(TALK).ids
    said = [t.id for t in LocalEngine(loaded.llm, set()).stream(prompt, PromptCache(), ANSWER)]
    assert said == naive(model, prompt, 8)
    generated = loaded.llm.generate(torch.tensor([prompt.ids]), prompt.visual(), max_new_tokens=8, do_sample=False)
    assert generated[0].tolist() == said[: len(generated[0])]
    by_peft = PeftModel.from_pretrained(debug_language_model(), str(saved / "adapter"))
    with torch.inference_mode():
        embeds = model.llm.embed_prompt(torch.tensor([prompt.ids]), prompt.visual())
        ones = torch.ones(1, embeds.shape[1] - COUNT, dtype=torch.long)
        theirs = by_peft(inputs_embeds=embeds[:, COUNT:], attention_mask=ones).logits
        torch.testing.assert_close(model.llm(torch.tensor([prompt.ids]), prompt.visual()).logits, theirs)
        bare = checkpoint.build(DEBUG).llm.language_model(inputs_embeds=embeds[:, COUNT:]).logits
    assert not torch.allclose(theirs[:, COUNT:], bare, atol=1e-2)


@pytest.mark.parametrize("by_transformers", [False, True])
def test_turns_and_conversations_share_the_cache(model: Model, by_transformers: bool):
    engine = LocalEngine(model.llm, set())
    if by_transformers:
        engine.runner = TransformersRunner(model.llm.language_model)
    cache, first, second = PromptCache(), asked(model, "What is it?"), asked(model, "Where is the cat?")
    assert [t.id for t in engine.stream(first, cache, ANSWER)] == naive(model, first, 8)
    fork = cache.fork(first.ids.index(-1))  # the virtual tokens and the words before the video
    assert [t.id for t in engine.stream(second, fork, ANSWER)] == naive(model, second, 8)
    assert fork.reused == first.ids.index(-1) > COUNT
    inside = cache.fork(COUNT - 2)
    assert [t.id for t in engine.stream(second, inside, ANSWER)] == naive(model, second, 8)
    assert inside.reused == COUNT - 2
    assert [t.id for t in engine.stream(second, cache, ANSWER)] == naive(model, second, 8)
    assert cache.reused > first.ids.index(-1)


def test_only_the_tokens_and_the_projector_learn(model: Model):
    model.llm(**collate([model.processor(TALK, segments()), model.processor(TALK)], pad_id=1)).loss.backward()
    trained = {n for n, p in model.llm.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    model.llm.zero_grad()
    assert "virtual_tokens.weight" in trained and not any(n.startswith("language_model") for n in trained)


def test_questions_in_one_row_have_the_loss_that_they_have_alone(model: Model):
    talks = [[Message("user", q), Message("assistant", a)] for q, a in (("What?", "A cat."), ("Where?", "On a mat."))]
    prompts = [model.processor(talk, segments()) for talk in talks]
    packed = model.llm(**collate_packed([PackedPrompt.of(prompts)], pad_id=1)).loss
    torch.testing.assert_close(packed, model.llm(**collate(prompts, pad_id=1)).loss)


def test_an_export_keeps_the_tokens_beside_the_language_model(model: Model, saved: Path, tmp_path: Path):
    proof = export(saved, tmp_path / "out", "float32")
    assert proof.merging == proof.rounding == 0
    exported, prompt = checkpoint.load(str(tmp_path / "out")), asked(model)
    assert exported.config.llm.source == "own:language_model" and exported.config.llm.lora == CONFIG.llm.lora
    said = [t.id for t in LocalEngine(exported.llm, set()).stream(prompt, PromptCache(), ANSWER)]
    assert said == naive(model, prompt, 8)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda d: (d / "adapter_model.safetensors").unlink(), "adapter/ is missing"),
        (lambda d: settings(d, num_virtual_tokens=7), "num_virtual_tokens is 7, and config.json says 5"),
        (lambda d: settings(d, peft_type="LORA"), "peft_type is 'LORA'"),
        (lambda d: tensors(d, torch.zeros(COUNT, 8)), "wrong shape"),
        (lambda d: tensors(d, torch.full((COUNT, 64), torch.inf)), "infinite"),
    ],
)
def test_files_that_do_not_fit_are_named(saved: Path, tmp_path: Path, broken, message: str):
    directory = tmp_path / "broken"
    checkpoint.save(checkpoint.load_directory(saved), directory)
    broken(directory / "adapter")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_directory(directory)


def settings(adapter: Path, **values: object) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def tensors(adapter: Path, value: torch.Tensor) -> None:
    file = adapter / "adapter_model.safetensors"
    assert load_file(file).keys() == {"prompt_embeddings"}
    save_file({"prompt_embeddings": value}, file)
