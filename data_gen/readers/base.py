"""What all readers share: one protocol, one look at the file, one way to report what is broken."""

import csv
import functools
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from data_gen.clips import Clip
from videollm.errors import DataError

LOOK = 20  # rows from which a format is recognised, so that a broken first one does not matter
SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov")


class Report:
    """Broken rows, counted. Strict raises DataError at the first; else `shown` are kept with where they are."""

    SHOWN = 20

    def __init__(self, *, strict: bool = False):
        self.strict = strict
        self.reasons: Counter[str] = Counter()
        self.shown: list[str] = []

    def broken(self, where: str, reason: str) -> None:
        if self.strict:
            raise DataError(f"{where}: {reason}; mend it, or read without --strict")
        self.reasons[reason] += 1
        if len(self.shown) < self.SHOWN:
            self.shown.append(f"{where}: {reason}")

    @contextmanager
    def row(self, where: str) -> Iterator[None]:
        """What goes wrong inside while a row is read makes the row broken."""
        try:
            yield
        except KeyError as error:
            self.broken(where, f"no {error.args[0]!r}")
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            self.broken(where, str(error))

    @property
    def count(self) -> int:
        return self.reasons.total()


@dataclass(frozen=True)
class Source:
    """An annotation file (or, for subtitles, a folder) and the folder of its videos. Raises DataError where the file
    cannot be read."""

    path: Path
    videos: Path
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file")

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower()

    def lines(self) -> Iterator[tuple[str, str]]:
        """Where each line is, and the line, without those that are blank."""
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield f"{self.path.name} line {number}", line.rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where each row of a CSV, TSV or JSON Lines file is, and its fields by lower-case name."""
        if self.suffix in (".csv", ".tsv", ".txt"):
            yield from self._csv_rows()
            return
        for where, line in self.lines():
            with self.report.row(where):
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise ValueError(f"{line[:40]} is no object")
                yield where, values

    def _csv_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, delimiter=self.delimiter, strict=True)
                names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
                for values in reader:
                    where = f"{self.path.name} line {reader.line_num}"
                    if len(values) != len(names) or None in values.values():
                        self.report.broken(where, f"the row does not have {len(names)} fields")
                        continue
                    yield where, dict(zip(names, (v.strip() for v in values.values()), strict=True))
        except csv.Error as error:
            self.report.broken(f"{self.path.name} line {reader.line_num}", f"no CSV: {error}; nothing after it is read")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error

    @functools.cached_property
    def delimiter(self) -> str:
        return max(",;\t", key=self.first_line.count)

    @functools.cached_property
    def first_line(self) -> str:
        return next((line for _, line in self.lines()), "") if self.path.is_file() else ""

    @functools.cached_property
    def json(self) -> Any:
        """The content of a JSON file, None for other files."""
        if self.suffix != ".json" or not self.path.is_file():
            return None
        try:
            return json.loads(self.path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} is no JSON: {error}") from error

    def entries(self, values: Iterable[Any] | dict[str, Any], name: str = "entry") -> Iterator[tuple[str, Any]]:
        """Where each entry of a list or object in a JSON file is, and the entry (of an object: key and value).
        A whole JSON file often is one line, so entries are counted, from 1."""
        items = values.items() if isinstance(values, dict) else values
        return ((f"{self.path.name} {name} {number}", item) for number, item in enumerate(items, 1))

    @functools.cached_property
    def fields(self) -> set[str]:
        """Names of the columns, or of the fields in the first objects of a JSON file: what formats are known by."""
        if self.suffix in (".csv", ".tsv", ".txt"):
            return {name.strip().strip('"').lower() for name in self.first_line.split(self.delimiter)}
        entries = self.json
        if self.suffix == ".jsonl" and self.path.is_file():
            entries = [row for _, row in itertools.islice(Source(self.path, self.videos).rows(), LOOK)]
        elif isinstance(entries, dict):
            entries = list(entries.values())
        return {name for entry in (entries or [])[:LOOK] if isinstance(entry, dict) for name in entry}

    def video(self, name: str) -> Path:
        """The file of a video that an annotation names with or without its suffix, whether it exists or not."""
        if not name:
            raise ValueError("the video's name is empty")
        path = self.videos / name
        if path.suffix.lower() in SUFFIXES:
            return path
        candidates = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
        return next((c for c in candidates if c.exists()), candidates[0])


class Reader(Protocol):
    """One annotation format. `name` is what users call it and what the samples' provenance says."""

    name: str

    def matches(self, source: Source) -> bool:
        """Whether the file's content can only be of this format."""
        ...

    def read(self, source: Source) -> Iterator[Clip]:
        """Its clips, one after the other; broken rows go to `source.report`."""
        ...
