"""Finds the video files in folders and in text files that list them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from videollm.datasets.video_files import VIDEO_SUFFIXES
from videollm.errors import VideoNotFoundError


def video_files(sources: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Returns the absolute paths of the video files in `sources`, each once, in order.

    Args:
        sources: Folders, video files, and text files that list either, one per line.

    Raises:
        VideoNotFoundError: If a source does not exist, or is neither a folder, a video nor a text file.
    """
    return list(dict.fromkeys(str(file) for root in roots(sources) for file in walk(root)))


def roots(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Returns the absolute paths of the folders and videos in `sources`, with text files replaced by their lines."""
    return [Path(os.path.abspath(source)) for source in expand(sources)]


def expand(sources: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yields folders and videos. A text file is replaced by its lines, which are relative to its folder."""
    for source in map(Path, sources):
        if not source.exists():
            raise VideoNotFoundError(source, "no such file or folder")
        if source.is_file() and source.suffix.lower() not in VIDEO_SUFFIXES:
            try:
                lines = source.read_text().splitlines()
            except UnicodeDecodeError as error:
                reason = "neither a folder, nor a video by its name, nor a text file that lists them"
                raise VideoNotFoundError(source, reason) from error
            yield from (source.parent / line.strip() for line in lines if line.strip())
        else:
            yield source


def walk(root: Path) -> Iterator[Path]:
    """Yields the files at or below `root` that have the name of a video, except hidden ones.

    A `root` that is not a folder is yielded whatever its name, so that a missing file is reported and not ignored.
    """
    if not root.is_dir():
        yield root
        return
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                yield Path(folder, name)
