"""Encoding a real file piece by piece, and cutting its features into segments."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from videollm.config import PromptConfig, SamplingConfig, SegmentConfig
from videollm.encoders.debug import DebugEncoder
from videollm.features.encode import EncodedVideo, encode_video, segment_features
from videollm.features.segments import Segment
from videollm.presets import DEBUG
from videollm.video.decoding import decode

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"


@pytest.fixture(scope="module")
def encoder() -> DebugEncoder:
    return DebugEncoder()


@pytest.fixture(scope="module")
def video(encoder: DebugEncoder) -> EncodedVideo:
    return encode_video(SAMPLE, encoder, SamplingConfig(fps=8.0))


def test_pieces_give_what_the_whole_gives(encoder: DebugEncoder, video: EncodedVideo):
    frames = decode(SAMPLE, SamplingConfig(fps=8.0), short_side=encoder.image_size)
    assert len(frames) == 96  # more than one piece
    assert torch.equal(frames.times_s, video.times_s)
    assert torch.equal(encoder.encode_frames(frames.pixels).tokens, video.features.tokens)


def test_cuts_of_the_sample_are_found_where_they_are(video: EncodedVideo):
    assert video.times_s[list(video.cuts)].tolist() == pytest.approx([4, 8], abs=1e-6)


def test_segments_tile_the_video_with_its_own_times(video: EncodedVideo, encoder: DebugEncoder):
    for by in ("time", "scene"):
        config = replace(DEBUG, segments=SegmentConfig(by=by))
        made = video.segments(config, encoder.vocabulary)
        assert torch.equal(torch.cat([s.times_s for s in made]), video.times_s)
        assert [s.end_s for s in made] == [*(s.start_s for s in made[1:]), video.end_s]
        assert all(len(s.tokens) <= config.segments.frames for s in made)
        fewer = video.segments(config, encoder.vocabulary, 2)
        assert len(fewer) == 2 and (fewer[0].start_s, fewer[-1].end_s) == (0, video.end_s)


def test_a_long_segment_gives_evenly_spread_frames_but_tags_from_all(video: EncodedVideo, encoder: DebugEncoder):
    whole = [Segment(0.0, video.end_s, slice(0, 96))]
    prompt = PromptConfig(tags=3, tag_threshold=0.0)
    (few,) = segment_features(video.features, video.times_s, whole, encoder.vocabulary, prompt, max_frames=4)
    (all_,) = segment_features(video.features, video.times_s, whole, encoder.vocabulary, prompt, max_frames=96)
    assert few.times_s.tolist() == video.times_s[[0, 32, 63, 95]].tolist()
    assert few.tags == all_.tags and torch.equal(few.embed, all_.embed)
    assert few.embed.norm() == pytest.approx(1, abs=1e-5)


def test_a_range_ends_where_it_was_asked_to(encoder: DebugEncoder):
    part = encode_video(SAMPLE, encoder, SamplingConfig(fps=2.0, start_s=3.0, end_s=5.0))
    assert part.times_s.tolist() == [3.0, 3.5, 4.0, 4.5] and part.end_s == 5.0
