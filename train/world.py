"""Pairs for training from a world's annotations (`data_gen/make_world.py`): captions of clips and of frames."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.pairs import Pair, Part

_SMALL, _LARGE = 0.115, 0.165  # radii on screen between small, large and huge, as shares of the frame's width
_ROWS, _COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
_FLIPPED = {"left": "right", "right": "left", "up": "down", "down": "up"}
_MOVE = re.compile(r"moves (?:to the (left|right)|(up|down)(?: and to the (left|right))?)")


def annotations(split: Path) -> list[dict[str, Any]]:
    with (split / "annotations.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def clip_pairs(split: Path) -> list[Pair]:
    """Each clip with its short caption; the two clips of an order pair are one group; false: one attribute wrong."""
    return [
        Pair(
            Part(split / a["video"]),
            a["captions"]["en"]["short"],
            group=min(a["id"], a["order_pair"]) if a["order_pair"] else "",
            false=(a["negatives"]["attribute_swap"]["en"],),
        )
        for a in annotations(split)
    ]


def frame_pairs(split: Path, frames: int) -> Iterator[Pair]:
    """What is to be seen and where, at `frames` moments of each clip: "small red star top left, two ...": a caption
    of a picture, which knows nothing of what happens."""
    for a in annotations(split):
        shown = [row[0] for row in a["objects"][0]["track"]]
        for k in range(frames):
            at = (k + 0.5) * a["duration_s"] / frames
            frame = max(i for i, t in enumerate(shown) if t <= at + 1e-6)
            yield Pair(Part(split / a["video"], max(0.0, shown[frame] - 1e-3), shown[frame] + 1e-3), picture(a, frame))


def picture(annotation: dict[str, Any], frame: int) -> str:
    """The caption of one frame, from the truth of the clip."""
    time = annotation["objects"][0]["track"][frame][0]
    turned = {e["object"]: e for e in annotation["events"] if e["kind"] == "change_colour"}
    seen: Counter[str] = Counter()
    for thing in annotation["objects"]:
        _, x, y, radius, _, visible = thing["track"][frame]
        if not visible or not (0 < x < 1 and 0 < y < 1):
            continue
        turn = turned.get(thing["id"])
        colour = (
            thing["colour"] if turn is None else turn["to" if time > (turn["start_s"] + turn["end_s"]) / 2 else "from"]
        )
        size = "small" if radius < _SMALL else "large" if radius < _LARGE else "huge"
        seen[f"{size} {colour} {thing['shape']} {_ROWS[int(3 * y)]} {_COLUMNS[int(3 * x)]}"] += 1
    return ", ".join(name if n == 1 else f"{n} {name}" for name, n in seen.items()) or "nothing"


def flip_direction(caption: str) -> str | None:
    """The caption with every move the other way, or None where nothing moves."""
    flipped = _MOVE.sub(lambda m: re.sub("left|right|up|down", lambda w: _FLIPPED[w[0]], m[0]), caption)
    return None if flipped == caption else flipped
