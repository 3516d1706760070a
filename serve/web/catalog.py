"""The videos that a session can choose: its own uploads, the example clips, and those of the server's index."""

import asyncio
import hashlib
import mimetypes
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serve.api.errors import APIError
from serve.runtime.files import GENERATED, FileStore, StoredFile
from serve.runtime.service import Service
from serve.web.conversation import PageMedia
from serve.web.labels import Labels

SAMPLES = Path(__file__).parents[2] / "scripts/samples"  # in the repository, not in the wheel
EXAMPLES = {"example": "sample.mp4", "reading": "reading.mp4", "astronaut": "astronaut.mp4"}  # by names in the catalog
MAX_LISTED = 1000  # videos of an index in the list of choices; search finds the others too


@dataclass(frozen=True, slots=True)
class SharedVideo:
    """A video of the server's own, which every session may see. sha: of its content."""

    path: Path
    sha: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A line of the list of videos. name: by which `open` knows it. label: what the page calls it."""

    name: str
    label: str


class VideoCatalog:
    """Names the videos and opens them. A video is known by its file id (uploads) or by a name that hides its path."""

    def __init__(self, service: Service):
        self._files: FileStore = service.files
        self.index = service.index
        self.examples = {
            name: SharedVideo(SAMPLES / file, hashlib.sha256((SAMPLES / file).read_bytes()).hexdigest())
            for name, file in EXAMPLES.items()
            if (SAMPLES / file).is_file()
        }
        self.shared = dict(self.examples)

    async def refresh(self) -> None:
        """Reads which videos the index holds now."""
        if self.index is None:
            return
        rows = await asyncio.to_thread(self.index.table.videos)
        self.shared = self.examples | {
            indexed_name(row.path): SharedVideo(Path(row.path), row.sha) for row in rows.values() if row.segments
        }

    def choices(self, owner: str, labels: Labels) -> list[Choice]:
        """Returns the uploads of this owner, the latest first, and the shared videos. No two have the same label."""
        owned = self._files.owned_by(owner)
        uploads = [(file.id, file.name) for file in owned if not file.linked and file.purpose != GENERATED]
        shared = [(name, self._label(name, labels)) for name in self.shared]
        return list(_distinct([*reversed(uploads), *shared[:MAX_LISTED]]))

    def _label(self, name: str, labels: Labels) -> str:
        return labels.examples[name].title if name in self.examples else self.shared[name].path.name

    def media(self, owner: str, name: str, labels: Labels) -> PageMedia:
        """Returns a video or picture by its name. Raises APIError 404."""
        file = self.open(owner, name)
        label = self._label(name, labels) if name in self.shared else file.name
        return PageMedia(name, label, file.sha, is_picture=is_picture(file.name))

    def find(self, owner: str, media: PageMedia) -> StoredFile:
        """Returns the file of what a conversation is about. An upload may since have been made again.

        Raises APIError 404.
        """
        if media.choice in self.shared:
            return self.open(owner, media.choice)
        known = [file for file in self._files.owned_by(owner) if file.sha == media.sha]
        if not known:
            raise APIError(404, f"{media.name} is not on the server any more; add it again to go on", "file_not_found")
        return known[-1]

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

    def add(self, owner: str, file: StoredFile) -> StoredFile:
        """Returns the file under which an upload is known: an earlier one if it has the same content."""
        known = next(one for one in self._files.owned_by(owner) if one.sha == file.sha and not one.linked)
        if known.id != file.id:
            self._files.delete(owner, file.id)
        return known

    def remove(self, owner: str, name: str) -> None:
        """Deletes an upload that cannot be used. Does nothing for a shared video."""
        if any(file.id == name for file in self._files.owned_by(owner)):
            self._files.delete(owner, name)


def is_picture(name: str) -> bool:
    """Says whether a file's name is that of a picture that does not move."""
    kind = mimetypes.guess_type(name)[0] or ""
    return kind.startswith("image/") and kind != "image/gif"


def indexed_name(path: str) -> str:
    """Returns a name for a video of the index that does not reveal its path."""
    return f"index-{hashlib.sha256(path.encode()).hexdigest()[:24]}"


def _distinct(choices: list[tuple[str, str]]) -> Iterator[Choice]:
    """Numbers labels that occur more than once: "a.mp4", "a.mp4 (2)"."""
    seen: Counter[str] = Counter()
    for name, label in choices:
        seen[label] += 1
        yield Choice(name, label if seen[label] == 1 else f"{label} ({seen[label]})")
