"""What else the features are good for: labels, key frames, moments of one video, copies, contact sheets."""

import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.retrieval.library import BLUE, GREEN, RED, some_colours, write_film
from videollm.config import SamplingConfig
from videollm.encoders.debug import DebugEncoder
from videollm.errors import ConfigError
from videollm.features.encode import EncodedVideo, encode_video
from videollm.presets import DEBUG
from videollm.retrieval.classify import classify, label_embeddings
from videollm.retrieval.contact_sheet import CELL, Panel, contact_sheet
from videollm.retrieval.dedupe import find_copies, fingerprint, groups, perceptual_hashes
from videollm.retrieval.grounding import ground, maximal_runs, otsu
from videollm.retrieval.keyframes import keyframes, representatives
from videollm.retrieval.queries import embed_text
from videollm.retrieval.words import TEXT_WEIGHT
from videollm.senses.finding import Finding, Findings

ENCODER = DebugEncoder()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", [RED] * 6 + [GREEN] * 3 + [BLUE] * 1)


@pytest.fixture(scope="module")
def video(film: Path) -> EncodedVideo:
    return encode_video(film, ENCODER, SamplingConfig(fps=2.0))


def test_key_frames_cover_every_scene_in_order(video: EncodedVideo):
    found = keyframes(video, ENCODER.vocabulary, DEBUG.prompt, 3)
    assert [0 if k.time_s < 6 else 1 if k.time_s < 9 else 2 for k in found] == [0, 1, 2]
    assert [k.share for k in found] == pytest.approx([0.6, 0.3, 0.1], abs=0.051)
    assert len(keyframes(video, ENCODER.vocabulary, DEBUG.prompt, 999)) == len(video.times_s)
    with pytest.raises(ConfigError, match="at least 1"):
        keyframes(video, ENCODER.vocabulary, DEBUG.prompt, 0)


def test_representatives_reach_what_greedy_choice_promises():
    rows = F.normalize(torch.randn(14, 4))
    chosen, nearest = representatives(rows, 2)
    similarity = rows @ rows.T

    def covered(picked: list[int]) -> float:
        return float((similarity[picked].max(0).values + 1).sum())

    best = max(covered([i, j]) for i in range(14) for j in range(i))
    assert covered(chosen) >= (1 - 1 / torch.e) * best
    assert nearest[chosen].tolist() == [0, 1]


def test_grounding_finds_the_span(video: EncodedVideo, monkeypatch: pytest.MonkeyPatch):
    green = F.normalize(video.features.embed[12:18].mean(0), dim=0)
    monkeypatch.setattr("videollm.retrieval.grounding.embed_text", lambda text, encoder: green)
    best = ground(video, "green", ENCODER)[0]
    assert (best.start_s, best.end_s) == (6, 9) and best.score > 0.95


def test_grounding_says_the_whole_where_nothing_stands_out(video: EncodedVideo):
    alike = video.part(0, 6)
    spans = ground(alike, "anything", ENCODER)
    assert [(s.start_s, s.end_s) for s in spans] == [(0, 6)]


def test_a_sentence_with_all_words_of_the_text_is_a_moment(video: EncodedVideo):
    sentences = [(1.0, 2.0, "The GREEN door, it is open."), (3.0, 4.0, "A door."), (20.0, 21.0, "Open the green door!")]
    said = tuple(Finding(start_s=a, end_s=b, kind="speech", text=text, score=0.9) for a, b, text in sentences)
    heard = replace(video, findings=Findings(senses=("speech",), found=said))
    shown = ground(video, "a green door, open", ENCODER, 9)
    assert ground(heard, "a green door, open", ENCODER, 9) == shown  # no sentence has "a", "green" and "door"
    (one, other, *rest) = sorted(ground(heard, "open green door", ENCODER, 9), key=lambda span: -len(span.text))
    assert {(s.start_s, s.text) for s in (one, other)} == {
        (a, text) for a, _, text in sentences if "open" in text.lower()
    }
    assert rest == ground(video, "open green door", ENCODER, 9)
    frames = (video.times_s >= 1) & (video.times_s < 2)
    cosine = float((video.features.embed[frames].float() @ embed_text("open green door", ENCODER)).mean())
    assert {one.start_s: one.score, other.start_s: other.score} == pytest.approx(
        {1.0: TEXT_WEIGHT + cosine, 20.0: TEXT_WEIGHT}, abs=1e-4
    )


@given(st.lists(st.integers(-5, 5), max_size=9))
def test_maximal_runs_are_taken_largest_first(scores: list[int]):
    def naive(start: int, end: int) -> list[tuple[int, int]]:
        runs = [(sum(scores[a:b]), a - b, a, b) for a in range(start, end) for b in range(a + 1, end + 1)]
        best = max(runs, default=(0,))
        if best[0] <= 0:
            return []
        _, _, a, b = best
        return [*naive(start, a), (a, b), *naive(b, end)]

    found = maximal_runs([float(s) for s in scores])
    assert sum(sum(scores[a:b]) for a, b in found) == sum(sum(scores[a:b]) for a, b in naive(0, len(scores)))
    assert all(b <= c for (_, b), (c, _) in pairwise(found))


def test_otsu_parts_two_groups():
    threshold, contrast = otsu(torch.tensor([0.1, 0.8, 0.12, 0.82, 0.11]))
    assert 0.12 < threshold < 0.8 and contrast == pytest.approx(0.7)
    assert otsu(torch.tensor([0.4])) == (pytest.approx(0.4), 0.0)


def test_classify_gives_probabilities_in_order(video: EncodedVideo):
    found = classify(video, ["cat", " dog ", "boat"], ENCODER)
    assert sum(f.prob for f in found) == pytest.approx(1) and {f.label for f in found} == {"cat", "dog", "boat"}
    shown = F.normalize(video.features.embed.mean(0), dim=0)
    nearest = int((label_embeddings(["cat", "dog", "boat"], ENCODER) @ shown).argmax())
    assert found[0].label == ["cat", "dog", "boat"][nearest]
    for labels in (["cat"], ["cat", ""], ["cat", "cat"]):
        with pytest.raises(ConfigError, match="at least two different"):
            classify(video, labels, ENCODER)


def test_copies_are_found_and_others_not(tmp_path: Path):
    colours = some_colours(1, 8)
    original = write_film(tmp_path / "original.mp4", colours, size=(320, 240))
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"]
    small, trimmed = tmp_path / "small.mp4", tmp_path / "trimmed.mp4"
    subprocess.run([*ffmpeg, "-i", original, "-vf", "scale=160:120", "-crf", "34", small], check=True)
    subprocess.run([*ffmpeg, "-ss", "3", "-i", original, "-crf", "30", trimmed], check=True)
    other = write_film(tmp_path / "other.mp4", some_colours(2, 8), size=(320, 240))
    prints = [fingerprint(p) for p in (original, small, trimmed, other)]
    copies = find_copies(prints)
    assert groups(copies) == [sorted(map(str, (original, small, trimmed)))]
    offset = next(c for c in copies if (c.first, c.second) == (str(original), str(trimmed))).offset_s
    assert offset == pytest.approx(-3, abs=0.26)


def test_frames_of_one_colour_match_nothing(tmp_path: Path):
    flat = torch.full((3, 32, 32), 128.0)
    assert perceptual_hashes(flat).shape == (3, 63)
    black = [write_film(tmp_path / f"{n}.mp4", [(0, 0, 0)] * 2) for n in "ab"]
    assert find_copies([fingerprint(p) for p in black]) == []


def test_contact_sheet_shows_the_frames_in_order(film: Path):
    panels = [Panel(str(film), t, f"{t} s", "a note so long that it cannot fit " * 3) for t in (1.0, 7.0, 9.5)]
    sheet = contact_sheet(panels, columns=2)
    assert sheet.width > 2 * CELL[0] and sheet.height > 2 * CELL[1]
    middles = [sheet.getpixel((x, y)) for x, y in ((8 + 160, 8 + 90), (8 + 328 + 160, 8 + 90), (8 + 160, 8 + 232 + 90))]
    assert [max(range(3), key=lambda c, m=m: m[c]) for m in middles] == [0, 1, 2]
    assert contact_sheet([Panel(str(film), 0.0, "x")]).width < 2 * CELL[0]
