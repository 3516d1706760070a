"""Montages and their edit lists: the promised frames at the promised times, the sound of each part, and music."""

import math
import wave
from pathlib import Path
from typing import Any

import numpy as np
import opentimelineio as otio
import pytest
import torch

from tests.video.clips import write_clip
from tests.video.test_cutting import beeping, heard_at, numbers
from videollm.config import SamplingConfig
from videollm.errors import ConfigError, NoAudioStreamError, VideoFormatError, VideoRangeError
from videollm.video.audio import iter_audio
from videollm.video.decoding import decode, probe
from videollm.video.montage import FADE_S, MUSIC_GAIN, MontageShot, Placed, write_montage
from videollm.video.timeline import write_timeline


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return str(write_clip(tmp_path / "clip.mp4"))


def test_shots_follow_one_another_frame_by_frame(clip: str, tmp_path: Path):
    shots = [MontageShot(clip, 1.0, 1.5), MontageShot(clip, 0.24, 0.5)]
    placed = write_montage(shots, tmp_path / "reel.mp4")
    assert numbers(tmp_path / "reel.mp4") == [*range(24, 36), *range(6, 12)]
    assert [one.at_s for one in placed] == [0, pytest.approx(0.5)]
    assert [(one.shot.start_s, one.shot.end_s) for one in placed] == [(1.0, 1.5), (pytest.approx(0.25), 0.5)]
    assert probe(tmp_path / "reel.mp4").duration_s == pytest.approx(0.75, abs=1e-3)
    assert not probe(tmp_path / "reel.mp4").has_audio


def test_pictures_of_another_shape_get_black_bars(clip: str, tmp_path: Path):
    tall = str(write_clip(tmp_path / "tall.mp4", size=(120, 160)))
    write_montage([MontageShot(clip, 0, 0.5), MontageShot(tall, 0, 0.5)], tmp_path / "reel.mp4")
    frames = decode(tmp_path / "reel.mp4", SamplingConfig(times_s=(0.2, 0.7)))
    wide, barred = frames.pixels.float()
    assert wide.shape == (3, 120, 160)
    assert barred[:, :, :30].max() < 20 and barred[:, :, 130:].max() < 20 and barred[:, :90, 45:115].mean() > 60


def test_a_title_is_shown_at_the_beginning_of_its_shot(tmp_path: Path):
    clip = str(write_clip(tmp_path / "clip.mp4", frames=60))
    write_montage([MontageShot(clip, 0, 2.5, "a clip  0:00")], tmp_path / "titled.mp4")
    write_montage([MontageShot(clip, 0, 2.5)], tmp_path / "plain.mp4")
    titled, plain = (
        decode(tmp_path / name, SamplingConfig(times_s=(1.0, 2.2))).pixels.float()
        for name in ("titled.mp4", "plain.mp4")
    )
    changed = (titled - plain).abs().amax(1) > 60  # (T,H,W)
    assert changed[0, 95:115].any() and not changed[0, :90].any() and not changed[1].any()


def test_each_shot_keeps_its_sound_in_its_place(clip: str, tmp_path: Path):
    loud = str(beeping(tmp_path / "loud.mp4", beep_s=1.25))
    write_montage([MontageShot(clip, 0, 1), MontageShot(loud, 1, 1.5)], tmp_path / "reel.mp4")
    assert heard_at(tmp_path / "reel.mp4") == pytest.approx(1.25, abs=0.005)  # 1 s of silence, then 0.25 s


def test_a_part_whose_sound_has_no_decoder_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    whole = write_clip(tmp_path / "whole.mkv", audio=True)
    (tmp_path / "broken.mkv").write_bytes(whole.read_bytes().replace(b"A_AAC", b"A_AQC"))
    write_montage([MontageShot(str(tmp_path / "broken.mkv"), 0, 1)], tmp_path / "reel.mp4")
    assert numbers(tmp_path / "reel.mp4") == list(range(24))
    assert "its part is silent" in caplog.text


def test_music_is_repeated_and_faded_out(clip: str, tmp_path: Path):
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        tone = 30_000 * np.sin(2 * math.pi * 1000 * np.arange(24_000) / 48_000)  # half a second
        file.writeframes(tone.astype("<i2").tobytes())
    write_montage([MontageShot(clip, 0, 2)], tmp_path / "reel.mp4", tmp_path / "tone.wav")
    sound = torch.cat([piece.samples for piece in iter_audio(tmp_path / "reel.mp4")])  # 16 kHz
    loudness = sound[:32_000].reshape(20, 1600).abs().amax(1)  # of a tenth of a second
    steady = loudness[: round(10 * (2 - FADE_S))]
    assert torch.allclose(steady, torch.tensor(MUSIC_GAIN * 30_000 / 32_768), atol=0.05)
    assert (loudness[10:].diff() < 0.01).all() and loudness[-1] < 0.06


def test_what_cannot_be_written_is_said_before_anything_is(clip: str, tmp_path: Path):
    shot = MontageShot(clip, 0, 1)
    with pytest.raises(ConfigError, match="at least one"):
        write_montage([], tmp_path / "reel.mp4")
    with pytest.raises(ConfigError, match=r"written as \.mp4"):
        write_montage([shot], tmp_path / "reel.avi")
    with pytest.raises(ConfigError, match="create it first"):
        write_montage([shot], tmp_path / "none/reel.mp4")
    with pytest.raises(ConfigError, match="the video itself"):
        write_montage([shot], Path(clip))
    with pytest.raises(VideoRangeError):
        write_montage([MontageShot(clip, 3, 4)], tmp_path / "reel.mp4")
    with pytest.raises(NoAudioStreamError):
        write_montage([shot], tmp_path / "reel.mp4", clip)
    (tmp_path / "reel.mp4").write_bytes(b"an earlier one")
    with pytest.raises(VideoFormatError):
        write_montage([shot], tmp_path / "reel.mp4", tmp_path / "reel.mp4")
    assert (tmp_path / "reel.mp4").read_bytes() == b"an earlier one" and not list(tmp_path.glob(".*"))
    with pytest.raises(ConfigError, match=r"\.otio or \.edl"):
        write_timeline([], tmp_path / "reel.xml", "reel")


@pytest.mark.parametrize("suffix", [".otio", ".edl"])
def test_editors_find_the_parts_of_the_files(clip: str, tmp_path: Path, suffix: str):
    placed = [Placed(MontageShot(clip, 1.0, 1.5), 0.0, 24.0), Placed(MontageShot(clip, 0.25, 0.5), 0.5, 24.0)]
    write_timeline(placed, tmp_path / f"reel{suffix}", "two parts")
    rate: dict[str, Any] = {"rate": 24} if suffix == ".edl" else {}
    read = otio.adapters.read_from_file(str(tmp_path / f"reel{suffix}"), **rate)
    timeline = read[0] if isinstance(read, list) else read
    clips = timeline.find_clips()
    times = [(c.source_range.start_time.to_seconds(), c.source_range.duration.to_seconds()) for c in clips]
    assert times == [(1.0, 0.5), (0.25, 0.25)] and [c.name for c in clips] == ["clip.mp4"] * 2
    if suffix == ".otio":
        assert {c.media_reference.target_url for c in clips} == {Path(clip).as_uri()}
