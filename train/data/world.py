"""Captioned clips and captioned frames from the annotations of a rendered world (`data_gen/make_world.py`)."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from train.data.labels import LabelledVideo
from train.data.pairs import CaptionPair, VideoInterval
from videollm.datasets.text_file import lines, parse_json

SQUARES = 6  # along a side of the frame, named as on a chessboard
OF_A_CLIP = 4  # pairs of one clip in a group
_FLIPPED = {"left": "right", "right": "left", "up": "down", "down": "up"}
_MOVE = re.compile(r"moves (?:to the (left|right)|(up|down)(?: and to the (left|right))?)")


def annotations(split: Path) -> list[dict[str, Any]]:
    return [parse_json(line) for _, line in lines(split / "annotations.jsonl")]


def clip_pairs(split: Path) -> list[CaptionPair]:
    """Each clip with its short caption.

    The two clips of an order pair are one group. Of the false captions the first has one wrong attribute; others have
    events in another order, unless that is the caption of the other clip, or things that move the other way.
    """
    known = annotations(split)
    captions = {a["id"]: a["captions"]["en"]["short"] for a in known}
    return [
        CaptionPair(
            VideoInterval(split / a["video"]),
            captions[a["id"]],
            group=min(a["id"], a["order_pair"]) if a["order_pair"] else "",
            false=tuple(text for text in _false_captions(a) if text != captions.get(a["order_pair"])),
        )
        for a in known
    ]


def _false_captions(annotation: dict[str, Any]) -> Iterator[str]:
    negatives = annotation["negatives"]
    yield negatives["attribute_swap"]["en"]
    if "event_order" in negatives:
        yield negatives["event_order"]["en"]
    if flipped := flip_direction(annotation["captions"]["en"]["short"]):
        yield flipped


def event_labels(split: Path) -> list[LabelledVideo]:
    """Each clip with the kinds of its first and its last event, such as move_left and appear."""
    return [
        LabelledVideo(VideoInterval(split / a["video"]), (a["events"][0]["kind"], a["events"][-1]["kind"]))
        for a in annotations(split)
    ]


def frame_pairs(split: Path, frames: int) -> Iterator[CaptionPair]:
    """Captions of single frames: what is seen and where, not what happens.

    Of `frames` moments of a clip, consecutive ones that look alike are one pair. At most OF_A_CLIP pairs, spread over
    the clip, form a group. They differ in little but places, which makes them hard negatives: a batch of different
    clips is told apart by colours alone, and teaches no places.
    """
    for a in annotations(split):
        shown = [row[0] for row in a["objects"][0]["track"]]
        moments = [(k + 0.5) * a["duration_s"] / frames for k in range(frames)]
        numbers = [max(i for i, t in enumerate(shown) if t <= at + 1e-6) for at in moments]
        alike = [(caption, list(run)) for caption, run in groupby(numbers, partial(picture, a))]
        few = min(OF_A_CLIP, len(alike))
        for k in range(few):
            caption, run = alike[k * (len(alike) - 1) // max(1, few - 1)]
            part = VideoInterval(split / a["video"], max(0.0, shown[run[0]] - 1e-3), shown[run[-1]] + 1e-3)
            yield CaptionPair(part, caption, group=a["id"])


def picture(annotation: dict[str, Any], frame: int) -> str:
    """The caption of one frame, from the truth of the clip, such as "red star b4 size 5 turned 2, 3 blue cup".

    A single thing has the square of its centre, its radius in fortieths of the frame's width, and its turn in eighths;
    several equal things have their number.
    """
    time = annotation["objects"][0]["track"][frame][0]
    turned = {e["object"]: e for e in annotation["events"] if e["kind"] == "change_colour"}
    looks = Counter((thing["shape"], thing["colour"], thing["size"]) for thing in annotation["objects"])
    seen: Counter[str] = Counter()
    for thing in annotation["objects"]:
        _, x, y, radius, angle, visible = thing["track"][frame]
        if not visible or not (0 < x < 1 and 0 < y < 1):
            continue
        turn = turned.get(thing["id"])
        colour = (
            thing["colour"] if turn is None else turn["to" if time > (turn["start_s"] + turn["end_s"]) / 2 else "from"]
        )
        name = f"{colour} {thing['shape']}"
        if looks[thing["shape"], thing["colour"], thing["size"]] == 1:
            square = f"{ascii_lowercase[int(SQUARES * x)]}{1 + int(SQUARES * y)}"
            eighths = round(angle / 45) % 8
            name += f" {square} size {int(40 * radius)}" + (f" turned {eighths}" if eighths else "")
        seen[name] += 1
    return ", ".join(name if n == 1 else f"{n} {name}" for name, n in seen.items()) or "nothing"


def flip_direction(caption: str) -> str | None:
    """The caption with every direction reversed, or None where nothing moves."""
    flipped = _MOVE.sub(lambda m: re.sub("left|right|up|down", lambda w: _FLIPPED[w[0]], m[0]), caption)
    return None if flipped == caption else flipped
