import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videollm.config import SegmentConfig
from videollm.features.segments import Segment, merge_segments, scene_cuts, segment, thumbnails

times = st.lists(st.floats(0.001, 10), min_size=1, max_size=60).map(lambda gaps: torch.tensor(gaps).double().cumsum(0))


def check_partition(segments: list[Segment], times_s: torch.Tensor, end_s: float) -> None:
    """Every frame in one segment, in order; each segment ends where the next starts."""
    frames = [number for part in segments for number in range(part.frames.start, part.frames.stop)]
    assert frames == list(range(len(times_s)))
    assert all(part.frames.start < part.frames.stop for part in segments)
    assert [part.start_s for part in segments] == [float(times_s[part.frames.start]) for part in segments]
    assert [part.end_s for part in segments] == [*(part.start_s for part in segments[1:]), end_s]


@given(times, st.integers(1, 20))
def test_by_time(times_s, size):
    segments = segment(times_s, SegmentConfig(frames=size), end_s=1000.0)
    check_partition(segments, times_s, 1000.0)
    assert all(part.frames.stop - part.frames.start == size for part in segments[:-1])
    assert len(segments) == -(-len(times_s) // size)


@given(times, st.integers(1, 20), st.sets(st.integers(1, 59)))
def test_by_scene(times_s, size, cuts):
    inside = sorted(cut for cut in cuts if cut < len(times_s))
    segments = segment(times_s, SegmentConfig(by="scene", frames=size), end_s=1000.0, cuts=inside)
    check_partition(segments, times_s, 1000.0)
    assert all(part.frames.stop - part.frames.start <= size for part in segments)
    assert set(inside) <= {part.frames.start for part in segments}
    assert segment(times_s, SegmentConfig(frames=size), end_s=1000.0, cuts=inside) == segment(
        times_s, SegmentConfig(frames=size), end_s=1000.0
    )


@given(times, st.integers(1, 8), st.integers(1, 30))
def test_merged(times_s, size, most):
    segments = segment(times_s, SegmentConfig(frames=size), end_s=1000.0)
    merged = merge_segments(segments, most)
    check_partition(merged, times_s, 1000.0)
    assert len(merged) == min(most, len(segments))
    sizes = [sum(part.start_s <= one.start_s < part.end_s for one in segments) for part in merged]
    assert max(sizes) - min(sizes) <= 1


def moving_scene(seed: int, frames: int, step: int = 6) -> torch.Tensor:
    """A textured picture that a camera pans over, with noise: uint8 (T,3,72,96)."""
    random = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 256, (3, 1, 1), generator=random)
    texture = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 40, generator=random), scale_factor=6)[0]
    wide = (0.5 * colours + 127 * texture).round()
    shots = torch.stack([wide[:, :, i * step : i * step + 96] for i in range(frames)])
    return (shots + torch.randint(-6, 7, shots.shape, generator=random)).clamp(0, 255).to(torch.uint8)


def test_cuts_are_found_and_camera_motion_is_not_one():
    lengths = [9, 5, 12, 7]
    pixels = torch.cat([moving_scene(seed, length) for seed, length in enumerate(lengths)])
    assert scene_cuts(pixels) == [9, 14, 26]
    small = torch.cat([thumbnails(part) for part in pixels.split(10)])
    assert small.shape == (33, 3, 32, 32) and small.dtype == torch.uint8
    assert scene_cuts(small) == [9, 14, 26]


def test_a_fade_and_a_flicker_of_light_are_no_cuts():
    scene = moving_scene(3, 12).float()
    fade = torch.linspace(1, 0.3, 12).view(-1, 1, 1, 1)
    assert scene_cuts((scene * fade).to(torch.uint8)) == []
    light = torch.tensor([1.0, 0.95]).repeat(6).view(-1, 1, 1, 1)
    assert scene_cuts((scene * light).to(torch.uint8)) == []


@pytest.mark.parametrize("frames", [0, 1])
def test_too_few_frames_for_a_cut(frames):
    assert scene_cuts(torch.zeros(frames, 3, 8, 8, dtype=torch.uint8)) == []


def test_two_unlike_frames_are_two_scenes():
    pixels = torch.cat([torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 200)]).to(torch.uint8)
    assert scene_cuts(pixels) == [1]
