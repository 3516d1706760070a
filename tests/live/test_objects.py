"""People and things of a stream, found by the shipped detector in a real clip: a cat, a cup, a rocket for 4 s each."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videollm.chat.load import load_to_chat
from videollm.config import SamplingConfig
from videollm.live.indexing import StreamIndexer
from videollm.live.memory import StreamMemory
from videollm.live.objects import LiveObjects, merged
from videollm.live.session import LiveSession
from videollm.live.standing import StandingQuestion
from videollm.model import Model
from videollm.models.notes import object_counts
from videollm.retrieval.index import Index
from videollm.retrieval.search import Filter, search
from videollm.senses.finding import Finding, Findings
from videollm.senses.objects import ObjectSense
from videollm.senses.tracks import Detection, Tracker
from videollm.video.decoding import decode
from videollm.video.frames import Frames

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
START, FPS = 1_780_000_000.0, 2.0


@pytest.fixture(scope="module")
def model() -> Model:
    model = load_to_chat("debug")
    return replace(model, config=replace(model.config, senses=("objects",)))


@pytest.fixture(scope="module")
def sense() -> ObjectSense:
    return ObjectSense()


@pytest.fixture(scope="module")
def clip() -> Frames:
    return decode(SAMPLE, SamplingConfig(fps=FPS), short_side=300)


def stream(clip: Frames, times_played: int = 1) -> Iterator[tuple[torch.Tensor, list[float]]]:
    for number in range(len(clip) * times_played):
        at = number % len(clip)
        yield clip.pixels[at : at + 1], [START + number / FPS]


def watched(model: Model, sense: ObjectSense | None, clip: Frames, times_played: int = 1) -> LiveSession:
    session = LiveSession(model, "camera", FPS, objects=sense)
    for pixels, times in stream(clip, times_played):
        session.look(pixels, times)
        session.add(pixels, times, model.encoder.encode_frames(pixels))
    return session


def test_a_stream_is_seen_as_its_file_is(model: Model, sense: ObjectSense, clip: Frames):
    session = watched(model, sense, clip)
    session.finish()
    (cup,) = [f for f in sense.with_model(sense.model).follow([clip]) if f.name == "cup"]
    pieces = [f for s in session.memory for f in s.findings.of("object") if f.text == "cup"]
    assert len({f.track for f in pieces}) == 1
    assert pieces[0].start_s - START == cup.start_s and pieces[-1].end_s - START == pytest.approx(cup.end_s)
    assert all(s.start <= f.start_s < f.end_s <= s.end for s in session.memory for f in s.findings.found)


def test_counts_are_answered_from_tracks(model: Model, sense: ObjectSense, clip: Frames):
    session = watched(model, sense, clip)
    answer = session.ask("How many cups are there?")
    assert answer.text == "1 cup." and answer.evidence
    assert all(START + 3 < e.start < e.end < START + 9 for e in answer.evidence)
    assert session.ask("How many people are there?").text == "Nobody was seen."
    blind = watched(model, None, clip)
    assert "the sense is off" in blind.ask("How many cups are there?").text


def test_what_is_seen_costs_no_segment_a_second_reading(model: Model, sense: ObjectSense, clip: Frames):
    session = watched(model, sense, clip, times_played=2)
    session.read_ahead()
    receipt = session.ask("And then?").receipt
    assert receipt.cached_tokens == session._read > 0.6 * receipt.prompt_tokens


def test_a_thing_that_the_detector_knows_is_reported_by_it(model: Model, sense: ObjectSense, clip: Frames):
    session = LiveSession(model, "camera", FPS, objects=sense)
    questions = [StandingQuestion(f"{thing} appears", model.encoder, detects=True) for thing in ("a cup", "somebody")]
    alerts = [
        alert
        for pixels, times in stream(clip)
        for question in questions
        for alert in question.see(times, model.encoder.encode_frames(pixels), session.look(pixels, times))
    ]
    assert [(a.when, a.state) for a in alerts] == [("a cup appears", "begins"), ("a cup appears", "ends")]
    begins, ends = (a.time - START for a in alerts)
    assert 4 <= begins < 6 and 7 < ends <= 9


def test_words_that_the_detector_does_not_know_are_compared_with_frames(model: Model):
    assert StandingQuestion("people are seen", model.encoder, detects=True).detected == "person"
    assert StandingQuestion("a man in a red coat appears", model.encoder, detects=True).detected == ""
    assert StandingQuestion("a cup appears", model.encoder).detected == ""


def test_a_search_finds_what_was_seen_in_a_stream(model: Model, sense: ObjectSense, clip: Frames, tmp_path: Path):
    index = Index.create(str(tmp_path / "index"), "debug")
    indexer = StreamIndexer(index, "camera")
    session = watched(model, sense, clip)
    session.finish()
    for segment in session.memory:
        indexer.add(segment)
    indexer.close()
    found = search(Index.open(str(tmp_path / "index")), None, where=Filter(has=("cup",)))
    assert found and all(3 < moment.start_s < moment.end_s < 9 for moment in found)
    assert search(Index.open(str(tmp_path / "index")), None, where=Filter(has=("person",))) == []


def test_memory_stays_small_while_objects_stay(model: Model, sense: ObjectSense, clip: Frames):
    objects = LiveObjects(sense, FPS)
    cup = clip.pixels[10:11]
    for number in range(400):
        objects.see(cup, [START + number / FPS])
        objects.forget(START + number / FPS)
    assert max(len(track.times_s) for track in objects._tracker.tracks) <= 121
    before, now = (objects.between(START + at, START + at + 10).found for at in (160, 190))
    (earlier,), (later,) = ([f for f in found if f.text == "cup"] for found in (before, now))
    assert later.start_s == START + 190 and later.track == earlier.track


def finding(start: float, end: float, track: int, score: float = 0.9) -> Finding:
    return Finding(start_s=start, end_s=end, kind="object", text="dog", score=score, box=(0, 0, 1, 1), track=track)


def test_merged_segments_count_an_object_once(model: Model, sense: ObjectSense, clip: Frames):
    first = Findings(senses=("objects",), found=(finding(0, 4, 1), finding(0, 4, 2)))
    second = Findings(senses=("objects",), found=(finding(4, 8, 2, 0.5), finding(6, 8, 3)))
    both = merged(first, second)
    assert [(f.track, f.start_s, f.end_s, f.score) for f in both.found] == [
        (1, 0, 4, 0.9),
        (2, 0, 8, pytest.approx(0.7)),
        (3, 6, 8, 0.9),
    ]
    session = watched(model, sense, clip)
    session.finish()
    whole = StreamMemory(model.encoder.vocabulary, model.config.prompt, 8, max_segments=1)
    for segment in session.memory:
        whole.add(segment)
    (one,) = whole
    seen = [object_counts(s.findings) for s in session.memory]
    assert object_counts(one.findings) == {name: max(c.get(name, 0) for c in seen) for c in seen for name in c}


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=3), min_size=1, max_size=20))
def test_forgetting_changes_no_track_that_goes_on(frames: list[list[tuple[str, int]]]):
    kept, bounded = Tracker(), Tracker()
    for time, seen in enumerate(frames):
        found = [Detection(name, 0.9, (place / 4, 0.0, place / 4 + 0.25, 1.0)) for name, place in seen]
        kept.add(time, found)
        bounded.add(time, found)
        bounded.forget(time - 5)
    last = len(frames) - 1
    for recent in (kept, bounded):
        recent.forget(last - 5)
    assert [replace(t) for t in kept.tracks] == [replace(t) for t in bounded.tracks]
