"""Captioned videos, and the order in which contrastive training sees them.

A file of captioned videos is one of
- CSV with a header: `video,caption` and, where wanted, `start,end,group`;
- JSON Lines of the same fields, and `false`, a list of wrong captions;
- JSON Lines of `videollm.datasets.schema`, as data_gen writes: each answer of a row of the task "caption" is a caption.
Paths of videos are absolute, or relative to the file's folder.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler

from videollm.datasets import schema as data
from videollm.datasets import text_file
from videollm.errors import DataError

FIELDS = ("video", "caption", "start", "end", "group", "false")


@dataclass(frozen=True, slots=True)
class VideoInterval:
    """A video, or a part of it in seconds."""

    video: Path
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class CaptionPair:
    """A part of a video and its caption.

    group: pairs of one group meet in one batch, where they are each other's hardest negatives. false: captions that do
    not describe the part.
    """

    part: VideoInterval
    caption: str
    group: str = ""
    false: tuple[str, ...] = ()


def read_pairs(path: Path) -> list[CaptionPair]:
    """The pairs of a file. Raises DataError, which names the row, for a bad row and for a file without captions."""
    rows = table_rows(path, "captioned")
    if rows and "messages" in rows[0][1]:
        pairs = [pair for sample in data.read(path) for pair in _said(path.parent, sample)]
    else:
        pairs = [_pair(path, i, row) for i, row in rows]
    if not pairs:
        raise DataError(f"{path} holds no caption")
    return pairs


def table_rows(path: Path, kind: str) -> list[tuple[int, dict[str, Any]]]:
    """Returns the numbers and the fields of the rows of a CSV file with a header or of a JSON Lines file.

    Raises DataError for a file that is neither. kind: what the videos are, for the message.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a CSV or JSON Lines file of {kind} videos")
    if path.suffix.lower() != ".csv":
        return [(i, _parsed(path, i, line)) for i, line in text_file.lines(path) if line.strip()]
    try:
        return list(enumerate(csv.DictReader(f"{line}\n" for _, line in text_file.lines(path)), 2))
    except csv.Error as error:
        raise DataError(f"{path} is not CSV: {error}") from error


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = text_file.parse_json(line)
    except DataError as error:
        raise DataError(f"{path}, row {number}: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, row {number}: {line[:40]} is not an object")
    return row


def _pair(path: Path, number: int, row: Mapping[str, Any]) -> CaptionPair:
    unknown = [str(name) for name in row if name not in FIELDS]
    texts = [row.get("video"), row.get("caption"), row.get("group") or ""]
    if unknown or not row.get("video") or not row.get("caption") or not all(isinstance(t, str) for t in texts):
        raise DataError(
            f"{path}, row {number}: has {', '.join(map(repr, row))}; it needs video and caption, and may have "
            f"{', '.join(FIELDS[2:])}"
        )
    false = row.get("false") or ()
    if not isinstance(false, list | tuple) or not all(isinstance(text, str) for text in false):
        raise DataError(f"{path}, row {number}: false is {false!r}; it is a list of captions")
    part = interval(path, number, row)
    return CaptionPair(part, row["caption"], row.get("group") or "", tuple(false))


def interval(path: Path, number: int, row: Mapping[str, Any]) -> VideoInterval:
    """Returns the video of a row, relative to the file, and its `start` and `end`. Raises DataError for wrong times."""
    start, end = (_seconds(path, number, name, row.get(name)) for name in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise DataError(f"{path}, row {number}: end is {end:g}; it must be above start, {start or 0:g}")
    return VideoInterval(path.parent / row["video"], start, end)


def _seconds(path: Path, number: int, name: str, value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{path}, row {number}: {name} is {value!r}; write a number of seconds, such as 4.5")
    return seconds


def _said(folder: Path, sample: data.Sample) -> Iterator[CaptionPair]:
    if sample.task.split("/")[0] == "caption":
        part = VideoInterval(folder / sample.video, sample.start, sample.end)
        yield from (CaptionPair(part, m.content) for m in sample.messages if m.role == "assistant")


def write_pairs(path: Path, pairs: Sequence[CaptionPair]) -> None:
    rows = (
        {"video": str(p.part.video), "caption": p.caption, "start": p.part.start, "end": p.part.end}
        | ({"group": p.group} if p.group else {})
        | ({"false": p.false} if p.false else {})
        for p in pairs
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


class GroupedSampler(Sampler[int]):
    """A new random order each epoch, in which the rows of a group follow one another.

    A group may begin in one batch and end in the next. mined: gives the order of an epoch instead, see
    `train.data.hard_negatives`.

    Args:
        groups: The group of each row, or "".
        seed: The seed of the order.
    """

    mined: Callable[[int], list[int]] | None = None

    def __init__(self, groups: Sequence[str], seed: int):
        together: dict[str, list[int]] = {}
        for i, group in enumerate(groups):
            together.setdefault(group or f"\0{i}", []).append(i)
        self.groups = list(together.values())
        self.seed, self.epoch = seed, 0
        self.count = len(groups)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        yield from (self.mined or self.shuffled)(self.epoch)

    def shuffled(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed + epoch)
        groups = torch.randperm(len(self.groups), generator=generator).tolist()
        return [row for g in groups for row in self.groups[g]]
