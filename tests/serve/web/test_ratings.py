"""Rated answers become rows that `videollm data check` passes and training reads."""

import hashlib
import json
from pathlib import Path

import pytest

from serve.web.conversation import PageConversation, PageMedia
from serve.web.history import FILE, History
from serve.web.ratings import main
from tests.serve.conftest import SAMPLE
from train.data.rows import InstructionRows
from videollm.cli import main as videollm
from videollm.cli.shapes import EvidenceJSON

CLIP = PageMedia("example", "A clip", hashlib.sha256(SAMPLE.read_bytes()).hexdigest())


def rated(conversation: PageConversation, question: str, answer: str, rating: int, *media: PageMedia):
    evidence = [EvidenceJSON(video=0, start=4.0, end=8.0, score=0.5, tags=[], findings=[])]
    asked = conversation.with_question(question, media)
    return asked.with_answer(answer=answer, status="done", rating=rating, evidence=evidence)


def test_ratings_are_rows_for_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    history, empty = History(tmp_path / "state"), PageConversation()
    first = rated(empty, "What is it?", "A dog.", -1, CLIP)
    history.save("me", first)
    retried = rated(first.before_turn(0), "What is it?", "A cat.", 1, CLIP)
    history.save("me", retried)
    history.save("me", rated(rated(retried, "And then?", "A cup.", 1), "And at last?", "Nothing.", -1))
    history.save("you", rated(empty, "Who?", "Nobody.", 1, PageMedia("file-1", "gone.mp4", "no such content")))
    deleted = rated(PageConversation(), "Deleted?", "Yes.", 1, CLIP)
    history.save("you", deleted)
    history.delete("you", deleted.id)

    arguments = [str(tmp_path / "rows"), "--videos", str(SAMPLE.parent), "--state", str(tmp_path / "state")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "good.jsonl: 2 rows" in printed and "bad.jsonl: 2 rows" in printed
    assert "left out: 1 whose video is in none of the folders" in printed
    for name in ("good.jsonl", "bad.jsonl"):
        assert videollm(["data", "check", str(tmp_path / "rows" / name)]) == 0
    rows = InstructionRows([str(tmp_path / "rows/good.jsonl")])
    said = [[message.content for message in row.messages] for row in rows]
    assert said == [["What is it?", "A cat."], ["What is it?", "A cat.", "And then?", "A cup."]]
    assert rows[0].video == str(SAMPLE) and rows[0].answer_times == ((4.0, 8.0),)
    bad = [json.loads(line) for line in (tmp_path / "rows/bad.jsonl").read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in bad] == ["Nothing.", "A dog."]


def test_a_folder_without_conversations_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "rows"), "--videos", str(SAMPLE), "--state", str(tmp_path)])
    assert FILE in capsys.readouterr().err and not (tmp_path / FILE).exists()
