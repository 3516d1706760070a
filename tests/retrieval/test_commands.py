"""The commands about collections and single videos, as a user runs them, with the debug model."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.retrieval.library import BLUE, GREEN, RED, write_film
from videollm.cli import main


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "red.mp4", [RED] * 4)
    write_film(folder / "both.mp4", [GREEN] * 4 + [BLUE] * 4)
    (folder / "broken.mp4").write_text("not a video")
    assert main(["index", str(folder), "--index", str(folder / "idx"), "--model", "debug"]) == 0
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_index_lists_what_it_skips(films: Path, capsys: pytest.CaptureFixture[str]):
    again = said(capsys, "index", films, "--index", films / "idx", "--model", "debug")
    assert (again["unchanged"], again["unreadable"], again["segments"]) == (3, 1, 3)
    assert main(["index", str(films), "--index", str(films / "idx"), "--model", "debug"]) == 0
    assert "broken.mp4: not a video or image" in capsys.readouterr().out


def test_search_prints_moments_and_a_contact_sheet(films: Path, capsys: pytest.CaptureFixture[str]):
    sheet = films / "sheet.png"
    part = ("--like", films / "both.mp4", "--start", 4.5)
    found = said(capsys, "search", "--index", films / "idx", *part, "-k", 2, "--open", sheet)
    best = found["moments"][0]
    assert (best["video"], best["start"], best["end"]) == (str(films / "both.mp4"), 4, 8) and best["score"] > 0.95
    assert found["sheet"] == str(sheet) and Image.open(sheet).format == "PNG"


def test_a_score_below_0_is_shown_as_0(films: Path, capsys: pytest.CaptureFixture[str]):
    scores, shown = [], []
    for query in ("green", "a dog", "one two three", "night", "water"):
        arguments = ["search", query, "--index", str(films / "idx"), "-k", "3"]
        assert main(arguments) == 0
        shown += [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
        scores += [moment["score"] for moment in said(capsys, *arguments)["moments"]]
    assert min(scores) < 0 and shown == pytest.approx([max(0.0, score) for score in scores], abs=0.006)


def test_ask_cites(films: Path, capsys: pytest.CaptureFixture[str]):
    found = said(capsys, "ask", "--index", films / "idx", "--model", "debug", "What is there?")
    assert found["citations"] and {"video", "start", "end", "score", "text"} == set(found["citations"][0])


def test_one_video(films: Path, capsys: pytest.CaptureFixture[str]):
    video = (films / "both.mp4", "--model", "debug")
    labels = said(capsys, "classify", *video, "--labels", "a,b")["labels"]
    assert sum(entry["prob"] for entry in labels) == pytest.approx(1, abs=0.002)
    assert all(s["start"] < s["end"] for s in said(capsys, "moments", *video, "green")["moments"])
    frames = said(capsys, "keyframes", *video, "-n", 2, "--describe", "--open", films / "frames.png")["keyframes"]
    assert [f["time"] < 4 for f in frames] == [True, False] and all(isinstance(f["text"], str) for f in frames)
    parts = said(capsys, "summarize", *video, "-n", 2, "--storyboard", films / "board.png")["parts"]
    assert [(p["start"], p["end"]) for p in parts] == [(0, 4), (4, 8)] and (films / "board.png").is_file()


def test_dedupe_reports_groups_and_what_it_cannot_read(films: Path, capsys: pytest.CaptureFixture[str]):
    found = said(capsys, "dedupe", films)
    assert found["groups"] == [] and found["problems"][0][0].endswith("broken.mp4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--index", "{films}/idx"], "give a text to search for"),
        (["search", "dog", "--index", "{films}/none"], "no index; make one with"),
        (["search", " ", "--index", "{films}/idx"], "the query is empty"),
        (["search", "dog", "--index", "{films}/idx", "--open", "{films}/a.jpg"], "ends in .png"),
        (["search", "dog", "--index", "{films}/idx", "--open", "{films}/none/a.png"], "does not exist; create it"),
        (["index", "{films}/none", "--index", "{films}/idx", "--model", "debug"], "no such file or folder"),
        (["ask", "What?"], "no video was given"),
        (["ask", "a.mp4", "What?", "--index", "{films}/idx"], "leave the video a.mp4 out"),
        (["classify", "{films}/red.mp4", "--labels", "cat", "--model", "debug"], "at least two different"),
        (["dedupe", "{films}/none"], "no such file or folder"),
    ],
)
def test_bad_input_is_one_line(films: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str):
    capsys.readouterr()
    assert main([a.format(films=films) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err and len(err.strip().splitlines()) == 1
    assert out == "" or "--open" in arguments  # what was found is told also where the picture cannot be written
