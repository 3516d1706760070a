"""What `videollm eval trust` asks about the synthetic world's clips, from what is known of them. In English."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videollm.evaluate.item import Item

Row = dict[str, Any]

# The same question in other words, for the wordings that the world has.
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
# What words become when time runs backwards.
_OPPOSITE = {
    "left": "right", "up": "down", "clockwise": "counterclockwise", "appears": "disappears", "in": "out",
    "comes closer": "goes further away",
}  # fmt: skip
_BACKWARDS = _OPPOSITE | {b: a for a, b in _OPPOSITE.items()}
_TURNED = re.compile(rf"\b(?:{'|'.join(sorted(_BACKWARDS, key=len, reverse=True))})\b")
_TURNING = re.compile(r"(?:move|rotate|pan|zoom)_\w+|approach|recede|appear|disappear|blink")


def hallucination(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """As many questions about what is there as about what is not (POPE, Li et al. 2023). adversarial: the shape and the
    colour are in the clip, but not together. random: any other pair."""
    there = sorted({(thing["shape"], thing["colour"]) for thing in row["objects"]})
    shapes, colours = ({look[i] for look in there} for i in (0, 1))
    mixed = [(s, c) for s in sorted(shapes) for c in sorted(colours) if (s, c) not in there]
    other = [(s, c) for s in _SHAPES for c in _COLOURS if (s, c) not in there and (s, c) not in mixed]
    changing = any(event["kind"] == "change_colour" for event in row["events"])
    for kind, absent in (("adversarial", [] if changing else mixed), ("random", other)):
        if absent:
            for answer, looks in (("Yes", there), ("No", absent)):
                shape, colour = looks[_pick(f"{row['id']} {kind} {answer}", len(looks))]
                yield Item(
                    id=f"{row['id']}/{kind}/{answer.lower()}",
                    video=folder / row["video"],
                    question=f"Is there {'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape} in the video?",
                    references=(answer,),
                    slices={"kind": kind, "right answer": answer.lower()},
                )


def questions(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """Every question, with the times at which its answer is seen."""
    asked = [q for q in row["questions"] if q["language"] == "en"]
    for number, question in enumerate(asked, 1):
        yield Item(
            id=f"{row['id']}/{number}",
            video=folder / row["video"],
            question=question["question"],
            references=(question["answer"],),
            spans=tuple((a, b) for a, b in question["answer_times"]),
            slices={"kind": question["kind"]},
        )


def paraphrase(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """The questions that can be asked in other words."""
    for item in questions(row, folder, languages):
        if other := reworded(item.question):
            yield Item(
                id=item.id,
                video=item.video,
                question=item.question,
                references=item.references,
                paraphrase=other,
                slices=item.slices,
            )


def flip(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """What happens first; choices: the first and the last event, and both as they look backwards. references: the right
    one forwards, and the right one backwards."""
    texts = [part["text"] for part in row["captions"]["en"]["dense"]]
    first, last = row["events"][0], row["events"][-1]
    if len(texts) < 2 or not all(_TURNING.fullmatch(event["kind"]) for event in (first, last)):
        return
    forwards, backwards = texts[0], turned(texts[-1])
    choices = sorted({forwards, texts[-1], turned(texts[0]), backwards})
    if forwards != backwards and len(choices) > 2:
        yield Item(
            id=row["id"],
            video=folder / row["video"],
            question="What happens first in the video?",
            references=(forwards, backwards),
            choices=tuple(choices),
        )


def reworded(question: str) -> str | None:
    """The same question in other words, None where no rewording is known."""
    found = ((re.fullmatch(pattern, question), other) for pattern, other in _REWORDED)
    return next((match.expand(other) for match, other in found if match), None)


def turned(text: str) -> str:
    """An event's sentence as it reads when the clip is played backwards."""
    return _TURNED.sub(lambda match: _BACKWARDS[match[0]], text)


def _pick(key: str, count: int) -> int:
    """A number below count that looks random and depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count


# The common shapes and colours; what few clips show is too easily denied.
_SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "house", "tree", "car", "fish", "boat")
_COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "white", "black")
