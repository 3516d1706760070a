"""The annotation of a clip: one line of annotations.jsonl."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from data_gen.world.clip import Event, Thing, WorldClip
from data_gen.world.config import WorldConfig
from data_gen.world.language import LANGUAGES
from data_gen.world.meaning import AbstractQuestion, in_order, with_one_wrong
from data_gen.world.questions import ask
from data_gen.world.sound_questions import ENGLISH, ask_sounds
from data_gen.world.sounds import Sound
from videollm.datasets.world_annotation import (
    EventCaption,
    TrackPoint,
    WorldAnnotation,
    WorldCaptions,
    WorldEvent,
    WorldObject,
    WorldQuestion,
    WorldSound,
)

_LANGUAGE_STREAM = 1  # keeps the random numbers of words apart from those of pictures
_SOUND_WORDS_STREAM = 3  # and those of questions about sounds from the others
_MOST_CLAUSES = 4  # in a short caption


def annotate(
    clip: WorldClip,
    config: WorldConfig,
    *,
    clip_id: str,
    split: str,
    number: int,
    order_pair: str | None,
    sounds: tuple[Sound, ...] | None = None,
) -> WorldAnnotation:
    """Everything that is true of the clip. number is that of the clip in its split; it seeds the choice of words.
    sounds: what is heard in the clip, None if its file has no sound."""
    rng = np.random.default_rng([config.seed, _LANGUAGE_STREAM, *split.encode(), number])
    return WorldAnnotation(
        id=clip_id,
        video=f"clips/{clip_id}.mp4",
        split=split,
        seed=config.seed,
        duration_s=clip.duration_s,
        fps=round(float(1 / clip.frame_s), 6),
        width=config.size,
        height=config.size,
        style=clip.style,
        background=tuple(background.kind for background in clip.backgrounds),
        perturbation=clip.perturbation,
        cuts=tuple(clip.time_s(cut) for cut in clip.scenes[1:]),
        objects=_objects(clip),
        events=tuple(_event(clip, event) for event in clip.events),
        captions=_captions(clip),
        # Questions draw from rng before the negatives do: another order would give another world for the same seed.
        questions=(
            *(said for asked in ask(clip, rng) for said in _in_words(asked, int(rng.integers(1000)))),
            *_about_sounds(clip, config, sounds, split, number),
        ),
        negatives=_negatives(clip, rng),
        order_pair=order_pair,
        sounds=None if sounds is None else tuple(_sound(clip, sound) for sound in sounds),
    )


def _sound(clip: WorldClip, sound: Sound) -> WorldSound:
    return WorldSound(kind=sound.kind, start_s=clip.time_s(sound.event.start), end_s=clip.time_s(sound.event.end))


def _about_sounds(
    clip: WorldClip, config: WorldConfig, sounds: tuple[Sound, ...] | None, split: str, number: int
) -> Iterator[WorldQuestion]:
    if sounds is None:
        return
    rng = np.random.default_rng([config.seed, _SOUND_WORDS_STREAM, *split.encode(), number])
    for asked in ask_sounds(clip, sounds, rng, config.sounds):
        heard = (_sound(clip, sound) for sound in asked.heard)
        yield WorldQuestion(
            kind=f"sound_{asked.kind}",
            language=ENGLISH.code,
            question=asked.question,
            answer=asked.answer,
            choices=(),
            correct=None,
            answer_times=tuple((sound.start_s, sound.end_s) for sound in heard),
        )


def _objects(clip: WorldClip) -> tuple[WorldObject, ...]:
    kept = np.array(clip.kept)
    times = [clip.time_s(int(frame)) for frame in kept]
    x, y, radius = (values.round(4) for values in clip.stage.on_screen())
    angle, visible = clip.stage.angle.round(1), (clip.stage.alpha > 0).astype(int)
    ends = (*clip.scenes[1:], clip.frame_count)

    def described(thing: Thing) -> WorldObject:
        # While another scene is shown, a thing rests where it was last or where it will be first.
        frames = np.clip(kept, clip.scenes[thing.scene], ends[thing.scene] - 1)
        places = (values[thing.id, frames].tolist() for values in (x, y, radius, angle))
        points = zip(times, *places, visible[thing.id, kept].tolist(), strict=True)
        return WorldObject(
            id=thing.id,
            shape=thing.shape,
            colour=thing.colour,
            texture=thing.texture,
            size=thing.size,
            scene=thing.scene,
            track=tuple(TrackPoint(*point) for point in points),
        )

    return tuple(described(thing) for thing in clip.things)


def _event(clip: WorldClip, event: Event) -> WorldEvent:
    before, after = _change(clip, event) or (None, None)
    return WorldEvent(
        kind=event.kind,
        object=event.thing,
        other=event.other,
        start_s=clip.time_s(event.start),
        end_s=clip.time_s(event.end),
        before=before,
        after=after,
        times=event.times,
    )


def _change(clip: WorldClip, event: Event) -> tuple[Any, Any] | None:
    """The values at the start and at the end of the event: colours, counts, degrees, a radius, a place, or what the
    camera looks at."""
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


def _abridged(clip: WorldClip) -> tuple[Event, ...]:
    """The events that a short caption tells: the first ones and the last."""
    return clip.events if len(clip.events) <= _MOST_CLAUSES else (*clip.events[: _MOST_CLAUSES - 1], clip.events[-1])


def _captions(clip: WorldClip) -> dict[str, WorldCaptions]:
    clauses = in_order(clip, _abridged(clip))
    captions = {}
    for language in LANGUAGES:
        sentences = zip(clip.events, language.dense(clip, clip.events), strict=True)
        captions[language.code] = WorldCaptions(
            short=language.short(clauses),
            detailed=language.detailed(clip),
            dense=tuple(
                EventCaption(start=clip.time_s(event.start), end=clip.time_s(event.end), text=text)
                for event, text in sentences
            ),
        )
    return captions


def _in_words(asked: AbstractQuestion, variant: int) -> list[WorldQuestion]:
    """The question in every language."""
    return [
        WorldQuestion(
            kind=asked.kind,
            language=language.code,
            question=language.question(asked, variant),
            answer=language.reply(asked.answer),
            choices=tuple(language.reply(value) for value in asked.choices),
            correct=asked.choices.index(asked.answer) if asked.choices else None,
            answer_times=asked.times,
        )
        for language in LANGUAGES
    ]


def _negatives(clip: WorldClip, rng: np.random.Generator) -> dict[str, dict[str, str]]:
    """False captions that share almost all their words with the short caption."""
    clauses = in_order(clip, _abridged(clip))
    wrong = with_one_wrong(clip, clauses, rng)
    negatives = {"attribute_swap": {language.code: language.short(wrong) for language in LANGUAGES}}
    if len(clip.events) > 1:
        turned = in_order(clip, _abridged(clip)[::-1])
        negatives["event_order"] = {language.code: language.short(turned) for language in LANGUAGES}
    return negatives
