"""The answer to a question: its text, the parts of the video that support it, and how it was made."""

from dataclasses import dataclass
from typing import Literal

from videollm.senses.finding import Finding


@dataclass(frozen=True, slots=True)
class Evidence:
    """A segment that supports an answer.

    Attributes:
        score: Cosine of the segment's embedding with that of the answer (read with its question if it is one word).
        tags: Words with probabilities.
        findings: What the senses found at that time.
        video: Number of the video, in a conversation about several.
    """

    start_s: float
    end_s: float
    score: float
    tags: tuple[tuple[str, float], ...]
    video: int = 0
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationReceipt:
    """How the language model made an answer.

    Attributes:
        model: Name of the model.
        config_sha: Hash of its configuration.
        device: Device that it ran on, such as "cpu" or "cuda:0".
        segments: Segments in the prompt.
        merged_from: Segments before they were merged to fit the context; None if they fitted.
        visual_tokens: Tokens of the prompt that stand for video.
        prompt_tokens: All tokens of the prompt.
        cached_tokens: Those of them whose keys and values an earlier turn had computed.
        completion_tokens: Tokens of the answer.
        truncated: Whether segments were merged or the answer reached its length limit.
        ms: Milliseconds: decode and encode of the video and each sense by its name (0 once it is done), first_token
            from the question to the first token, and total.
    """

    model: str
    config_sha: str
    device: str
    segments: int
    merged_from: int | None
    visual_tokens: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    truncated: bool
    ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(GenerationReceipt):
    """How an answer was made, with the frames behind it.

    Attributes:
        frames: Frames that were encoded.
        lost_frames: Frames that could not be decoded.
        times_s: Presentation times of the encoded frames.
        finish: "length" if the answer reached its length limit, "stop" if the model or a stop text ended it.
    """

    frames: int
    lost_frames: int
    times_s: tuple[float, ...]
    finish: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A text, the segments that support it, and how it was made."""

    text: str
    evidence: tuple[Evidence, ...]
    receipt: Receipt
