"""Fusion, loss, adapters, quantised loading and the checkpoint directory, on tiny random weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from videollm import checkpoint
from videollm.adapter_kinds import ADAPTERS
from videollm.checkpoint import Model
from videollm.config import AdapterName, LanguageModelConfig, LoraConfig, ModelConfig, TemporalConfig
from videollm.errors import CheckpointError, ConfigError
from videollm.features.encode import SegmentFeatures
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.language import add_adapter
from videollm.models.processor import IGNORE, Message, Prompt, collate
from videollm.models.visual_prompting import VISUAL_TOKEN_ID
from videollm.presets import DEBUG, PRESETS

WITH_LORA = replace(DEBUG, llm=replace(DEBUG.llm, lora=LoraConfig(r=4)))
TALK = [Message("user", "What is it?"), Message("assistant", "A cat.")]


def segments(count: int = 2, frames: int = 6) -> list[SegmentFeatures]:
    generator = torch.Generator().manual_seed(count)
    return [
        SegmentFeatures(
            3.0 * i,
            3.0 * i + 3,
            torch.randn(frames - i, 5, 16, generator=generator),
            3.0 * i + torch.arange(frames - i) / 2,
            torch.zeros(16),
            (),
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def model() -> Model:
    return checkpoint.build(WITH_LORA)


def prompt(model: Model, count: int = 2) -> Prompt:
    return model.processor(TALK, segments(count))


def test_visual_tokens_stand_at_their_places(model: Model):
    p = prompt(model)
    ids, visual = torch.tensor([p.ids]), p.visual()
    assert visual is not None
    embeds = model.llm.embed_prompt(ids, visual)
    tokens = model.llm.embed_segments(visual).flatten(0, 1)
    assert torch.equal(embeds[0, ids[0] == VISUAL_TOKEN_ID], tokens)
    words = model.llm.get_input_embeddings()(ids.clamp(min=0))
    assert torch.equal(embeds[0, ids[0] >= 0], words[0, ids[0] >= 0])


def test_too_few_places_raise_with_both_counts(model: Model):
    p = prompt(model)
    ids = [i for i in p.ids if i >= 0] + [VISUAL_TOKEN_ID] * 3
    with pytest.raises(ValueError, match="3 placeholders for visual tokens, but the video has 8"):
        model.llm.embed_prompt(torch.tensor([ids]), p.visual())
    with pytest.raises(ValueError, match="8 placeholders for visual tokens, but the video has 0"):
        model.llm.embed_prompt(torch.tensor([p.ids]), None)


def test_loss_equals_the_language_models_own(model: Model):
    """The loss over labelled positions only is the plain one over all logits."""
    batch = collate([prompt(model, 1), prompt(model, 3)], pad_id=1)
    ours = model.llm(**batch).loss
    labels = batch.pop("labels")
    logits = model.llm(**batch).logits
    plain = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE
    )
    assert torch.allclose(ours, plain, atol=1e-6)


def test_padding_a_batch_changes_no_logit(model: Model):
    alone, longer = prompt(model, 1), prompt(model, 3)
    batch = collate([alone, longer], pad_id=1)
    batch.pop("labels")
    both = model.llm(**batch).logits[0, : len(alone)]
    single = model.llm(torch.tensor([alone.ids]), alone.visual()).logits[0]
    assert torch.allclose(both, single, atol=1e-5)


def test_gradients_reach_projector_and_adapter_but_not_the_language_model(model: Model):
    model.llm(**collate([prompt(model)], pad_id=1)).loss.backward()
    trained = {n for n, p in model.llm.named_parameters() if p.grad is not None}
    expected = {n for n, p in model.llm.named_parameters() if not n.startswith("language_model.") or "lora_" in n}
    assert trained == expected
    model.llm.zero_grad()


@pytest.mark.parametrize("kind", ["qformer", "pool", "concat", "merge"])
def test_one_word_changes_the_temporal_module_at_an_equal_budget(kind: str):
    made = checkpoint.build(replace(DEBUG, temporal=TemporalConfig(kind=kind, queries=4, width=32, heads=2)))
    p = prompt(made)
    assert len(p) == len(made.processor(TALK, segments())) and p.ids.count(VISUAL_TOKEN_ID) == 8
    assert torch.isfinite(made.llm(**collate([p], pad_id=1)).loss)


def changed(model: Model) -> Model:
    """LoRA starts as the identity; make it something."""
    with torch.no_grad():
        for name, parameter in model.llm.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
            elif "lora_magnitude" in name or "ia3_l" in name:
                parameter.mul_(1.5)
    return model


@pytest.mark.parametrize("kind", ADAPTERS)
def test_checkpoint_round_trip(tmp_path: Path, kind: AdapterName):
    lora = LoraConfig(r=4, kind=kind)
    model = changed(checkpoint.build(replace(DEBUG, llm=replace(DEBUG.llm, lora=lora)), seed=3))
    model.llm.eval()
    checkpoint.save(model, tmp_path / "a", card="# A\n")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "adapter",
        "card.md",
        "config.json",
        "projector.safetensors",
        "tokenizer",
    ]
    adapter = json.loads((tmp_path / "a" / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "debug" and adapter.get("use_dora", False) == (kind == "dora")
    assert adapter["peft_type"] == ("IA3" if kind == "ia3" else "LORA")
    merged = checkpoint.load(str(tmp_path / "a"))
    assert merged.config == model.config
    assert merged.processor(TALK).ids == model.processor(TALK).ids
    p = prompt(model)
    want = model.llm(torch.tensor([p.ids]), p.visual()).logits
    got = merged.llm(torch.tensor([p.ids]), p.visual()).logits
    assert torch.allclose(want, got, atol=1e-5)
    bare = checkpoint.build(DEBUG, seed=3).llm.eval()(torch.tensor([p.ids]), p.visual()).logits
    assert not torch.allclose(want, bare, atol=1e-2)  # the adapter changes something
    naive = model.llm.generate(torch.tensor([p.ids]), p.visual(), max_new_tokens=8, do_sample=False)[0].tolist()
    engine = LocalEngine(merged.llm, merged.processor.stop_ids)
    said = [token.id for token in engine.stream(p, PromptCache(), GenerationConfig(max_new_tokens=8))]
    assert said and said == naive[: len(said)]
    again = checkpoint.load_directory(tmp_path / "a", trainable=True)
    learned = "ia3_l" if kind == "ia3" else "lora_A"
    assert any(learned in n and q.requires_grad for n, q in again.llm.named_parameters())
    checkpoint.save(again, tmp_path / "b")
    a, b = (load_file(tmp_path / d / "projector.safetensors") for d in "ab")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_an_adapter_of_before_its_kind_had_a_word():
    values = WITH_LORA.to_dict()
    kind = values["llm"]["lora"].pop("kind")
    values["llm"]["lora"]["dora"] = False
    old = ModelConfig.from_dict(values)
    assert kind == "lora" and old == WITH_LORA and old.sha == WITH_LORA.sha
    values["llm"]["lora"]["dora"] = True
    dora = ModelConfig.from_dict(values).llm.lora
    assert dora == LoraConfig(r=4, kind="dora")


def test_a_model_without_the_layers_of_ia3():
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=16)
    with pytest.raises(ConfigError, match=r"a GPT2LMHeadModel has none of the layers .*; take lora"):
        add_adapter(GPT2LMHeadModel(config), LoraConfig(kind="ia3"))


def broken(tmp_path: Path, what: str) -> Path:
    directory = tmp_path / what
    checkpoint.save(checkpoint.build(WITH_LORA), directory)
    config, projector = directory / "config.json", directory / "projector.safetensors"
    record, state = json.loads(config.read_text()), load_file(projector)
    if what == "no config":
        config.unlink()
    elif what == "no adapter":
        (directory / "adapter" / "adapter_model.safetensors").unlink()
    elif what == "missing key":
        save_file({k: v for k, v in state.items() if k != "visual_norm.weight"}, projector)
    elif what == "unknown key":
        save_file({**state, "surprise": torch.zeros(1)}, projector)
    elif what == "other encoder":
        record["towers"]["encoder"] = "0123"
        config.write_text(json.dumps(record))
    elif what == "unknown field":
        record["model"]["colour"] = "red"
        config.write_text(json.dumps(record))
    return directory


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no config", "no config.json"),
        ("no adapter", "adapter/ is missing"),
        ("missing key", "missing \\['visual_norm.weight'\\]"),
        ("unknown key", "unknown \\['surprise'\\]"),
        ("other encoder", "trained on encoder"),
        ("unknown field", "unknown fields colour"),
    ],
)
def test_a_broken_checkpoint_is_refused_with_the_reason(tmp_path: Path, what: str, message: str):
    with pytest.raises((CheckpointError, ConfigError), match=message):
        checkpoint.load(str(broken(tmp_path, what)))


def test_unknown_names_and_untrained_presets_are_refused():
    with pytest.raises(CheckpointError, match="neither a checkpoint directory"):
        checkpoint.load("lit")
    with pytest.raises(CheckpointError, match="nobody/nothing: there is no such directory"):
        checkpoint.load("nobody/nothing")
    with pytest.raises(CheckpointError, match="no trained weights"):
        checkpoint.load("clip_b32-smollm2_1.7b")


@pytest.mark.parametrize("name", PRESETS)
def test_configs_survive_json(name: str):
    config = PRESETS[name]
    again = ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and again.sha == config.sha


def test_a_model_without_senses_keeps_the_hash_that_it_had_before_there_were_any():
    assert DEBUG.sha == "a63de249bbdc"
    assert replace(DEBUG, senses=("speech",)).sha not in (DEBUG.sha, replace(DEBUG, senses=("objects",)).sha)
    with pytest.raises(ConfigError, match="sense is 'smell'; choose one of speech, objects"):
        ModelConfig.from_dict({**DEBUG.to_dict(), "senses": ["smell"]})


def test_a_directory_is_a_language_model_and_4bit_loads_and_trains(tmp_path: Path):
    """Any transformers directory works as the language model; NF4 with an adapter gives gradients on CPU."""
    tiny = checkpoint.build(DEBUG)
    tiny.llm.language_model.save_pretrained(tmp_path)
    tiny.processor.tokenizer.save_pretrained(tmp_path)
    plain = replace(DEBUG, llm=LanguageModelConfig(source=str(tmp_path), dtype="float32"))
    p = prompt(tiny)
    ids = torch.tensor([p.ids])
    assert torch.equal(checkpoint.build(plain).llm(ids, p.visual()).logits, tiny.llm(ids, p.visual()).logits)
    quantised = replace(plain, llm=replace(plain.llm, load_in_4bit=True))
    for lora, learned in ((LoraConfig(r=4), "lora_B"), (LoraConfig(kind="prompt"), "virtual_tokens")):
        model = checkpoint.build(replace(quantised, llm=replace(quantised.llm, lora=lora)))
        model.llm(**collate([prompt(model)], pad_id=1)).loss.backward()
        grads = [q.grad for n, q in model.llm.named_parameters() if learned in n]
        assert grads and all(g is not None and torch.isfinite(g).all() for g in grads)
        assert any(g is not None and g.abs().sum() > 0 for g in grads)


def test_a_missing_directory_or_hub_is_an_error_that_says_what_to_do(tmp_path: Path):
    for source in (str(tmp_path / "absent"), "nobody/nothing"):
        config = replace(DEBUG, llm=LanguageModelConfig(source=source))
        with pytest.raises((CheckpointError, ConfigError), match="directory"):
            checkpoint.build(config)
