"""Parts of videos as files: the promised frames at the promised times, with the sound of that part."""

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.video.clips import number_of, picture, write_clip
from videollm.config import SamplingConfig
from videollm.errors import ConfigError, VideoRangeError
from videollm.video.audio import SAMPLE_RATE, iter_audio
from videollm.video.cutting import CutPart, cut
from videollm.video.decoding import decode, probe


def numbers(path: Path) -> list[int]:
    frames = decode(path, SamplingConfig(fps=1000, max_frames=1000))
    return [number_of(pixels.permute(1, 2, 0).numpy()) for pixels in frames.pixels]


def beeping(path: Path, beep_s: float, seconds: float = 2.0, codec: str = "aac") -> Path:
    """A clip of pictures 0, 1, ... at 24 a second, silent but for 50 ms of tone at beep_s."""
    with av.open(str(path), "w") as output:
        pictures, sound = output.add_stream("libx264", rate=24), output.add_stream(codec, rate=44100)
        pictures.width, pictures.height, pictures.pix_fmt = 160, 120, "yuv420p"
        for number in range(int(24 * seconds)):
            frame = av.VideoFrame.from_ndarray(picture(number))
            frame.pts, frame.time_base = number, Fraction(1, 24)
            output.mux(pictures.encode(frame))
        output.mux(pictures.encode())
        at = np.arange(int(44100 * seconds)) / 44100
        wave = np.where((at >= beep_s) & (at < beep_s + 0.05), np.sin(2 * math.pi * 1000 * at), 0).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        output.mux(sound.encode(frame))
        output.mux(sound.encode())
    return path


def heard_at(path: Path) -> float:
    """When the first loud sample is heard, in seconds from the first picture."""
    for piece in iter_audio(path):
        loud = (piece.samples.abs() > 0.2).nonzero()
        if len(loud):
            return piece.start_s + float(loud[0]) / SAMPLE_RATE
    raise AssertionError("it is silent")


@pytest.mark.parametrize(("start_s", "end_s", "expected"), [(0.5, 1.0, range(12, 24)), (0.51, 0.96, range(13, 24))])
def test_a_clip_holds_exactly_the_frames_of_its_part(tmp_path: Path, start_s: float, end_s: float, expected: range):
    source = write_clip(tmp_path / "source.mp4")
    clip = cut(source, start_s, end_s, tmp_path / "part.mp4")
    assert clip == CutPart(pytest.approx(expected[0] / 24), pytest.approx(1.0), copied=False)
    assert numbers(tmp_path / "part.mp4") == list(expected)
    assert probe(tmp_path / "part.mp4").duration_s == pytest.approx(len(expected) / 24, abs=1e-3)


def test_uneven_frame_times_stay(tmp_path: Path):
    source = write_clip(tmp_path / "source.mp4", ticks=[0, 1, 5, 6, 13, 20, 30])
    cut(source, 1 / 24, 20 / 24, tmp_path / "part.mp4")
    part = decode(tmp_path / "part.mp4", SamplingConfig(fps=1000, max_frames=1000))
    assert torch.allclose(part.times_s * 24, torch.tensor([0.0, 4, 5, 12], dtype=torch.float64), atol=1e-2)
    assert part.info.duration_s == pytest.approx(19 / 24, abs=1e-3)


@pytest.mark.parametrize("bframes", ["0", "2"])
def test_closed_groups_of_pictures_are_copied(tmp_path: Path, bframes: str):
    source = write_clip(tmp_path / "source.mp4", g="12", bf=bframes, sc_threshold="0", x264opts="open-gop=0")
    clip = cut(source, 0.5, 1.5, tmp_path / "part.mp4")
    assert clip == CutPart(pytest.approx(0.5), pytest.approx(1.5), copied=True)
    part = decode(tmp_path / "part.mp4", SamplingConfig(fps=1000, max_frames=1000))
    whole = decode(source, SamplingConfig(fps=1000, max_frames=1000))
    assert torch.equal(part.pixels, whole.pixels[12:36]), "copied pictures are the same to the bit"
    assert torch.allclose(part.times_s, whole.times_s[12:36] - 0.5, atol=1e-4)


def test_pictures_that_refer_outside_the_part_are_encoded_again(tmp_path: Path):
    source = write_clip(tmp_path / "source.mp4", g="12", bf="2", sc_threshold="0", x264opts="open-gop=1")
    assert not cut(source, 0.5, 1.5, tmp_path / "part.mp4").copied
    assert numbers(tmp_path / "part.mp4") == list(range(12, 36))


def test_rotation_is_applied(tmp_path: Path):
    source = write_clip(tmp_path / "source.mp4", rotation=90)
    cut(source, 0.5, 1.0, tmp_path / "part.mp4")
    here, there = decode(tmp_path / "part.mp4", SamplingConfig(fps=24)), decode(source, SamplingConfig(fps=24))
    assert (here.info.width, here.info.height, here.info.rotation) == (120, 160, 0)
    assert (here.pixels.float() - there.pixels[12:24].float()).abs().mean() < 4


@pytest.mark.parametrize("start_s", [0.0, 0.52, 1.1])
def test_sound_keeps_its_place(tmp_path: Path, start_s: float):
    source = beeping(tmp_path / "source.mp4", beep_s=1.25)
    clip = cut(source, start_s, 1.9, tmp_path / "part.mp4")
    assert heard_at(tmp_path / "part.mp4") == pytest.approx(1.25 - clip.start_s, abs=0.005)


def test_sound_that_cannot_be_copied_is_kept(tmp_path: Path):
    source = beeping(tmp_path / "source.mkv", beep_s=1.25, codec="ac3")
    assert not cut(source, 0.0, 2.0, tmp_path / "part.mp4").copied
    assert heard_at(tmp_path / "part.mp4") == pytest.approx(1.25, abs=0.01)


@pytest.mark.parametrize("name", ["part.gif", "part.webp"])
def test_animations_show_the_part_at_its_own_pace(tmp_path: Path, name: str):
    source = write_clip(tmp_path / "source.mp4")
    clip = cut(source, 0.5, 1.5, tmp_path / name)
    with Image.open(tmp_path / name) as image:
        shown = []
        for frame in range(image.n_frames):
            image.seek(frame)
            image.load()  # durations are known once the frame is read
            shown.append((number_of(np.array(image.convert("RGB"))), image.info["duration"]))
    assert shown[0][0] == 12 and shown[-1][0] == 33 and len(shown) == 10
    assert sum(ms for _, ms in shown) == pytest.approx(1000 * (clip.end_s - clip.start_s), abs=60)


def test_what_cannot_be_cut_is_said(tmp_path: Path):
    source = write_clip(tmp_path / "source.mp4")
    with pytest.raises(ConfigError, match=r"\.mp4, \.gif or \.webp"):
        cut(source, 0, 1, tmp_path / "part.avi")
    with pytest.raises(ConfigError, match="does not exist"):
        cut(source, 0, 1, tmp_path / "nowhere/part.mp4")
    with pytest.raises(ConfigError, match="the video itself"):
        cut(source, 0, 1, source)
    with pytest.raises(VideoRangeError, match=r"between 3\.000 and 4\.000 s; it lasts 2\.000 s"):
        cut(source, 3, 4, tmp_path / "part.mp4")
