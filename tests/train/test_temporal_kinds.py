"""Every kind of temporal module can be chosen in a recipe, learns, and is saved and loaded."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from train.configs.stage1 import STAGE1
from train.core.command import parse
from train.tasks.video_llm import starting_model
from videollm import checkpoint
from videollm.config import TemporalKind
from videollm.datasets.schema import Message
from videollm.errors import ConfigError
from videollm.features.encode import SegmentFeatures

TALK = [Message("user", "What is it?"), Message("assistant", "A cat.")]
# Video-ChatGPT has a token for each of at most 32 frames and for each of the debug encoder's five places in a frame.
MORE = {"video_chatgpt": ["--queries", "37"]}


def choose(kind: str, *more: str):
    return parse(STAGE1, "", ["debug_stage1", "--temporal", kind, *more])


@pytest.mark.parametrize("kind", get_args(TemporalKind))
def test_a_kind_chosen_in_a_recipe_learns_and_is_kept(kind: str, tmp_path: Path):
    model = starting_model(choose(kind, *MORE.get(kind, [])))  # type: ignore[arg-type]
    assert model.config.temporal.kind == kind
    frames = torch.randn(6, model.encoder.tokens_per_frame, model.encoder.token_dim)
    segment = SegmentFeatures(0.0, 3.0, frames, torch.arange(6) / 2, torch.zeros(16), ())
    inputs = model.processor.arguments(model.processor(TALK, [segment]), model.device)
    model.llm.language_model.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.llm.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(3):
        losses.append(model.llm(**inputs).loss)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[0] > losses[1] > losses[2]
    checkpoint.save(model, tmp_path)
    model.llm.eval()
    loaded = checkpoint.load(str(tmp_path), "cpu")
    with torch.inference_mode():
        torch.testing.assert_close(loaded.llm(**inputs).loss, model.llm(**inputs).loss)


def test_a_number_of_tokens_that_a_kind_cannot_have_is_said():
    with pytest.raises(ConfigError, match="kind video_chatgpt needs 37"):
        starting_model(choose("video_chatgpt"))
