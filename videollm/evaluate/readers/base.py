"""What readers of evaluation data share: how a folder is laid out, what was read, what is wrong with it.

Annotations must be whole: as many items as were published. Their checksums go into every report, and where the folder
has a file SHA256SUMS, as `sha256sum FILE... > SHA256SUMS` writes it, they must be those.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from videollm.errors import DataError
from videollm.evaluate.item import Item

SUMS = "SHA256SUMS"
SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".gif")


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """What was read. files: sha256 by the name of each annotation file. notes: what differs from the published
    data, such as a number of rows."""

    format: str
    splits: tuple[str, ...]
    items: tuple[Item, ...]
    files: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass
class Folder:
    """A dataset's folder; remembers the checksum of every annotation file that is read."""

    root: Path
    files: dict[str, str] = field(default_factory=dict)

    def bytes(self, name: str) -> bytes:
        """Raises DataError where the file cannot be read."""
        try:
            content = (self.root / name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.root / name} cannot be read: {error.strerror}") from error
        self.files[name] = found = hashlib.sha256(content).hexdigest()
        if (wanted := self._sums.get(name, found)) != found:
            raise DataError(f"{self.root / name} has the sha256 {found}, {SUMS} says {wanted}; get the file again")
        return content

    @cached_property
    def _sums(self) -> dict[str, str]:
        """Checksums by file, of those that SHA256SUMS has."""
        path = self.root / SUMS
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise DataError(f"{path} is not what sha256sum writes: a checksum and a file name a line")
        return {name.removeprefix("*").removeprefix("./"): sha for sha, name in pairs}

    def text(self, name: str) -> str:
        try:
            return self.bytes(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.root / name} is no UTF-8 text: {error}") from error

    def json(self, name: str) -> Any:
        try:
            return json.loads(self.text(name))
        except json.JSONDecodeError as error:
            raise DataError(f"{self.root / name} is no JSON: {error}") from error

    def json_lines(self, name: str) -> Iterator[Any]:
        for number, line in enumerate(self.text(name).splitlines(), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{self.root / name} line {number} is no JSON: {error}") from error

    def table(self, name: str, delimiter: str = ",") -> list[dict[str, str]]:
        rows = list(csv.DictReader(self.text(name).splitlines(), delimiter=delimiter))
        broken = next((n for n, row in enumerate(rows, 2) if None in row or None in row.values()), None)
        if broken:
            raise DataError(f"{self.root / name} line {broken} does not have the header's number of fields")
        return rows

    def video(self, name: str, folder: str = "videos") -> Path:
        """A video by its name, with or without a suffix, whether it exists or not."""
        path = self.root / folder / name
        if path.suffix.lower() in SUFFIXES:
            return path
        found = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
        return next((p for p in found if p.is_file()), path.with_name(path.name + SUFFIXES[0]))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read: the items of which task, of which splits (none: the reader's choice), in which languages, for data
    that has several. partial: fewer or more items than were published are no error."""

    task: str
    splits: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    partial: bool = False


class Reader:
    """One dataset. name: as in --format. tasks: those it has items for. files: for each split its annotation file,
    relative to the folder; the first split is the default. rows: how many items of the first of its tasks each
    split has as published, where that is certain.

    A subclass says in its docstring how the folder is laid out, and writes `items`.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    files: ClassVar[dict[str, str]]
    rows: ClassVar[dict[str, int]] = {}

    def matches(self, root: Path) -> bool:
        return any((root / file).is_file() for file in self.files.values())

    def splits(self, root: Path) -> tuple[str, ...]:
        """Those to read where none is asked for."""
        return (next(iter(self.files)),)

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        """May raise KeyError, TypeError, ValueError, IndexError or AttributeError where a file is not as published."""
        raise NotImplementedError

    def read(self, root: Path, wanted: Wanted) -> Data:
        """Raises DataError where files are missing, not of this format, or not whole."""
        if wanted.task not in self.tasks:
            raise DataError(f"{self.name} has nothing for the task {wanted.task}; it is for {', '.join(self.tasks)}")
        folder, items, notes = Folder(root), [], []
        chosen = wanted.splits or self.splits(root)
        for split in chosen:
            if split not in self.files:
                raise DataError(f"{self.name} has no split {split!r}; choose from {', '.join(self.files)}")
            try:
                found = list(self.items(folder, split, wanted))
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                if isinstance(error, DataError):
                    raise
                what = f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
                raise DataError(f"{root / self.files[split]} is not as {self.name} is published: {what}") from error
            counted = wanted.task == self.tasks[0] and len(wanted.languages) == 1
            if counted and len(found) != (published := self.rows.get(split, len(found))):
                note = f"{split} has {len(found)} items; as published it has {published}"
                if not wanted.partial:
                    raise DataError(f"{root / self.files[split]}: {note}; get the whole file, or say --partial")
                notes.append(note)
            for item in found:
                item.slices.setdefault("split", split)
            items += found
        if not items:
            raise DataError(f"{root} has no item of the splits {', '.join(chosen)}")
        return Data(format=self.name, splits=chosen, items=tuple(items), files=folder.files, notes=tuple(notes))
