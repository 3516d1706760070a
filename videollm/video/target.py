"""The files that parts of videos are written to."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from videollm.errors import ConfigError


def check_target(
    target: Path, what: str, suffixes: Sequence[str], sources: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Raises ConfigError if `target` has none of the suffixes, lies in no folder, or is one of the sources.

    what: what is written, in the plural, for the message.
    """
    if target.suffix.lower() not in suffixes:
        *others, last = suffixes
        names = f"{', '.join(others)} or {last}" if others else last
        raise ConfigError(f"{target}: {what} are written as {names}; give a name that ends so")
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: the folder {target.parent} does not exist; create it first")
    if target.exists() and any(target.samefile(source) for source in sources):
        raise ConfigError(f"{target}: this is the video itself; give another name")


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yields the path of a hidden file, which replaces `target` at the end. After an error nothing of it is left."""
    unfinished = target.with_name(f".{target.stem}.part{target.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
