"""What is said in a stream, by the shipped Whisper: from the worker's samples to answers, events and an index."""

import math
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pysubs2
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.fork_server import python
from tests.live.conftest import write_clip
from tests.senses.test_speech import DATA, LONG_TEXT, SHORT_TEXT, sound, words
from videollm.chat.load import load_to_chat
from videollm.cli.live_shapes import event_json, event_line
from videollm.live.indexing import StreamIndexer
from videollm.live.reader import StreamConnected, StreamEnded
from videollm.live.sound import PIECE_S, SoundDecoder
from videollm.live.source import StreamSource
from videollm.live.speech import LATE_S, LEAST_S, MOST_S, MOST_WAITING, LiveSpeech, SpeechStretches
from videollm.live.standing import Alert
from videollm.live.watcher import LiveProblem, LiveSentence, LiveWatcher
from videollm.model import Model
from videollm.retrieval.index import Index
from videollm.retrieval.search import Filter, search
from videollm.senses.finding import Finding
from videollm.senses.speech import SpeechSense
from videollm.video.audio import SAMPLE_RATE, AudioPiece, iter_audio

START = 1_780_000_000.0
LONG, SHORT = DATA / "austen-0870.ogg", DATA / "austen-0880.ogg"


@pytest.fixture(scope="module")
def sense() -> SpeechSense:
    return SpeechSense(language="en")


@pytest.fixture(scope="module")
def model() -> Model:
    model = load_to_chat("debug")
    return replace(model, config=replace(model.config, senses=("speech",)))


def write_talk(path: Path, **options: Any) -> Path:
    return write_clip(path, 22, sound=talk(), **options)


def talk() -> torch.Tensor:
    """22 seconds: a sentence after 2 seconds, another after 14."""
    samples = torch.zeros(22 * SAMPLE_RATE)
    for path, second in ((LONG, 2), (SHORT, 14)):
        said = sound(path)
        samples[second * SAMPLE_RATE : second * SAMPLE_RATE + len(said)] = said
    return samples


@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.sampled_from([0.0, 0.0, 3.0])), max_size=40),
)
def test_stretches_are_all_of_the_sound_in_order(lengths: list[tuple[int, bool, float]]):
    """Pieces of tenths of a second, loud or quiet, some after a gap."""
    cutter, given_, got, time = SpeechStretches(), [], [], START
    for tenths, is_loud, gap_s in lengths:
        time += gap_s
        samples = (0.5 if is_loud else 1e-2) * torch.sin(torch.arange(tenths * SAMPLE_RATE // 10) / 3)
        given_.append(AudioPiece(time, samples))
        got += cutter.add(given_[-1])
        time = given_[-1].end_s
    got += cutter.end()
    assert cutter.start_s is None and list(cutter.end()) == []
    if given_:
        assert torch.equal(torch.cat([s.samples for s in got]), torch.cat([p.samples for p in given_]))
        assert got[0].start_s == given_[0].start_s
    for one, other in pairwise(got):
        assert other.start_s >= one.end_s - 1e-3
    assert all(s.end_s - s.start_s <= MOST_S + 3.0 for s in got)
    for gap in (p.start_s for p, gap_s in zip(given_, [g for *_, g in lengths], strict=True) if gap_s):
        assert not any(s.start_s + 1e-3 < gap < s.end_s - 1e-3 for s in got)  # none reaches over a gap


def test_a_stretch_ends_at_a_pause_or_where_it_is_quietest():
    tone = 0.5 * torch.sin(torch.arange(SAMPLE_RATE) / 3)
    cutter, ends = SpeechStretches(), []
    for second in range(40):
        quiet = second in (5, 12)  # the first pause comes too early to end a stretch
        piece = AudioPiece(START + second, (0.001 if quiet else 1.0) * tone)
        if second == 33:
            piece.samples[4000:12000] *= 0.4  # nobody pauses for long after the second pause; this is the quietest
        ends += [stretch.end_s - START for stretch in cutter.add(piece)]
    assert ends == [13.0, pytest.approx(33.5, abs=0.15)]
    assert cutter.start_s == pytest.approx(START + 33.5, abs=0.15) and LEAST_S < 13


def test_silence_begins_no_stretch():
    cutter, loud = SpeechStretches(), torch.ones(SAMPLE_RATE)
    for second in range(100):
        assert list(cutter.add(AudioPiece(START + second, 1e-3 * loud))) == [] and cutter.start_s is None
    assert list(cutter.add(AudioPiece(START + 100, loud))) == []
    assert cutter.start_s == START + 100


@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_pieces_are_the_sound_of_the_file_at_its_times(codec: str, tmp_path: Path):
    path = write_talk(tmp_path / "talk.mkv", codec=codec)
    pieces: list[tuple[float, np.ndarray]] = []
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        decoder = SoundDecoder(stream.codec_context, SAMPLE_RATE)
        for packet in container.demux(stream):
            if (
                packet.size and not 5 <= float((packet.pts or 0) * (packet.time_base or 0)) < 8
            ):  # which are lost on their way
                pieces += decoder.add(packet, START)
        pieces += decoder.end()
    expected = torch.zeros(30 * SAMPLE_RATE)
    for piece in iter_audio(path):
        at = round(piece.start_s * SAMPLE_RATE)
        expected[at : at + len(piece.samples)] = piece.samples
    assert sum(len(samples) for _, samples in pieces) == pytest.approx(19 * SAMPLE_RATE, abs=0.3 * SAMPLE_RATE)
    assert all(len(samples) < (PIECE_S + 0.5) * SAMPLE_RATE for _, samples in pieces)
    for time, samples in pieces:
        at = round((time - START) * SAMPLE_RATE)
        own, same = torch.from_numpy(samples / np.float32(1 << 15)), expected[at : at + len(samples)]
        inner = slice(2048, -2048)  # a decoder that begins anew is not exact at once
        assert (own[inner] - same[inner]).abs().max() < 1e-3


def test_a_process_that_reads_a_source_is_small():
    program = "import videollm.live.worker, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


WAITED_FOR = ("someone says ill-disposed", "someone says goodbye")


def watched(
    model: Model, source: StreamSource, sense: SpeechSense, index: StreamIndexer | None = None
) -> tuple[list[Any], LiveWatcher]:
    watcher = LiveWatcher(model, source, standing=WAITED_FOR, speech=sense, index=index)
    return list(watcher.events()), watcher


def test_what_is_said_is_told_answered_and_found(tmp_path: Path, model: Model, sense: SpeechSense):
    path = write_talk(tmp_path / "talk.mp4")
    index = Index.create(str(tmp_path / "index"), "debug")
    events, watcher = watched(
        model, StreamSource(url=str(path), speed=50), sense, StreamIndexer(index, "talk", listens=True)
    )
    (connected,) = [event for event in events if isinstance(event, StreamConnected)]
    sentences = [event for event in events if isinstance(event, LiveSentence)]
    assert connected.sound and isinstance(events[-1], StreamEnded)
    assert words(" ".join(s.text for s in sentences)) == f"{LONG_TEXT} {SHORT_TEXT}"
    began = watcher.session.latest - 21
    assert [s.start - began for s in (sentences[0], sentences[-1])] == pytest.approx([2, 14], abs=1)
    assert sentences[-1].end - began == pytest.approx(17, abs=1)
    shown = event_json(sentences[-1])
    assert (shown["event"], words(shown["text"]), shown["language"]) == ("speech", SHORT_TEXT, "en")
    assert event_line(sentences[-1]).endswith(f'"{sentences[-1].text}"')

    alerts = [event for event in events if isinstance(event, Alert)]
    assert [(a.when, a.state) for a in alerts] == [(WAITED_FOR[0], "begins"), (WAITED_FOR[0], "ends")]
    assert alerts[0].time == sentences[-1].start and alerts[0].answer == sentences[-1].text

    watcher.session.latest += 1000  # frames go on after the sound has stopped
    assert watcher.said_until == watcher.session.latest - LATE_S
    watcher.session.latest -= 1000

    parts = watcher.session.segments(0)
    assert {part.findings.senses for part in parts} == {("speech",)}
    said = [f for part in parts for f in part.findings.of("speech")]
    assert [f.text for f in said] == [s.text for s in sentences]  # each in one segment
    assert all(part.start <= f.start_s < part.end for part in parts for f in part.findings.of("speech"))

    (found,) = search(Index.open(str(tmp_path / "index")), None, where=Filter(said="ill-disposed"))
    assert SHORT_TEXT in words(found.text) and found.start_s <= 14.5 < found.end_s


def test_a_stream_without_sound_says_so(tmp_path: Path, model: Model, sense: SpeechSense):
    events, watcher = watched(model, StreamSource(url=str(write_clip(tmp_path / "mute.mp4", 12)), speed=50), sense)
    assert [e.sound for e in events if isinstance(e, StreamConnected)] == [False]
    assert watcher.said_until == math.inf
    assert watcher.session.ask("What is said?").text == "The video has no sound."
    problems = [(e.question, e.reason) for e in events if isinstance(e, LiveProblem)]
    assert problems == [(question, "the stream has no sound") for question in WAITED_FOR]


class _Slow:
    """Transcribes a stretch once it may."""

    def __init__(self) -> None:
        self.began, self.may, self.read = threading.Event(), threading.Event(), list[float]()

    def transcribe(self, pieces: Sequence[AudioPiece]) -> list[Finding]:
        self.began.set()
        assert self.may.wait(60)
        self.read += [piece.start_s for piece in pieces]
        return [Finding(start_s=p.start_s, end_s=p.end_s, kind="speech", text="so", score=1.0) for p in pieces]


def _stretch(number: int) -> AudioPiece:
    return AudioPiece(100.0 * number, torch.ones(SAMPLE_RATE))  # the gap after it ends it


def test_a_live_source_waits_for_no_transcript():
    slow: Any = _Slow()
    speech = LiveSpeech(slow, waits=False)
    speech.hear(_stretch(0))
    speech.pause()
    assert slow.began.wait(60)
    for number in range(1, 10):
        speech.hear(_stretch(number))
    speech.pause()
    assert speech.ready() == []
    slow.may.set()
    found = speech.finish()
    # The one that was being read, and the newest.
    assert [f.start_s for f in found] == slow.read == [0.0, *(100.0 * n for n in range(10 - MOST_WAITING + 1, 10))]
    assert speech.skipped_s == 10 - MOST_WAITING
    speech.stop()


def test_all_of_a_file_is_transcribed():
    slow: Any = _Slow()
    speech = LiveSpeech(slow, waits=True)
    threading.Timer(0.2, slow.may.set).start()
    for number in range(10):
        speech.hear(_stretch(number))
    found = [*speech.ready(), *speech.finish()]
    assert [f.start_s for f in found] == slow.read == [100.0 * n for n in range(10)]
    assert speech.skipped_s == 0
    speech.stop()


def test_it_is_known_until_when_all_has_been_read():
    slow: Any = _Slow()
    speech = LiveSpeech(slow, waits=True)
    assert speech.read_until == -math.inf
    speech.hear(AudioPiece(50.0, torch.zeros(SAMPLE_RATE)))
    assert speech.read_until == 51.0, "silence is not held"
    speech.hear(_stretch(1))
    assert speech.read_until == 100.0, "the sentence may have begun with the stretch"
    speech.pause()
    assert slow.began.wait(60) and speech.read_until == 100.0
    slow.may.set()
    assert len(speech.finish()) == 1
    speech.stop()


def test_captions_have_what_is_said(tmp_path: Path):
    """The command, with a model that does not know what it sees, and the shipped Whisper."""
    path, captions = write_talk(tmp_path / "talk.mp4"), tmp_path / "live.vtt"
    command = [
        "watch",
        str(path),
        "--speed",
        "20",
        "--model",
        "debug",
        "--senses",
        "speech",
        "--captions",
        str(captions),
    ]
    run = subprocess.run([python(), "-m", "videollm.cli", *command], capture_output=True, text=True, input="")
    assert run.returncode == 0, run.stderr
    cues = pysubs2.load(str(captions))
    assert SHORT_TEXT in [words(cue.text) for cue in cues]
    assert [cue.start for cue in cues] == sorted(cue.start for cue in cues)
    (said,) = [cue for cue in cues if words(cue.text) == SHORT_TEXT]
    assert said.start / 1000 == pytest.approx(14, abs=1.5)
