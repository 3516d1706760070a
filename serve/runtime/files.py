"""Uploaded files: private to the key that sent them, bounded in number and size, and deleted after a time."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import RLock
from time import time
from typing import Any

from serve.api.errors import APIError
from serve.config import Limits
from serve.security.auth import account_of

GENERATED = "generated"  # the purpose of a file that an answer shows


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of one owner. sha: SHA-256 of its content. linked: it is the server's own and counts for no owner."""

    id: str
    owner: str
    path: Path
    sha: str
    size: int
    name: str
    purpose: str
    created_at: int
    expires_at: int
    linked: bool = False


class IncomingFile(FileIO):
    """A file that is still arriving, which is written where it will stay.

    What is written counts for the owner at once. A file that is closed before `keep` was called is deleted, so that
    nothing remains of an upload that failed.
    """

    def __init__(self, store: "FileStore", owner: str, reserved: int):
        self.id, self.owner, self.kept = f"file-{secrets.token_hex(12)}", owner, False
        self.size, self._reserved = 0, reserved
        self.path, self._store, self._digest = store.folder / self.id, store, hashlib.sha256()
        super().__init__(self.path, "x+")

    def write(self, data: Any) -> int:
        """Appends the data. Raises APIError 413 if the owner has no room for it, OSError if the disk has none."""
        self.size += len(data)
        if self.size > self._reserved:
            self._store.reserve(self.owner, self._reserved, self.size)
            self._reserved = self.size
        self._digest.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        return len(data)

    def keep(self, name: str, purpose: str) -> StoredFile:
        """Stores the file under its id."""
        self.kept = True
        self.close()
        self._store.release(self.owner, self._reserved - self.size)
        return self._store.add(self, self._digest.hexdigest(), name, purpose)

    def close(self) -> None:
        if not self.closed:
            super().close()
            if not self.kept:
                self.path.unlink(missing_ok=True)
                self._store.release(self.owner, self._reserved, files=1)


class FileStore:
    """The files of all owners, in one folder.

    Files and bytes are counted for each account (see `account_of`), those that are still arriving included: uploads
    that are sent together have no more room than one after the other.

    Args:
        folder: Where they are written.
        now: The clock, in seconds; tests replace it.
    """

    def __init__(self, folder: Path, limits: Limits, now: Callable[[], float] = time):
        self.folder, self.limits, self._now = folder, limits, now
        self._files: dict[str, StoredFile] = {}
        self._counts: Counter[str] = Counter()  # files of each account
        self._bytes: Counter[str] = Counter()
        self._lock = RLock()  # files are written in threads, and closed wherever they are collected as garbage

    @property
    def nbytes(self) -> int:
        with self._lock:
            return self._bytes.total()

    def receive(self, owner: str, announced: int = 0) -> IncomingFile:
        """Reserves one of the owner's files and returns it for writing.

        Args:
            announced: The least bytes that the file will have, as far as its sender says.

        Raises APIError 429 if the owner has as many files as allowed, 413 if there is no room for what is announced.
        """
        self.expire()
        account = account_of(owner)
        with self._lock:
            files = self._counts[account]
            if files >= self.limits.files:
                raise APIError(429, f"{files} files are stored for this key; delete some", "file_limit_exceeded")
            self.reserve(owner, 0, announced)
            self._counts[account] += 1
        try:
            return IncomingFile(self, owner, announced)
        except OSError:
            self.release(owner, announced, files=1)
            raise

    def reserve(self, owner: str, old: int, new: int) -> None:
        """Reserves `new` bytes for a file in place of `old` ones. Raises APIError 413."""
        account = account_of(owner)
        with self._lock:
            room = min(self.limits.media_bytes, self.limits.files_bytes - self._bytes[account] + old)
            if new > room:
                raise APIError(413, f"the file is larger than the {room >> 20} MiB left for it", "file_too_large")
            self._bytes[account] += new - old

    def release(self, owner: str, size: int, files: int = 0) -> None:
        """Gives back bytes and files of the owner's account."""
        with self._lock:
            self._counts[account_of(owner)] -= files
            self._bytes[account_of(owner)] -= size

    def add(self, file: IncomingFile, sha: str, name: str, purpose: str) -> StoredFile:
        """Makes a file that has arrived available to its owner."""
        return self._add(file.id, file.owner, file.path, sha, file.size, name, purpose)

    def link(self, owner: str, source: Path, sha: str, purpose: str) -> StoredFile:
        """Gives the owner one of the server's files for as long as an upload is kept. Its content is not copied."""
        made = f"file-{secrets.token_hex(12)}"
        path = self.folder / made
        path.symlink_to(source.resolve())
        return self._add(made, owner, path, sha, 0, source.name, purpose, linked=True)

    def _add(
        self, made: str, owner: str, path: Path, sha: str, size: int, name: str, purpose: str, linked: bool = False
    ) -> StoredFile:
        created = int(self._now())
        expires = created + int(self.limits.file_s)
        self._files[made] = StoredFile(made, owner, path, sha, size, name, purpose, created, expires, linked)
        return self._files[made]

    def owned_by(self, owner: str) -> list[StoredFile]:
        """Returns the files of this owner that have not expired."""
        self.expire()
        return [file for file in self._files.values() if file.owner == owner]

    def expire(self) -> None:
        """Deletes the expired files of all owners."""
        for file in [file for file in self._files.values() if file.expires_at <= self._now()]:
            self._remove(file)

    def get(self, owner: str, file_id: str) -> StoredFile:
        """Returns a file of this owner. Raises APIError 404, as it does for a file that does not exist at all."""
        found = next((file for file in self.owned_by(owner) if file.id == file_id), None)
        if found is None:
            raise APIError(
                404, f"no file {file_id!r}; it was never uploaded, was deleted or has expired", "file_not_found"
            )
        return found

    def delete(self, owner: str, file_id: str) -> None:
        self._remove(self.get(owner, file_id))

    def _remove(self, file: StoredFile) -> None:
        file.path.unlink(missing_ok=True)
        del self._files[file.id]
        if not file.linked:
            self.release(file.owner, file.size, files=1)
