"""The videos that a session may choose from: its own uploads, the example clip, and those of the server's index."""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

from serve.api.errors import APIError
from serve.runtime.files import Files, StoredFile
from serve.runtime.service import Service
from serve.web.labels import Labels

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"  # of the repository, not of the package
EXAMPLE = "example"
MOST = 1000  # videos of an index that are listed; search finds the others


@dataclass(frozen=True, slots=True)
class Shared:
    """A video of the server's own. sha: of its content."""

    path: Path
    sha: str


class Shelf:
    def __init__(self, service: Service):
        self._files: Files = service.files
        self.index = service.index
        self.shared: dict[str, Shared] = {}
        if SAMPLE.is_file():
            self.shared[EXAMPLE] = Shared(SAMPLE, hashlib.sha256(SAMPLE.read_bytes()).hexdigest())

    async def refresh(self) -> None:
        """Reads what the index holds now."""
        if self.index is None:
            return
        rows = await asyncio.to_thread(self.index.table.videos)
        example = {EXAMPLE: self.shared[EXAMPLE]} if EXAMPLE in self.shared else {}
        self.shared = example | {
            shelf_name(row.path): Shared(Path(row.path), row.sha) for row in rows.values() if row.segments
        }

    def choices(self, owner: str, labels: Labels) -> list[tuple[str, str]]:
        """What is shown of each video, and the name by which `open` knows it."""
        uploads = [(file.name, file.id) for file in self._files.of(owner) if not file.lent]
        shared = [(labels.example if name == EXAMPLE else one.path.name, name) for name, one in self.shared.items()]
        return [*reversed(uploads), *shared[:MOST]]

    def open(self, owner: str, name: str) -> StoredFile:
        """A file that this owner may look at. Raises APIError 404."""
        if name not in self.shared:
            return self._files.get(owner, name)
        if known := next((file for file in self._files.of(owner) if file.purpose == name), None):
            return known
        shared = self.shared[name]
        if not shared.path.is_file():
            raise APIError(404, f"{shared.path.name} is no longer there", "file_not_found")
        return self._files.lend(owner, shared.path, shared.sha, purpose=name)

    def drop(self, owner: str, name: str) -> None:
        """An upload that turned out to be of no use."""
        if any(file.id == name for file in self._files.of(owner)):
            self._files.delete(owner, name)


def shelf_name(path: str) -> str:
    """Of a video of the index. Says nothing of where it lies."""
    return f"index-{hashlib.sha256(path.encode()).hexdigest()[:24]}"
