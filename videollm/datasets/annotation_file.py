"""Annotation files of published data sets, read as clips for training data.

A file may hold broken rows, as large collections do: they are counted and reported, and the rest is read. Evaluation,
which must not skip anything, reads folders with `evaluation_folder`.
"""

import csv
import functools
import itertools
import os.path
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from videollm.datasets.clip import Clip
from videollm.datasets.text_file import lines, parse_json, read_text
from videollm.datasets.video_files import find_video
from videollm.errors import DataError

LOOK = 20  # rows that a format is recognised by, so that a broken first row does not hide it
TABLES = (".csv", ".tsv", ".txt")


class BrokenRows:
    """Counts broken rows by reason and keeps the first `SHOWN` messages.

    Args:
        strict: Raise DataError at the first broken row instead.
    """

    SHOWN = 20

    def __init__(self, *, strict: bool = False):
        self.strict = strict
        self.reasons: Counter[str] = Counter()
        self.shown: list[str] = []

    def add(self, where: str, reason: str) -> None:
        if self.strict:
            raise DataError(f"{where}: {reason}; correct the row, or run without --strict")
        self.reasons[reason] += 1
        if len(self.shown) < self.SHOWN:
            self.shown.append(f"{where}: {reason}")

    @contextmanager
    def row(self, where: str) -> Iterator[None]:
        """Reports the row as broken if the body raises what a row of another layout raises."""
        try:
            yield
        except KeyError as error:
            self.add(where, f"no {error.args[0]!r}")
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            self.add(where, str(error))

    @property
    def count(self) -> int:
        return self.reasons.total()


@dataclass(frozen=True)
class AnnotationFile:
    """An annotation file and the folder of its videos. Raises DataError if the file does not exist or is unreadable.

    Args:
        path: The file; for subtitles it may be a folder of files.
        videos: The folder of the videos.
        broken: Collects the rows that cannot be read.
    """

    path: Path
    videos: Path
    broken: BrokenRows = field(default_factory=BrokenRows)

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file")

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower()

    def lines(self) -> Iterator[tuple[str, str]]:
        """The place and the text of each line that is not blank."""
        for number, line in lines(self.path):
            if line.strip():
                yield f"{self.path.name} line {number}", line

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The place and the fields of each row of a CSV, TSV or JSON Lines file. Column names are in lower case."""
        if self.suffix in TABLES:
            yield from self._csv_rows()
            return
        for where, line in self.lines():
            with self.broken.row(where):
                values = parse_json(line)
                if not isinstance(values, dict):
                    raise ValueError(f"{line[:40]} is not an object")
                yield where, values

    def _csv_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        # Spaces around names and values are no part of them.
        reader = csv.DictReader((f"{line}\n" for _, line in lines(self.path)), delimiter=self.delimiter, strict=True)
        try:
            names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
            for values in reader:
                where = f"{self.path.name} line {reader.line_num}"
                # DictReader files surplus fields under None and fills missing ones with None.
                if len(values) != len(names) or None in values.values():
                    self.broken.add(where, f"the row does not have {len(names)} fields")
                    continue
                yield where, dict(zip(names, (v.strip() for v in values.values()), strict=True))
        except csv.Error as error:
            # After a quotation mark that is never closed the reader cannot find the next row.
            where = f"{self.path.name} line {reader.line_num}"
            self.broken.add(where, f"not CSV: {error}; the rest of the file is not read")

    @functools.cached_property
    def delimiter(self) -> str:
        return max(",;\t", key=self.first_line.count)

    @functools.cached_property
    def first_line(self) -> str:
        return next((line for _, line in self.lines()), "") if self.path.is_file() else ""

    @functools.cached_property
    def json(self) -> Any:
        """The content of a JSON file; None for other files."""
        if self.suffix != ".json" or not self.path.is_file():
            return None
        text = read_text(self.path)
        try:
            return parse_json(text)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error

    def entries(self, values: Iterable[Any] | dict[str, Any], name: str = "entry") -> Iterator[tuple[str, Any]]:
        """The place and the value of each entry of a list, or (key, value) of an object, in a JSON file.

        Entries are counted from 1: a whole JSON file is often one line, so a line number would not help.
        """
        if not isinstance(values, dict | list):
            raise DataError(f"{self.path}: {values!r:.40} is neither a list nor an object of {name} values")
        items = values.items() if isinstance(values, dict) else values
        return ((f"{self.path.name} {name} {number}", item) for number, item in enumerate(items, 1))

    @functools.cached_property
    def fields(self) -> set[str]:
        """The names of the columns, or of the fields of the first objects of a JSON file. Formats are recognised by
        these names."""
        if self.suffix in TABLES:
            return {name.strip().strip('"').lower() for name in self.first_line.split(self.delimiter)}
        entries = self.json
        if self.suffix == ".jsonl" and self.path.is_file():
            # A separate file object, so that rows that are broken are not counted twice.
            entries = [row for _, row in itertools.islice(AnnotationFile(self.path, self.videos).rows(), LOOK)]
        elif isinstance(entries, dict):
            entries = list(entries.values())
        entries = entries if isinstance(entries, list) else []
        return {name for entry in entries[:LOOK] if isinstance(entry, dict) for name in entry}

    def video(self, *names: str) -> Path:
        """The first of these videos that exists, otherwise the last one; see `find_video`."""
        *preferred, last = names
        found = (find_video(self.videos, name) for name in preferred)
        return next((path for path in found if os.path.isfile(path)), find_video(self.videos, last))


class ClipReader(ABC):
    """Reads one annotation format as clips. `name` is the value of --format and the provenance of the samples."""

    name: ClassVar[str]

    @abstractmethod
    def recognises(self, file: AnnotationFile) -> bool:
        """Whether the content of the file can only be of this format."""

    @abstractmethod
    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        """Yields the clips in the order of the file; broken rows go to `file.broken`."""
