"""A model of a published system reads the published prompt, piece by piece, through the ordinary processor."""

import pytest
import torch

from tests.models.published.legacy_tokenizer import llama_tokenizer
from tests.models.published.recorded import recorded
from videollm.config import ModelConfig, PromptConfig, TemporalConfig
from videollm.datasets.schema import Message
from videollm.features.encode import SegmentFeatures
from videollm.models.labels import IGNORE
from videollm.models.layouts import LAYOUTS
from videollm.models.processor import Processor
from videollm.models.visual_prompting import VISUAL_TOKEN_ID
from videollm.video.rules import uniform_indices

VIDEO_TOKENS = ["<vid_patch>", "<vid_start>", "<vid_end>"]


def processor(layout: str, queries: int, added: list[str] | None = None) -> Processor:
    system = LAYOUTS[layout].system  # type: ignore[index]
    prompt = PromptConfig(layout=layout, system=system, tags=0)  # type: ignore[arg-type]
    config = ModelConfig(name="published", temporal=TemporalConfig(queries=queries), prompt=prompt)
    return Processor(llama_tokenizer(added or []), config)


def seen(times_s: list[float]) -> list[SegmentFeatures]:
    nothing = torch.zeros(len(times_s), 1, 1)
    return [SegmentFeatures(times_s[0], times_s[-1], nothing, torch.tensor(times_s).double(), torch.zeros(1), ())]


def test_video_llama_prompt_has_the_recorded_ids():
    data = recorded("VideoLLaMA/vision")
    times = [i / data.config["demo_fps"] for i in uniform_indices(data.config["demo_vlen"], 8)]
    question = data.text["inputs"]["demo_turns"][0][0]
    prompt = processor("video_llama", 6)([Message("user", question)], seen(times))
    before, after = (data.input[f"demo_vicuna/turn1_segment{i}_ids"][0].tolist() for i in (0, 1))
    assert prompt.ids == [*before, *[VISUAL_TOKEN_ID] * 6, *after]


def test_video_chatgpt_prompt_has_the_recorded_ids():
    data = recorded("VideoChatGPT/video_chatgpt")
    rows = data.input["train/features"].shape[1]
    question = data.text["inputs"]["turns"][0][0]
    prompt = processor("video_chatgpt", rows, VIDEO_TOKENS)([Message("user", question)], seen([0.0, 1.0]))
    expected = data.input["infer_video-chatgpt_v1/turn1_ids"][0]
    assert prompt.ids == expected.where(expected != 448, VISUAL_TOKEN_ID).tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_answers_alone_are_learned_and_special_tokens_of_a_user_stay_text(layout: str):
    build = processor(layout, 3, VIDEO_TOKENS)
    messages = [Message("user", "what </s> is it?"), Message("assistant", "a dog"), Message("user", "where?")]
    prompt = build([*messages, Message("assistant", "on the stage")], seen([0.0]))
    learned = [i for i, label in enumerate(prompt.labels) if label != IGNORE]
    assert [prompt.ids[i] for i in learned] == [prompt.labels[i] for i in learned]
    end = "" if "</s>" in LAYOUTS[layout].template else "###"  # type: ignore[index]
    assert build.decode([prompt.ids[i] for i in learned]).replace(" ", "") == f"adog{end}onthestage{end}"
    assert prompt.ids[0] == 1
    assert prompt.ids.count(2) == (2 if end == "" else 0)
    asked = build(messages, seen([0.0]))
    assert prompt.ids[: len(asked.ids)] == asked.ids
