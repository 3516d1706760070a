"""Findings of a real video: kept after the first time, subtitles instead of listening, and what cannot be used."""

import shutil
import subprocess
from pathlib import Path

import av
import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe

from videollm.config import SamplingConfig
from videollm.encoders.debug import DebugEncoder
from videollm.features import observe as observing
from videollm.features.cache import FeatureCache
from videollm.features.encode import encode_video
from videollm.features.observe import encode_and_observe, find
from videollm.video import pyav
from videollm.video.audio import AudioPiece
from videollm.video.decoding import probe

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
SPEECH = Path(__file__).parents[1] / "senses/data/austen-0880.ogg"


@pytest.mark.slow
def test_objects_are_found_once_and_then_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = FeatureCache(tmp_path)
    first = find(SAMPLE, ("objects", "speech"), cache, "cpu")
    monkeypatch.setattr(observing, "_loaded", lambda *_: pytest.fail("the weights were loaded again"))
    again = find(SAMPLE, ("objects", "speech"), cache, "cpu")
    assert {"cat", "cup"} <= {f.text for f in first.of("object")}
    assert again.found == first.found and first.ms.keys() == {"objects", "speech"}
    assert not first.sound and first.senses == ("objects", "speech") and not first.problems


@pytest.mark.slow
def test_a_new_video_is_decoded_once_for_encoder_and_senses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    encoder, sampling = DebugEncoder(), SamplingConfig(fps=2)
    alone = find(SAMPLE, ("objects",), device="cpu")
    decoded: list[int] = []
    pictures = pyav._pictures
    monkeypatch.setattr(pyav, "_pictures", lambda *given: decoded.append(1) or pictures(*given))
    cache = FeatureCache(tmp_path)
    video = encode_and_observe(SAMPLE, encoder, sampling, ("objects",), cache, "cpu")
    assert len(decoded) == 1
    assert video.findings.found == alone.found and video.findings.ms["objects"] > 0
    torch.testing.assert_close(video.features.embed, encode_video(SAMPLE, encoder, sampling).features.embed)
    again = encode_and_observe(SAMPLE, encoder, sampling, ("objects",), cache, "cpu")
    assert len(decoded) == 2 and again.findings.found == alone.found  # the second was for `encode_video`


@pytest.mark.slow
def test_a_video_whose_features_are_kept_is_decoded_for_the_senses(tmp_path: Path):
    cache = FeatureCache(tmp_path)
    encode_video(SAMPLE, DebugEncoder(), SamplingConfig(fps=2), cache)
    video = encode_and_observe(SAMPLE, DebugEncoder(), SamplingConfig(fps=2), ("objects",), cache, "cpu")
    assert {"cat", "cup"} <= {f.text for f in video.findings.of("object")} and video.ms["decode"] == 0


@pytest.mark.slow
def test_speech_of_a_video_is_heard_at_its_time(tmp_path: Path):
    _with_sound(SAMPLE, SPEECH, tmp_path / "talk.mp4")
    (said,) = find(tmp_path / "talk.mp4", ("speech",), device="cpu").found
    assert "disposed young man" in said.text and said.start_s < 1 and 2 < said.end_s < 4


def _with_sound(video: Path, sound: Path, target: Path) -> None:
    with av.open(str(video)) as pictures, av.open(str(sound)) as heard, av.open(str(target), "w") as output:
        copied = output.add_stream_from_template(pictures.streams.video[0])
        spoken = output.add_stream("aac", rate=heard.streams.audio[0].rate, layout="mono")
        for packet in pictures.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                output.mux(packet)
        for frame in heard.decode(audio=0):
            output.mux(spoken.encode(frame))
        output.mux(spoken.encode())


def test_subtitles_beside_a_video_are_what_is_said(tmp_path: Path):
    shutil.copy(SAMPLE, tmp_path / "a.mp4")
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nA cat.\n")
    findings = find(tmp_path / "a.mp4", ("speech",))
    assert [(f.text, f.start_s, f.end_s) for f in findings.of("speech")] == [("A cat.", 1, 2)]
    assert findings.sound


def test_a_broken_subtitle_file_is_a_problem_of_that_sense_alone(tmp_path: Path):
    shutil.copy(SAMPLE, tmp_path / "a.mp4")
    (tmp_path / "a.srt").write_text("this is no subtitle file")
    findings = find(tmp_path / "a.mp4", ("speech",))
    assert findings.senses == () and "not a subtitle file" in findings.problems["speech"]


def test_long_sound_is_thinned_to_evenly_spread_windows():
    pieces = [AudioPiece(float(second), None) for second in range(3 * 3600)]
    kept = list(observing.thinned(pieces, 3 * 3600))
    assert len(kept) == pytest.approx(1800, rel=0.02) and kept[-1].start_s > 10_000
    assert len(list(observing.thinned(pieces[:600], 600))) == 600


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sample.mp4", "astronaut.mp4", "reading.mp4"])
def test_nothing_is_seen_after_the_end(name: str, tmp_path: Path):
    clip = tmp_path / name
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-i", SAMPLE.with_name(name), "-t", "3.6", clip], check=True)
    duration_s = probe(clip).duration_s
    found = find(clip, ("objects",)).found
    assert found and max(f.end_s for f in found) == duration_s
