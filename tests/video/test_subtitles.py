"""Subtitles beside a video and inside it, in the encodings and containers they come in."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from videollm.errors import VideoFormatError
from videollm.video.subtitles import (
    MAX_BYTES,
    MAX_SHOWN,
    Cue,
    CueTexts,
    embedded_subtitles,
    read_subtitles,
    subtitle_files,
    write_subtitles,
)

SRT = "1\n00:00:01,000 --> 00:00:02,500\nCafé <i>world</i>\n\n2\n00:00:03,000 --> 00:00:04,000\nTwo\nlines\n"
CUES = [Cue(1.0, 2.5, "Café world"), Cue(3.0, 4.0, "Two lines")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_srt_in_any_encoding(tmp_path: Path, encoding: str):
    (tmp_path / "a.srt").write_text(SRT, encoding=encoding)
    assert read_subtitles(tmp_path / "a.srt") == CUES


def test_webvtt(tmp_path: Path):
    text = "WEBVTT\n\nNOTE hi\n\n00:01.000 --> 00:02.500 align:start\n<v Bob>Fish &amp; chips</v>\n"
    (tmp_path / "a.vtt").write_text(text)
    assert read_subtitles(tmp_path / "a.vtt") == [Cue(1.0, 2.5, "Fish & chips")]
    (tmp_path / "a.vtt").write_text("WEBVTT\n")
    assert read_subtitles(tmp_path / "a.vtt") == []


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_what_is_no_subtitle_file_is_an_error(tmp_path: Path, name: str):
    (tmp_path / name).write_text("nothing of the kind")
    with pytest.raises(VideoFormatError, match="not a subtitle file"):
        read_subtitles(tmp_path / name)


def test_files_beside_bear_the_videos_name(tmp_path: Path):
    for name in ("clip.mp4", "clip.srt", "clip.en.VTT", "clip2.srt", "clip.txt", "other.srt"):
        (tmp_path / name).touch()
    assert [p.name for p in subtitle_files(tmp_path / "clip.mp4")] == ["clip.en.VTT", "clip.srt"]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mov_text"), ("a.mkv", "srt"), ("b.mkv", "ass"), ("c.mkv", "webvtt")]
)
def test_streams_inside_count_from_the_first_frame(tmp_path: Path, name: str, codec: str):
    (tmp_path / "a.srt").write_text(SRT)
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-itsoffset", "1", "-f", "lavfi"]
    made = ["-i", "testsrc=d=5:s=64x64", "-i", tmp_path / "a.srt", "-c:s", codec, tmp_path / name]
    subprocess.run([*ffmpeg, *made], check=True)
    found = embedded_subtitles(tmp_path / name)
    assert [c.text for c in found] == [c.text for c in CUES]
    assert [t for c in found for t in (c.start_s, c.end_s)] == pytest.approx([0, 1.5, 2, 3], abs=0.01)


def test_what_subtitles_may_cost_is_limited(tmp_path: Path):
    cue = "00:00:01,000 --> 00:00:02,000\n" + "a" * 1000 + "\n\n"
    (tmp_path / "a.srt").write_text(cue * (1 + MAX_BYTES // len(cue)))
    with pytest.raises(VideoFormatError, match="the limit is"):
        read_subtitles(tmp_path / "a.srt")
    many = CueTexts([Cue(0.0, 9.0, "a" * 1000)] * (2 * MAX_SHOWN // 1000))
    assert len(many.between(0, 9)) == MAX_SHOWN


def test_text_of_a_span():
    assert CueTexts(CUES).between(0, 1) == "" == CueTexts(CUES).between(2.5, 3)
    assert CueTexts(CUES).between(2.4, 3.1) == "Café world Two lines"


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_text_in_braces_survives_writing_and_reading(tmp_path: Path, kind: str):
    cues = [Cue(0.0, 1.0, "{music} set {a, b} & more {"), Cue(1.0, 2.0, "two words")]
    (tmp_path / f"a.{kind}").write_text(write_subtitles(cues, kind))
    assert read_subtitles(tmp_path / f"a.{kind}") == cues


def test_webvtt_keeps_text_that_looks_like_tags(tmp_path: Path):
    cues = [Cue(0.0, 1.0, "a <b> c --> d")]
    (tmp_path / "a.vtt").write_text(write_subtitles(cues, "vtt"))
    assert read_subtitles(tmp_path / "a.vtt") == cues


def test_tags_of_ass_are_no_text(tmp_path: Path):
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n{\\an8}Above\\h{really}\n")
    assert read_subtitles(tmp_path / "a.srt") == [Cue(1.0, 2.0, "Above {really}")]
