"""What a question gives back: text, where in the video it comes from, and how it was made."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Evidence:
    """A segment that supports the answer.

    start_s, end_s: its range in seconds. score: the cosine of its embedding with the answer's. tags: words with
    probabilities. video: number of the video, in a conversation about several.
    """

    start_s: float
    end_s: float
    score: float
    tags: tuple[tuple[str, float], ...]
    video: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """How an answer was made.

    device: where the model ran. times_s: presentation times of the frames that were seen, in seconds. merged_from:
    number of segments before they were merged to fit the context, None if they fitted. cached_tokens: how many of the
    prompt's tokens were computed in earlier turns. truncated: whether segments were merged or the answer reached its
    length limit. finish: "length" where the answer reached its limit, "stop" where the model or a stop text ended it.
    ms: milliseconds of decode and encode (0 once the video is encoded), of first_token, counted from the question, and
    of total.
    """

    model: str
    config_sha: str
    device: str
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
    """The text, at most three segments that support it, best first, and how it was made."""

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
