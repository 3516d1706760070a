"""Sound keeps its true times: each file has one click at a known second of the video."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.video.clips import picture, write_clip
from videollm.errors import NoAudioStreamError, VideoFormatError, VideoNotFoundError
from videollm.video.audio import SAMPLE_RATE, AudioPiece, iter_audio

RATE = 44_100
FRAME = 1024


def write_sound(
    path: Path,
    click_s: Sequence[float],
    *,
    length_s: float = 3.0,
    starts_s: float = 0.0,
    pictures: int | None = 24,
    first_picture_s: float = 0.0,
    silent_s: tuple[float, float] | None = None,
    tracks: int = 1,
) -> Path:
    """Track n clicks at click_s[n]; sound runs from starts_s for length_s, all in the container's seconds. silent_s: no
    packets are written that lie in there."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=12) if pictures else None
        if video:
            video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
            video.codec_context.time_base = Fraction(1, 12)
        sounds = [output.add_stream("pcm_s16le", rate=RATE, layout="stereo") for _ in range(tracks)]
        for number in range(pictures or 0):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts = number + round(12 * first_picture_s)
            output.mux(video.encode(frame))
        if video:
            output.mux(video.encode())
        for track, sound in enumerate(sounds):
            samples = np.zeros((2, round(length_s * RATE)), np.int16)
            at = round((click_s[track] - starts_s) * RATE)
            samples[:, at : at + 400] = 20_000
            for first in range(0, samples.shape[1], FRAME):
                time_s = starts_s + first / RATE
                if silent_s and silent_s[0] <= time_s < silent_s[1]:
                    continue
                packed = np.ascontiguousarray(samples[:, first : first + FRAME].T.reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="stereo")
                frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), round(time_s * RATE)
                output.mux(sound.encode(frame))
            output.mux(sound.encode())
    return path


def clicks(pieces: Sequence[AudioPiece]) -> list[float]:
    """When something is heard after silence."""
    found: list[float] = []
    for piece in pieces:
        for at in (piece.samples.abs() > 0.2).nonzero().flatten().tolist():
            time_s = piece.start_s + at / SAMPLE_RATE
            if not found or time_s > found[-1] + 0.05:
                found.append(time_s)
    return found


def heard(path: Path, track: int = 0) -> list[AudioPiece]:
    pieces = list(iter_audio(path, track))
    assert all(p.samples.dtype == torch.float32 and p.samples.ndim == 1 for p in pieces)
    assert all(a.end_s <= b.start_s + 1e-6 for a, b in itertools.pairwise(pieces))
    return pieces


def test_a_click_is_heard_when_it_is_played(tmp_path: Path):
    pieces = heard(write_sound(tmp_path / "clip.mkv", [1.5]))
    assert clicks(pieces) == [pytest.approx(1.5, abs=0.005)]
    assert pieces[-1].end_s == pytest.approx(3.0, abs=0.05)


@settings(max_examples=12, deadline=None)
@given(starts_s=st.floats(0, 4), first_picture_s=st.integers(0, 36).map(lambda n: n / 12), into_s=st.floats(0.2, 2.5))
def test_times_count_from_the_first_picture(tmp_path_factory, starts_s: float, first_picture_s: float, into_s: float):
    path = tmp_path_factory.mktemp("sound") / "clip.mkv"
    write_sound(path, [starts_s + into_s], starts_s=starts_s, first_picture_s=first_picture_s)
    assert clicks(heard(path)) == [pytest.approx(starts_s + into_s - first_picture_s, abs=0.01)]


def test_a_gap_keeps_what_follows_in_its_place(tmp_path: Path):
    pieces = heard(write_sound(tmp_path / "clip.mkv", [4.0], length_s=5, silent_s=(1.0, 3.0)))
    assert clicks(pieces) == [pytest.approx(4.0, abs=0.005)]
    gaps = [b.start_s - a.end_s for a, b in itertools.pairwise(pieces) if b.start_s - a.end_s > 0.1]
    assert gaps == [pytest.approx(2.0, abs=0.05)]


def test_sound_may_outlast_the_pictures(tmp_path: Path):
    assert clicks(heard(write_sound(tmp_path / "clip.mkv", [5.5], length_s=6))) == [pytest.approx(5.5, abs=0.005)]


def test_each_track_is_read_apart(tmp_path: Path):
    path = write_sound(tmp_path / "clip.mkv", [0.5, 1.75], tracks=2)
    assert clicks(heard(path, 1)) == [pytest.approx(1.75, abs=0.005)]
    with pytest.raises(NoAudioStreamError, match="it has no audio track 2; the last one is 1"):
        list(iter_audio(path, 2))


def test_a_file_without_pictures_counts_from_its_first_sound(tmp_path: Path):
    assert clicks(heard(write_sound(tmp_path / "a.wav", [1.0], pictures=None))) == [pytest.approx(1.0, abs=0.005)]


def test_refusals_name_the_reason(tmp_path: Path):
    with pytest.raises(NoAudioStreamError, match="it has no sound"):
        list(iter_audio(write_clip(tmp_path / "mute.mp4", frames=4)))
    with pytest.raises(VideoNotFoundError, match="no such file"):
        list(iter_audio(tmp_path / "absent.mp4"))
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(VideoFormatError, match="not a video or image"):
        list(iter_audio(tmp_path / "text.mp4"))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_cut_file_gives_what_it_holds(tmp_path: Path, share: float):
    whole = write_sound(tmp_path / "clip.mkv", [0.25], pictures=None).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: int(share * len(whole))])
    pieces = heard(tmp_path / "cut.mkv")
    assert clicks(pieces) == [pytest.approx(0.25, abs=0.005)]
    assert pieces[-1].end_s == pytest.approx(3 * share, abs=0.1)
