"""Finds the video files in folders and in text files that list them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from videollm.datasets.text_file import lines
from videollm.datasets.video_files import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from videollm.errors import DataError, VideoNotFoundError, printable

PASSED_OVER = "pictures passed over: {}; an index has videos only"


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """What sources hold.

    Attributes:
        files: The absolute paths of the video files, each once, in order.
        roots: The absolute paths of the folders and videos that the sources name, and the number of files at or below
            each.
        problems: Path and reason of the folders that cannot be read, and of the files whose names cannot be stored.
        pictures: The number of pictures at or below each root that has some. They are passed over.
    """

    files: dict[str, None] = field(default_factory=dict)
    roots: dict[Path, int] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    pictures: Counter[str] = field(default_factory=Counter)


def find_videos(sources: Sequence[str | os.PathLike[str]]) -> FoundVideos:
    """Finds the video files in `sources`.

    Args:
        sources: Folders, video files, and text files that list either, one per line.

    Raises:
        VideoNotFoundError: If a source does not exist, or is neither a folder, a video nor a text file.
    """
    found = FoundVideos()
    for source in _expanded(sources):
        root = Path(os.path.abspath(source))
        count = 0
        for file in _walk(root, found):
            count += 1
            if printable(file) == file:
                found.files[file] = None
            else:
                found.problems.append((printable(file), "its name is not UTF-8; rename it"))
        found.roots[root] = count
    return found


def _expanded(sources: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yields folders and videos. A text file is replaced by its lines, which are relative to its folder."""
    for source in map(Path, sources):
        try:
            is_there = source.exists()
        except (OSError, ValueError) as error:
            raise VideoNotFoundError(source, str(getattr(error, "strerror", None) or error).lower()) from error
        if not is_there:
            raise VideoNotFoundError(source, "no such file or folder")
        if source.is_file() and source.suffix.lower() not in VIDEO_SUFFIXES:
            try:
                yield from [source.parent / line.strip() for _, line in lines(source) if line.strip()]
            except DataError as error:
                reason = "neither a folder, nor a video by its name, nor a text file that lists them"
                raise VideoNotFoundError(source, reason) from error
        else:
            yield source


def _walk(root: Path, found: FoundVideos) -> Iterator[str]:
    """Yields the files at or below `root` that have the name of a video, except hidden ones, and notes the pictures.

    A `root` that is not a folder is yielded whatever its name, so that a missing file is reported and not ignored.
    """

    def report(error: OSError) -> None:
        found.problems.append((printable(str(error.filename)), f"the folder cannot be read ({error.strerror})".lower()))

    if not os.path.isdir(root):
        yield str(root)
        return
    for folder, below, names in os.walk(root, onerror=report):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if name.startswith("."):
                continue
            suffix = os.path.splitext(name)[1].lower()
            if suffix in PICTURE_SUFFIXES:
                found.pictures[printable(str(root))] += 1
            elif suffix in VIDEO_SUFFIXES:
                yield os.path.join(folder, name)
