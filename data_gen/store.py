"""Samples on disk, appended as they are made. A killed run continues without losing or repeating any.

Beside FILE are FILE.rejects.jsonl (what the filters rejected, and why) and FILE.journal.jsonl. The journal line of an
item is written last and has the lengths of the other two files at that moment, so that an item is done if its journal
line is complete. Bytes beyond these lengths belong to an item that was interrupted. The next start removes them and
makes the item again.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from videollm.datasets.schema import Sample
from videollm.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """A draft that a filter rejected. `draft` is its content as JSON values."""

    step: str
    reason: str
    draft: dict[str, Any]


@dataclass(slots=True)
class Totals:
    """Sums over all items of the file, including those of earlier runs. `unusable` counts replies by reason."""

    items: int = 0
    rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    unusable: Counter[str] = field(default_factory=Counter)

    def add(self, entry: dict[str, Any]) -> None:
        self.items += 1
        self.rows += entry["rows"]
        self.prompt_tokens += entry["prompt_tokens"]
        self.completion_tokens += entry["completion_tokens"]
        self.rejected.update(entry["rejected"])
        self.unusable.update(entry["lost"])


class Store:
    """A file of samples that is open for writing, used as a context manager.

    Raises DataError if another process has the file open, or if it exists without its journal.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rejects_path = path.with_name(f"{path.name}.rejects.jsonl")
        self.journal_path = path.with_name(f"{path.name}.journal.jsonl")
        self.totals = Totals()
        self.done: set[str] = set()
        self._lock = FileLock(f"{path}.lock", timeout=0)
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> "Store":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise DataError(f"{self.path} is being written by another process; choose another --out") from error
        if self.path.exists() and not self.journal_path.exists():
            raise DataError(f"{self.path} exists without {self.journal_path.name}; choose another --out")
        self._recover()
        self._files = [path.open("ab") for path in (self.path, self.rejects_path, self.journal_path)]
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()
        self._lock.release()

    def _recover(self) -> None:
        sizes = [path.stat().st_size if path.exists() else 0 for path in (self.path, self.rejects_path)]
        kept = [0, 0, 0]
        for line in _whole_lines(self.journal_path):
            entry = json.loads(line)
            if any(end > size for end, size in zip(entry["ends"], sizes, strict=True)):
                break  # the machine lost power before these bytes reached the disk
            kept = [*entry["ends"], kept[2] + len(line)]
            self.done.add(entry["item"])
            self.totals.add(entry)
        for path, size in zip((self.path, self.rejects_path, self.journal_path), kept, strict=True):
            if path.exists():
                os.truncate(path, size)

    def commit(
        self,
        item: str,
        samples: Iterable[Sample],
        rejects: Iterable[Reject] = (),
        *,
        unusable: Iterable[str] = (),
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
    ) -> None:
        """Writes the results of an item, then marks it as done."""
        samples, rejects = list(samples), list(rejects)
        rows, kept_out, journal = self._files
        _append(rows, (sample.to_json() for sample in samples))
        _append(kept_out, (_json({"item": item, "step": r.step, "reason": r.reason, **r.draft}) for r in rejects))
        entry = {
            "item": item,
            "rows": len(samples),
            "rejected": Counter(r.step for r in rejects),
            "lost": Counter(unusable),  # the name in journals that earlier versions began
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "ends": [rows.tell(), kept_out.tell()],
        }
        _append(journal, [_json(entry)])
        self.done.add(item)
        self.totals.add(entry)

    def samples(self) -> Iterator[Sample]:
        """Yields the samples written so far."""
        return (Sample.from_json(line.decode()) for line in _whole_lines(self.path))

    def rejects(self, step: str) -> Iterator[dict[str, Any]]:
        """Yields what `step` rejected so far, as JSON values with the `item`, the `step` and the `reason`."""
        rows = map(json.loads, _whole_lines(self.rejects_path))
        return (row for row in rows if row["step"] == step)


def _append(file: IO[bytes], lines: Iterable[str]) -> None:
    file.write("".join(f"{line}\n" for line in lines).encode())
    file.flush()


def _whole_lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False)
