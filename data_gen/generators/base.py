"""The contract between what makes instruction data and what checks, counts and keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from videollm.datasets.clip import Clip
from videollm.datasets.schema import Message, Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A sample before it is checked; task, language, messages and answer_times as in `Sample`.

    grounded: the answer is the annotation's own, so it needs no support from it. origin: the index of the draft that
    this one translates; it falls with it. model, prompt_sha: what wrote it.
    """

    task: str
    language: str
    messages: tuple[Message, ...]
    answer_times: tuple[tuple[float, float], ...] = ()
    grounded: bool = False
    origin: int | None = None
    model: str | None = None
    prompt_sha: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What one item of work gave. lost: how often a reply could not be used, by reason."""

    drafts: tuple[Draft, ...] = ()
    lost: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """reason: why a sample is no good, None where it is."""

    reason: str | None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Judge(Protocol):
    async def verdict(self, sample: Sample, clip: Clip) -> Verdict: ...


class Generator(Protocol):
    """ModelExecutor clips into drafts, one item of work at a time; an item is done wholly or not at all."""

    name: str

    def items(self, clip: Clip) -> Sequence[str]:
        """Names of the pieces of work for a clip, the same whenever asked; none where there is nothing to do."""
        ...

    async def make(self, clip: Clip, item: str) -> Made: ...

    def preview(self, clip: Clip, item: str) -> str:
        """What a dry run shows: the prompt, or whatever else the item starts from."""
        ...


def turn(question: str, answer: str) -> tuple[Message, Message]:
    return Message("user", question), Message("assistant", answer)
