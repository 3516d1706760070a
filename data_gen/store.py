"""Samples on disk: appended as they come, so that a killed run goes on where it stopped, with none lost and none twice.

Beside FILE lie FILE.rejects.jsonl (what the filters kept out, and why) and FILE.journal.jsonl. An item of work is done
when its journal line is: that line comes last and holds how long the other two files then are. What lies beyond is of
an item that was cut off; it is dropped at the next start, and the item is made again.
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
    """A draft that a step kept out. draft: its content as JSON values."""

    step: str
    reason: str
    draft: dict[str, Any]


@dataclass(slots=True)
class Totals:
    """Sums over all items of the file, those of earlier runs included."""

    items: int = 0
    rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def add(self, entry: dict[str, Any]) -> None:
        self.items += 1
        self.rows += entry["rows"]
        self.prompt_tokens += entry["prompt_tokens"]
        self.completion_tokens += entry["completion_tokens"]
        self.rejected.update(entry["rejected"])
        self.lost.update(entry["lost"])


class Store:
    """Use as a context manager. One process at a time; DataError where another has the file open."""

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
        lost: Iterable[str] = (),
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
    ) -> None:
        """Write what an item gave and that it is done."""
        samples, rejects = list(samples), list(rejects)
        rows, kept_out, journal = self._files
        _append(rows, (sample.to_json() for sample in samples))
        _append(kept_out, (_json({"item": item, "step": r.step, "reason": r.reason, **r.draft}) for r in rejects))
        entry = {
            "item": item,
            "rows": len(samples),
            "rejected": Counter(r.step for r in rejects),
            "lost": Counter(lost),
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "ends": [rows.tell(), kept_out.tell()],
        }
        _append(journal, [_json(entry)])
        self.done.add(item)
        self.totals.add(entry)

    def samples(self) -> Iterator[Sample]:
        """Those written so far."""
        return (Sample.from_json(line.decode()) for line in _whole_lines(self.path))


def _append(file: IO[bytes], lines: Iterable[str]) -> None:
    file.write("".join(f"{line}\n" for line in lines).encode())
    file.flush()


def _whole_lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False)
