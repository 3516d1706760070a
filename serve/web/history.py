"""What the page keeps on disk: sessions and conversations, in one SQLite file that outlives the server."""

import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time

from pydantic import TypeAdapter, ValidationError

from serve.web.conversation import PageConversation, PageTurn

logger = logging.getLogger(__name__)

FILE = "page.sqlite"
WAIT_S = 5.0  # for another server that writes to the same file
MAX_CONVERSATIONS = 200  # of one owner; the oldest make room
MAX_VERSIONS = 50  # of one conversation that can be gone back to
DELETED_S = 24 * 3600.0  # how long a deletion can be taken back

SCHEMA = """
CREATE TABLE IF NOT EXISTS session (digest BLOB PRIMARY KEY, owner TEXT, key TEXT, used_at REAL);
CREATE TABLE IF NOT EXISTS turn (id TEXT PRIMARY KEY, owner TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS version (
    owner TEXT, conversation TEXT, number INTEGER, title TEXT, turns TEXT, saved_at REAL,
    PRIMARY KEY (owner, conversation, number)
);
"""
LATEST = """
SELECT conversation, title, max(number), saved_at, turns FROM version WHERE owner = ? GROUP BY conversation
"""
DELETED = """
SELECT owner, conversation FROM (
    SELECT owner, conversation, max(number), turns, saved_at FROM version GROUP BY owner, conversation
) WHERE turns = '[]' AND saved_at < ?
"""

_TURN = TypeAdapter(PageTurn)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A conversation in the list. saved_at: seconds since 1970. is_deleted: it can still be taken back."""

    id: str
    title: str
    saved_at: float
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version of a conversation. saved_at: seconds since 1970."""

    conversation: PageConversation
    saved_at: float


class History:
    """The conversations of all owners.

    Each change of which turns a conversation has is a version, and the latest one is what is shown. Undo removes it. A
    deleted conversation is one whose latest version has no turns, so that a deletion is undone in the same way.

    Args:
        folder: Where the file is. If nothing can be written there, conversations end with the server, which is logged.
    """

    def __init__(self, folder: Path):
        self._database = _open(folder)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Runs a transaction. A full disk costs what would be saved, and nothing else."""
        try:
            with self._database as database:
                yield database
        except sqlite3.Error as error:
            logger.warning("a conversation could not be saved: %s", error)

    def save(self, owner: str, conversation: PageConversation) -> None:
        """Keeps the conversation. If it has other turns than before, that is a new version."""
        if not conversation.turns:
            return
        with self._writing() as database:
            database.executemany(
                "INSERT INTO turn VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                [(turn.id, owner, _TURN.dump_json(turn).decode()) for turn in conversation.turns],
            )
            self._add_version(owner, conversation.id, conversation.title, _ids(conversation))
            self._drop(owner, [entry.id for entry in self._entries(owner)[MAX_CONVERSATIONS:]])

    def delete(self, owner: str, conversation: str) -> None:
        if (latest := self._latest(owner, conversation)) is not None:
            with self._writing():
                self._add_version(owner, conversation, latest[1], "[]")

    def undo(self, owner: str, conversation: PageConversation) -> PageConversation:
        """Takes back the change that led to this conversation, and returns what was there before it."""
        latest = self._latest(owner, conversation.id)
        if latest is not None and latest[4] == _ids(conversation):
            with self._writing() as database:
                where = "owner = ? AND conversation = ? AND number = ?"
                database.execute(f"DELETE FROM version WHERE {where}", (owner, conversation.id, latest[2]))
        return self.open(owner, conversation.id) or PageConversation(conversation.id)

    def open(self, owner: str, conversation: str) -> PageConversation | None:
        """Returns a conversation of this owner, or None if there is none that can be read."""
        if (latest := self._latest(owner, conversation)) is None:
            return None
        turns = self._turns(owner, latest[4])
        return None if turns is None else PageConversation(conversation, turns).stopped()

    def versions(self) -> Iterator[KeptVersion]:
        """Yields every version of the conversations of all owners that are not deleted, the latest first."""
        rows = self._database.execute("SELECT owner, conversation, turns, saved_at FROM version ORDER BY number DESC")
        deleted = set()
        for owner, conversation, ids, saved_at in rows:
            if ids == "[]" or (owner, conversation) in deleted:
                deleted.add((owner, conversation))
            elif (turns := self._turns(owner, ids)) is not None:
                yield KeptVersion(PageConversation(conversation, turns), saved_at)

    def _turns(self, owner: str, ids: str) -> tuple[PageTurn, ...] | None:
        """Returns the turns with these ids, or None if one cannot be read."""
        turns = []
        for turn in json.loads(ids):
            row = self._database.execute("SELECT body FROM turn WHERE id = ? AND owner = ?", (turn, owner)).fetchone()
            try:
                turns.append(_TURN.validate_json(row[0] if row else ""))
            except ValidationError as error:  # written by another version of the page
                logger.warning("a turn of a conversation cannot be read: %s", error.errors()[0]["msg"])
                return None
        return tuple(turns)

    def entries(self, owner: str) -> list[HistoryEntry]:
        """Returns the conversations of this owner, the last changed first."""
        try:
            return self._entries(owner)
        except sqlite3.Error as error:
            logger.warning("the conversations cannot be read: %s", error)
            return []

    def _entries(self, owner: str) -> list[HistoryEntry]:
        rows = self._database.execute(f"{LATEST} ORDER BY saved_at DESC", (owner,))
        return [HistoryEntry(name, title, saved_at, turns == "[]") for name, title, _, saved_at, turns in rows]

    def _latest(self, owner: str, conversation: str) -> tuple | None:
        return self._database.execute(f"{LATEST} HAVING conversation = ?", (owner, conversation)).fetchone()

    def _add_version(self, owner: str, conversation: str, title: str, turns: str) -> None:
        latest = self._latest(owner, conversation)
        if latest is not None and latest[4] == turns:
            return
        number = 0 if latest is None else latest[2] + 1
        row = (owner, conversation, number, title, turns, time())
        self._database.execute("INSERT INTO version VALUES (?, ?, ?, ?, ?, ?)", row)
        oldest = "owner = ? AND conversation = ? AND number <= ?"
        self._database.execute(f"DELETE FROM version WHERE {oldest}", (owner, conversation, number - MAX_VERSIONS))

    def _drop(self, owner: str, conversations: Iterable[str]) -> None:
        rows = [(owner, conversation) for conversation in conversations]
        self._database.executemany("DELETE FROM version WHERE owner = ? AND conversation = ?", rows)

    def purge(self) -> None:
        """Removes deleted conversations for good after a day, and turns of which no version is left."""
        with self._writing() as database:
            for owner, conversation in database.execute(DELETED, (time() - DELETED_S,)).fetchall():
                self._drop(owner, [conversation])
            database.execute("DELETE FROM turn WHERE id NOT IN (SELECT value FROM version, json_each(version.turns))")

    def forget(self, owner: str) -> None:
        """Removes everything of an owner."""
        with self._writing() as database:
            database.execute("DELETE FROM version WHERE owner = ?", (owner,))
            database.execute("DELETE FROM turn WHERE owner = ?", (owner,))

    # --- sessions

    def sessions(self) -> list[tuple[bytes, str, str, float]]:
        """Returns digest, owner, key and time of last use of each session, the least recently used first."""
        return self._database.execute("SELECT digest, owner, key, used_at FROM session ORDER BY used_at").fetchall()

    def save_sessions(self, rows: Iterable[tuple[bytes, str, str, float]]) -> None:
        with self._writing() as database:
            database.executemany("INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?)", rows)

    def delete_session(self, digest: bytes) -> None:
        with self._writing() as database:
            database.execute("DELETE FROM session WHERE digest = ?", (digest,))


def _ids(conversation: PageConversation) -> str:
    return json.dumps([turn.id for turn in conversation.turns])


def state_dir() -> Path:
    """Returns VIDEOLLM_STATE, or else `videollm` in the user's state folder (XDG_STATE_HOME or ~/.local/state)."""
    if chosen := os.environ.get("VIDEOLLM_STATE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "videollm"


def _open(folder: Path) -> sqlite3.Connection:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(folder / FILE, timeout=WAIT_S, check_same_thread=False)
        os.chmod(folder / FILE, 0o600)  # conversations are nobody else's
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA secure_delete = ON")
        database.executescript(SCHEMA)
        return database
    except (OSError, sqlite3.Error) as error:
        logger.warning("conversations cannot be kept in %s and will end with the server: %s", folder, error)
        database = sqlite3.connect(":memory:", check_same_thread=False)
        database.executescript(SCHEMA)
        return database
