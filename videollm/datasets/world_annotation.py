"""The annotation of a clip of the synthetic world that `data_gen/make_world.py` draws: one line of annotations.jsonl.

Everything in a clip is known exactly. The maker of the world writes these classes; the readers for training, evaluation
and data generation read them.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from videollm.datasets.text_file import lines, parse_json
from videollm.errors import DataError

ANNOTATIONS = "annotations.jsonl"  # in the folder of each split

# fmt: off
SHAPES = (
    "circle", "square", "triangle", "star", "heart", "diamond", "cross", "hexagon", "arrow", "house", "tree", "car",
    "fish", "flower", "cup", "boat", "cloud", "moon", "key", "umbrella", "mushroom", "butterfly", "rocket",
)
# fmt: on
COMMON_COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "white", "black")


class TrackPoint(NamedTuple):
    """An object in one frame. It is stored as a list, because a clip has thousands of points.

    Args:
        time_s: Presentation time of the frame in seconds.
        x, y, radius: Place and size as shares of the frame's width; y points down.
        angle: Degrees clockwise.
        visible: 1 if the object is shown, otherwise 0.
    """

    time_s: float
    x: float
    y: float
    radius: float
    angle: float
    visible: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldObject:
    """An object and where it is in each frame. colour is the one that it has at the start."""

    id: int
    shape: str
    colour: str
    texture: str
    size: str
    scene: int
    track: tuple[TrackPoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldEvent:
    """Something that happens between start_s and end_s seconds.

    Args:
        kind: One of `data_gen.world.vocabulary.KINDS`.
        object, other: Ids of the objects that take part; None for the camera.
        before, after: What changes, if it is a value: a colour, a count, degrees, a radius, a place. The JSON calls
            them `from` and `to`.
        times: How often an object blinks.
    """

    kind: str
    object: int | None
    other: int | None
    start_s: float
    end_s: float
    before: Any = None
    after: Any = None
    times: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldSound:
    """A sound that is heard between start_s and end_s seconds. kind: one of those of `data_gen.world.sounds`."""

    kind: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EventCaption:
    """The sentence about one event, from start to end in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldCaptions:
    """The captions of a clip in one language. dense has one sentence for each event, in the order of the events."""

    short: str
    detailed: str
    dense: tuple[EventCaption, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldQuestion:
    """A question in one language. choices is empty for an open question; correct is the index of the right choice."""

    kind: str
    language: str
    question: str
    answer: str
    choices: tuple[str, ...]
    correct: int | None
    answer_times: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldAnnotation:
    """Everything that is true of a clip, and some captions that are false.

    Args:
        id: Unique in the world, SPLIT-NUMBER.
        video: Path relative to the folder of the split.
        background: The kind of background of each scene.
        perturbation: What was done to the image or the times, or None.
        cuts: Seconds at which a new scene starts.
        captions: Captions by language.
        negatives: False captions by what is wrong with them (`attribute_swap`, `event_order`) and by language.
        order_pair: The id of the clip that shows the same frames in another order, or None.
        sounds: What is heard, in order of time, or None if the file has no sound. The JSON then leaves it out.
    """

    id: str
    video: str
    split: str
    seed: int
    duration_s: float
    fps: float
    width: int
    height: int
    style: str
    background: tuple[str, ...]
    perturbation: str | None
    cuts: tuple[float, ...]
    objects: tuple[WorldObject, ...]
    events: tuple[WorldEvent, ...]
    captions: dict[str, WorldCaptions]
    questions: tuple[WorldQuestion, ...]
    negatives: dict[str, dict[str, str]]
    order_pair: str | None
    sounds: tuple[WorldSound, ...] | None = None

    @property
    def number(self) -> int:
        """The clip's number in its split."""
        return int(self.id.rsplit("-", 1)[-1])

    def to_values(self) -> dict[str, Any]:
        """The annotation as plain JSON values."""
        values = asdict(self)
        values["events"] = [_event_values(event) for event in self.events]
        for question in values["questions"]:
            question["choices"] = question["choices"] or None
        if self.sounds is None:
            del values["sounds"]
        return values

    def to_json(self) -> str:
        """One line of annotations.jsonl, without its end."""
        return json.dumps(self.to_values(), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "WorldAnnotation":
        """Parses JSON values. Raises DataError, which names the field, if one is missing, unknown or malformed."""
        if missing := [name for name in cls.__slots__ if name not in values and name != "sounds"]:
            raise DataError(f"no {', '.join(missing)}")
        try:
            nested = {
                "background": tuple(values["background"]),
                "cuts": tuple(values["cuts"]),
                "objects": tuple(_object(o) for o in values["objects"]),
                "events": tuple(_event(e) for e in values["events"]),
                "captions": {language: _captions(c) for language, c in values["captions"].items()},
                "questions": tuple(_question(q) for q in values["questions"]),
                "sounds": tuple(WorldSound(**s) for s in values["sounds"]) if "sounds" in values else None,
            }
            return cls(**values | nested)
        except KeyError as error:
            raise DataError(f"no {error.args[0]!r}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(f"not an annotation of the world: {error}") from error


def read_world(split: Path) -> Iterator[WorldAnnotation]:
    """Yields the annotations in the folder of a split. Raises DataError, which names the line, if one is broken."""
    path = split / ANNOTATIONS
    for number, line in lines(path):
        try:
            yield WorldAnnotation.from_values(parse_json(line))
        except ValueError as error:  # DataError is
            raise DataError(f"{path} line {number}: {error}") from error


def _event_values(event: WorldEvent) -> dict[str, Any]:
    """Values that an event does not have are left out."""
    values = asdict(event)
    before, after, times = (values.pop(name) for name in ("before", "after", "times"))
    if before is not None:
        values |= {"from": before, "to": after}
    if times is not None:
        values["times"] = times
    return values


def _object(values: dict[str, Any]) -> WorldObject:
    values = dict(values)
    track = tuple(TrackPoint(*point) for point in values.pop("track"))
    return WorldObject(track=track, **values)


def _event(values: dict[str, Any]) -> WorldEvent:
    values = dict(values)
    return WorldEvent(before=values.pop("from", None), after=values.pop("to", None), **values)


def _captions(values: dict[str, Any]) -> WorldCaptions:
    values = dict(values)
    dense = tuple(EventCaption(**part) for part in values.pop("dense"))
    return WorldCaptions(dense=dense, **values)


def _question(values: dict[str, Any]) -> WorldQuestion:
    times = tuple((start, end) for start, end in values["answer_times"])
    return WorldQuestion(**values | {"choices": tuple(values["choices"] or ()), "answer_times": times})
