"""An answer over a collection cites videos and seconds that exist."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.live.streams import stream
from tests.retrieval.library import BLUE, GREEN, RED, write_film
from tests.retrieval.test_sensed import write_talk
from tests.senses.test_speech import SHORT
from videollm.chat.library import LibraryAnswer, _parts, ask_library
from videollm.chat.load import load_to_chat
from videollm.chat.summary import summarize
from videollm.checkpoint import load
from videollm.encoders.tags import Tag
from videollm.features.encode import encode_video
from videollm.live.indexing import StreamIndexer
from videollm.live.session import LiveSession
from videollm.retrieval.index import Index
from videollm.retrieval.search import Moment


def test_every_citation_is_a_stretch_of_its_video(tmp_path: Path):
    for name, colours in (("red", [RED] * 9), ("both", [GREEN] * 3 + [BLUE] * 3)):
        write_film(tmp_path / f"{name}.mp4", colours)
    model = load("debug")
    index = Index.create(tmp_path / "idx", "debug")
    index.update([tmp_path])
    answer = ask_library(model, index, "What is red?")
    paths = [c.path for c in answer.citations]
    assert paths and len(set(paths)) == len(paths)
    for n, citation in enumerate(answer.citations, 1):
        assert 0 <= citation.start_s < citation.end_s <= 9.01
        assert f"[{n}] {Path(citation.path).name} 0:0" in answer.text
    assert LibraryAnswer(()).text == "No video in the index matches."


@pytest.mark.slow
def test_what_the_senses_of_the_index_heard_is_answered(tmp_path: Path):
    write_talk(tmp_path / "talk.mp4", SHORT)
    index = Index.create(tmp_path / "idx", "lite")
    index.update([tmp_path], senses=("speech",))
    (citation,) = ask_library(load_to_chat("lite"), index, "Does anyone mention a young man?").citations
    assert citation.text.startswith("Yes, from 0:0")


def test_parts_grow_by_good_neighbours_only():
    def moment(path: str, start: float, score: float) -> Moment:
        return Moment(path, start, start + 4, score, (), "", 60.0)

    found = [moment("a", 4, 0.9), moment("b", 0, 0.8), moment("a", 8, 0.7), moment("a", 20, 0.6), moment("a", 0, 0.2)]
    found.append(moment("c", 0, 0.1))
    assert [(s.path, s.start_s, s.end_s) for s in _parts(found)] == [("a", 4, 12), ("b", 0, 4)]


def test_a_summary_is_of_segments_in_order(tmp_path: Path):
    model = load("debug")
    film = write_film(tmp_path / "f.mp4", [RED] * 4 + [GREEN] * 4 + [BLUE] * 4)
    summary = summarize(model, encode_video(film, model.encoder, model.config.sampling), k=3)
    assert [p.start_s for p in summary.parts] == [0, 4, 8] and sum(p.share for p in summary.parts) > 0.99
    assert [p.time_s >= p.start_s for p in summary.parts] == [True] * 3
    assert [panel.time_s for panel in summary.storyboard(str(film))] == [p.time_s for p in summary.parts]


def test_of_a_stream_the_answer_says_what_the_index_knows(tmp_path: Path):
    model = load("debug")
    index = Index.create(tmp_path / "idx", "debug")
    session, indexer = LiveSession(model, "door", fps=2), StreamIndexer(index, "door")
    for pixels, times in stream(0.0, 12, fps=2):
        for segment in session.add(pixels, times, model.encoder.encode_frames(pixels)):
            indexer.add(replace(segment, tags=(Tag("cat", 0.9),)))
    indexer.close()
    answer = ask_library(model, Index.open(tmp_path / "idx", model.encoder), "What is red?")
    (citation,) = answer.citations
    assert citation.path.startswith("door since ") and "not kept" in citation.text and "cat (90%)" in citation.text
