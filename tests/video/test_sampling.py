from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videollm.config import SamplingConfig
from videollm.errors import ConfigError, VideoRangeError
from videollm.sampling_config import MOST_FRAMES
from videollm.video.frames import VideoInfo
from videollm.video.rules import RULES
from videollm.video.sampling import select

gaps = st.lists(st.floats(0.001, 5), min_size=1, max_size=80)


def video(gaps_s: list[float]) -> tuple[VideoInfo, np.ndarray, np.ndarray]:
    """Frames that stay for each gap in turn; every fifth is a key frame."""
    times_s = np.concatenate([[0], np.cumsum(gaps_s[:-1])])
    info = VideoInfo(
        path="v.mp4", duration_s=float(times_s[-1] + gaps_s[-1]), width=4, height=4, fps=1.0, codec="h264", rotation=0,
        has_audio=False, content_sha="",
    )  # fmt: skip
    return info, times_s, np.arange(len(times_s)) % 5 == 0


def shown_at(times_s: np.ndarray, t: float) -> int:
    return max(i for i, time in enumerate(times_s) if i == 0 or time <= t + 1e-6)


@given(gaps, st.integers(1, 100), st.tuples(st.floats(0, 0.9), st.floats(0.05, 1)))
def test_uniform(gaps_s, count, part):
    info, times_s, is_key = video(gaps_s)
    start_s = part[0] * info.duration_s
    end_s = start_s + part[1] * (info.duration_s - start_s)
    chosen = select(info, times_s, is_key, SamplingConfig(frames=count, start_s=start_s, end_s=end_s))
    assert (np.diff(chosen) > 0).all() and 1 <= len(chosen) <= min(count, len(times_s))
    assert set(chosen) == {shown_at(times_s, start_s + (k + 0.5) * (end_s - start_s) / count) for k in range(count)}


@given(gaps, st.integers(1, 100))
def test_as_many_as_asked_for_where_no_frame_stays_longer_than_a_part(gaps_s, count):
    info, times_s, is_key = video(gaps_s)
    chosen = select(info, times_s, is_key, SamplingConfig(frames=count))
    if max(gaps_s) < info.duration_s / count:
        assert len(chosen) == count


@given(gaps, st.floats(0.05, 30), st.none() | st.integers(1, 40))
def test_rate(gaps_s, fps, most):
    info, times_s, is_key = video(gaps_s)
    chosen = select(info, times_s, is_key, SamplingConfig(fps=fps, max_frames=most))
    assert (np.diff(chosen) > 0).all()
    assert 1 <= len(chosen) <= min(most or len(times_s), len(times_s))
    if most is None:
        assert chosen[0] == 0
        for number in chosen:  # each was shown at some multiple of 1 / fps
            end_s = times_s[number + 1] if number + 1 < len(times_s) else info.duration_s
            k = np.ceil((times_s[number] - 1e-6) * fps)
            assert k / fps < end_s + 1e-6


@given(gaps, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_explicit_times_take_what_is_shown_then(gaps_s, parts):
    info, times_s, is_key = video(gaps_s)
    targets = tuple(part * info.duration_s for part in parts)
    chosen = select(info, times_s, is_key, SamplingConfig(times_s=targets))
    assert chosen.tolist() == sorted({shown_at(times_s, t) for t in targets})


@given(gaps, st.none() | st.integers(1, 20))
def test_key_frames(gaps_s, most):
    info, times_s, is_key = video(gaps_s)
    chosen = select(info, times_s, is_key, SamplingConfig(keyframes=True, max_frames=most))
    assert is_key[chosen].all() and (np.diff(chosen) > 0).all()
    assert len(chosen) == min(most or len(times_s), is_key.sum())


@given(gaps, st.integers(1, 20))
def test_a_long_video_is_read_at_key_frames_where_they_are_near(gaps_s, most):
    info, times_s, is_key = video(gaps_s)
    plain = SamplingConfig(fps=2, max_frames=most)
    near = replace(plain, near_keyframes=True)
    chosen = select(info, times_s, is_key, near)
    if info.duration_s * 2 <= most:
        assert chosen.tolist() == select(info, times_s, is_key, plain).tolist()
        return
    step_s, expected = info.duration_s / most, set()
    for k in range(most):
        target = (k + 0.5) * step_s
        distance, key = min((abs(times_s[i] - target), i) for i in np.flatnonzero(is_key))
        expected.add(key if distance < max(step_s / 2, 5.5) else shown_at(times_s, target))
    assert set(chosen) == expected and (np.diff(chosen) > 0).all()


def test_only_a_rate_without_a_limit_is_bounded():
    assert SamplingConfig(fps=2).bounded() == SamplingConfig(fps=2, max_frames=MOST_FRAMES, near_keyframes=True)
    for sampling in (SamplingConfig(frames=8), SamplingConfig(fps=2, max_frames=9), SamplingConfig(keyframes=True)):
        assert sampling.bounded() == sampling


def test_a_rate_equal_to_the_files_takes_every_frame():
    info, times_s, is_key = video([1 / 30] * 300)  # sums of 1/30 fall on either side of k/30
    assert len(select(info, times_s, is_key, SamplingConfig(fps=30))) == 300


@pytest.mark.parametrize(
    ("sampling", "reason"),
    [
        (SamplingConfig(fps=1, start_s=10), "start_s 10 must be before the end, 10.000 s"),
        (SamplingConfig(times_s=(1, 12, -3)), "times_s 12, -3 must be within 0 to 10.000 s"),
        (SamplingConfig(times_s=(1, 5), start_s=2, end_s=6), "times_s 1 must be within 2 to 6.000 s"),
        (SamplingConfig(keyframes=True, start_s=1, end_s=4), "no key frame is between 1.000 and 4.000 s"),
    ],
)
def test_times_outside_the_video(sampling, reason):
    with pytest.raises(VideoRangeError) as raised:
        select(*video([1.0] * 10), sampling)
    assert str(raised.value) == f"v.mp4: {reason}"


@pytest.mark.parametrize("rule", RULES)
def test_published_rules_count_the_frames_of_the_part(rule):
    info, times_s, is_key = video([0.1] * 40)
    whole = select(info, times_s, is_key, SamplingConfig(frames=8, rule=rule))
    assert whole.tolist() == RULES[rule](40, 8)
    part = select(info, times_s, is_key, SamplingConfig(frames=8, rule=rule, start_s=1.0, end_s=3.0))
    assert set(part) <= set(range(10, 31))
    assert 1 < len(part) <= 8


def test_a_published_rule_needs_a_number_of_frames():
    with pytest.raises(ConfigError, match="needs `frames`"):
        SamplingConfig(fps=2.0, rule="video_llama")
