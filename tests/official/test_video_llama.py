"""Video-LLaMA's published files become a directory that answers, with the numbers of the official demo."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.published.recorded import Recorded, recorded
from tests.official.published_files import (
    EVIDENCE,
    import_tiny_video_llama,
    read_prompt,
    segment,
    write_video_llama,
)
from videollm.chat.plan import tower_cost
from videollm.checkpoint import load
from videollm.cli import main
from videollm.config import PromptLayoutName, TowerConfig
from videollm.errors import CheckpointError
from videollm.models.tower import build_tower
from videollm.official.video_llama import import_video_llama
from videollm.video.rules import uniform_indices

SAMPLE = Path(__file__).parents[2] / "scripts" / "samples" / "sample.mp4"


@pytest.fixture(scope="module")
def data() -> Recorded:
    return recorded("VideoLLaMA/vision")


@pytest.fixture(scope="module")
def files(data: Recorded, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_video_llama(data, tmp_path_factory.mktemp("video_llama"))


def imported(data: Recorded, files: list[Path], layout: PromptLayoutName) -> Path:
    out = files[0].parent / layout
    if out.exists():
        return out
    return import_tiny_video_llama(data, files, out, layout)


@pytest.mark.parametrize(("layout", "demo"), [("video_llama", "vicuna"), ("video_llama_2", "llama_v2")])
def test_prompt_embeddings_and_logits_are_the_demos(data: Recorded, files: list[Path], layout: PromptLayoutName, demo):
    model = load(str(imported(data, files, layout)), "cpu")
    chosen = uniform_indices(data.config["demo_vlen"], 8)
    frames = data.input["demo_frames_thwc"][chosen]
    seen = segment(model, frames, [i / data.config["demo_fps"] for i in chosen])
    turns = data.text["inputs"]["demo_turns"]
    for number in (1, 2):
        asked = [*turns[: number - 1], [turns[number - 1][0]]]
        _, embeds, logits = read_prompt(model, asked, seen)
        stage = f"demo_{demo}/turn{number}"
        torch.testing.assert_close(embeds, data.output[f"{stage}_inputs_embeds"], atol=2e-5, rtol=0)
        torch.testing.assert_close(logits[:, -6:], data.output[f"{stage}_logits_last6"], atol=2e-5, rtol=0)


def test_answers_about_a_video(data: Recorded, files: list[Path], capsys: pytest.CaptureFixture[str]):
    out = imported(data, files, "video_llama")
    assert main(["ask", str(SAMPLE), "What is this?", "--model", str(out), "--max-new-tokens", "4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["receipt"]["visual_tokens"] == 6
    assert answer["receipt"]["frames"] == 8
    assert answer["evidence"]


def test_the_plan_counts_the_tower():
    tower = TowerConfig(kind="eva", image_size=32, patch=8, width=64, layers=3, heads=4, mlp_width=256)
    flops, parameters = tower_cost(tower, frames=8)
    blocks = [p for p in build_tower(tower).blocks.parameters() if p.ndim == 2]  # type: ignore[union-attr]
    assert parameters == sum(p.numel() for p in blocks)
    assert flops > 2 * parameters * 17
    assert tower_cost(replace(tower, kind="umt"), 8)[0] > tower_cost(replace(tower, kind="umt"), 1)[0]


def test_missing_files_are_named(files: list[Path], tmp_path: Path):
    with pytest.raises(CheckpointError, match="no tensor query_tokens"):
        import_video_llama([files[0], files[2]], files[0].parent / "llm", tmp_path / "out", evidence=EVIDENCE)
