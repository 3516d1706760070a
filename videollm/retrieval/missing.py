"""Files that are indexed and not found any more: gone, or on a drive that is not mounted."""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path


def is_gone(path: str) -> bool:
    """Whether a file does not exist. What is in a folder without permission, or on a broken drive, may exist."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


KEPT = (
    "none of its {} indexed videos is there; their rows are kept, because a drive that is not mounted looks like this; "
    "mount it, or index with --drop-missing to remove them"
)


def emptied_folders(gone: Sequence[str], roots: Mapping[Path, int]) -> dict[str, str]:
    """Returns the missing files that an unmounted drive may hold, each with the folder that looks like one: a folder
    that is there but empty, a source without a single video, or, for a file that is a source itself because a list
    names it, a folder that is not there.

    roots: The sources and the numbers of their videos.
    """

    @cache
    def emptied(folder: Path) -> str | None:
        if roots.get(folder) == 0:
            return str(folder)
        try:
            with os.scandir(folder) as entries:
                is_empty = not any(True for _ in entries)
        except OSError:
            is_empty = False
        if is_empty:
            return str(folder)
        return None if folder in roots or folder == folder.parent else emptied(folder.parent)

    found: dict[str, str | None] = {}
    for path in map(Path, gone):
        is_away = path in roots and is_gone(str(path.parent))
        found[str(path)] = str(path.parent) if is_away else emptied(path.parent)
    return {path: folder for path, folder in found.items() if folder is not None}
