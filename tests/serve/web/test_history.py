"""Conversations on disk: versions, undo, deletion, other owners, and disks that fail."""

import sqlite3
from pathlib import Path

import pytest

from serve.web import history
from serve.web.conversation import PageConversation, PageMedia
from serve.web.history import FILE, History

CLIP = PageMedia("example", "Example clip", "sha")


@pytest.fixture
def kept(tmp_path: Path) -> History:
    return History(tmp_path)


def answered(conversation: PageConversation, question: str, *media: PageMedia) -> PageConversation:
    return conversation.with_question(question, media).with_answer(answer="A cat at 0:04.", status="done")


def test_a_conversation_outlives_the_server(kept: History, tmp_path: Path):
    one = answered(PageConversation(), "What is it?", CLIP)
    kept.save("me", one)
    assert History(tmp_path).open("me", one.id) == one
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    assert [entry.title for entry in kept.entries("me")] == ["What is it?"]
    assert kept.open("you", one.id) is None and kept.entries("you") == []


def test_undo_brings_back_what_an_edit_replaced(kept: History):
    one = answered(PageConversation(), "What is it?", CLIP)
    two = answered(one, "And then?")
    edited = answered(one.before_turn(0), "Who is it?", CLIP)
    for version in (one, two, edited, edited.with_turn(0, rating=1)):
        kept.save("me", version)
    assert kept.undo("me", edited) == two
    assert kept.undo("me", edited) == two  # it is no longer the latest change: nothing else is taken back
    assert kept.undo("me", two) == one
    assert kept.undo("me", one).turns == () and kept.entries("me") == []


def test_a_deletion_can_be_taken_back_for_a_day(kept: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = answered(PageConversation(), "What is it?")
    kept.save("me", one)
    kept.delete("me", one.id)
    kept.purge()
    assert [entry.is_deleted for entry in kept.entries("me")] == [True]
    assert kept.undo("me", PageConversation(one.id)) == one
    kept.delete("me", one.id)
    monkeypatch.setattr(history, "DELETED_S", -1.0)
    kept.purge()
    assert kept.entries("me") == []
    with sqlite3.connect(tmp_path / FILE) as database:
        assert database.execute("SELECT count(*) FROM turn").fetchone() == (0,)


def test_an_answer_that_was_not_completed_is_stopped(kept: History):
    asked = PageConversation().with_question("What is it?")
    kept.save("me", asked)
    found = kept.open("me", asked.id)
    assert found is not None and found.turns[0].status == "stopped"


def test_the_oldest_conversations_make_room(kept: History, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "MAX_CONVERSATIONS", 2)
    every = [answered(PageConversation(), f"Question {n}") for n in range(4)]
    for one in every:
        kept.save("me", one)
    assert [entry.title for entry in kept.entries("me")] == ["Question 3", "Question 2"]


def test_a_file_that_is_no_database_costs_no_answer(tmp_path: Path):
    (tmp_path / FILE).write_text("this is not SQLite" * 100)
    kept, one = History(tmp_path), answered(PageConversation(), "What is it?")
    kept.save("me", one)
    assert kept.open("me", one.id) == one  # until the server ends
    assert (tmp_path / FILE).read_text().startswith("this is not")


def test_a_disk_that_fills_up_costs_what_would_be_saved(kept: History, monkeypatch: pytest.MonkeyPatch):
    one = answered(PageConversation(), "What is it?")
    kept.save("me", one)
    kept._database.execute("PRAGMA query_only = ON")
    kept.save("me", answered(one, "And then?"))
    with pytest.raises(sqlite3.OperationalError):
        kept._database.execute("DELETE FROM turn")
    assert kept.open("me", one.id) == one
