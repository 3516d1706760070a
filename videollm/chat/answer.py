"""What a question gives back: text, where in the video it comes from, and how it was made."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Evidence:
    """A segment that speaks for the answer. score is the cosine of its embedding with question and answer. video: its
    number, in a conversation about several."""

    start_s: float
    end_s: float
    score: float
    tags: tuple[tuple[str, float], ...]
    video: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """How an answer was made.

    times_s are those of the frames that were seen. merged_from is the number of segments before they were merged to
    fit the context, None if they fitted; truncated is true if they were merged or the answer hit its length limit.
    cached_tokens of the prompt came from earlier turns. finish is "length" where the answer hit its limit, "stop"
    where the model or a stop text ended it. ms has milliseconds: decode and encode of the video (0 once
    it is encoded), first_token from the question to the first token, and total.
    """

    model: str
    config_sha: str
    frames: int
    lost_frames: int
    times_s: tuple[float, ...]
    segments: int
    merged_from: int | None
    visual_tokens: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    truncated: bool
    finish: Literal["stop", "length"]
    ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    evidence: tuple[Evidence, ...]
    receipt: Receipt

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `ask --json` prints them."""
        return {
            "text": self.text,
            "evidence": [
                {"start": e.start_s, "end": e.end_s, "score": e.score, "tags": [list(t) for t in e.tags]}
                for e in self.evidence
            ],
            "receipt": asdict(self.receipt),
        }
