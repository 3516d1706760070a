"""Which files are meant: folders are walked, lists are read."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from videollm.datasets.video_files import VIDEO_SUFFIXES
from videollm.errors import VideoNotFoundError


def video_files(sources: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Absolute paths of the video files that `sources` mean, each once, in order. Raises VideoNotFoundError."""
    return list(dict.fromkeys(str(file) for root in roots(sources) for file in walk(root)))


def roots(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    return [Path(os.path.abspath(source)) for source in expand(sources)]


def expand(sources: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    """Folders and videos; a text file stands for the lines in it, relative to where it lies."""
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
    """The video files at or below `root`, by their names. Hidden folders and files are passed over."""
    if not root.is_dir():
        yield root
        return
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                yield Path(folder, name)
