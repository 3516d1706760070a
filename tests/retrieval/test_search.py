"""What is found, in which order, under which filters, for queries of every kind."""

import logging
import os
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.retrieval.library import BLUE, GREEN, RED, picture, write_film
from videollm.config import SamplingConfig
from videollm.encoders.debug import MAX_WORDS, DebugEncoder
from videollm.errors import ConfigError
from videollm.retrieval.index import Index
from videollm.retrieval.queries import embed_media, embed_text, split_text
from videollm.retrieval.search import Filter, search
from videollm.retrieval.words import TEXT_WEIGHT


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("library")
    write_film(folder / "trips/red.mp4", [RED] * 4)
    write_film(folder / "trips/mixed.mp4", [GREEN] * 4 + [BLUE] * 4)
    write_film(folder / "trips2/blue.mp4", [BLUE] * 3)
    (folder / "trips/red.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nTwo dogs were running on the beach\n")
    os.utime(folder / "trips2/blue.mp4", (1e9, 1e9))  # 2001-09-09
    made = Index.create(folder / "idx", "debug")
    made.update([folder])
    return made


def names(moments) -> list[str]:
    return [Path(m.path).name for m in moments]


def folder_of(index: Index) -> Path:
    return Path(index.table.uri).parent


def test_a_picture_finds_the_moment_it_is_from(index: Index, tmp_path: Path):
    Image.fromarray(picture(GREEN)).save(tmp_path / "green.png")
    best = search(index, embed_media(tmp_path / "green.png", index.encoder, SamplingConfig(fps=2.0)), k=1)[0]
    assert Path(best.path).name == "mixed.mp4" and (best.start_s, best.end_s) == (0, 4) and best.score > 0.95


def test_a_part_of_a_clip_finds_its_like(index: Index):
    part = SamplingConfig(fps=2.0, start_s=4.5, end_s=7.5)
    found = search(index, embed_media(folder_of(index) / "trips/mixed.mp4", index.encoder, part), k=2)
    assert sorted(names(found)) == ["blue.mp4", "mixed.mp4"] and all(m.score > 0.95 for m in found)


def test_subtitles_add_the_share_of_words_they_have(index: Index):
    def score(query: str) -> float:
        moment = next(m for m in search(index, query) if m.text)
        return moment.score - float(vector(moment) @ embed_text(query, index.encoder))

    def vector(moment) -> torch.Tensor:
        vectors = index.vectors
        assert vectors is not None
        rows = index.table.fetch(vectors.ids.tolist())
        at = next(i for i, row in enumerate(vectors.ids.tolist()) if rows[row].text == moment.text)
        return vectors.rows[at]

    assert score("the dog runs") == pytest.approx(TEXT_WEIGHT, abs=1e-5)  # by their stems, without "the"
    assert score("dog on a skateboard") == pytest.approx(TEXT_WEIGHT / 2, abs=1e-5)
    assert score("skateboard") == pytest.approx(0, abs=1e-5)
    assert score("!!! ...") == pytest.approx(0, abs=1e-5)


def test_filters(index: Index, monkeypatch: pytest.MonkeyPatch):
    root = folder_of(index)
    assert set(names(search(index, "x", where=Filter(folder=root / "trips")))) == {"red.mp4", "mixed.mp4"}
    assert set(names(search(index, "x", where=Filter(max_duration_s=3.5)))) == {"blue.mp4"}
    assert set(names(search(index, "x", where=Filter(min_duration_s=3.5, max_duration_s=5)))) == {"red.mp4"}
    assert set(names(search(index, "x", where=Filter(before=datetime(2002, 1, 1))))) == {"blue.mp4"}
    assert "blue.mp4" not in names(search(index, "dogs", where=Filter(after=datetime(2002, 1, 1))))
    assert search(index, "dogs", where=Filter(folder=root / "it's absent")) == []
    monkeypatch.chdir(root / "trips")
    assert set(names(search(index, "x", where=Filter(folder=Path("../trips"))))) == {"red.mp4", "mixed.mp4"}
    assert set(names(search(index, "x", where=Filter(folder=Path(".."))))) == set(names(search(index, "x")))


def test_bad_input_is_said(index: Index):
    for query, k in (("  ", 3), ("dog", 0)):
        with pytest.raises(ConfigError):
            search(index, query, k)
    with pytest.raises(ConfigError, match="at least 9 s and at most 3 s"):
        Filter(min_duration_s=9, max_duration_s=3)
    with pytest.raises(ConfigError, match="no time lies after"):
        Filter(after=datetime(2026, 1, 2), before=datetime(2026, 1, 1))


def test_k_beyond_the_index_gives_all_ordered(index: Index):
    found = search(index, "dog", k=999)
    assert index.vectors is not None and len(found) == len(index.vectors)
    assert all(a.score >= b.score for a, b in pairwise(found))


def test_an_english_tower_says_so_once_it_matters(
    index: Index, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(DebugEncoder, "english_only", True)
    with caplog.at_level(logging.WARNING):
        search(index, "a dog")
        assert not caplog.records
        search(index, "собака")
    assert "reads English only" in caplog.text


def test_long_texts_are_split_and_pooled_not_cut():
    encoder = DebugEncoder()
    sentences = [f"word{i} another{i} third{i} end{i}." for i in range(60)]
    text = " ".join(sentences)
    parts = [*split_text(text, encoder)]
    assert len(parts) > 1 and all(encoder.reads_whole(part) for part in parts)
    assert " ".join(" ".join(parts).split()) == text
    assert all(part.endswith(".") for part in parts)
    whole = embed_text(text, encoder)
    assert whole.norm() == pytest.approx(1, abs=1e-5)
    cut = encoder.encode_text([text]).embed[0]
    last = F.normalize(encoder.encode_text([" ".join(text.split()[MAX_WORDS:])]).embed[0], dim=0)
    assert whole @ last > cut @ last + 0.1  # the end of the text counts


def test_texts_without_spaces_are_split_too():
    class Short(DebugEncoder):
        def reads_whole(self, text: str) -> bool:
            return len(text) <= 5

    assert "".join(split_text("一二三四五六七八九十" * 3, Short())) == "一二三四五六七八九十" * 3
    assert [*split_text("abc", Short())] == ["abc"]
