"""One switch leaves out what the official code does against its own intent."""

import pytest
import torch

from tests.models.published.recorded import recorded
from videollm.models.published import load
from videollm.models.published.system import PublishedSystem


def both(name: str) -> tuple[PublishedSystem, PublishedSystem]:
    data = recorded(name)
    official, clean = (load(name, data.state, data.config | {"official_compat": compat}) for compat in (True, False))
    return official, clean


def test_frames_of_training_do_not_wrap_around():
    given = recorded("VideoLLaMA/preprocessing").input
    official, clean = (system(given)["train/video"] for system in both("VideoLLaMA/preprocessing"))
    differs = official != clean
    assert 0 < differs.float().mean() < 0.3
    assert bool((clean[differs].abs() > 1).all())  # black and white, where the interpolation overshoots


def test_features_are_not_rounded():
    pixels = recorded("VideoChatGPT/video_chatgpt").input["pixel_values"]
    official, clean = (system.video_rows(pixels) for system in both("VideoChatGPT/video_chatgpt"))  # type: ignore[operator]
    assert torch.equal(official, official.half().float())
    assert not torch.equal(clean, official)
    torch.testing.assert_close(clean, official, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("name", ["VideoLLaMA/vision", "VideoChat2/videochat2_pt"])
def test_a_real_token_that_equals_the_padding_is_learned(name: str):
    data = recorded(name)
    stage = "stage1" if "LLaMA" in name else "video"
    given = dict(data.input)
    pad = 0 if "LLaMA" in name else 2
    given[f"{stage}/caption_ids"] = given[f"{stage}/caption_ids"].clone()
    given[f"{stage}/caption_ids"][:, 1] = pad
    official, clean = (system(given)[f"{stage}/loss"] for system in both(name))
    assert official != clean
