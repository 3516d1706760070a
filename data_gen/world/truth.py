"""The annotation of a clip: one line of annotations.jsonl."""

from typing import Any

import numpy as np

from data_gen.world.clip import Clip, Event, Thing
from data_gen.world.config import WorldConfig
from data_gen.world.language import LANGUAGES
from data_gen.world.meaning import in_order, with_one_wrong
from data_gen.world.questions import Question, ask

_LANGUAGE_STREAM = 1  # keeps the random numbers of words apart from those of pictures
_MOST_CLAUSES = 4  # in a short caption


def annotate(
    clip: Clip, config: WorldConfig, *, clip_id: str, split: str, number: int, order_pair: str | None
) -> dict[str, Any]:
    """Everything that is true of the clip, in plain values. number: of the clip in its split."""
    rng = np.random.default_rng([config.seed, _LANGUAGE_STREAM, *split.encode(), number])
    return {
        "id": clip_id,
        "video": f"clips/{clip_id}.mp4",
        "split": split,
        "seed": config.seed,
        "duration_s": clip.duration_s,
        "fps": round(float(1 / clip.frame_s), 6),
        "width": config.size,
        "height": config.size,
        "style": clip.style,
        "background": [background.kind for background in clip.backgrounds],
        "perturbation": clip.perturbation,
        "cuts": [clip.time_s(cut) for cut in clip.scenes[1:]],
        "objects": _objects(clip),
        "events": [_event(clip, event) for event in clip.events],
        "captions": _captions(clip),
        "questions": [said for question in ask(clip, rng) for said in _said(question, int(rng.integers(1000)))],
        "negatives": _negatives(clip, rng),
        "order_pair": order_pair,
    }


def _objects(clip: Clip) -> list[dict[str, Any]]:
    kept = np.array(clip.kept)
    times = [clip.time_s(int(frame)) for frame in kept]
    x, y, radius = (values.round(4) for values in clip.stage.on_screen())
    angle, visible = clip.stage.angle.round(1), (clip.stage.alpha > 0).astype(int)
    ends = (*clip.scenes[1:], clip.frame_count)

    def described(thing: Thing) -> dict[str, Any]:
        # What is not in the scene being shown rests where it was last or will be first.
        frames = np.clip(kept, clip.scenes[thing.scene], ends[thing.scene] - 1)
        places = (values[thing.id, frames].tolist() for values in (x, y, radius, angle))
        rows = zip(times, *places, visible[thing.id, kept].tolist(), strict=True)
        return {
            "id": thing.id,
            "shape": thing.shape,
            "colour": thing.colour,
            "texture": thing.texture,
            "size": thing.size,
            "scene": thing.scene,
            "track": [list(row) for row in rows],
        }

    return [described(thing) for thing in clip.things]


def _event(clip: Clip, event: Event) -> dict[str, Any]:
    values: dict[str, Any] = {
        "kind": event.kind,
        "object": event.thing,
        "other": event.other,
        "start_s": clip.time_s(event.start),
        "end_s": clip.time_s(event.end),
    }
    bounds = _from_to(clip, event)
    if bounds:
        values |= {"from": bounds[0], "to": bounds[1]}
    if event.times:
        values["times"] = event.times
    return values


def _from_to(clip: Clip, event: Event) -> tuple[Any, Any] | None:
    """What changes from its start to its end: colours, counts, degrees, radius, place, or what the camera looks at."""
    x, y, radius = clip.stage.on_screen()
    camera_x, camera_y, zoom = clip.stage.camera
    ends = (event.start, event.end)

    def at(*arrays: np.ndarray) -> tuple[Any, Any]:
        first, last = ([round(float(a[frame]), 4) for a in arrays] for frame in ends)
        return (first, last) if len(arrays) > 1 else (first[0], last[0])

    row = event.thing
    if row is None:
        return at(camera_x, camera_y) if event.kind.startswith("pan_") else at(zoom)
    if event.colours:
        return event.colours
    if event.counts:
        return event.counts
    if event.turn:
        return 0, event.turn
    if event.kind in ("approach", "recede"):
        return at(radius[row])
    if event.kind.startswith("move_") or event.kind in ("collide", "follow", "swap"):
        return at(x[row], y[row])
    return None


def _abridged(clip: Clip) -> tuple[Event, ...]:
    """What a short caption tells: the first events and the last."""
    return clip.events if len(clip.events) <= _MOST_CLAUSES else (*clip.events[: _MOST_CLAUSES - 1], clip.events[-1])


def _captions(clip: Clip) -> dict[str, Any]:
    clauses = in_order(clip, _abridged(clip))
    captions = {}
    for language in LANGUAGES:
        sentences = zip(clip.events, language.dense(clip, clip.events), strict=True)
        captions[language.code] = {
            "short": language.short(clauses),
            "detailed": language.detailed(clip),
            "dense": [
                {"start": clip.time_s(event.start), "end": clip.time_s(event.end), "text": text}
                for event, text in sentences
            ],
        }
    return captions


def _said(question: Question, variant: int) -> list[dict[str, Any]]:
    """The question in every language."""
    return [
        {
            "kind": question.kind,
            "language": language.code,
            "question": language.question(question, variant),
            "answer": language.reply(question.answer),
            "choices": [language.reply(value) for value in question.choices] or None,
            "correct": question.choices.index(question.answer) if question.choices else None,
            "answer_times": [list(span) for span in question.times],
        }
        for language in LANGUAGES
    ]


def _negatives(clip: Clip, rng: np.random.Generator) -> dict[str, dict[str, str]]:
    """False captions that share almost all their words with the short one."""
    clauses = in_order(clip, _abridged(clip))
    wrong = with_one_wrong(clip, clauses, rng)
    negatives = {"attribute_swap": {language.code: language.short(wrong) for language in LANGUAGES}}
    if len(clip.events) > 1:
        turned = in_order(clip, _abridged(clip)[::-1])
        negatives["event_order"] = {language.code: language.short(turned) for language in LANGUAGES}
    return negatives
