"""What every task asks about: one `Item`, whatever the dataset it comes from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Span = tuple[float, float]
Prediction = dict[str, Any]  # plain values, as they stand in predictions.jsonl

SLICES = ("split", "generalisation", "language", "kind", "style", "perturbation", "length")  # in a report's order


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question, query or clip with what is right for it; a task reads the fields it needs.

    start_s, end_s: the part of the video that is shown, None for its start and its end. question: a question or a
    query. references: right texts; the first is the answer. choices: the options of a multiple choice, the answer among
    them. spans: right times, in seconds of the video; where there are as many as references, one each. paraphrase: the
    question in other words. slices: what groups of items are told apart by, such as {"kind": "order"}.
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

    @property
    def part(self) -> tuple[str, float | None, float | None]:
        """What is shown, whoever asks about it."""
        return str(self.video), self.start_s, self.end_s
