"""NExT-GPT in both published forms gives the numbers, rows and prompts of its official code."""

from functools import cache

import pytest
import torch

from tests.models.published.legacy_tokenizer import LegacyTokenizer
from tests.models.published.recorded import Recorded, recorded, tokenizer_file
from tests.models.published.test_parity import TOLERANCE, close, gradient_norms, losses
from videollm.errors import CheckpointError
from videollm.models.published import load
from videollm.models.published import nextgpt_text as text
from videollm.models.published.nextgpt_legacy import PAD_ID, NextGptLegacy
from videollm.models.published.system import PublishedSystem

CURRENT, LEGACY, ADAPTED = "nextgpt_current", "nextgpt_legacy", "nextgpt_legacy_stage3_lora"
WORDS = 448  # of the recorded tokenizer


def tokenizer(counts: dict[text.Modality, int]) -> text.Tokenize:
    added = ["<Img>", "</Img>"]
    for modality, count in counts.items():
        added += text.signal_text(modality, count).split()
    legacy = LegacyTokenizer(tokenizer_file(), {word: WORDS + i for i, word in enumerate(added)})
    return lambda piece: legacy(piece, bos=False)


def stage_rows(data: Recorded) -> dict[str, list[text.Row]]:
    """The rows of every training step, made from the recorded texts."""
    counts: dict[text.Modality, int] = {"image": data.config["n_img"], "video": data.config["n_vid"]}
    counts["audio"] = data.config["n_aud"]
    tokenize, given = tokenizer(counts), data.text["inputs"]
    rows = {}
    for modality, count in counts.items():
        name = modality.capitalize()
        rows[f"stage1_{name}ToText"] = [text.describe_row(c, modality, tokenize) for c in given["captions"]]
        rows[f"stage2_TextTo{name}"] = [text.signal_row(c, modality, count, tokenize) for c in given["captions"]]
        rows[f"stage3_TextTo{name}"] = [
            text.conversation_row(turns(conversation), None, counts, tokenize)
            for conversation in given["convs"][modality]
        ]
    rows["stage3_ImageToText"] = [
        text.conversation_row(turns(conversation), "image", counts, tokenize)
        for conversation in given["convs"]["imagetotext"]
    ]
    return rows


def turns(conversation: list[dict[str, str]]) -> list[text.SignalTurn]:
    return [
        text.SignalTurn(
            question=asked["value"],
            answer=answered["value"],
            signal=None if answered["output_modality"] == "text" else answered["output_modality"],  # type: ignore[arg-type]
        )
        for asked, answered in zip(conversation[::2], conversation[1::2], strict=True)
    ]


def inputs_of(data: Recorded) -> dict[str, torch.Tensor]:
    """The recorded inputs, and for the legacy form the rows and prompts that its code made from texts."""
    if not data.text:
        return data.input
    inputs = dict(data.input)
    for stage, rows in stage_rows(data).items():
        if f"{stage}/labels" in data.inter:
            for i, (field, value) in enumerate((("input_ids", PAD_ID), ("labels", -100))):
                padded = [torch.tensor(row[i]) for row in rows]
                inputs[f"{stage}/{field}"] = torch.nn.utils.rnn.pad_sequence(padded, True, value)
    tokenize = tokenizer({"image": data.config["n_img"], "video": data.config["n_vid"], "audio": data.config["n_aud"]})
    for i, prompt in enumerate(data.text["inputs"]["gen_prompts"]):
        inputs[f"generation/prompt{i}_ids"] = torch.tensor([text.prompt_ids(prompt, tokenize)])
    return inputs


@cache
def run(file: str) -> tuple[PublishedSystem, Recorded, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    data = recorded(f"NExT-GPT/{file}")
    system = load(f"NExT-GPT/{file}", data.state, data.config)
    inputs = inputs_of(data)
    return system, data, inputs, system(inputs)


@pytest.mark.parametrize("file", [CURRENT, LEGACY, ADAPTED])
def test_every_output_equals_the_official_one(file: str):
    _, data, _, outputs = run(file)
    assert data.output.keys() == outputs.keys()
    for name, expected in data.output.items():
        close(outputs[name].detach(), expected, name, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("file", [CURRENT, LEGACY, ADAPTED])
def test_gradients_equal_the_official_ones(file: str):
    system, data, _, outputs = run(file)
    for loss, expected in losses(data).items():
        system.zero_grad()
        outputs[loss].backward(retain_graph=True)
        norms = gradient_norms(system)
        for parameter, norm in expected.items():
            if norm > 1e-6:
                close(norms[parameter], norm, f"{loss} {parameter}", atol=0, rtol=1e-4)


@pytest.mark.parametrize("file", [LEGACY, ADAPTED])
def test_labels_equal_the_official_ones(file: str):
    _, data, inputs, _ = run(file)
    recorded_stages = [name for name in data.inter if name.endswith("/labels")]
    assert recorded_stages
    for name in recorded_stages:
        assert torch.equal(inputs[name], data.inter[name]), name


def test_signal_tokens_are_the_last_of_the_vocabulary():
    system, data, _, _ = run(LEGACY)
    assert isinstance(system, NextGptLegacy)
    assert torch.cat(list(system.signals.values())).tolist() == data.inter["signal_ids"].tolist()


def test_signal_tokens_out_of_order_are_an_error():
    system, data, _, _ = run(LEGACY)
    sequence = data.input["generation/image_sequence"].flip(1)
    with pytest.raises(ValueError, match="do not follow one another"):
        system({**data.input, "generation/image_sequence": sequence})


def test_a_short_condition_is_filled_up_with_zeros():
    data = recorded(f"NExT-GPT/{LEGACY}")
    longer = load(f"NExT-GPT/{LEGACY}", data.state, data.config | {"full_length": 12})
    only = {
        name: value for name, value in data.input.items() if name.startswith(("generation/image", "generation/hid"))
    }
    found = longer(only)["generation/image_prompt_embeds"]
    expected = data.output["generation/image_prompt_embeds"]
    assert found.shape == (1, 12, expected.shape[2]) and not found[:, expected.shape[1] :].any()
    close(found[:, : expected.shape[1]].detach(), expected, "image", atol=TOLERANCE, rtol=0)


def test_rows_padded_on_the_left_give_the_same_states():
    """Losses differ from those of rows padded on the right by rounding only, where labels move with their rows."""
    data = recorded(f"NExT-GPT/{CURRENT}")
    left = load(f"NExT-GPT/{CURRENT}", data.state, data.config | {"padding_side": "left"})
    # The second row has no padding, so its states stay; the first one's signals are looked up where they were given.
    expected, found = run(CURRENT)[3], left(data.input)
    torch.testing.assert_close(found["image/logits_last6"][1], expected["image/logits_last6"][1], atol=1e-4, rtol=0)
    assert found["image/cap_loss"] != expected["image/cap_loss"]


def test_a_linear_output_projection_is_refused():
    data = recorded(f"NExT-GPT/{LEGACY}")
    kept = {name: value for name, value in data.state.items() if not name.startswith("gen_text_hidden_fcs.0.")}
    kept["gen_text_hidden_fcs.0.model.weight"] = torch.zeros(24, 32)
    with pytest.raises(CheckpointError, match="the official code cannot run"):
        load("NExT-GPT", kept, data.config)
