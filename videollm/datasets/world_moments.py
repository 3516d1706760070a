"""Items of `videollm eval live` about the clips of the synthetic world: questions whose right answer changes while the
clip is watched, each asked shortly before a change and shortly after it, in English."""

from collections.abc import Callable, Iterator
from pathlib import Path

from videollm.datasets.item import Item
from videollm.datasets.world_annotation import COMMON_COLOURS, WorldAnnotation, WorldEvent, WorldObject

BEFORE_S = 0.1  # of a change
SETTLED_S = 1.5  # since the last change; a frame a second has shown what is asked about then
CHANGES = ("appear", "disappear", "change_colour", "count_change")
OPTIONS = 4  # of questions about colours and numbers


def moments(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """A question is asked at `end_s`. Its references are the right answer then, and the one at the end of the clip."""
    changes = [event for event in clip.events if event.kind in CHANGES]
    for number, event in enumerate(changes):
        if (asked := _asked(clip, event)) is None:
            continue
        question, choices, answer = asked
        others = [other for other in changes if other is not event]
        for when, time_s in (("before", event.start_s - BEFORE_S), ("after", event.end_s + SETTLED_S)):
            since_s = max(
                [0.0, *(e.end_s for e in others if e.start_s <= time_s), *(c for c in clip.cuts if c <= time_s)]
            )
            if time_s - since_s >= SETTLED_S and time_s < clip.duration_s and answer(time_s) in choices:
                yield Item(
                    id=f"{clip.id}/{number}/{when}",
                    video=folder / clip.video,
                    end_s=round(time_s, 3),
                    question=question,
                    references=(answer(time_s), answer(clip.duration_s)),
                    choices=choices,
                    slices={"kind": event.kind},
                )


def _asked(clip: WorldAnnotation, event: WorldEvent) -> tuple[str, tuple[str, ...], Callable[[float], str]] | None:
    """Returns the question about what changes, its options, and the right answer at a time; None where there is no
    question whose answer is sure."""
    thing = next(thing for thing in clip.objects if thing.id == event.object)
    shape, colour = thing.shape, _colour(clip, thing, event.start_s)
    if event.kind == "change_colour":
        if sum(other.shape == shape for other in clip.objects) > 1:
            return None
        colours = [event.before, event.after, *COMMON_COLOURS]

        def coloured(time_s: float) -> str:
            return next((colour for colour, _ in _looks(clip, time_s, shape)), "")

        return f"What colour is the {shape} now?", tuple(sorted(list(dict.fromkeys(colours))[:OPTIONS])), coloured

    def count(time_s: float) -> int:
        return _looks(clip, time_s, shape).count((colour, shape))

    if event.kind == "count_change":
        least = max(0, min(event.before, event.after) - 1)
        numbers = sorted({event.before, event.after, *range(least, least + OPTIONS)})
        return f"How many {colour} {shape}s are there now?", tuple(map(str, numbers)), lambda time_s: str(count(time_s))
    article = "an" if colour[0] in "aeiou" else "a"
    return f"Is there {article} {colour} {shape} now?", ("No", "Yes"), lambda time_s: "Yes" if count(time_s) else "No"


def _looks(clip: WorldAnnotation, time_s: float, shape: str) -> list[tuple[str, str]]:
    """Returns colour and shape of the things of this shape that are shown at a time."""
    things = [thing for thing in clip.objects if thing.shape == shape]
    return [(_colour(clip, thing, time_s), shape) for thing in things if _is_visible(thing, time_s)]


def _is_visible(thing: WorldObject, time_s: float) -> bool:
    return bool([point.visible for point in thing.track if point.time_s <= time_s][-1])


def _colour(clip: WorldAnnotation, thing: WorldObject, time_s: float) -> str:
    changes = [e for e in clip.events if e.kind == "change_colour" and e.object == thing.id and e.end_s <= time_s]
    return changes[-1].after if changes else thing.colour
