"""Indexes made with what was trained: retrieval heads, ViCLIP and aligners. Scores are those of the models."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.retrieval.library import BLUE, GREEN, RED, write_film
from tests.retrieval.test_rerank import TEXT, model
from videollm import checkpoint
from videollm.cli import main
from videollm.config import SamplingConfig
from videollm.encoders.images import resize_crop
from videollm.errors import ConfigError
from videollm.features.encode import encode_video
from videollm.live.indexing import StreamIndexer
from videollm.models.aligner import Aligner
from videollm.models.visual_prompting import VisualBatch
from videollm.presets import DEBUG
from videollm.retrieval.clip import VisionConfig
from videollm.retrieval.heads.videoclip import BertConfig
from videollm.retrieval.highlights import choose_shots
from videollm.retrieval.index import Index
from videollm.retrieval.inputs import Words, normalise
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel, save
from videollm.retrieval.queries import embed_media
from videollm.retrieval.search import search
from videollm.video.decoding import decode

ASKED = "a green thing"
JOINT = VisionConfig(
    width=16, layers=2, heads=2, mlp_width=32, patch=16, grid=2, embed_dim=16, patches="joint", frames=4
)


def viclip() -> RetrievalModel:
    torch.manual_seed(0)
    head = HeadConfig(kind="plain_mean", max_words=10)
    made = RetrievalModel(RetrievalConfig(vision=JOINT, text=TEXT, head=head, scale="divisor"))
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made.eval()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "f.mp4", [RED] * 7 + [GREEN] * 3 + [BLUE] * 2)
    return folder


def indexed(films: Path, directory: Path, place: Path) -> Index:
    """An index that the command made, opened as the command `search` opens it."""
    assert main(["index", str(films), "--index", str(place), "--model", str(directory)]) == 0
    return Index.open(place)


@pytest.mark.parametrize("kind", ["mean", "max", "transformer", "attentive", "stan", "viclip"])
def test_scores_are_those_of_the_head(films: Path, tmp_path: Path, kind: str):
    looking = viclip() if kind == "viclip" else model(kind)
    save(looking, tmp_path / "head", "")
    index = indexed(films, tmp_path / "head", tmp_path / "index")
    found = search(index, ASKED)
    assert len(found) > 2 and len({round(m.score, 5) for m in found}) == len(found)
    frames = decode(films / "f.mp4", SamplingConfig(fps=1.0), short_side=32)
    for moment in found:
        pixels = resize_crop(frames.pixels[(frames.times_s >= moment.start_s) & (frames.times_s < moment.end_s)], 32)
        if kind == "viclip":  # reads four frames, whatever their number
            pixels = pixels[torch.linspace(0, len(pixels) - 1, 4).round().long()]
        ids, mask = Words(10)([ASKED])
        video = normalise(pixels)[None]
        with torch.no_grad():
            text = looking.encode_text(ids, mask)
            seen = looking.encode_video(video, torch.ones(video.shape[:2], dtype=torch.bool))
            assert moment.score == pytest.approx(float(looking.head.score(text, seen)), abs=2e-3)


def test_a_clip_and_a_montage_are_found_with_the_same_model(films: Path, tmp_path: Path):
    save(model("attentive"), tmp_path / "head", "")
    index = indexed(films, tmp_path / "head", tmp_path / "index")
    green = embed_media(films / "f.mp4", index.encoder, SamplingConfig(fps=1.0, start_s=7.0, end_s=10.0))
    best = search(index, green)[0]
    assert (best.start_s, best.end_s) == (7.0, 10.0) and best.score > 0.999
    shots, problems = choose_shots([index], green, 2.0)
    assert not problems and shots[0].start_s >= 7.0


@pytest.mark.parametrize(
    ("kind", "says"), [("xclip", "search --rerank"), ("mug", "search --rerank"), ("videoclip", "another network")]
)
def test_what_cannot_be_indexed_is_refused_in_one_line(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, says: str
):
    bert = BertConfig(layers=1, width=16, heads=2, ffn_width=32)
    features = RetrievalConfig(vision=None, text=bert, head=HeadConfig(kind=kind, bert=bert, feature_dim=16))
    save(RetrievalModel(features) if kind == "videoclip" else model(kind), tmp_path / "head", "")
    assert main(["index", str(films), "--index", str(tmp_path / "index"), "--model", str(tmp_path / "head")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and says in said[0] and kind in said[0]


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, checkpoint.Model, Aligner]:
    folder = tmp_path_factory.mktemp("aligned")
    made: Any = checkpoint.build(DEBUG)
    checkpoint.save(made, folder, "")
    aligner = Aligner(made.llm.temporal, made.processor.tokenizer).eval()
    aligner.save(folder)
    return folder, made, aligner


def test_an_aligner_gives_a_segment_one_vector_for_each_query(
    films: Path, tmp_path: Path, aligned: tuple[Path, checkpoint.Model, Aligner]
):
    folder, made, aligner = aligned
    index = indexed(films, folder, tmp_path / "index")
    assert index.table.vectors == made.config.temporal.queries and index.vectors is not None
    assert len(index.vectors) == index.table.vectors * index.table.count()
    found = sorted(search(index, ASKED), key=lambda m: m.start_s)
    video = encode_video(films / "f.mp4", made.encoder, made.config.sampling)
    segments = video.segments(made.config, made.encoder.vocabulary)
    assert [(m.start_s, m.end_s, m.tags) for m in found] == [(s.start_s, s.end_s, s.tags) for s in segments]
    batch = VisualBatch.pad([s.tokens for s in segments], [s.times_s for s in segments])
    expected = aligner.similarity(aligner.embed_segments(batch), aligner.embed_texts([ASKED]))[:, 0]
    assert [m.score for m in found] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [m.start_s for m in search(index, ASKED, k=1)] == [max(found, key=lambda m: m.score).start_s]


def test_a_stream_is_not_indexed_by_segments(
    films: Path, tmp_path: Path, aligned: tuple[Path, checkpoint.Model, Aligner]
):
    with pytest.raises(ConfigError, match="embeds whole segments"):
        StreamIndexer(Index.create(tmp_path / "index", str(aligned[0])), "camera")
