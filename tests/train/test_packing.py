"""Packed rows: the questions of a clip share its tokens, and their losses are those that they have alone."""

import pytest
import torch

from train.data.packing import PackedPrompt, collate_packed
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.features.encode import SegmentFeatures
from videollm.models.processor import IGNORE, Message, collate
from videollm.presets import preset


@pytest.fixture(scope="module")
def model() -> Model:
    return checkpoint.build(preset("debug"))


def prompts(model: Model, seed: int, count: int, seconds: int) -> list:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(seconds, 5, 16, generator=generator)
    segment = SegmentFeatures(0.0, float(seconds), tokens, torch.arange(seconds), torch.ones(16), ())
    return [
        model.processor([Message("user", f"Question {k}?"), Message("assistant", "no" * (k + 1))], [segment])
        for k in range(count)
    ]


def test_a_packed_question_has_the_logits_that_it_has_alone(model: Model):
    some = [prompts(model, 0, 3, 2), prompts(model, 1, 1, 3)]
    pad_id = model.processor.tokenizer.pad_token_id
    rows = [PackedPrompt.of(asked) for asked in some]
    batch = collate_packed(rows, pad_id)
    alone = [p for asked in some for p in asked]
    assert batch["input_ids"].shape[1] < sum(len(p) for p in some[0])
    with torch.no_grad():
        packed = model.llm(**{k: v for k, v in batch.items() if k != "labels"}).logits
        separate = model.llm.labelled_logits(**collate(alone, pad_id))
    # The token before a branch's first one is the last that is shared, which no label follows here.
    keep = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE) != IGNORE
    torch.testing.assert_close(packed[keep], separate, atol=1e-4, rtol=1e-4)


def test_the_loss_is_that_of_the_questions_alone(model: Model):
    asked = prompts(model, 2, 4, 2)
    pad_id = model.processor.tokenizer.pad_token_id
    with torch.no_grad():
        packed = model.llm(**collate_packed([PackedPrompt.of(asked)], pad_id)).loss
        separate = model.llm(**collate(asked, pad_id)).loss
    torch.testing.assert_close(packed, separate, atol=1e-5, rtol=1e-5)
