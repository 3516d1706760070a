"""One item of an evaluation: what a task asks about a video, and what the right answer is."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Span = tuple[float, float]  # start and end in seconds from the start of the video
Prediction = dict[str, Any]  # plain JSON values, as predictions.jsonl holds them

SLICES = ("split", "generalisation", "language", "kind", "style", "perturbation", "length")  # in a report's order


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question, query or clip with its reference answers. Each task reads the fields that it needs.

    Raises TypeError, which names the field, if a value has another type, as in files that are not as they should be.

    Args:
        id: Unique within its data set and task.
        video: The video file.
        start_s, end_s: The part of the video that is shown, in seconds; None means its start and its end.
        question: A question or a retrieval query.
        references: Right texts; the first one is the answer.
        choices: The options of a multiple-choice question; the answer is one of them.
        spans: Right times. If there are as many spans as references, each span belongs to one reference.
        paraphrase: The same question in other words.
        slices: Groups that a report scores separately, such as {"kind": "order"}.
    """

    id: str
    video: Path
    start_s: float | None = None
    end_s: float | None = None
    question: str = ""
    references: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    paraphrase: str = ""
    slices: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("id", "question", "paraphrase"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is {getattr(self, name)!r:.40}, not a text")
        slices = tuple(self.slices.values()) if isinstance(self.slices, dict) else self.slices
        for name, values in (("references", self.references), ("choices", self.choices), ("slices", slices)):
            if not isinstance(values, tuple) or not all(isinstance(value, str) for value in values):
                raise TypeError(f"{name} is {values!r:.40}; its values must be texts")
        for name in ("start_s", "end_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise TypeError(f"{name} is {value!r:.40}, not a number of seconds")

    @property
    def part(self) -> tuple[str, float | None, float | None]:
        """Identifies what is shown, so that items about the same part can share its features."""
        return str(self.video), self.start_s, self.end_s
