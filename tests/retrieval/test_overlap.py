"""Overlapped pairs are drawn as VideoCLIP's official code draws them."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.parity import load_parity
from videollm.retrieval.overlap import OverlappedSampling

VIDEO_S = 118


def test_draws_what_the_official_code_draws():
    data = load_parity("VideoCLIP/mmfusion_separate")
    starts, ends, lengths = (data["input"][f"sampling_{n}"].tolist() for n in ("start", "end", "caplens"))
    rng, sampling, rows = random.Random(1234), OverlappedSampling(), []
    for _ in range(len(data["output"]["sampling_rows"])):
        before = rng.getstate()
        drawn = [rng.randint(0, len(lengths) - 1), rng.randint(8, 64)]
        rng.setstate(before)
        clip = sampling.sample(starts, ends, lengths, VIDEO_S, rng)
        tokens = sum(lengths[i] for i in clip.captions)
        # At most 96 tokens for both with [CLS] and two [SEP], 32 of them seconds of video.
        used = [min(clip.end_s - clip.start_s, 32), min(tokens, 61) + 3]
        rows.append([*drawn, clip.start_s, clip.end_s, clip.captions[0], clip.captions[-1] + 1, *used])
    assert torch.equal(torch.tensor(rows), data["output"]["sampling_rows"])


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 5), st.integers(1, 20)), min_size=1, max_size=12),
    st.integers(1, 60),
    st.integers(0, 1000),
    st.sampled_from([0.5, 1.0]),
)
def test_samples_lie_inside_and_end_when_long_enough(captions, video_s: int, seed: int, keep: float):
    starts, time = [], 0.0
    ends, lengths = [], []
    for gap, duration, tokens in captions:
        starts.append(time + gap)
        time = starts[-1] + duration
        ends.append(time)
        lengths.append(tokens)
    clip = OverlappedSampling(tokens=(8, 8), seconds=(3, 3), keep=keep).sample(
        starts, ends, lengths, video_s, random.Random(seed)
    )
    assert list(clip.captions) == sorted(set(clip.captions))
    assert clip.captions[0] >= 0 and clip.captions[-1] < len(lengths)
    assert 0 <= clip.start_s < clip.end_s <= video_s
    assert clip.end_s - clip.start_s == pytest.approx(min(3, video_s))
    grown = [lengths[i] for i in clip.captions]
    assert sum(grown) - max(grown[0], grown[-1]) < 8
