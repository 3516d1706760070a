"""Something that models say of a video, with its times and its score."""

from collections.abc import Iterable
from dataclasses import dataclass

from videollm.datasets.clip import ClipQuestion, Note
from videollm.datasets.schema import format_time

FINE_S = 5.0  # seconds; times of shorter spans are written in tenths of a second

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """One thing that models say of a video.

    Args:
        claim: A note, or a question with its answer.
        score: The least probability, from 0 to 1, of what it is made of.
        threshold: The score from which it is taken without a review.
        model: The models that say it, with the versions of their weights.
        text: The claim as a person reads it in a review.
        doubt: Why a person has to decide, or "".
    """

    claim: Note | ClipQuestion
    score: float
    threshold: float
    model: str
    text: str = ""
    doubt: str = ""

    @property
    def spans(self) -> tuple[Span, ...]:
        """When it is seen or heard, in seconds."""
        if isinstance(self.claim, ClipQuestion):
            return self.claim.answer_times
        return ((self.claim.start or 0.0, self.claim.end or 0.0),)


def when(question: str, spans: tuple[Span, ...]) -> ClipQuestion:
    """Returns a question whose answer is these spans."""
    decimals = 1 if any(end - start < FINE_S for start, end in spans) else 0
    parts = [f"from {format_time(start, decimals)} to {format_time(end, decimals)}" for start, end in spans]
    return ClipQuestion(kind="when", question=question, answer=f"{', '.join(parts)}.".capitalize(), answer_times=spans)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Joins spans that overlap or touch."""
    made: list[Span] = []
    for start, end in sorted(spans):
        if made and start <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        else:
            made.append((start, end))
    return tuple(made)


def below(score: float, least: float) -> str:
    """Returns why a score is doubtful, or "" if it reaches `least`."""
    return "" if score >= least else f"{score:.0%} is below {least:.0%}"
