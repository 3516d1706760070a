"""Uploaded files: private to the key that sent them, bounded in number and size, and deleted after a time."""

import hashlib
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import BinaryIO

from serve.api.errors import APIError
from serve.config import Limits

CHUNK = 1 << 20  # bytes read at a time


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


class FileStore:
    """The files of all owners, in one folder.

    Args:
        folder: Where they are written.
        now: The clock, in seconds; tests replace it.
    """

    def __init__(self, folder: Path, limits: Limits, now: Callable[[], float] = time):
        self.folder, self.limits, self._now = folder, limits, now
        self._files: dict[str, StoredFile] = {}

    @property
    def nbytes(self) -> int:
        return sum(file.size for file in self._files.values())

    def add(self, owner: str, source: BinaryIO, name: str, purpose: str) -> StoredFile:
        """Stores a file. Raises APIError 413 if it is too large, 429 if the owner has as many files as allowed."""
        mine = [file for file in self.owned_by(owner) if not file.linked]
        room = min(self.limits.media_bytes, self.limits.files_bytes - sum(file.size for file in mine))
        if len(mine) >= self.limits.files or room <= 0:
            raise APIError(429, f"{len(mine)} files are stored for this key; delete some", "file_limit_exceeded")
        made = f"file-{secrets.token_hex(12)}"
        path, digest, size = self.folder / made, hashlib.sha256(), 0
        with open(path, "xb") as target:
            while chunk := source.read(CHUNK):
                size += len(chunk)
                if size > room:
                    path.unlink()
                    raise APIError(413, f"the file is larger than the {room >> 20} MiB left for it", "file_too_large")
                digest.update(chunk)
                target.write(chunk)
        created = int(self._now())
        expires = created + int(self.limits.file_s)
        self._files[made] = StoredFile(made, owner, path, digest.hexdigest(), size, name, purpose, created, expires)
        return self._files[made]

    def link(self, owner: str, source: Path, sha: str, purpose: str) -> StoredFile:
        """Gives the owner one of the server's files for as long as an upload is kept. Its content is not copied."""
        made = f"file-{secrets.token_hex(12)}"
        path = self.folder / made
        path.symlink_to(source.resolve())
        created = int(self._now())
        expires = created + int(self.limits.file_s)
        self._files[made] = StoredFile(made, owner, path, sha, 0, source.name, purpose, created, expires, linked=True)
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

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
