"""Standing questions: what somebody wants to be told of when it happens.

Shapes: T frames, W background words, E shared width.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from videollm.encoders.base import FrameEncoder
from videollm.encoders.presence import background
from videollm.live.memory import LiveSegment
from videollm.live.session import LiveAnswer

# The score of words is by how many standard deviations a frame is nearer to them than to 100 words from all over the
# vocabulary. SLOPE and MIDDLE make a probability of it, for as many frames that show the words as frames that do not.
# They were fitted with lite on 12 real clips at a frame a second, where BEGIN affirms 23 of 37 visible things and 4 of
# 496 others, and END 30 and 53. Something begins at BEGIN and ends below END, so that a flickering score is one event.
SLOPE, MIDDLE = 1.64, 1.45
BEGIN, END = 0.85, 0.5
CONFIRM_FRAMES, RELEASE_FRAMES = 2, 4  # in a row
_HAPPENS = re.compile(
    r"(?:when |if |whenever )?(?:there (?:is|are) )?(?:a |an |any |some |the )?(.+?)"
    r"(?: (?:appears?|enters?|arrives?|comes?(?: into view)?|shows? up|(?:is|are) (?:seen|visible|shown|there)))?",
    re.IGNORECASE,
)
_YES = re.compile(r"yes\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that was waited for has begun or ended.

    Attributes:
        when: The standing question.
        state: Whether it begins or ends.
        time: Since when, in seconds since 1970.
        score: The probability of the words, or 1 and 0 for a yes and a no of the language model.
        answer: What the language model said, empty for words.
        clip: The file of the clip that will show it, empty if there is none.
    """

    when: str
    state: Literal["begins", "ends"]
    time: float
    score: float
    answer: str = ""
    clip: str = ""


@dataclass(slots=True)
class _Hysteresis:
    """Tells when a score begins to be high and when it ends to be."""

    confirm: int
    release: int
    is_on: bool = False
    _run: list[float] = field(default_factory=list)  # times of the frames in a row that contradict the state

    def step(self, time: float, score: float) -> float | None:
        """Returns the time of the change where the state changes with this frame."""
        contradicts = score < END if self.is_on else score >= BEGIN
        self._run = [*self._run, time] if contradicts else []
        if len(self._run) < (self.release if self.is_on else self.confirm):
            return None
        since, self._run, self.is_on = self._run[0], [], not self.is_on
        return since


class StandingQuestion:
    """One standing question. It ends with a question mark, and the language model is asked it about each segment; or it
    names something, and each frame is compared with the words.

    Args:
        text: Such as "a dog appears", "smoke" or "Is the door open?".
        encoder: The encoder of the frames.
    """

    def __init__(self, text: str, encoder: FrameEncoder):
        self.text = text
        self.is_question = text.rstrip().endswith("?")
        once = self.is_question  # a segment is evidence enough
        self._state = _Hysteresis(*((1, 1) if once else (CONFIRM_FRAMES, RELEASE_FRAMES)))
        if not self.is_question:
            self._own = encoder.encode_text([thing_of(text)]).embed[0].float().cpu()  # (E,)
            self._others = background(encoder)  # (W,E)

    @property
    def is_on(self) -> bool:
        """Whether it is the case now."""
        return self._state.is_on

    def scores(self, embed: torch.Tensor) -> torch.Tensor:
        """Returns the probabilities (T,) that frames with these embeddings (T,E) show the words."""
        shown = embed.float().cpu()
        others = shown @ self._others.T
        deviations = (shown @ self._own - others.mean(1)) / others.std(1).clamp(min=1e-6)
        return torch.sigmoid(SLOPE * (deviations - MIDDLE))

    def see(self, times: Sequence[float], embed: torch.Tensor) -> list[Alert]:
        """Compares frames with the words. Nothing happens for a question to the language model."""
        if self.is_question:
            return []
        scored = zip(times, self.scores(embed).tolist(), strict=True)
        return [alert for time, score in scored if (alert := self._step(time, score))]

    def ask(self, segment: LiveSegment, ask_about: Callable[[str, list[LiveSegment]], LiveAnswer]) -> list[Alert]:
        """Asks the language model about a segment. Nothing happens for words."""
        if not self.is_question:
            return []
        answer = ask_about(self.text, [segment]).text
        alert = self._step(segment.start, float(_YES.match(answer) is not None), answer)
        return [alert] if alert else []

    def _step(self, time: float, score: float, answer: str = "") -> Alert | None:
        since = self._state.step(time, score)
        if since is None:
            return None
        return Alert(self.text, "begins" if self.is_on else "ends", since, score, answer)


def thing_of(text: str) -> str:
    """Returns what a standing question waits for: "a dog appears" is about "dog"."""
    found = _HAPPENS.fullmatch(" ".join(text.split()).rstrip("."))
    return found[1] if found else text
