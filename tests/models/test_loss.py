"""The loss of VideoLLM is the language model's own, for every family of causal language models, bare and with LoRA."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from videollm.config import LoraConfig
from videollm.models.labels import IGNORE
from videollm.models.language import add_adapter
from videollm.models.video_llm import VideoLLM, VideoLLMConfig
from videollm.models.visual_prompting import VISUAL_TOKEN_ID, VisualBatch
from videollm.presets import DEBUG

# What each family has that others do not; SIZES holds the rest. Soft caps are low because a tiny model's logits are
# small: at their published values a loss without them would look right.
FAMILIES: dict[str, dict[str, object]] = {
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25, "sliding_window": 8},
    "gemma": {},
    "gemma2": {"final_logit_softcapping": 0.1, "sliding_window": 8},
    "gemma3_text": {"final_logit_softcapping": 0.1, "sliding_window": 8},
    "glm": {},
    "gpt2": {},
    "gpt_neox": {},
    "granite": {"logits_scaling": 4.0},
    "llama": {},
    "mistral": {"sliding_window": 8},
    "mixtral": {"output_router_logits": True},  # adds a loss of its own, for balanced experts
    "olmo": {},
    "olmo2": {},
    "opt": {"word_embed_proj_dim": 32},
    "phi": {},
    "phi3": {},
    "qwen2": {},
    "qwen2_moe": {"output_router_logits": True},
    "qwen3": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
}
SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "n_embd": 32,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SCALED = ("cohere", "cohere2", "gemma2", "gemma3_text", "granite")
TOKENS_PER_FRAME, TOKEN_DIM = 5, 16


def tiny(family: str) -> PreTrainedModel:
    kind = CONFIG_MAPPING[family]
    default = kind()
    sizes = {name: value for name, value in SIZES.items() if hasattr(default, name)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = kind(**{**sizes, **FAMILIES[family]})
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).requires_grad_(False)


def composed(family: str, lora: bool = False) -> VideoLLM:
    language_model = tiny(family)
    if lora:
        language_model = add_adapter(language_model, LoraConfig(r=2, targets="all-linear"))
        for name, parameter in language_model.named_parameters():
            if "lora_B" in name:  # LoRA starts as the identity
                torch.nn.init.normal_(parameter, std=0.1)
    config = VideoLLMConfig(DEBUG.to_dict(), TOKEN_DIM, TOKENS_PER_FRAME)
    return VideoLLM(config, language_model).eval()


def batch() -> dict[str, Any]:
    """Two prompts of one segment each, the second padded; few labels, in different numbers at different places."""
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 99, (2, 14), generator=random)
    ids[:, 1 : 1 + DEBUG.temporal.queries] = VISUAL_TOKEN_ID
    mask = torch.ones_like(ids)
    mask[1, 11:] = 0
    labels = torch.full_like(ids, IGNORE)
    labels[0, 10:] = ids[0, 10:]
    labels[1, 8:10] = ids[1, 8:10]
    tokens = torch.randn(2, 3, TOKENS_PER_FRAME, TOKEN_DIM, generator=random)
    visual = VisualBatch(tokens, torch.arange(6.0).view(2, 3), torch.ones(2, 3, dtype=torch.bool))
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "visual": visual}


def own_output(llm: VideoLLM, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and the logits (B,L,V) that the language model computes itself from the same embeddings."""
    embeds = llm.embed_prompt(inputs["input_ids"], inputs["visual"])
    output = llm.language_model(
        inputs_embeds=embeds, attention_mask=inputs["attention_mask"], labels=inputs["labels"], use_cache=False
    )
    return output.loss, output.logits


def gradients(loss: torch.Tensor, llm: VideoLLM) -> dict[str, torch.Tensor]:
    trained = {name: p for name, p in llm.named_parameters() if p.requires_grad}
    made = torch.autograd.grad(loss, list(trained.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(trained, made, strict=True))


@pytest.mark.parametrize("lora", [False, True], ids=["bare", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_the_familys_own(family: str, lora: bool):
    llm, inputs = composed(family, lora), batch()
    expected, logits = own_output(llm, inputs)
    output = llm(**inputs)
    torch.testing.assert_close(output.loss, expected, atol=1e-6, rtol=1e-6)
    assert output.logits is None
    theirs, ours = gradients(expected, llm), gradients(output.loss, llm)
    assert any("lora_" in name for name in ours) == lora
    assert all(g.abs().sum() > 0 for n, g in ours.items() if n.startswith("visual_norm"))
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    # The logits are those of the positions before the labels.
    kept = logits[:, :-1][inputs["labels"][:, 1:] != IGNORE]
    torch.testing.assert_close(llm.labelled_logits(**inputs), kept, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", SCALED)
def test_scaled_and_capped_logits_differ_from_the_output_layers(family: str):
    """So that the test above could not pass by applying the output layer alone."""
    llm, inputs = composed(family), batch()
    embeds = llm.embed_prompt(inputs["input_ids"], inputs["visual"])
    decoder = llm.language_model.get_decoder()
    hidden = decoder(inputs_embeds=embeds, attention_mask=inputs["attention_mask"], use_cache=False)[0]
    plain = llm.language_model.get_output_embeddings()(hidden)
    loss = F.cross_entropy(plain[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten(), ignore_index=IGNORE)
    assert (loss - llm(**inputs).loss).abs() > 1e-3


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_output_layer_sees_labelled_positions_only(family: str):
    llm, inputs, seen = composed(family), batch(), []
    llm.language_model.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    llm(**inputs)
    llm.labelled_logits(**inputs)
    assert seen == [(6, 32), (6, 32)]


def test_without_labels_there_are_logits_of_every_position():
    llm, inputs = composed("gemma2"), batch()
    _, expected = own_output(llm, inputs)
    labels = inputs.pop("labels")
    output = llm(**inputs)
    assert output.loss is None and output.logits.shape == (*labels.shape, 99)
    torch.testing.assert_close(output.logits, expected)


@pytest.mark.parametrize("items", [None, 0, 5, torch.tensor(5)])
@pytest.mark.parametrize("family", ["llama", "cohere"])
def test_without_a_label_loss_and_gradients_are_zero(family: str, items: int | torch.Tensor | None):
    llm, inputs = composed(family, lora=True), batch()
    inputs["labels"].fill_(IGNORE)
    loss = llm(**inputs, num_items_in_batch=items).loss
    assert float(loss) == 0
    loss.backward()
    trained = [p for p in llm.parameters() if p.requires_grad]
    assert all(p.grad is not None and not p.grad.any() for p in trained)
    assert llm.labelled_logits(**inputs).shape == (0, 99)


@pytest.mark.parametrize("items", [24, torch.tensor(24)])
def test_num_items_in_batch_divides_the_sum_of_the_losses(items: int | torch.Tensor):
    llm, inputs = composed("granite"), batch()
    torch.testing.assert_close(llm(**inputs, num_items_in_batch=items).loss, llm(**inputs).loss * 6 / 24)


def test_saving_and_loading_go_through_checkpoints(tmp_path: Path):
    with pytest.raises(NotImplementedError, match=r"videollm\.checkpoint\.save"):
        composed("llama").save_pretrained(tmp_path)
    with pytest.raises(NotImplementedError, match=r"videollm\.load"):
        VideoLLM.from_pretrained(tmp_path)
