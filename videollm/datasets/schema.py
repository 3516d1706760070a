"""The format of instruction data: JSON Lines with one sample a line. data_gen writes it and training reads it.

    {"id": "trip-1", "video": "trip.mp4", "start": null, "end": null, "task": "qa/temporal", "language": "en",
     "messages": [{"role": "user", "content": "What comes first?"}, {"role": "assistant", "content": "A boat."}],
     "answer_times": [[0.0, 4.2]],
     "provenance": {"source": "csv", "generator": "llm", "model": "NAME", "prompt_sha": "0a1b2c3d4e5f",
                    "created": "2026-01-31T12:00:00+00:00", "seed": 0}}

Rows are numbered from 1, as editors number lines.
"""

import dataclasses
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import regex

from videollm.datasets.text_file import lines, parse_json
from videollm.errors import DataError, VideoError

FAMILIES = ("caption", "qa", "choice", "conversation", "locate", "summary", "creative")
SLACK_S = 0.1  # seconds that a time may lie outside its clip: annotations are rounded, and so are durations

_TASK = re.compile(rf"(?:{'|'.join(FAMILIES)})(?:/[a-z0-9_]+)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z]{2,4})?")
# A character of Chinese, Japanese or Korean, or a run of other letters, digits and marks, which write vowels and tones.
_WORD = regex.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[\p{L}\p{N}\p{M}]+")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. role is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a sample comes from.

    Args:
        source: The format of the annotation.
        generator: What made the text from it.
        model, prompt_sha: The language model and the hash of the prompt, or None.
        created: ISO 8601 with a time zone.
        seed: The seed of the generator, or None.
        score: The least probability, from 0 to 1, that models give to what the sample says, or None.
        threshold: The score from which that is taken without a review, or None.
        reviewed: Whether a person accepted or corrected what models proposed.
    """

    source: str
    generator: str
    model: str | None
    prompt_sha: str | None
    created: str
    seed: int | None
    score: float | None = None
    threshold: float | None = None
    reviewed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One conversation about one video. Raises DataError, which lists every problem, if it is invalid.

    Args:
        id: Unique in its file.
        video: The path of a video or an image, absolute or relative to the folder of the file; "" for text alone.
        start, end: The part of the video that is shown, in seconds; None means its start and its end.
        task: One of `FAMILIES`, or a family and a kind such as "qa/temporal".
        language: A code such as en, zh or pt-BR.
        messages: An optional system message, then user and assistant in turn.
        answer_times: Spans in seconds of the video (not of the part) in which the answer can be seen.
        provenance: Where the sample comes from.
    """

    id: str
    video: str
    start: float | None
    end: float | None
    task: str
    language: str
    messages: tuple[Message, ...]
    answer_times: tuple[tuple[float, float], ...]
    provenance: Provenance

    def __post_init__(self) -> None:
        if problems := [*self._problems()]:
            raise DataError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        if not self.id.strip():
            yield "id is empty"
        if "\0" in self.video:
            yield "video has a NUL character"
        if not self.video and (self.start, self.end, self.answer_times) != (None, None, ()):
            yield "there are times but no video"
        if not _TASK.fullmatch(self.task):
            yield f"task is {self.task!r}; write one of {', '.join(FAMILIES)}, or FAMILY/KIND with a-z, 0-9 and _"
        if not _LANGUAGE.fullmatch(self.language):
            yield f"language is {self.language!r}; write a code such as en, zh, es or pt-BR"
        start, end = self.start or 0.0, self.end
        if not start >= 0 or (end is not None and not end > start):
            yield f"start {self.start} and end {end} must satisfy 0 <= start < end"
        for a, b in self.answer_times:
            if not 0 <= a <= b:
                yield f"answer_times {[a, b]} must satisfy 0 <= start <= end"
            elif a < start - SLACK_S or (end is not None and b > end + SLACK_S):
                yield f"answer_times {[a, b]} lie outside the part from {start} to {end}"
        if any(not m.content.strip() for m in self.messages):
            yield "a message is empty"
        roles = [m.role for m in self.messages]
        if roles[:1] == ["system"]:
            roles = roles[1:]
        if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
            yield f"roles are {roles}; after an optional system message user and assistant alternate, assistant last"
        for name in ("score", "threshold"):
            value = getattr(self.provenance, name)
            if value is not None and not 0 <= value <= 1:
                yield f"provenance.{name} is {value}; it must be from 0 to 1"
        try:
            aware = datetime.fromisoformat(self.provenance.created).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            yield f"provenance.created is {self.provenance.created!r}; write ISO 8601 with a time zone"

    @property
    def content(self) -> tuple[object, ...]:
        """What makes two samples equal, whatever their ids."""
        return self.video, self.start, self.end, self.messages

    def turns(self) -> Iterator[tuple[str, str]]:
        """Yields each question with its answer."""
        spoken = [m.content for m in self.messages if m.role != "system"]
        return zip(spoken[::2], spoken[1::2], strict=True)

    def to_json(self) -> str:
        """The sample as one line of the file, without its end."""
        values = {name: getattr(self, name) for name in _NAMES}  # dataclasses.asdict would copy deeply, which is slow
        values["messages"] = [{"role": m.role, "content": m.content} for m in self.messages]
        made = dataclasses.asdict(self.provenance)
        values["provenance"] = {name: v for name, v in made.items() if name not in _DEFAULTS or v != _DEFAULTS[name]}
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Sample":
        """Parses a line. Raises DataError if it is not JSON, or if a field is missing, unknown or of a wrong type."""
        values = parse_json(line)
        values = _fields(values, "a row", id=str, video=str, start=_NUMBER, end=_NUMBER, task=str, language=str,
                         messages=list, answer_times=list, provenance=dict)  # fmt: skip
        messages = [_fields(m, "a message", role=str, content=str) for m in values["messages"]]
        made = _fields({**_DEFAULTS, **values["provenance"]}, "provenance", source=str, generator=str, model=_TEXT,
                       prompt_sha=_TEXT, created=str, seed=(int, type(None)), score=_NUMBER, threshold=_NUMBER,
                       reviewed=bool)  # fmt: skip
        for span in values["answer_times"]:
            if not (isinstance(span, list) and len(span) == 2 and all(_is_a(t, (int, float)) for t in span)):
                raise DataError(f"answer_times has {span!r}; each is [start, end] in seconds")
        return cls(
            **values
            | {
                "messages": tuple(Message(**m) for m in messages),
                "answer_times": tuple((float(a), float(b)) for a, b in values["answer_times"]),
                "provenance": Provenance(**made),
            }
        )


_NAMES = tuple(f.name for f in dataclasses.fields(Sample))
_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Provenance) if f.default is not dataclasses.MISSING}
_NUMBER = (int, float, type(None))
_TEXT = (str, type(None))


def _is_a(value: object, types: type | tuple[type, ...]) -> bool:
    return isinstance(value, types) and (types is bool or not isinstance(value, bool))


def _fields(values: object, what: str, **types: type | tuple[type, ...]) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise DataError(f"{what} is {values!r}; it must be an object with {', '.join(types)}")
    problems = [f"no {name}" for name in types if name not in values]
    problems += [f"unknown field {name}" for name in values if name not in types]
    problems += [f"{name} {v!r}" for name, v in values.items() if name in types and not _is_a(v, types[name])]
    if problems:
        raise DataError(f"{what} has {', '.join(problems)}")
    return values


def words(text: str) -> list[str]:
    """The words of a text in lower case. In Chinese, Japanese and Korean each character counts as a word."""
    return _WORD.findall(unicodedata.normalize("NFC", text.lower()))


def format_time(seconds: float, decimals: int = 0) -> str:
    """Writes a time as prompts and answers do: 0:04, 12:30 or 1:02:03; with one decimal, 0:04.2."""
    minutes, rest = divmod(round(seconds, decimals), 60)
    hours, minutes = divmod(int(minutes), 60)
    s = f"{rest:0{3 + decimals if decimals else 2}.{decimals}f}"
    return f"{hours}:{minutes:02}:{s}" if hours else f"{minutes}:{s}"


def read(path: str | Path) -> Iterator[Sample]:
    """Yields the samples of a file in order. Raises DataError, which names the row, at the first invalid one."""
    for row, line in lines(path):
        try:
            sample = Sample.from_json(line)
        except DataError as error:
            raise DataError(f"{path}, row {row}: {error}") from error
        yield sample


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a row, counted from 1."""

    row: int
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of `check`. rows and videos count all of them, valid or not."""

    rows: int
    videos: int
    problems: tuple[Problem, ...]


def check(path: str | Path, duration_s: Callable[[Path], float]) -> Check:
    """Checks every row against the schema, against its video and against the rows before it.

    duration_s returns the length of a video file, or raises a VideoError if the file is missing or broken. It is called
    once for each video. Raises DataError if the file of samples cannot be read.
    """
    path, problems = Path(path), []
    ids: dict[str, int] = {}
    contents: dict[tuple[object, ...], int] = {}
    lengths: dict[str, float | VideoError] = {}
    row = 0
    for row, line in lines(path):
        try:
            sample = Sample.from_json(line)
        except DataError as error:
            problems.append(Problem(row, str(error)))
            continue
        if (first := ids.setdefault(sample.id, row)) != row:
            problems.append(Problem(row, f"id {sample.id!r} is also the id of row {first}"))
        if (first := contents.setdefault(sample.content, row)) != row:
            problems.append(Problem(row, f"video and messages are the same as in row {first}"))
        if not sample.video:
            continue
        if sample.video not in lengths:
            try:
                lengths[sample.video] = duration_s(path.parent / sample.video)
            except VideoError as error:
                lengths[sample.video] = error
        length = lengths[sample.video]
        if isinstance(length, VideoError):
            problems.append(Problem(row, f"video {length}"))
            continue
        latest = max([sample.start or 0.0, sample.end or 0.0, *(end for _, end in sample.answer_times)])
        if latest > length + SLACK_S:
            problems.append(Problem(row, f"time {latest} lies outside {sample.video}, which lasts {length:.2f} s"))
    return Check(row, len(lengths), tuple(problems))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Counts of samples by task, language and so on, the most frequent first, and of questions and answers by their
    number of `words`."""

    rows: int
    videos: int
    tasks: dict[str, int]
    languages: dict[str, int]
    sources: dict[str, int]
    generators: dict[str, int]
    turns: dict[int, int]
    question_words: dict[int, int]
    answer_words: dict[int, int]

    def __str__(self) -> str:
        lines = [f"{self.rows} rows, {self.videos} videos"]
        for name in ("tasks", "languages", "sources", "generators", "turns"):
            lines.append(f"{name:15} " + ", ".join(f"{key} {n}" for key, n in getattr(self, name).items()))
        for name in ("question_words", "answer_words"):
            low, middle, high = (quantile(getattr(self, name), share) for share in (0.05, 0.5, 0.95))
            lines.append(f"{name:15} median {middle}, 5 % at most {low}, 95 % at most {high}")
        return "\n".join(lines)


def stats(samples: Iterable[Sample]) -> Stats:
    """Counts samples, such as those of `read(path)`."""
    videos: set[str] = set()
    counts: defaultdict[str, Counter] = defaultdict(Counter)
    rows = 0
    for sample in samples:
        rows += 1
        if sample.video:
            videos.add(sample.video)
        counts["tasks"][sample.task] += 1
        counts["languages"][sample.language] += 1
        counts["sources"][sample.provenance.source] += 1
        counts["generators"][sample.provenance.generator] += 1
        turns = list(sample.turns())
        counts["turns"][len(turns)] += 1
        counts["question_words"].update(len(words(question)) for question, _ in turns)
        counts["answer_words"].update(len(words(answer)) for _, answer in turns)
    names = [f.name for f in dataclasses.fields(Stats) if f.name not in ("rows", "videos")]
    return Stats(rows=rows, videos=len(videos), **{name: dict(counts[name].most_common()) for name in names})


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The smallest value that at least `share` of the counted values do not exceed; 0 if nothing was counted."""
    reached, total = 0, sum(counts.values())
    for value in sorted(counts):
        reached += counts[value]
        if reached >= share * total:
            return value
    return 0
