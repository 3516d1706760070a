"""Standing questions: what somebody wants to be told of when it happens.

Shapes: T frames, W background words, E shared width.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from videollm.chat.questions import PEOPLE, singular
from videollm.encoders.base import FrameEncoder, FrameFeatures
from videollm.encoders.presence import SHOWN, Presence, background
from videollm.live.memory import LiveSegment
from videollm.live.session import LiveAnswer
from videollm.models.notes import OBJECT_SCORE, PERSON_SCORE
from videollm.senses.detector import NAMES
from videollm.senses.following import SEEN

SLOPE, MIDDLE = 1.64, 1.45  # make a probability of deviations, see `_Nearness`
END = 0.5  # something begins at SHOWN and ends below END, so that a flickering score is one event
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
        score: The probability of the words or the best score of the detector, whichever is greater, or 1 and 0 for a
            yes and a no of the language model.
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
    """Tells when something begins to be the case and when it ends."""

    confirm: int
    release: int
    is_on: bool = False
    _run: list[float] = field(default_factory=list)  # times of the frames in a row that contradict the state

    def step(self, time: float, *, begins: bool, ends: bool) -> float | None:
        """Returns the time of the change where the state changes with this frame.

        begins, ends: Whether the frame speaks for a beginning, and for an end.
        """
        self._run = [*self._run, time] if (ends if self.is_on else begins) else []
        if len(self._run) < (self.release if self.is_on else self.confirm):
            return None
        since, self._run, self.is_on = self._run[0], [], not self.is_on
        return since


class _Nearness:
    """A score for encoders to which `Presence` was not fitted: by how many standard deviations a frame is nearer to
    words than to 100 words from all over the vocabulary."""

    def __init__(self, encoder: FrameEncoder, words: str):
        self._own = encoder.encode_text([words]).embed[0].float().cpu()  # (E,)
        self._others = background(encoder)  # (W,E)

    def probabilities(self, shown: torch.Tensor, concepts: torch.Tensor) -> torch.Tensor:
        """Returns numbers (T,) between 0 and 1 for embeddings (T,E). The concepts are not used."""
        others = shown @ self._others.T
        deviations = (shown @ self._own - others.mean(1)) / others.std(1).clamp(min=1e-6)
        return torch.sigmoid(SLOPE * (deviations - MIDDLE))


class StandingQuestion:
    """One standing question. It ends with a question mark, and the language model is asked it about each segment; or it
    names something, and each frame is compared with the words. If the detector knows the thing, it is also shown where
    the detector sees it; people are shown only there.

    Args:
        text: Such as "a dog appears", "smoke" or "Is the door open?".
        encoder: The encoder of the frames.
        detects: Whether people and things are looked for in the frames.
        fitted: Whether `Presence` was fitted to the encoder, as to that of a model with senses.
    """

    def __init__(self, text: str, encoder: FrameEncoder, *, detects: bool = False, fitted: bool = False):
        self.text = text
        self.is_question = text.rstrip().endswith("?")
        if self.is_question:
            self._state = _Hysteresis(1, 1)  # a segment is evidence enough
            return
        self._state = _Hysteresis(CONFIRM_FRAMES, RELEASE_FRAMES)
        thing = thing_of(text)
        self.detected = _detected(thing) if detects else ""  # the detector's name for it
        self._least = PERSON_SCORE if self.detected == "person" else OBJECT_SCORE
        self._words = Presence(encoder, thing) if fitted else _Nearness(encoder, thing)

    @property
    def is_on(self) -> bool:
        """Whether it is the case now."""
        return self._state.is_on

    def see(
        self, times: Sequence[float], features: FrameFeatures, objects: Sequence[dict[str, float]] | None = None
    ) -> list[Alert]:
        """Looks for what is named in frames. Nothing happens for a question to the language model.

        Args:
            times: The times of the frames.
            features: The features of the frames.
            objects: The best score of each name in each frame, where they are looked for.
        """
        if self.is_question:
            return []
        seen = [found.get(self.detected, 0.0) for found in objects] if objects is not None else [0.0] * len(times)
        if self.detected == "person":
            words = [0.0] * len(times)
        else:
            words = self._words.probabilities(features.embed.float().cpu(), features.concepts.float().cpu()).tolist()
        alerts = []
        for time, word, object in zip(times, words, seen, strict=True):
            begins, ends = word >= SHOWN or object >= self._least, word < END and object < SEEN
            alerts.append(self._step(time, max(word, object), begins=begins, ends=ends))
        return [alert for alert in alerts if alert is not None]

    def ask(self, segment: LiveSegment, ask_about: Callable[[str, list[LiveSegment]], LiveAnswer]) -> list[Alert]:
        """Asks the language model about a segment. Nothing happens for words."""
        if not self.is_question:
            return []
        answer = ask_about(self.text, [segment]).text
        is_so = _YES.match(answer) is not None
        alert = self._step(segment.start, float(is_so), answer, begins=is_so, ends=not is_so)
        return [alert] if alert else []

    def _step(self, time: float, score: float, answer: str = "", *, begins: bool, ends: bool) -> Alert | None:
        since = self._state.step(time, begins=begins, ends=ends)
        if since is None:
            return None
        return Alert(self.text, "begins" if self.is_on else "ends", since, score, answer)


def thing_of(text: str) -> str:
    """Returns what a standing question waits for: "a dog appears" is about "dog"."""
    found = _HAPPENS.fullmatch(" ".join(text.split()).rstrip("."))
    return found[1] if found else text


def _detected(thing: str) -> str:
    """Returns the detector's name for a thing, "" if it does not know it. It does not tell men from women."""
    name = "person" if thing.lower() in PEOPLE else singular(thing.lower())
    return name if name in NAMES else ""
