"""What the senses find in a simulated story: people and things, speech, writing and sounds.

Findings are drawn apart from the scenes, so that a story has the same scenes with and without them. Some name what a
scene shows, as a detector does ("1 dog" where the tag is "beagle"), and most do not. A sense that is not used, one that
finds nothing and a video without sound are among the cases.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from data_gen.simulation.words import sentence, sign
from videollm.encoders.base import Vocabulary
from videollm.encoders.tags import is_below
from videollm.senses.detector import NAMES
from videollm.senses.finding import NOTHING, Finding, Findings, Kind

Span = tuple[float, float]
"""Start and end in seconds."""

SOUNDS = ("Music", "Applause", "Laughter", "Singing", "Guitar", "Piano", "Rain", "Wind", "Thunder", "Stream", "Engine",
          "Siren", "Footsteps", "Bird", "Dog", "Crowd", "Bell", "Knock", "Typing", "Sizzle")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Senses:
    """Probabilities."""

    used: float = 0.75  # of a story, that any sense is used
    objects: float = 0.9  # of such a story, that this sense is
    speech: float = 0.9
    text: float = 0.3
    sounds: float = 0.3
    sound_track: float = 0.75
    found: float = 0.6  # of a story in which a sense is used, that it has speech or writing
    people: float = 0.4  # of a scene
    thing: float = 0.25  # of a scene, beside those that its classes name
    detected: float = 0.5  # of what a scene's classes name and the detector knows
    said: float = 0.4  # of a segment of a story with speech
    written: float = 0.3
    heard: float = 0.6  # of a scene of a story with sound


NO_SENSES = Senses(used=0.0)


def find(
    scenes: Sequence[Span],
    words: Sequence[Sequence[str]],
    segments: Sequence[Span],
    vocabulary: Vocabulary,
    seed: int,
    senses: Senses,
) -> Findings:
    """Draws what is found in a story. words: what each scene shows, as words of the vocabulary."""
    rng = random.Random(f"senses {seed}")  # apart from the scenes' generator
    if rng.random() >= senses.used:
        return NOTHING
    used = [name for name in ("objects", "speech", "text", "sounds") if rng.random() < getattr(senses, name)]
    sound = rng.random() < senses.sound_track
    found: list[Finding] = []
    if "objects" in used:
        found += _objects(scenes, words, vocabulary, rng, senses)
    if "speech" in used and sound and rng.random() < senses.found:
        found += _lines("speech", segments, senses.said, lambda: sentence(rng, vocabulary), rng)
    if "text" in used and rng.random() < senses.found:
        found += _lines("text", segments, senses.written, lambda: sign(rng, vocabulary), rng)
    if "sounds" in used and sound:
        found += [_finding(span, "sound", rng.choice(SOUNDS)) for span in scenes if rng.random() < senses.heard]
    return Findings(senses=tuple(used), found=tuple(sorted(found, key=lambda f: f.start_s)), sound=sound)


def _objects(
    scenes: Sequence[Span], words: Sequence[Sequence[str]], vocabulary: Vocabulary, rng: random.Random, senses: Senses
) -> Iterator[Finding]:
    """Each thing is seen in all of its scene, as a track of its own."""
    track = 0
    for span, shown in zip(scenes, words, strict=True):
        counts: dict[str, int] = {}
        if rng.random() < senses.people:
            counts["person"] = rng.choices([1, 2, 3, 4, 5, 6], [8, 4, 3, 2, 1, 1])[0]
        if rng.random() < senses.thing:
            counts[rng.choice(NAMES[1:])] = rng.choices([1, 2, 3, 4], [6, 3, 2, 1])[0]
        known = [name for name in NAMES[1:] if any(is_below(word, name, vocabulary) for word in shown)]
        counts |= {name: rng.choice([1, 1, 1, 2]) for name in known if rng.random() < senses.detected}
        for name in [name for name, count in counts.items() for _ in range(count)]:
            track += 1
            yield _finding(span, "object", name, track)


def _lines(
    kind: Kind, segments: Sequence[Span], share: float, line: Callable[[], str], rng: random.Random
) -> Iterator[Finding]:
    for start_s, end_s in segments:
        if rng.random() < share:
            yield _finding((start_s, end_s), kind, line())


def _finding(span: Span, kind: Kind, text: str, track: int | None = None) -> Finding:
    return Finding(start_s=span[0], end_s=span[1], kind=kind, text=text, score=0.9, track=track)
