"""What is true of each patch of each frame, and of each place at each moment, of a rendered clip.

Shapes: F frames, G patches along a side of the frame, M moments, P places along a side (see `videollm.models.motion`).
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from data_gen.world.clip import Event, WorldClip
from data_gen.world.splits import is_look_held_out
from data_gen.world.vocabulary import COLOURS, KINDS, SYMMETRY
from videollm.datasets.world_annotation import SHAPES

# Number 0 of each is "none".
SHAPE_NUMBER = {name: number for number, name in enumerate(SHAPES, 1)}
COLOUR_NUMBER = {name: number for number, name in enumerate(COLOURS, 1)}
KIND_NUMBER = {name: number for number, name in enumerate(KINDS, 1)}
KIND_COUNT = len(KIND_NUMBER) + 1
MOST = 4  # things that are counted at a moment
FRAMES = 25  # of clips of 3 seconds at 8 frames a second, and one after their end
ROLES = 3  # none, the subject of an event, the other thing that takes part
LEAST_ALPHA = 0.3  # of a thing that counts as seen
FLOW_SCALE = (5.0, 5.0, 10.0, 2.0)  # factors that bring usual changes between frames to unit scale
# bool (shapes, colours): whether training shows this shape in this colour.
SHOWN_LOOKS = torch.tensor(
    [[True] * (len(COLOURS) + 1), *([True, *(not is_look_held_out(s, c) for c in COLOURS)] for s in SHAPES)]
)


@dataclass(frozen=True, kw_only=True)
class FrameTruth:
    """What the patches of frames show.

    Attributes:
        shape, colour: int64 (F,G,G), 0 where no thing is.
        place: float32 (F,G,G,3), the thing's centre from that of the patch in patches, x and y, and its radius in
            patches.
        turn: float32 (F,G,G,2), cosine and sine of its angle, times the number of turns that look the same; zero for
            things without an angle.
        flow: float32 (F,G,G,4), the change from the frame before to the frame after, half of it: x and y in patches,
            the logarithm of the size, the angle in radians. Where no thing is, it is that of the background.
    """

    shape: torch.Tensor
    colour: torch.Tensor
    place: torch.Tensor
    turn: torch.Tensor
    flow: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class EventTruth:
    """What happens.

    Attributes:
        kind: int64 (M,P,P), the event at this place and moment; those of the camera are everywhere.
        role: int64 (M,P,P), of the thing there in this event.
        shape, colour: int64 (M,P,P), of the thing there.
        span: float32 (M,P,P,2), seconds since the event began and until it ends.
        now: int64 (M,13), what is to say of this moment: the kind of the event; shape and colour of its subject, of the
            other thing that takes part, of the leftmost thing that is seen, and of the rightmost if it is another; the
            number of things that are seen, at most `MOST`; the frames of the event's start and end, counted from 1, and
            the number of frames between them, each at most `FRAMES`. What is missing is 0.
        named: int64 (2,3), kind, shape and colour of the first and of the last event.
        when: float32 (2,2), start and end in seconds of both.
    """

    kind: torch.Tensor
    role: torch.Tensor
    shape: torch.Tensor
    colour: torch.Tensor
    span: torch.Tensor
    now: torch.Tensor
    named: torch.Tensor
    when: torch.Tensor


def stack(truths: list[Any]) -> Any:
    """Returns truths of equal shapes as one with a dimension more in front."""
    return type(truths[0])(**{f.name: torch.stack([getattr(t, f.name) for t in truths]) for f in fields(truths[0])})


def frame_truth(clip: WorldClip, chosen: np.ndarray, grid: int) -> FrameTruth:
    """Returns the truth of the frames with these numbers, which are neighbours of each other in `flow`."""
    thing, x, y, radius = _nearest(clip, chosen, grid)
    is_there = thing >= 0
    row = np.where(is_there, thing, 0)
    at = np.arange(len(chosen))[:, None, None]
    shape, colour = _looks(clip, chosen)
    middles = (np.arange(grid) + 0.5) / grid
    off_x, off_y = x[row, at] - middles[None, None, :], y[row, at] - middles[None, :, None]
    symmetry = np.array([SYMMETRY.get(t.shape, 1) for t in clip.things])
    angle = np.radians(clip.stage.angle[:, chosen] * symmetry[:, None])
    has_angle = (symmetry[row] > 0) & is_there
    place = np.stack((off_x, off_y, radius[row, at]), -1) * grid * is_there[..., None]
    turn = np.stack((np.cos(angle[row, at]), np.sin(angle[row, at])), -1) * has_angle[..., None]
    return FrameTruth(
        shape=torch.from_numpy(np.where(is_there, shape[row], 0)),
        colour=torch.from_numpy(np.where(is_there, colour[row, at], 0)),
        place=torch.from_numpy(place.astype(np.float32)),
        turn=torch.from_numpy(turn.astype(np.float32)),
        flow=torch.from_numpy(_flow(clip, chosen, thing, grid)),
    )


def _flow(clip: WorldClip, chosen: np.ndarray, thing: np.ndarray, grid: int) -> np.ndarray:
    """Returns `FrameTruth.flow` for the rows of things at each patch, (F,G,G) with -1 for none."""
    before, after = np.concatenate((chosen[:1], chosen[:-1])), np.concatenate((chosen[1:], chosen[-1:]))
    scenes = np.searchsorted(clip.scenes, chosen, side="right")
    # Across a cut nothing moves.
    before = np.where(np.searchsorted(clip.scenes, before, side="right") == scenes, before, chosen)
    after = np.where(np.searchsorted(clip.scenes, after, side="right") == scenes, after, chosen)
    x, y, radius = clip.stage.on_screen()
    has_angle = np.array([SYMMETRY.get(t.shape, 1) > 0 for t in clip.things])[:, None]
    angle = np.radians(clip.stage.angle) * has_angle
    values = np.stack((x * grid, y * grid, np.log(radius), angle), -1)  # (K,frames,4)
    own = (values[:, after] - values[:, before]) / 2
    middles = (np.arange(grid) + 0.5) / grid
    at = np.stack(np.meshgrid(middles, middles), -1)  # (G,G,2), x and y
    look, zoom = clip.stage.camera[:2].T[:, None, None], clip.stage.camera[2][:, None, None, None]
    place = (at - 0.5) / zoom[chosen] + look[chosen]  # of the background that is seen there
    moved = (place - look[after]) * zoom[after] - (place - look[before]) * zoom[before]
    grown = np.broadcast_to(np.log(zoom[after] / zoom[before]), (*thing.shape, 1))
    ground = np.concatenate((moved * grid, grown, np.zeros_like(grown)), -1) / 2
    things = own[np.maximum(thing, 0), np.arange(len(chosen))[:, None, None]]
    return np.where((thing >= 0)[..., None], things, ground).astype(np.float32)


def event_truth(clip: WorldClip, places: int) -> EventTruth:
    """Returns the truth of the moments of two frames each, and of `places` places along a side."""
    moments = clip.frame_count // 2
    middles = 2 * np.arange(moments) + 0.5
    acting = [(middles > e.start) & (middles < e.end) for e in clip.events]
    # A thing that acts has a place while it cannot be seen.
    hidden_too = np.zeros((len(clip.things), moments), bool)
    for event, now in zip(clip.events, acting, strict=True):
        for number in (event.thing, event.other):
            if number is not None:
                hidden_too[number] |= now
    thing = _nearest(clip, 2 * np.arange(moments), places, hidden_too)[0]
    thing = np.where(thing < 0, _nearest(clip, 2 * np.arange(moments) + 1, places, hidden_too)[0], thing)
    shape, colour = _looks(clip, 2 * np.arange(moments) + 1)
    row, is_there = np.maximum(thing, 0), thing >= 0
    kind, role = (np.zeros((moments, places, places), np.int64) for _ in range(2))
    span = np.zeros((moments, places, places, 2), np.float32)
    names = np.zeros((moments, 13), np.int64)
    for event, now in zip(clip.events, acting, strict=True):
        names[now, 0] = KIND_NUMBER[event.kind]
        names[now, 10:] = np.minimum((event.start + 1, event.end + 1, event.end - event.start), FRAMES)
        for number, at in ((event.thing, 1), (event.other, 3)):
            if number is not None:
                names[now, at], names[now, at + 1] = shape[number], colour[number, now]
        here = np.broadcast_to(now[:, None, None], kind.shape)
        roles = {event.thing: 1, event.other: 2}
        if event.thing is not None:
            taking_part = np.array([t.id in roles for t in clip.things])
            here = here & is_there & taking_part[row]
        kind[here] = KIND_NUMBER[event.kind]
        role[here] = np.array([roles.get(t.id, 0) for t in clip.things])[row][here]
        passed = np.stack((middles - event.start, event.end - middles), -1) * float(clip.frame_s)
        span[here] = np.broadcast_to(passed[:, None, None], span.shape)[here]
    names[:, 5:10] = _seen(clip, 2 * np.arange(moments) + 1, shape, colour)
    ends = clip.events[0], clip.events[-1]
    return EventTruth(
        kind=torch.from_numpy(kind),
        role=torch.from_numpy(role),
        shape=torch.from_numpy(np.where(is_there, shape[row], 0)),
        colour=torch.from_numpy(np.where(is_there, colour[row, np.arange(moments)[:, None, None]], 0)),
        span=torch.from_numpy(span),
        now=torch.from_numpy(names),
        named=torch.tensor([_named(clip, event) for event in ends]),
        when=torch.tensor([[clip.time_s(event.start), clip.time_s(event.end)] for event in ends]),
    )


def _seen(clip: WorldClip, chosen: np.ndarray, shape: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Returns shape and colour of the leftmost and of the rightmost thing of each chosen frame, and how many there are,
    (F,5). shape (K,) and colour (K,F) are their numbers."""
    x = clip.stage.on_screen()[0][:, chosen]
    shown = clip.stage.alpha[:, chosen] >= LEAST_ALPHA
    at = np.arange(len(chosen))
    count = shown.sum(0)
    left, right = np.where(shown, x, np.inf).argmin(0), np.where(shown, x, -np.inf).argmax(0)
    seen = [
        np.where(count > least, values, 0)
        for least, row in ((0, left), (1, right))
        for values in (shape[row], colour[row, at])
    ]
    return np.stack([*seen, count.clip(max=MOST)], -1)


def _named(clip: WorldClip, event: Event) -> tuple[int, int, int]:
    """The numbers of kind, shape and colour. Events of the camera have no shape and no colour."""
    if event.thing is None:
        return KIND_NUMBER[event.kind], 0, 0
    thing = clip.things[event.thing]
    return KIND_NUMBER[event.kind], SHAPE_NUMBER[thing.shape], COLOUR_NUMBER[thing.colour]


def _looks(clip: WorldClip, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of the shape of each thing (K,), and of its colour at each chosen frame (K,F)."""
    shape = np.array([SHAPE_NUMBER[t.shape] for t in clip.things])
    colours = np.array([[COLOUR_NUMBER[t.colour], COLOUR_NUMBER[t.next_colour or t.colour]] for t in clip.things])
    turned = (clip.stage.mix[:, chosen] > 0.5).astype(int)
    return shape, np.take_along_axis(colours, turned, 1)


def _nearest(
    clip: WorldClip, chosen: np.ndarray, grid: int, hidden_too: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the row of the thing at each patch, (F,G,G) with -1 for none, and x, y and radius of all things (K,F).

    A thing is at the patch of its centre, and at those whose middle it covers. hidden_too: bool (K,F), where a thing
    counts although it cannot be seen.
    """
    x, y, radius = (values[:, chosen] for values in clip.stage.on_screen())
    shown = clip.stage.alpha[:, chosen] >= LEAST_ALPHA
    if hidden_too is not None:
        scenes = np.array([clip.scene_of(int(frame)) for frame in chosen])
        shown |= hidden_too & (np.array([t.scene for t in clip.things])[:, None] == scenes)
    middles = (np.arange(grid) + 0.5) / grid
    away_x = np.abs(x[..., None, None] - middles[None, None, None, :])
    away_y = np.abs(y[..., None, None] - middles[None, None, :, None])
    distance = np.hypot(away_x, away_y)
    is_own = (away_x <= 0.5 / grid) & (away_y <= 0.5 / grid)
    covers = (is_own | (distance < radius[..., None, None])) & shown[..., None, None]
    distance = np.where(covers, distance, np.inf)
    return np.where(covers.any(0), distance.argmin(0), -1), x, y, radius
