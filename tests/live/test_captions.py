"""Captions of a stream: in order, readable while it lasts."""

import math
from pathlib import Path

import pysubs2

from videollm.live.captions import CaptionFile


def cues(path: Path) -> list[tuple[int, int, str]]:
    return [(cue.start, cue.end, cue.plaintext) for cue in pysubs2.load(str(path))]


def test_a_late_sentence_stands_where_it_was_said(tmp_path: Path):
    path = tmp_path / "live.vtt"
    with CaptionFile(path) as captions:
        captions.add(1000.0, 1004.0, "A cat.")
        captions.add(1004.0, 1008.0, "A cup.")
        captions.write(1003.0)
        assert cues(path) == [(0, 4000, "A cat.")], "what may still come is waited for"
        captions.add(1002.5, 1003.5, "Hello.")
        captions.write(1003.0)
        assert [text for *_, text in cues(path)] == ["A cat.", "Hello."]
    assert cues(path)[1:] == [(2500, 3500, "Hello."), (4000, 8000, "A cup.")]
    assert [start for start, *_ in cues(path)] == sorted(start for start, *_ in cues(path))


def test_all_is_written_where_nobody_listens(tmp_path: Path):
    path = tmp_path / "live.vtt"
    with CaptionFile(path) as captions:
        captions.add(5.0, 6.0, "A dog.")
        captions.write(math.inf)
        assert cues(path) == [(0, 1000, "A dog.")]
