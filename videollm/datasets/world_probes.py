"""Items of `videollm eval trust` about the clips of the synthetic world, made from their annotations, in English."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from videollm.datasets.item import Item
from videollm.datasets.world_annotation import COMMON_COLOURS, WorldAnnotation

# Shapes that many clips show. A model that has learnt which shapes are rare could deny a rare one without looking.
COMMON_SHAPES = (
    *("circle", "square", "triangle", "star", "heart", "diamond", "cross"),
    *("house", "tree", "car", "fish", "boat"),
)

# Patterns of the world's questions, and the same question in other words.
_REWORDED = (
    (r"What colour is (.+)\?", r"Which colour does \1 have?"),
    (r"Which colour does (.+) have\?", r"What colour is \1?"),
    (r"Is there (.+) in the video\?", r"Does the video show \1 at any time?"),
    (r"Does the video show (.+) at any time\?", r"Is there \1 in the video?"),
    (r"In which direction does (.+) (move|rotate)\?", r"Which way does \1 \2?"),
    (r"Which way does (.+) move\?", r"In which direction does \1 move?"),
    (r"What is the (first|last) thing that happens in the video\?", r"What happens \1 in the video?"),
    (r"What happens (first|last) in the video\?", r"What is the \1 thing that happens in the video?"),
    (r"What happens right after (.+)\?", r"What is the next thing to happen after \1?"),
    (r"How many cuts are there in the video\?", "How many times does the video cut to another scene?"),
    (r"How many times does the video cut to another scene\?", "How many cuts are there in the video?"),
    (r"How many times does (.+) blink\?", r"How often does \1 blink?"),
    (r"Does (.+) change colour\?", r"Does the colour of \1 change during the video?"),
)
# Words that change when the clip is played backwards.
_OPPOSITE = {
    "left": "right", "up": "down", "clockwise": "counterclockwise", "appears": "disappears", "in": "out",
    "comes closer": "goes further away",
}  # fmt: skip
_BACKWARDS = _OPPOSITE | {b: a for a, b in _OPPOSITE.items()}
# Longer phrases come first, so that "disappears" is not read as "appears".
_TURNED = re.compile(rf"\b(?:{'|'.join(sorted(_BACKWARDS, key=len, reverse=True))})\b")
# Kinds of events whose sentence remains true backwards once those words are exchanged.
_TURNING = re.compile(r"(?:move|rotate|pan|zoom)_\w+|approach|recede|appear|disappear|blink")


def hallucination(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """As many questions about what is in the clip as about what is not (POPE, Li et al. 2023).

    In `adversarial` questions the shape and the colour are both in the clip, but not together; in `random` questions
    they are any other pair.
    """
    present = sorted({(thing.shape, thing.colour) for thing in clip.objects})
    shapes, colours = ({look[i] for look in present} for i in (0, 1))
    mixed = [(s, c) for s in sorted(shapes) for c in sorted(colours) if (s, c) not in present]
    other = [(s, c) for s in COMMON_SHAPES for c in COMMON_COLOURS if (s, c) not in present and (s, c) not in mixed]
    # An object that changes its colour may make a mixed pair true.
    changing = any(event.kind == "change_colour" for event in clip.events)
    for kind, absent in (("adversarial", [] if changing else mixed), ("random", other)):
        if absent:
            for answer, looks in (("Yes", present), ("No", absent)):
                shape, colour = looks[_pick(f"{clip.id} {kind} {answer}", len(looks))]
                yield Item(
                    id=f"{clip.id}/{kind}/{answer.lower()}",
                    video=folder / clip.video,
                    question=f"Is there {'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape} in the video?",
                    references=(answer,),
                    slices={"kind": kind, "right answer": answer.lower()},
                )


def questions(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """Every question, with the times at which its answer can be seen."""
    asked = [question for question in clip.questions if question.language == "en"]
    for number, question in enumerate(asked, 1):
        yield Item(
            id=f"{clip.id}/{number}",
            video=folder / clip.video,
            question=question.question,
            references=(question.answer,),
            spans=question.answer_times,
            slices={"kind": question.kind},
        )


def paraphrase(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """The questions that can be asked in other words, with these words."""
    for item in questions(clip, folder, languages):
        if other := reworded(item.question):
            yield Item(
                id=item.id,
                video=item.video,
                question=item.question,
                references=item.references,
                paraphrase=other,
                slices=item.slices,
            )


def flip(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """What happens first. The choices are the first and the last event, and both as they look backwards; the references
    are the right choice forwards and the right choice backwards."""
    texts = [part.text for part in clip.captions["en"].dense]
    first, last = clip.events[0], clip.events[-1]
    if len(texts) < 2 or not all(_TURNING.fullmatch(event.kind) for event in (first, last)):
        return
    forwards, backwards = texts[0], turned(texts[-1])
    choices = sorted({forwards, texts[-1], turned(texts[0]), backwards})
    if forwards != backwards and len(choices) > 2:
        yield Item(
            id=clip.id,
            video=folder / clip.video,
            question="What happens first in the video?",
            references=(forwards, backwards),
            choices=tuple(choices),
        )


def reworded(question: str) -> str | None:
    """The same question in other words, or None if no rewording is known."""
    found = ((re.fullmatch(pattern, question), other) for pattern, other in _REWORDED)
    return next((match.expand(other) for match, other in found if match), None)


def turned(text: str) -> str:
    """The sentence about an event as it reads when the clip is played backwards."""
    return _TURNED.sub(lambda match: _BACKWARDS[match[0]], text)


def _pick(key: str, count: int) -> int:
    """A number below count that looks random and depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count
