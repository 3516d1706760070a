"""Rows of several models in one index: made, updated, filtered and searched together."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from tests.retrieval.library import BLUE, GREEN, RED, write_film
from tests.retrieval.test_rerank import model
from videollm.cli import main
from videollm.errors import NoIndexError, SearchIndexError
from videollm.retrieval.fusion import DAMPING, fuse
from videollm.retrieval.highlights import choose_shots
from videollm.retrieval.index import Index
from videollm.retrieval.model import save
from videollm.retrieval.search import Moment, search

ASKED = "a green thing"


def moment(path: str, start_s: float, end_s: float, model: str, score: float = 0.5) -> Moment:
    return Moment(path, start_s, end_s, score, (), "", 20.0, row=1, models=(model,))


def test_ranks_are_joined_and_cosines_are_not_compared():
    first = [moment("a", 0, 4, "A", 0.9), moment("b", 0, 4, "A", 0.8), moment("c", 0, 4, "A", 0.7)]
    second = [moment("c", 0.5, 4.5, "B", 0.02), moment("a", 5, 9, "B", 0.01), moment("b", 0, 4, "B", 0.005)]
    found = fuse([first, second], 10)
    most = 2 / (DAMPING + 1)
    expected = {
        ("c", 0.5): (1 / (DAMPING + 3) + 1 / (DAMPING + 1)) / most,  # shown as B has it, which places it first
        ("b", 0): (1 / (DAMPING + 2) + 1 / (DAMPING + 3)) / most,
        ("a", 0): 1 / (DAMPING + 1) / most,
        ("a", 5): 1 / (DAMPING + 2) / most,  # another part of the video
    }
    assert [(m.path, m.start_s) for m in found] == list(expected)
    assert [m.score for m in found] == pytest.approx([*expected.values()])
    assert [m.models for m in found] == [("A", "B"), ("A", "B"), ("A",), ("B",)]
    assert [m.path for m in fuse([first, first], 2)] == ["a", "b"] and fuse([first, first], 1)[0].score == 1


def test_a_moment_of_one_ranking_joins_one_moment_of_another():
    coarse, fine = [moment("a", 0, 4, "A")], [moment("a", 0, 3, "B"), moment("a", 0.5, 4, "B")]
    assert [m.models for m in fuse([coarse, fine], 5)] == [("A", "B"), ("B",)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with films, the checkpoint of a head, and an index of both."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "films").mkdir()
    write_film(folder / "films/f.mp4", [RED] * 7 + [GREEN] * 3 + [BLUE] * 2)
    write_film(folder / "films/g.mp4", [GREEN] * 4 + [RED] * 4)
    (folder / "films/f.srt").write_text("1\n00:00:07,000 --> 00:00:09,000\nlook at the lake\n")
    save(model("attentive"), folder / "head", "")
    for name in ("debug", str(folder / "head")):
        assert main(["index", str(folder / "films"), "--index", str(folder / "idx"), "--model", name]) == 0
    return folder


def rounded(moments: list[Moment]) -> list[float]:
    """The scores as JSON has them."""
    return [round(m.score, 3) for m in moments]


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_search_asks_every_model_or_the_one_that_is_named(place: Path, capsys: pytest.CaptureFixture[str]):
    head, index = str(place / "head"), place / "idx"
    capsys.readouterr()
    both = said(capsys, "search", ASKED, "--index", index)["moments"]
    assert {name for m in both for name in m["models"]} == {"debug", head}
    assert [m["score"] for m in both] == sorted((m["score"] for m in both), reverse=True) and both[0]["score"] <= 1
    one = said(capsys, "search", ASKED, "--index", index, "--model", head)["moments"]
    (alone,) = Index.open_models(index, head)
    assert [m["score"] for m in one] == rounded(search(alone, ASKED)) and {*one[0]["models"]} == {head}
    first = said(capsys, "search", ASKED, "--index", index, "--model", "debug")["moments"]
    assert [m["score"] for m in first] == rounded(search(Index.open(index), ASKED))
    assert main(["search", ASKED, "--index", str(index)]) == 0
    assert f"[debug, {head}]" in capsys.readouterr().out
    frame = said(capsys, "search", "--like", place / "films/g.mp4", "--end", "4", "--index", index)["moments"]
    assert frame[0]["score"] == pytest.approx(1) and frame[0]["models"] == ["debug", head]


def test_a_loaded_encoder_opens_its_own_rows(place: Path):
    first, second = Index.open_models(place / "idx")
    assert [first.model, second.model] == ["debug", str(place / "head")]
    for index in (first, second):
        assert Index.open(place / "idx", index.encoder).table.uri == index.table.uri


def test_filters_hold_for_the_rows_of_all(place: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    for query in ([], [ASKED]):
        found = said(capsys, "search", *query, "--said", "the lake", "--index", place / "idx")["moments"]
        assert found and {Path(m["video"]).name for m in found} == {"f.mp4"}
        assert all("lake" in m["text"] for m in found)


def test_an_update_without_a_model_is_one_of_all_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    films, index = tmp_path / "films", tmp_path / "idx"
    films.mkdir()
    write_film(films / "f.mp4", [RED] * 4)
    save(model("mean"), tmp_path / "head", "")
    for name in ("debug", tmp_path / "head"):
        main(["index", str(films), "--index", str(index), "--model", str(name)])
    capsys.readouterr()
    write_film(films / "g.mp4", [GREEN] * 4)
    done = said(capsys, "index", films, "--index", index)["models"]
    assert [(report["added"], report["unchanged"]) for report in done.values()] == [(1, 1), (1, 1)]
    assert list(done) == ["debug", str(tmp_path / "head")]
    (films / "f.mp4").unlink()
    done = said(capsys, "index", films, "--index", index)["models"]
    assert [report["removed"] for report in done.values()] == [1, 1]
    found = said(capsys, "search", ASKED, "--index", index)["moments"]
    assert {Path(m["video"]).name for m in found} == {"g.mp4"}
    one = said(capsys, "index", films, "--index", index, "--model", "debug")
    assert one["unchanged"] == 1 and "models" not in one


def test_errors_name_the_models_that_are_there(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SearchIndexError, match=r"no rows of the model lite; it has those of debug, .*head"):
        Index.open_models(place / "idx", "lite")
    with pytest.raises(NoIndexError, match="make one with"):
        Index.open_models(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert main(["search", ASKED, "--index", str(place / "idx"), "--model", "lite"]) == 2
    assert "it has those of debug" in capsys.readouterr().err


def test_a_montage_has_shots_of_the_rows_of_all_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Of two films whose subtitles say the words, each model has one and both have the third."""
    index, head = tmp_path / "idx", str(tmp_path / "head")
    save(model("attentive"), tmp_path / "head", "")
    for seconds, folder in enumerate(("one", "two", "both"), 4):
        write_film(tmp_path / folder / f"{folder}.mp4", [RED] * seconds)
        (tmp_path / folder / f"{folder}.srt").write_text("1\n00:00:01,000 --> 00:00:03,000\nlook at the lake\n")
    for name, folder in (("debug", "one"), ("debug", "both"), (head, "two"), (head, "both")):
        assert main(["index", str(tmp_path / folder), "--index", str(index), "--model", name]) == 0
    shots, problems = choose_shots(Index.open_models(index), "look at the lake", 30)
    assert problems == [] and {Path(shot.path).stem for shot in shots} == {"one", "two", "both"}
    assert all(a.path != b.path or a.end_s <= b.start_s for a, b in pairwise(shots))  # none is shown twice
    capsys.readouterr()
    made = said(capsys, "reel", "--index", index, "--about", "look at the lake", "--out", tmp_path / "reel.mp4")
    assert [Path(shot["path"]).stem for shot in made["shots"]] == [Path(shot.path).stem for shot in shots]


def test_a_montage_adds_its_videos_to_the_rows_of_all_models(place: Path, tmp_path: Path):
    shutil.copytree(place / "idx", tmp_path / "idx")
    write_film(tmp_path / "more/h.mp4", [BLUE] * 4)
    (tmp_path / "more/h.srt").write_text("1\n00:00:01,000 --> 00:00:03,000\na boat\n")
    reel = ["reel", str(tmp_path / "more"), "--index", str(tmp_path / "idx"), "--about", "a boat"]
    assert main([*reel, "--out", str(tmp_path / "reel.mp4")]) == 0
    models = Index.open_models(tmp_path / "idx")
    assert [one.model for one in models] == ["debug", str(place / "head")]
    assert all(any(m.path.endswith("h.mp4") for m in search(one, "a boat", 99)) for one in models)
