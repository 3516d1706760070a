"""The contract between generators, which make drafts of samples, and the pipeline, which checks and keeps them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from videollm.datasets.clip import Clip, Note
from videollm.datasets.schema import Message, Sample, format_time

DOUBTFUL = "doubtful"  # the step that keeps what a person has to decide out of the samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A sample before it is checked.

    Args:
        task, language, messages, answer_times: As in `Sample`.
        grounded: The answer is the annotation's own text, so the filters need not look for support.
        origin: The index of the draft that this one translates. If that draft is rejected, this one is too.
        model, prompt_sha: The language model and the prompt that wrote the draft, or the models that found its answer.
        score, threshold, reviewed: As in `Provenance`.
    """

    task: str
    language: str
    messages: tuple[Message, ...]
    answer_times: tuple[tuple[float, float], ...] = ()
    grounded: bool = False
    origin: int | None = None
    model: str | None = None
    prompt_sha: str | None = None
    score: float | None = None
    threshold: float | None = None
    reviewed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """What models propose and a person has to decide. proposal: a row of the table for review, as JSON values."""

    reason: str
    proposal: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftBatch:
    """What one item of work gave.

    Args:
        drafts: The drafts.
        doubts: What goes to the table for review.
        problem: Why the video cannot be read, or None. Such an item is left for the next run.
        unusable: The reason for each reply of a language model that could not be used.
        prompt_tokens, completion_tokens: What a language model read and wrote.
    """

    drafts: tuple[Draft, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    problem: str | None = None
    unusable: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SampleVerdict:
    """The opinion of a judge. reason: why the sample is bad, or None if it is good."""

    reason: str | None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class SampleJudge(Protocol):
    """A second opinion on samples that have passed the filters."""

    async def verdict(self, sample: Sample, clip: Clip) -> SampleVerdict: ...


class Generator(Protocol):
    """Turns clips into drafts, one item of work at a time. An item is done completely or not at all."""

    name: str

    def items(self, clip: Clip) -> Sequence[str]:
        """Names the items of work for a clip, or nothing. A clip must give the same names in every run, because the
        store records finished items by name."""
        ...

    async def make(self, clip: Clip, item: str) -> DraftBatch: ...

    def preview(self, clip: Clip, item: str) -> str:
        """What a dry run shows: the prompt, or the drafts if there is none."""
        ...


def turn(question: str, answer: str) -> tuple[Message, Message]:
    return Message("user", question), Message("assistant", answer)


def with_transcript(question: str, heard: Sequence[Note]) -> str:
    """Returns a question about speech below the words that are heard, with their times.

    A model that does not hear can only answer such a question if it is given the words. Without them, it would learn to
    make up what is said.
    """
    lines = [f'[{format_time(n.start or 0, 1)}-{format_time(n.end or n.start or 0, 1)}] "{n.text}"' for n in heard]
    return "\n".join([*lines, question])


def without_transcript(text: str) -> str:
    """Returns a question without the lines that `with_transcript` put above it."""
    return _HEARD.sub("", text)


_HEARD = re.compile(r'^\[[\d:.]+-[\d:.]+\] ".*"\n', re.MULTILINE)
