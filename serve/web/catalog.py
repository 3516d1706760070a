"""The videos that a session can choose: its own uploads, the example clip, and those of the server's index."""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

from serve.api.errors import APIError
from serve.runtime.files import FileStore, StoredFile
from serve.runtime.service import Service
from serve.web.labels import Labels

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"  # in the repository, not in the wheel
EXAMPLE = "example"
MAX_LISTED = 1000  # videos of an index in the list of choices; search finds the others too


@dataclass(frozen=True, slots=True)
class SharedVideo:
    """A video of the server's own, which every session may see. sha: of its content."""

    path: Path
    sha: str


class VideoCatalog:
    """Names the videos and opens them. A video is known by its file id (uploads) or by a name that hides its path."""

    def __init__(self, service: Service):
        self._files: FileStore = service.files
        self.index = service.index
        self.shared: dict[str, SharedVideo] = {}
        if SAMPLE.is_file():
            self.shared[EXAMPLE] = SharedVideo(SAMPLE, hashlib.sha256(SAMPLE.read_bytes()).hexdigest())

    async def refresh(self) -> None:
        """Reads which videos the index holds now."""
        if self.index is None:
            return
        rows = await asyncio.to_thread(self.index.table.videos)
        example = {EXAMPLE: self.shared[EXAMPLE]} if EXAMPLE in self.shared else {}
        self.shared = example | {
            indexed_name(row.path): SharedVideo(Path(row.path), row.sha) for row in rows.values() if row.segments
        }

    def choices(self, owner: str, labels: Labels) -> list[tuple[str, str]]:
        """Returns for each video what the page calls it and the name by which `open` knows it."""
        uploads = [(file.name, file.id) for file in self._files.owned_by(owner) if not file.linked]
        shared = [(labels.example if name == EXAMPLE else one.path.name, name) for name, one in self.shared.items()]
        return [*reversed(uploads), *shared[:MAX_LISTED]]

    def open(self, owner: str, name: str) -> StoredFile:
        """Returns a file that this owner may see. Raises APIError 404."""
        if name not in self.shared:
            return self._files.get(owner, name)
        if known := next((file for file in self._files.owned_by(owner) if file.purpose == name), None):
            return known
        shared = self.shared[name]
        if not shared.path.is_file():
            raise APIError(404, f"{shared.path.name} does not exist any more", "file_not_found")
        return self._files.link(owner, shared.path, shared.sha, purpose=name)

    def remove(self, owner: str, name: str) -> None:
        """Deletes an upload that cannot be used. Does nothing for a shared video."""
        if any(file.id == name for file in self._files.owned_by(owner)):
            self._files.delete(owner, name)


def indexed_name(path: str) -> str:
    """Returns a name for a video of the index that does not reveal its path."""
    return f"index-{hashlib.sha256(path.encode()).hexdigest()[:24]}"
