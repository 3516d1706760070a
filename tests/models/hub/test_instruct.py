"""InstructBLIP, tiny and random: the features of a video depend on the question. What it shares with other families is
tested in `test_families.py`."""

import json
from pathlib import Path

import pytest
import torch

from scripts.tiny_hub.__main__ import write
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.datasets.schema import Message
from videollm.errors import CheckpointError, ConfigError
from videollm.features.encode import SegmentFeatures
from videollm.models.hub.prompt import HubPrompt

FRAMES = torch.arange(6 * 3 * 56 * 56).reshape(6, 3, 56, 56).to(torch.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    write("instructblipvideo", folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    model = checkpoint.load(str(folder), evidence_encoder="debug")
    model.llm.float()
    return model


def prompt_of(model: Model, *said: str) -> HubPrompt:
    roles = ("user", "assistant", "user")
    segment = SegmentFeatures(0.0, 6.0, FRAMES, torch.arange(6.0), torch.zeros(16), ())
    prompt = model.processor([Message(role, text) for role, text in zip(roles, said, strict=False)], [segment])
    assert isinstance(prompt, HubPrompt)
    return prompt


def test_the_question_changes_what_is_seen_and_a_cache_of_another_is_not_used(model: Model):
    one, two = prompt_of(model, "Who is it?"), prompt_of(model, "Where is it?")
    features = [
        model.llm.language_model.get_video_features(
            p.tensors["pixel_values"],
            p.tensors["qformer_input_ids"],
        ).pooler_output
        for p in (one, two)
    ]
    assert features[0].shape[1] == one.visual_tokens == 6 * 4  # any number of frames, four queries each
    assert not torch.allclose(*features, atol=1e-3)
    assert two.reusable(one.ids) == 0
    assert prompt_of(model, "Who is it?", "A cat.", "Where is it?").reusable(one.ids) == len(one)


def test_what_cannot_be_read_is_said(model: Model, folder: Path):
    with pytest.raises(ConfigError, match="Q-Former reads at most 512"):
        prompt_of(model, "Who? " * 200)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"model_type": "t5", "is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="t5 has an encoder of its own"):
        checkpoint.load(str(folder), evidence_encoder="debug")
