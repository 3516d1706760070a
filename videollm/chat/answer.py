"""The answer to a question: its text, the parts of the video that support it, and how it was made."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from videollm.models.notes import plural, seen_sentence
from videollm.output_config import Modality
from videollm.senses.finding import Finding

if TYPE_CHECKING:
    import torch

CANNOT_TELL = "I cannot tell from this video."
NOBODY, NOT_LOOKED = "Nobody was seen.", "I cannot tell: nobody looked for people and things (the sense is off)."
# The sentences that findings give, which the language model has learnt too: "2 people and 1 dog are seen.", "At 0:05
# someone says ...", "Nobody was seen.", and the same before its end.
_OF_FINDINGS = re.compile(
    r'\b\d+ [^.]*? (?:is|are) seen\.|\b\d+ [^.;]*; I cannot tell who\.|\bAt [\d:]+ (?:someone says|it reads): "[^"]*"'
    r"|\bI cannot tell:[^.]*\.|\bNobody [^.]*\.|\bThe video has no sound\."
)
_OPENINGS = ("At ", "I cannot tell:", "Nobody ", "The video has no sound.")
_MAY_OPEN = "|".join(re.escape(opening[:length]) for opening in _OPENINGS for length in range(1, len(opening) + 1))
_MAY_BE_OF_FINDINGS = re.compile(
    rf"""\s*(?:\b\d+(?: [^.]*)?$|\b(?:{_MAY_OPEN})$|\bAt \d[^"]*(?:"[^"]*)?$|\bI cannot tell:[^.]*$|\bNobody [^.]*$"""
    rf"|{_OF_FINDINGS.pattern})"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A segment that supports an answer.

    Attributes:
        start_s, end_s: The times of the segment in seconds.
        score: The cosine of the segment's embedding and the answer's. If the answer is one word, it is embedded
            together with its question.
        tags: Concepts of the segment with their probabilities.
        findings: What the senses found in this time.
        video: The number of the video, counted from 0, in a conversation about several.
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
        model: The name of the model.
        config_sha: The hash of its configuration.
        device: The device that it ran on, such as "cpu" or "cuda:0", or "server".
        segments: The number of segments in the prompt.
        merged_from: The number of segments before they were merged to fit the context, or None if they were not merged.
        visual_tokens: The number of tokens of the prompt that stand for video. A server does not tell it, so 0 there.
        audio_tokens: The number of tokens of the prompt that stand for sound. It is 0 if nothing is heard in the video,
            and None if the model does not hear.
        prompt_tokens: The number of all tokens of the prompt.
        cached_tokens: The number of these tokens whose keys and values an earlier turn had computed.
        completion_tokens: The number of tokens of the answer.
        dropped_turns: The number of the oldest turns that were left out of the prompt to fit the context.
        truncated: Whether turns or frames were left out, segments were merged or the answer reached its length limit.
        ms: Durations in milliseconds. "decode", "encode" and one entry per sense are those of the video, and 0 if they
            were done before. "first_token" is the time from the question to the first token, and "total" is the time of
            the turn with all of them.
    """

    model: str
    config_sha: str
    device: str
    segments: int
    merged_from: int | None
    visual_tokens: int
    audio_tokens: int | None = None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    dropped_turns: int
    truncated: bool
    ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(GenerationReceipt):
    """How an answer was made, including the frames behind it.

    Attributes:
        frames: The number of encoded frames, or of those that a server was sent.
        lost_frames: The number of frames that could not be decoded.
        times_s: The presentation times of the encoded frames in seconds, or of those that a server was sent.
        thinned_from: The number of encoded frames, or None if a server was sent all of them or the model runs here.
        finish: "length" if the answer reached its length limit, "stop" if the model or a stop text ended it.
    """

    frames: int
    lost_frames: int
    times_s: tuple[float, ...]
    thinned_from: int | None = None
    finish: Literal["stop", "length"]


@dataclass(frozen=True, slots=True, eq=False)
class MediaCondition:
    """Something that an answer shows, before a diffusion model has made it.

    Attributes:
        modality: What it is.
        embeddings: The text condition (1,Q,C) of the diffusion model, or None if nobody is going to make it.
    """

    modality: Modality
    embeddings: "torch.Tensor | None"


@dataclass(frozen=True, slots=True)
class Answer:
    """A text, the segments that support it, how it was made, and what is shown beside it."""

    text: str
    evidence: tuple[Evidence, ...]
    receipt: Receipt
    media: tuple[MediaCondition, ...] = ()


@dataclass(frozen=True, slots=True)
class Grounded:
    """An answer that findings and scores give, without the language model.

    Attributes:
        text: The answer, or what `completed` adds to the language model's.
        evidence: Where it comes from.
        counts: With a description, the things that were seen.
        words: With a description, the words of tags, each with those that may stand for it.
    """

    text: str
    evidence: tuple[Evidence, ...] = ()
    counts: dict[str, int] | None = None
    words: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def describes(self) -> bool:
        return self.counts is not None

    def completed(self, text: str) -> str:
        """Returns the language model's description with the people, things and words that it lacks.

        Findings are told as they were found, not as the language model has read them.
        """
        text = without_findings(text)
        words = [word for word, kin in self.words.items() if not any(_names(text, one) for one in kin)]
        counts = {
            name: count for name, count in (self.counts or {}).items() if name not in words and not _names(text, name)
        }
        seen = seen_sentence(words, counts)
        kept = "" if text == CANNOT_TELL else text
        return " ".join(filter(None, (kept, seen, self.text))) or CANNOT_TELL


def without_findings(text: str) -> str:
    """Returns the language model's description without the sentences that only findings give."""
    return re.sub(rf"\s*(?:{_OF_FINDINGS.pattern})", "", text).strip()


def before_findings(text: str) -> str:
    """Returns the part of an unfinished description before what is, or may become, such a sentence."""
    found = _MAY_BE_OF_FINDINGS.search(text)
    return text[: found.start()] if found else text


def _names(text: str, word: str) -> bool:
    return any(re.search(rf"\b{re.escape(one)}\b", text, re.IGNORECASE) for one in (word, plural(word)))
