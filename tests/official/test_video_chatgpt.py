"""A published chat checkpoint becomes a directory that answers questions about a video."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.official.published_files import WIDTH, WORDS, import_tiny_video_chatgpt, write_video_chatgpt
from videollm.chat.session import ChatSession
from videollm.checkpoint import load
from videollm.config import EncoderConfig
from videollm.datasets.schema import Message
from videollm.errors import CheckpointError
from videollm.inference.sampling import GenerationConfig
from videollm.models.published.video_chatgpt import spatio_temporal_features
from videollm.models.visual_prompting import VISUAL_TOKEN_ID
from videollm.official.video_chatgpt import CLIP, import_video_chatgpt

SAMPLE = Path(__file__).parents[2] / "scripts" / "samples" / "sample.mp4"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a person has: the published file, the language model under it, CLIP."""
    return write_video_chatgpt(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def imported(parts: Path) -> Path:
    return import_tiny_video_chatgpt(parts)


def test_video_chatgpt_answers_about_a_video(imported: Path, parts: Path):
    model = load(str(imported), "cpu")
    session = ChatSession(model, SAMPLE)
    short = GenerationConfig(max_new_tokens=4)
    answer = session.ask("What is in this video?", short)
    assert answer.receipt.visual_tokens == 100 + 16
    assert answer.receipt.segments == 1
    assert answer.evidence
    assert session.ask("And then?", short).receipt.cached_tokens > 116  # the video is read once


@torch.inference_mode()
def test_visual_tokens_are_the_published_ones(imported: Path, parts: Path):
    model = load(str(imported), "cpu")
    state = torch.load(parts / "video_chatgpt.bin", weights_only=True)
    segments = ChatSession(model, SAMPLE).segments
    prompt = model.processor([Message("user", "What is it?")], segments)
    embeds = model.llm.embed_prompt(torch.tensor([prompt.ids]), prompt.visual())
    rows = spatio_temporal_features(segments[0].tokens.float()).float()  # rounded to float16, as there
    expected = rows @ state["model.mm_projector.weight"].T + state["model.mm_projector.bias"]
    first = prompt.ids.index(VISUAL_TOKEN_ID)
    torch.testing.assert_close(embeds[0, first : first + len(rows)].float(), expected, atol=2e-2, rtol=2e-2)
    words = state["model.embed_tokens.weight"].to(embeds.dtype)
    assert torch.equal(embeds[0, first - 1], words[449])  # <vid_start>
    assert torch.equal(embeds[0, first + len(rows)], words[450])  # <vid_end>


def test_files_that_do_not_fit_are_refused(parts: Path, tmp_path: Path):
    state = torch.load(parts / "video_chatgpt.bin", weights_only=True)
    torch.save(state | {"model.embed_tokens.weight": torch.randn(WORDS + 5, WIDTH)}, tmp_path / "words.bin")
    torch.save({"model.mm_projector.weight": torch.zeros(1)}, tmp_path / "missing.bin")
    with pytest.raises(CheckpointError, match=f"{WORDS + 5} words, but .* has {WORDS + 3}"):
        import_video_chatgpt(tmp_path / "words.bin", parts / "llm", tmp_path / "out", clip(parts))
    with pytest.raises(CheckpointError, match=r"missing .*embed_tokens"):
        import_video_chatgpt(tmp_path / "missing.bin", parts / "llm", tmp_path / "out", clip(parts))


def clip(parts: Path) -> EncoderConfig:
    return replace(CLIP, pretrained=f"local-dir:{parts / 'clip'}")


def test_config_says_what_was_published(imported: Path):
    config = json.loads((imported / "config.json").read_text())["model"]
    assert config["sampling"]["rule"] == "video_chatgpt"
    assert config["temporal"]["output_norm"] is False
    assert config["encoder"]["layer"] == -2
    assert config["encoder"]["resize"] == "nearest"
