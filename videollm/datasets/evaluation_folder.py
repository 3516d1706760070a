"""Folders of published benchmarks, read as items for evaluation.

A score is comparable only if every published item was asked, so an annotation file must hold as many items as were
published. The checksums of annotation files are part of every report. If the folder has a file SHA256SUMS, as
`sha256sum FILE... > SHA256SUMS` writes it, the checksums must agree with it.
"""

import csv
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from videollm.datasets.item import Item
from videollm.datasets.text_file import decoded, lines, parse_json, split_lines
from videollm.datasets.video_files import find_video
from videollm.errors import DataError

SUMS = "SHA256SUMS"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationData:
    """The items that were read.

    Args:
        format: The name of the reader.
        splits: The splits that were read.
        items: The items, split by split.
        files: The sha256 of each annotation file by its name.
        notes: Differences from the published data, such as another number of rows.
    """

    format: str
    splits: tuple[str, ...]
    items: tuple[Item, ...]
    files: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """Which items to read.

    Args:
        task: The task of the items.
        splits: The splits; none selects the reader's default.
        languages: The languages, for data that has several.
        partial: Accept another number of items than was published.
    """

    task: str
    splits: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    partial: bool = False


@dataclass
class DatasetFolder:
    """The folder of a data set. It records the checksum of every annotation file that is read."""

    root: Path
    files: dict[str, str] = field(default_factory=dict)

    def bytes(self, name: str) -> bytes:
        """The content of a file. Raises DataError if it cannot be read or its checksum is not the one in SHA256SUMS."""
        try:
            content = (self.root / name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.root / name} cannot be read: {error.strerror}") from error
        self.files[name] = found = hashlib.sha256(content).hexdigest()
        if (expected := self._sums.get(name, found)) != found:
            raise DataError(f"{self.root / name} has the sha256 {found}, {SUMS} says {expected}; get the file again")
        return content

    @cached_property
    def _sums(self) -> dict[str, str]:
        """The checksums of SHA256SUMS by file name."""
        path = self.root / SUMS
        pairs = [line.split(maxsplit=1) for _, line in (lines(path) if path.is_file() else ()) if line.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise DataError(f"{path} is not what sha256sum writes: each line must hold a checksum and a file name")
        # sha256sum marks files read as binary with a star.
        return {name.removeprefix("*").removeprefix("./"): sha for sha, name in pairs}

    def text(self, name: str) -> str:
        """The text of a file, with lines that end with LF. Its encoding is that of `text_file.decoded`."""
        return "".join(f"{line}\n" for line in split_lines(decoded(self.bytes(name), self.root / name)))

    def json(self, name: str) -> Any:
        return self._parsed(self.text(name), name)

    def json_lines(self, name: str) -> Iterator[Any]:
        for number, line in enumerate(split_lines(self.text(name)), 1):
            if line.strip():
                yield self._parsed(line, f"{name} line {number}")

    def _parsed(self, text: str, where: str) -> Any:
        try:
            return parse_json(text)
        except DataError as error:
            raise DataError(f"{self.root / where}: {error}") from error

    def table(self, name: str, delimiter: str = ",") -> list[dict[str, str]]:
        text = (f"{line}\n" for line in split_lines(self.text(name)))
        try:
            rows = list(csv.DictReader(text, delimiter=delimiter))
        except csv.Error as error:
            raise DataError(f"{self.root / name} is not CSV: {error}") from error
        # DictReader files surplus fields under None and fills missing ones with None.
        broken = next((n for n, row in enumerate(rows, 2) if None in row or None in row.values()), None)
        if broken:
            raise DataError(f"{self.root / name} line {broken} does not have the header's number of fields")
        return rows

    def video(self, name: str, folder: str = "videos") -> Path:
        """A video of the data set; see `find_video`."""
        return find_video(self.root / folder, name)


class ItemReader(ABC):
    """Reads one benchmark from its folder. The docstring of each reader's module states how the folder is laid out.

    Attributes:
        name: The value of --format.
        tasks: The tasks that the benchmark has items for.
        files: The annotation file of each split, relative to the folder. The first split is the default.
        rows: The published number of items of the first task by split, if it is certain.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    files: ClassVar[dict[str, str]]
    rows: ClassVar[dict[str, int]] = {}

    def recognises_folder(self, root: Path) -> bool:
        return any((root / file).is_file() for file in self.files.values())

    def default_splits(self, root: Path) -> tuple[str, ...]:
        return (next(iter(self.files)),)

    @abstractmethod
    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        """Yields the items of a split. It may raise KeyError, TypeError, ValueError, IndexError or AttributeError if a
        file is not laid out as published."""

    def read(self, root: Path, query: ItemQuery) -> EvaluationData:
        """Reads the items. Raises DataError if files are missing, of another format or incomplete."""
        if query.task not in self.tasks:
            raise DataError(f"{self.name} has no items for the task {query.task}; it has {', '.join(self.tasks)}")
        folder = DatasetFolder(root)
        items: list[Item] = []
        notes: list[str] = []
        splits = query.splits or self.default_splits(root)
        for split in splits:
            found = self._split(folder, split, query)
            if note := self._incomplete(split, len(found), query):
                if not query.partial:
                    raise DataError(f"{root / self.files[split]}: {note}; get the whole file, or say --partial")
                notes.append(note)
            for item in found:
                item.slices.setdefault("split", split)
            items += found
        if not items:
            raise DataError(f"{root} has no item of the splits {', '.join(splits)}")
        return EvaluationData(
            format=self.name, splits=splits, items=tuple(items), files=folder.files, notes=tuple(notes)
        )

    def _split(self, folder: DatasetFolder, split: str, query: ItemQuery) -> list[Item]:
        if split not in self.files:
            raise DataError(f"{self.name} has no split {split!r}; choose from {', '.join(self.files)}")
        try:
            return list(self.items(folder, split, query))
        except DataError:  # it is a ValueError too, and its message is already complete
            raise
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            reason = f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"{folder.root / self.files[split]} is not as {self.name} is published: {reason}"
            ) from error

    def _incomplete(self, split: str, count: int, query: ItemQuery) -> str | None:
        """How the number of items differs from the published one, which is known for one task in one language."""
        published = self.rows.get(split, count)
        if query.task != self.tasks[0] or len(query.languages) != 1 or count == published:
            return None
        return f"{split} has {count} items; as published it has {published}"
