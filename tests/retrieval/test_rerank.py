"""A second look at found moments by a retrieval head."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.retrieval.library import BLUE, GREEN, RED, write_film
from videollm.cli import main
from videollm.config import SamplingConfig
from videollm.encoders.images import resize_crop
from videollm.errors import ConfigError
from videollm.retrieval.clip import TextConfig, VisionConfig
from videollm.retrieval.heads.videoclip import BertConfig
from videollm.retrieval.inputs import Words, normalise
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel, save
from videollm.retrieval.queries import split_text
from videollm.retrieval.rerank import rerank
from videollm.retrieval.search import Moment
from videollm.retrieval.words import TEXT_WEIGHT
from videollm.video.decoding import decode

VISION = VisionConfig(width=16, layers=2, heads=2, mlp_width=32, patch=16, grid=2, embed_dim=16)
TEXT = TextConfig(width=16, layers=1, heads=2, mlp_width=32, context=16, embed_dim=16)
KINDS = ("mean", "tight", "xclip", "stan", "mug")


def model(kind: str, **changes: Any) -> RetrievalModel:
    torch.manual_seed(0)
    head = HeadConfig(kind=kind, layers=1, heads=2, context=16, depth=1, max_words=10, max_frames=4)
    made = RetrievalModel(RetrievalConfig(vision=VISION, text=TEXT, head=replace(head, **changes)))
    for parameter in made.parameters():  # nothing starts as zero or as an identity
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made.eval()


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> list[Moment]:
    film = write_film(tmp_path_factory.mktemp("films") / "f.mp4", [RED] * 4 + [GREEN] * 4 + [BLUE] * 4)
    return [Moment(str(film), s, s + 4, score, (), "", 12.0) for s, score in ((0.0, 0.9), (4.0, 0.5), (8.0, 0.1))]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_heads_own(kind: str, moments: list[Moment]):
    looking = model(kind)
    found = rerank(looking, "a green thing", moments)
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
    assert len({round(m.score, 5) for m in found}) == 3
    ids, text_mask = Words(10)(["a green thing"])
    for moment in found:
        sampling = SamplingConfig(frames=4, start_s=moment.start_s, end_s=moment.end_s)
        pixels = normalise(resize_crop(decode(moment.path, sampling, short_side=32).pixels, 32))[None]
        expected = looking(ids, text_mask, pixels, torch.ones(1, 4, dtype=torch.bool)) / looking.scale()
        assert moment.score == pytest.approx(float(expected.detach()), abs=1e-4)
        assert replace(moment, score=0.0) in [replace(m, score=0.0) for m in moments]


def test_moments_of_few_frames_are_padded_with_what_is_not_read(moments: list[Moment]):
    """A quarter of a second has one frame; the published code wants `max_frames` in any case."""
    short = replace(moments[0], end_s=0.25)
    assert len(decode(short.path, SamplingConfig(frames=4, start_s=0.0, end_s=0.25))) < 4
    alone = rerank(model("xclip"), "a thing", [short])[0].score
    assert alone in [pytest.approx(m.score, abs=1e-5) for m in rerank(model("xclip"), "a thing", [*moments, short])]
    assert rerank(model("xclip", official_compat=True), "a thing", [short])[0].score != pytest.approx(alone, abs=1e-5)


def test_a_long_text_is_read_in_parts(moments: list[Moment]):
    looking, text = model("xclip"), "a green thing that moves. a red thing that stands still and looks at it for long."
    parts = [*split_text(text, Words(10))]
    assert len(parts) > 1 and "".join(p + " " for p in parts).split() == text.split()
    found = {m.start_s: m.score for m in rerank(looking, text, moments)}
    for start in found:
        scores = [next(m.score for m in rerank(looking, p, moments) if m.start_s == start) for p in parts]
        mean = sum(s * len(p) for s, p in zip(scores, parts, strict=True)) / sum(map(len, parts))
        assert found[start] == pytest.approx(mean, abs=1e-5)


def test_what_subtitles_gained_is_kept(moments: list[Moment]):
    looking = model("mean")
    plain = rerank(looking, "a green thing", moments)
    last = plain[-1]
    gained = replace(last, bonus=2.5, score=last.score + 2.5)  # more than cosines differ by
    found = rerank(looking, "a green thing", [*plain[:-1], gained])
    assert (found[0].start_s, found[0].bonus) == (last.start_s, 2.5)
    assert found[0].score == pytest.approx(last.score + 2.5, abs=1e-5)
    assert [m.score for m in found[1:]] == pytest.approx([m.score for m in plain[:-1]], abs=1e-5)


def test_nothing_found_is_nothing_to_look_at():
    assert rerank(model("mean"), "a thing", []) == []


def test_a_head_without_a_tower_cannot_look(moments: list[Moment]):
    bert = BertConfig(layers=1, width=16, heads=2, ffn_width=32)
    head = HeadConfig(kind="videoclip", bert=bert, feature_dim=16)
    features = RetrievalModel(RetrievalConfig(vision=None, text=bert, head=head))
    with pytest.raises(ConfigError, match="another network"):
        rerank(features, "a thing", moments)


def test_the_command_ranks_by_a_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_film(tmp_path / "films/f.mp4", [RED] * 8 + [GREEN] * 8 + [BLUE] * 8)
    (tmp_path / "films/f.srt").write_text("1\n00:00:17,000 --> 00:00:18,000\nThe green things\n")
    index, head = ["--index", str(tmp_path / "index")], tmp_path / "head"
    save(model("xclip"), head, "")
    assert main(["index", str(tmp_path / "films"), *index, "--model", "debug"]) == 0
    capsys.readouterr()

    def search(*more: str) -> list[dict[str, Any]]:
        assert main(["search", "a green thing", *index, "--json", *more]) == 0
        return json.loads(capsys.readouterr().out)["moments"]

    plain, again = search(), search("--rerank", str(head))
    assert sorted(m["start"] for m in plain) == sorted(m["start"] for m in again) and len(plain) > 1
    assert 0 < sum(bool(m["text"]) for m in plain) < len(plain)
    moments = [
        Moment(m["video"], m["start"], m["end"], 0.0, (), m["text"], 24.0, bonus=TEXT_WEIGHT if m["text"] else 0.0)
        for m in plain
    ]
    expected = rerank(model("xclip"), "a green thing", moments)
    assert [m["score"] for m in again] == pytest.approx([m.score for m in expected], abs=1e-3)
    assert len(search("--rerank", str(head), "-k", "1")) == 1
    assert main(["search", "a green thing", *index, "--rerank", str(tmp_path / "films")]) == 2
    assert main(["search", "--like", str(tmp_path / "films/f.mp4"), *index, "--rerank", str(head)]) == 2
