"""The published systems take their sizes from the weights: other widths, depths, frames and pictures work alike."""

import pytest
import torch

from tests.models.published.recorded import recorded
from videollm.errors import ConfigError
from videollm.models.published import load
from videollm.models.published.mel import MelConfig, clip_spectrograms, clip_times, resample
from videollm.models.published.pixels import train_video
from videollm.models.published.system import PublishedSystem
from videollm.models.published.umt import position_table
from videollm.models.published.video_chatgpt import spatio_temporal_features
from videollm.video.rules import middle_indices, middle_of_rounded_indices, shifted_indices


def resized(name: str, sizes: dict[int, int], without: tuple[str, ...] = (), **config) -> PublishedSystem:
    """The system with random weights, with other sizes wherever the recorded tensors have those, less some tensors."""
    data = recorded(name)
    generator = torch.Generator().manual_seed(0)
    state = {
        key: torch.randn([sizes.get(size, size) for size in value.shape], generator=generator) * 0.1
        for key, value in data.state.items()
        if not any(part in key for part in without)
    }
    return load(name, state, data.config | config)


def rows_are_independent(system: PublishedSystem, inputs: dict[str, torch.Tensor], output: str) -> torch.Tensor:
    with torch.no_grad():
        together = system(inputs)[output]
        for i in range(len(together)):
            alone = system({name: value[i : i + 1] for name, value in inputs.items()})[output]
            torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)
    return together


@pytest.mark.parametrize("frames", [1, 4, 9])
def test_video_llama_of_other_sizes(frames: int):
    sizes = {5: 3, 6: 7, 12: 9, 64: 80, 209: 100, 17: 26, 448: 300}
    system = resized("VideoLLaMA/vision", sizes, without=("layer.3.", "blocks.2.", "layers.1."))
    video = torch.randn(2, 3, frames, 20, 20)
    assert rows_are_independent(system, {"video_bcthw": video}, "inputs_llama").shape == (2, 7, 40)


def test_video_llama_takes_pictures_of_another_size_than_its_positions():
    system = resized("VideoLLaMA/vision", {})
    assert system({"video_bcthw": torch.randn(1, 3, 2, 24, 24)})["inputs_llama"].shape == (1, 6, 40)
    with pytest.raises(ConfigError, match="has positions for 12"):
        system({"video_bcthw": torch.randn(1, 3, 13, 16, 16)})


def test_video_llama_counts_placeholders():
    system = resized("VideoLLaMA/vision", {})
    ids = torch.tensor([[1, 5, *[448] * 5, 6]])
    inputs = {"video_bcthw": torch.randn(1, 3, 1, 16, 16), "stage2_conv/input_ids": ids, "stage2_conv/labels": ids}
    with pytest.raises(ValueError, match=r"\[5\] placeholders, one per row, for 6 tokens"):
        system(inputs)


@pytest.mark.parametrize(("frames", "image"), [(1, 16), (4, 16), (6, 16), (2, 24), (4, 28)])
def test_videochat2_of_other_frames_and_pictures(frames: int, image: int):
    system = resized("VideoChat2/videochat2_it", {4: 4, 3: 3, 48: 60}, without=("encoder.blocks.2.",))
    inputs = {
        "video_btchw": torch.randn(2, frames, 3, image, image),
        "instruction_ids": torch.randint(5, 80, (2, 8)),
        "instruction_mask": torch.tensor([[1] * 8, [1] * 5 + [0] * 3]),
    }
    assert rows_are_independent(system, inputs, "video_inputs_llama").shape == (2, 7, 40)


def test_videochat2_does_not_see_the_padding_of_an_instruction():
    system = resized("VideoChat2/videochat2_it", {})
    ids = torch.randint(5, 80, (1, 6))
    video = torch.randn(1, 4, 3, 16, 16)
    padded = {
        "instruction_ids": torch.nn.functional.pad(ids, (0, 4)),
        "instruction_mask": torch.tensor([[1] * 6 + [0] * 4]),
    }
    short = {"instruction_ids": ids, "instruction_mask": torch.ones_like(ids)}
    outputs = [system({"video_btchw": video, **text})["video_inputs_llama"] for text in (padded, short)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


def test_videochat2_starts_training_sequences_with_a_number_or_with_bos():
    system = resized("VideoChat2/videochat2_it", {})
    before, after = [torch.tensor([[5, 6, 7, 9]])], [torch.tensor([[8, 9, 5, 6, 7, 20, 5, 6, 7]])]
    visual = torch.randn(1, 7, 40)
    number, mask, _ = system.conversation(before, visual, after)
    system.official_compat = False
    bos, _, _ = system.conversation(before, visual, after)
    assert torch.equal(number[0, 0], torch.ones(40))
    assert torch.equal(bos[0, 0], system.llama.get_input_embeddings().weight[1])
    assert torch.equal(number[:, 1:], bos[:, 1:])
    assert mask.tolist() == [[1] * (1 + 4 + 7 + 9)]


def test_position_tables():
    plain = position_table(24, 8, grid=None)
    assert torch.equal(position_table(24, 8, frames=6, trained_frames=6, grid=2), plain)
    slower = position_table(16, 8, frames=4, trained_frames=8, grid=2)
    assert slower.shape == (1, 16, 8)
    # A still image's table repeated in time would be constant; halving the frames takes means of neighbours.
    long = position_table(32, 8, frames=8, trained_frames=8, grid=2).view(4, 2, 4, 8)
    torch.testing.assert_close(slower.view(4, 4, 8), long.mean(1))


def test_internvideo2_of_other_sizes_without_positions_for_images():
    sizes = {28: 33, 24: 40, 20: 12, 139: 90, 53: 70}
    vit = recorded("InternVideo2_stage2/internvideo2_stage2").config["vit"] | {"num_frames": 2}
    system = resized("InternVideo2_stage2/internvideo2_stage2", sizes, without=("img_pos_embed",), vit=vit)
    video = torch.randn(3, 2, 3, 16, 16)
    outputs = system({"video_btchw": video})
    assert outputs["vision_proj"].shape == (3, 12)
    # An image has the mean of the frames' positions: equal in both, they give a video of one frame its own.
    tower = system.get_submodule("vision_encoder")
    with torch.no_grad():
        tower.pos_embed[:, 17:] = tower.pos_embed[:, 1:17]
        first = tower(video[:, :1])[0]
        tower.pos_embed[:, 17:] += 1
        assert not torch.allclose(tower(video[:, :1])[0], first)


def test_video_chatgpt_pads_frames_and_takes_one_video_a_prompt():
    patches = torch.randn(3, 4, 8)
    rows = spatio_temporal_features(patches)
    assert rows.shape == (104, 8)
    assert rows[3:100].abs().max() == 0
    assert len(spatio_temporal_features(torch.randn(120, 4, 8))) == 124
    system = resized("VideoChatGPT/video_chatgpt", {64: 48, 72: 50})
    start, patch, end = 449, 448, 450
    features = torch.randn(1, 3, 32)
    ids = torch.tensor([[1, 7, start, patch, patch, patch, end, 9]])
    embeds = system.embed_prompt(ids, features)
    torch.testing.assert_close(embeds[0, 3:6], system.mm_projector(features[0]))
    text = torch.tensor([[1, 7, 8]])
    assert torch.equal(system.embed_prompt(text, features), system.llama.get_input_embeddings()(text))
    for wrong in ([start, patch, patch, end], [start, patch, end, start, patch, end]):
        with pytest.raises(ValueError, match="exactly 3 <vid_patch>"):
            system.embed_prompt(torch.tensor([[1, *wrong]]), features)


def test_sound_shorter_than_a_clip_and_at_another_rate():
    config = MelConfig(clips_per_video=2)
    short = clip_spectrograms(torch.randn(1, 8000) * 0.1, 16000, config)
    assert short.shape == (2, 1, 128, 204)
    assert torch.allclose(short[..., 60:], torch.tensor(4.268 / 9.138))  # what padding with zeros becomes
    tone = torch.sin(torch.arange(48000) * 2 * torch.pi * 440 / 48000)[None] * 0.5
    slower = resample(tone, 48000, 16000)
    expected = torch.sin(torch.arange(16000) * 2 * torch.pi * 440 / 16000) * 0.5
    torch.testing.assert_close(slower[0, 100:-100], expected[100:-100], atol=2e-3, rtol=0)
    assert clip_times(5.0, MelConfig(clips_per_video=3)) == [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)]


def test_overlapping_clips_are_shifted_twice_only_as_the_official_code_does():
    sound = torch.randn(1, 40000) * 0.1 + 0.2
    kept = sound.clone()
    config = MelConfig(clips_per_video=3)
    official, clean = (clip_spectrograms(sound, 16000, config, official_compat=c) for c in (True, False))
    assert torch.equal(sound, kept)
    assert torch.equal(official[0], clean[0])
    assert not torch.allclose(official[1], clean[1], atol=1e-3)


def test_training_pixels_wrap_around():
    """Bicubic interpolation goes below 0 at a dark edge; the official cast makes that nearly white."""
    clip = torch.zeros(3, 1, 8, 8)
    clip[..., 4:] = 255
    pixels = train_video(clip, (0, 0, 8, 8), 16)
    assert pixels[..., :6].max() > 1.5


@pytest.mark.parametrize("total", [1, 2, 7, 99, 100, 101, 1000])
@pytest.mark.parametrize("rule", [middle_of_rounded_indices, middle_indices, shifted_indices])
def test_sampled_frames_exist_and_are_in_order(rule, total: int):
    for frames in (1, 3, 8, 100):
        chosen = rule(total, frames)
        assert chosen == sorted(chosen)
        assert 0 <= chosen[0] <= chosen[-1] < total
