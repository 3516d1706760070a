"""The facts of a clip that questions are made from."""

from dataclasses import replace
from functools import cached_property

import numpy as np

from data_gen.world.clip import Event, Thing, WorldClip
from data_gen.world.meaning import (
    Clause,
    Value,
    clause_of,
    groups,
)
from data_gen.world.vocabulary import CAMERA_KINDS, REVERSED

# Kinds of events that change where a thing is or how large it looks, so that "it does not move" would be ambiguous.
SHIFTING = frozenset({"collide", "follow", "swap", "approach", "recede"})

Span = tuple[float, float]  # seconds


class ClipAccount:
    """The facts of a clip that questions are made from."""

    def __init__(self, clip: WorldClip, rng: np.random.Generator):
        self.clip = clip
        self.rng = rng
        self.events = clip.events

    @cached_property
    def singles(self) -> list[Thing]:
        return [thing for thing in self.clip.things if thing.group is None]

    @cached_property
    def group_members(self) -> list[list[Thing]]:
        return [members for members in groups(self.clip.things) if members[0].group is not None]

    def of(self, thing: Thing, *kinds: str) -> list[Event]:
        """The events that the thing takes part in; of these kinds only, if any are given."""
        return [e for e in self.events if thing.id in (e.thing, e.other) and (not kinds or e.kind in kinds)]

    def in_scene(self, scene: int) -> list[Event]:
        return [event for event in self.events if self.clip.scene_of(event.start) == scene]

    def has_camera(self, scene: int) -> bool:
        return any(event.kind in CAMERA_KINDS for event in self.in_scene(scene))

    def clause(self, event: Event) -> Clause:
        return clause_of(self.clip, event)

    def span(self, event: Event) -> Span:
        return self.clip.time_s(event.start), self.clip.time_s(event.end)

    def length(self, event: Event) -> float:
        start, end = self.span(event)
        return end - start

    def seen(self, thing: Thing) -> tuple[Span, ...]:
        """The span from when the thing is first seen until it is last seen."""
        shown = np.flatnonzero(self.clip.stage.alpha[thing.id])
        return ((self.clip.time_s(int(shown[0])), self.clip.time_s(int(shown[-1]) + 1)),)

    @cached_property
    def opening(self) -> Span:
        """The span from the start until something happens or the scene changes."""
        firsts = [self.events[0].start, *self.clip.scenes[1:2]]
        return 0.0, self.clip.time_s(min(firsts))

    @cached_property
    def ending(self) -> Span:
        return self.clip.time_s(max(self.events[-1].end, self.clip.scenes[-1])), self.clip.duration_s

    def visible(self, thing: Thing, frame: int) -> bool:
        return bool(self.clip.stage.alpha[thing.id, frame] > 0)

    def shuffled(self, values: list) -> list:
        return [values[int(k)] for k in self.rng.permutation(len(values))]

    def other_clauses(self, event: Event) -> list[Value]:
        """Wrong answers to a question for an event: what else happens, and what does not happen."""
        real = [self.clause(e) for e in self.events]
        own = self.clause(event)
        opposite = replace(own, kind=REVERSED[own.kind], counts=own.counts[::-1] if own.counts else None)
        made_up = [opposite] if opposite.kind != own.kind else []
        if event.thing is not None and own.subject and own.subject.count == 1:
            still = not self.of(self.clip.things[event.thing], *SHIFTING)
            kinds = ("blink", "disappear", *(("move_left", "move_up") if still else ()))
            made_up += [Clause(kind=kind, subject=own.subject) for kind in kinds]
        happened = {(clause.kind, clause.subject) for clause in real}
        made_up = [clause for clause in made_up if (clause.kind, clause.subject) not in happened]
        return [*self.shuffled([c for c in real if c != own]), *made_up]
