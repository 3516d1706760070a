"""Answers English questions about a clip from its annotation alone, with no use of the code that asked them."""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Row = list[float]  # time, x, y, scale, angle, visible

COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "white", "black", "pink", "brown", "cyan")
SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "diamond",
    "cross",
    "hexagon",
    "arrow",
    "house",
    "tree",
    "car",
    "fish",
    "flower",
    "cup",
    "boat",
    "cloud",
    "moon",
    "key",
    "umbrella",
    "mushroom",
    "butterfly",
    "rocket",
)
PLURALS = {"fish": "fish", "crosses": "cross", "butterflies": "butterfly"} | {
    f"{shape}s": shape for shape in SHAPES if shape not in ("fish", "cross", "butterfly")
}
DIRECTIONS = {
    "to the left": (-1, 0),
    "to the right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up and to the left": (-1, -1),
    "up and to the right": (1, -1),
    "down and to the left": (-1, 1),
    "down and to the right": (1, 1),
}
KIND_OF_DIRECTION = {
    words: words.replace("to the ", "").replace(" and ", "_").replace(" ", "_") for words in DIRECTIONS
}
NOUN = rf"the (?:(small|large) )?(?:({'|'.join(COLOURS)}) )?({'|'.join(SHAPES)})"
LEMMAS = {
    "moves": "move",
    "comes": "come",
    "goes": "go",
    "rotates": "rotate",
    "blinks": "blink",
    "turns": "turn",
    "appears": "appear",
    "disappears": "disappear",
    "bumps": "bump",
    "follows": "follow",
    "swaps": "swap",
    "pans": "pan",
    "zooms": "zoom",
}


@dataclass
class OracleClip:
    """One line of annotations.jsonl."""

    truth: dict[str, Any]

    @property
    def objects(self) -> list[dict[str, Any]]:
        return self.truth["objects"]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.truth["events"]

    def colours(self, thing: dict[str, Any]) -> set[str]:
        """Every colour that the thing has at some time."""
        return {thing["colour"]} | {
            event["to"] for event in self.events if event["kind"] == "change_colour" and event["object"] == thing["id"]
        }

    def fitting(self, shape: str, colour: str | None = None, size: str | None = None) -> list[dict[str, Any]]:
        return [
            thing
            for thing in self.objects
            if thing["shape"] == shape
            and (colour is None or colour in self.colours(thing))
            and (size is None or thing["size"] == size)
        ]

    def named(self, words: str) -> dict[str, Any]:
        """The one thing that a definite noun means."""
        match = re.fullmatch(NOUN, words)
        assert match, words
        size, colour, shape = match.groups()
        (thing,) = self.fitting(shape, colour, size)
        return thing

    def several(self, words: str) -> list[dict[str, Any]]:
        colour, plural = words.split(" ")
        return self.fitting(PLURALS[plural], colour)

    def event(self, clause: str) -> dict[str, Any] | None:
        """The event that a clause tells of, if it happened."""
        kind, actor, other = self.parse(clause)
        found = [e for e in self.events if (e["kind"], e["object"], e["other"]) == (kind, actor, other)]
        assert len(found) <= 1, clause
        return found[0] if found else None

    def parse(self, clause: str) -> tuple[str, int | None, int | None]:
        clause = clause[0].lower() + clause[1:]
        if match := re.fullmatch(r"the number of (\w+ \w+) (?:go|goes) (up|down) from (\d) to (\d)", clause):
            members = self.several(match[1])
            assert (int(match[4]) > int(match[3])) == (match[2] == "up")
            event = [e for e in self.events if e["kind"] == "count_change" and e["object"] == members[0]["id"]]
            said = [int(match[3]), int(match[4])]
            happened = bool(event) and [event[0]["from"], event[0]["to"]] == said
            return ("count_change" if happened else "none"), members[0]["id"], None
        if match := re.fullmatch(r"the camera (\w+) (.+)", clause):
            verb = LEMMAS.get(match[1], match[1])
            return f"{verb}_{KIND_OF_DIRECTION[match[2]] if verb == 'pan' else match[2]}", None, None
        match = re.match(NOUN, clause)
        assert match, clause
        actor = self.named(match[0])["id"]
        return *self.action(clause[match.end() + 1 :], actor), actor, self.partner(clause[match.end() + 1 :])

    def action(self, predicate: str, actor: int) -> tuple[str]:
        verb, _, rest = predicate.partition(" ")
        match LEMMAS.get(verb, verb):
            case "move":
                return (f"move_{KIND_OF_DIRECTION[rest]}",)
            case "come":
                return ("approach",)
            case "go":
                assert rest == "further away"
                return ("recede",)
            case "rotate":
                return (f"rotate_{rest}",)
            case "turn":
                turned = [e for e in self.events if e["object"] == actor and e["kind"] == "change_colour"]
                return ("change_colour" if turned and turned[0]["to"] == rest else "none",)
            case "bump":
                return ("collide",)
            case other:
                return (other,)

    def partner(self, predicate: str) -> int | None:
        found = re.search(rf"(?:into|follows?|with) ({NOUN})$", predicate)
        return self.named(found[1])["id"] if found else None


def at(thing: dict[str, Any], time_s: float) -> Row:
    """The state at a time: of the last stored frame until then."""
    return [row for row in thing["track"] if row[0] <= time_s + 1e-6][-1]


def after(thing: dict[str, Any], time_s: float) -> Row:
    """The state at a time: of the first stored frame from then on."""
    return next(row for row in thing["track"] if row[0] >= time_s - 1e-6)


def shift(thing: dict[str, Any], start_s: float, end_s: float) -> tuple[float, float]:
    first, last = at(thing, start_s), after(thing, end_s)
    return last[1] - first[1], last[2] - first[2]


def points(vector: tuple[float, float], direction: tuple[float, float]) -> bool:
    """Whether a vector points in a direction, within 10 degrees."""
    angle = math.atan2(vector[1], vector[0]) - math.atan2(direction[1], direction[0])
    return math.hypot(*vector) > 0.1 and math.cos(angle) > math.cos(math.radians(10))


def nearest_direction(vector: tuple[float, float]) -> str:
    return next(words for words, direction in DIRECTIONS.items() if points(vector, direction))


def check_event(clip: OracleClip, event: dict[str, Any]) -> None:
    """That the tracks show what the event says, between its start and its end."""
    kind, start_s, end_s = event["kind"], event["start_s"], event["end_s"]
    camera = [thing for thing in clip.objects if thing["scene"] == _scene(clip, start_s)]
    if kind.startswith("pan_"):
        dx, dy = DIRECTIONS[next(w for w, k in KIND_OF_DIRECTION.items() if k == kind.removeprefix("pan_"))]
        assert all(points(shift(thing, start_s, end_s), (-dx, -dy)) for thing in camera)
        return
    if kind.startswith("zoom_"):
        ratios = [after(thing, end_s)[3] / at(thing, start_s)[3] for thing in camera]
        assert all((ratio > 1.1) == (kind == "zoom_in") and abs(ratio - 1) > 0.1 for ratio in ratios)
        return
    thing = clip.objects[event["object"]]
    other = None if event["other"] is None else clip.objects[event["other"]]
    first, last = at(thing, start_s), after(thing, end_s)
    during = [row for row in thing["track"] if start_s - 1e-6 <= row[0] <= end_s + 1e-6]
    if kind.startswith("move_"):
        words = next(w for w, k in KIND_OF_DIRECTION.items() if k == kind.removeprefix("move_"))
        assert points(shift(thing, start_s, end_s), DIRECTIONS[words])
    elif kind in ("approach", "recede"):
        ratio = last[3] / first[3]
        assert ratio > 1.4 if kind == "approach" else ratio < 0.7
    elif kind.startswith("rotate_"):
        assert abs(last[4] - first[4]) >= 90 and (last[4] > first[4]) == (kind == "rotate_clockwise")
    elif kind == "blink":
        hidden = sum(a[5] > b[5] for a, b in pairwise(during))
        assert hidden == event["times"] and first[5] == last[5] == 1
    elif kind in ("appear", "disappear"):
        assert (first[5], last[5]) == ((0, 1) if kind == "appear" else (1, 0))
    elif kind == "change_colour":
        assert thing["colour"] == event["from"] != event["to"]
    elif kind == "count_change":
        alike = [t for t in clip.objects if (t["shape"], t["colour"]) == (thing["shape"], thing["colour"])]
        assert sum(at(t, start_s)[5] for t in alike) == event["from"]
        assert sum(after(t, end_s)[5] for t in alike) == event["to"] != event["from"]
    elif kind == "swap":
        assert other
        for a, b in ((thing, other), (other, thing)):
            assert math.dist(after(a, end_s)[1:3], at(b, start_s)[1:3]) < 1e-3
    else:
        assert other and kind in ("collide", "follow")
        assert points(shift(thing, start_s, end_s), shift(other, start_s, end_s))
        leads = thing if kind == "collide" else other
        early = [row for row in leads["track"] if row[0] <= start_s + (end_s - start_s) / 3]
        assert math.dist(early[-1][1:3], at(leads, start_s)[1:3]) > 0.01


def _scene(clip: OracleClip, time_s: float) -> int:
    return sum(cut <= time_s + 1e-6 for cut in clip.truth["cuts"])


def answer(clip: OracleClip, question: str) -> Any:
    """What the annotation says to a question of any kind but "cannot_tell": the words, or for lengths and moments the
    number of seconds."""
    for pattern, solve in _SOLVERS.items():
        if match := re.fullmatch(pattern, question):
            return solve(clip, *match.groups())
    raise AssertionError(f"no rule for {question!r}")


def _yes(holds: object) -> str:
    return "Yes" if holds else "No"


def _visible(things: list[dict[str, Any]], row: int) -> str:
    return str(sum(thing["track"][row][5] for thing in things))


def _who(clip: OracleClip, predicate: str) -> dict[str, Any]:
    partner = clip.partner(predicate)
    (event,) = [
        e
        for e in clip.events
        if e["object"] is not None and e["other"] == partner and e["kind"] == clip.action(predicate, e["object"])[0]
    ]
    return clip.objects[event["object"]]


def _motion(clip: OracleClip, noun: str) -> str:
    track = clip.named(noun)["track"]
    return nearest_direction((track[-1][1] - track[0][1], track[-1][2] - track[0][2])).capitalize()


def _turn(clip: OracleClip, noun: str) -> str:
    track = clip.named(noun)["track"]
    return "Clockwise" if track[-1][4] > track[0][4] else "Counterclockwise"


def _pan(clip: OracleClip) -> str:
    (pan,) = [e for e in clip.events if e["kind"].startswith("pan_")]
    scene = _scene(clip, pan["start_s"])
    dx, dy = shift(next(t for t in clip.objects if t["scene"] == scene), pan["start_s"], pan["end_s"])
    return nearest_direction((-dx, -dy)).capitalize()


def _neighbour(clip: OracleClip, clause: str, step: int) -> dict[str, Any]:
    event = clip.event(clause)
    assert event
    ordered = sorted(clip.events, key=lambda e: e["start_s"])
    return ordered[ordered.index(event) + step]


def _moves(clip: OracleClip, noun: str) -> str:
    """How often a thing starts to move."""
    track = clip.named(noun)["track"]
    moving = [math.dist(a[1:3], b[1:3]) > 1e-9 for a, b in pairwise(track)]
    return str(sum(b and not a for a, b in pairwise([False, *moving])))


def _blinks(clip: OracleClip, noun: str) -> str:
    thing = clip.named(noun)
    (blink,) = [e for e in clip.events if e["kind"] == "blink" and e["object"] == thing["id"]]
    rows = [row for row in thing["track"] if blink["start_s"] - 1e-6 <= row[0] <= blink["end_s"] + 1e-6]
    return str(sum(a[5] > b[5] for a, b in pairwise(rows)))


def _of(clip: OracleClip, kind: str, thing: int) -> dict[str, Any]:
    (event,) = [e for e in clip.events if e["kind"] == kind and e["object"] == thing]
    return event


def _recoloured(clip: OracleClip, noun: str) -> str:
    return _yes(len(clip.colours(clip.named(noun))) > 1)


def _growth(clip: OracleClip, noun: str) -> str:
    track = clip.named(noun)["track"]
    return "Larger" if track[-1][3] > track[0][3] else "Smaller"


def _by(clip: OracleClip, one: str, two: str, column: int, sign: int) -> str:
    return max((one, two), key=lambda noun: sign * clip.named(noun)["track"][0][column]).capitalize()


def _length(clip: OracleClip, clause: str) -> float:
    event = clip.event(clause)
    assert event
    return event["end_s"] - event["start_s"]


def _start(clip: OracleClip, clause: str) -> float:
    event = clip.event(clause)
    assert event
    return event["start_s"]


def _earlier(clip: OracleClip, one: str, two: str) -> str:
    return min((one, two), key=lambda clause: _start(clip, clause))


_N = f"({re.sub(r'[(](?![?])', '(?:', NOUN)})"
_SOLVERS: dict[str, Any] = {
    r"Is there an? (\w+) (\w+) in the video\?": lambda clip, c, s: _yes(clip.fitting(s, c)),
    r"Does the video show an? (\w+) (\w+) at any time\?": lambda clip, c, s: _yes(clip.fitting(s, c)),
    r"How many things (?:are visible at the very start of the video|does the first frame show)\?": (
        lambda clip: _visible(clip.objects, 0)
    ),
    r"How many things (?:are visible at the very end of the video|does the last frame show)\?": (
        lambda clip: _visible(clip.objects, -1)
    ),
    r"How many (\w+ \w+) are there at the start\?": lambda clip, words: _visible(clip.several(words), 0),
    r"How many (\w+ \w+) are there at the end\?": lambda clip, words: _visible(clip.several(words), -1),
    r"What colour is the thing that (.+)\?": lambda clip, words: _who(clip, words)["colour"].capitalize(),
    rf"What colour is {_N}\?": lambda clip, noun: clip.named(noun)["colour"].capitalize(),
    rf"Which colour does {_N} have\?": lambda clip, noun: clip.named(noun)["colour"].capitalize(),
    rf"(?:In which direction|Which way) does {_N} move\?": _motion,
    rf"(?:In which direction|Which way round) does {_N} rotate\?": _turn,
    r"In which direction does the camera pan\?": _pan,
    r"What happens right after (.+)\?": lambda clip, clause: _neighbour(clip, clause, 1),
    r"What is the next thing to happen after (.+)\?": lambda clip, clause: _neighbour(clip, clause, 1),
    r"What happens right before (.+)\?": lambda clip, clause: _neighbour(clip, clause, -1),
    r"Which happens first: (.+), or (.+)\?": lambda clip, one, two: clip.event(_earlier(clip, one, two)),
    r"Does (.+) before (.+)\?": lambda clip, one, two: _yes(_earlier(clip, one, two) == one),
    r"What (?:is the first thing that happens|happens first) in the video\?": (
        lambda clip: min(clip.events, key=lambda e: e["start_s"])
    ),
    r"What (?:is the last thing that happens|happens last) in the video\?": (
        lambda clip: max(clip.events, key=lambda e: e["start_s"])
    ),
    r"For how long does (.+)\?": _length,
    r"How many seconds does it take while (.+)\?": _length,
    r"When does (.+) start to (.+)\?": lambda clip, one, two: _start(clip, f"{one} {two}"),
    r"How many times does the video cut to another scene\?": lambda clip: str(len(clip.truth["cuts"])),
    r"How many cuts are there in the video\?": lambda clip: str(len(clip.truth["cuts"])),
    rf"(?:How many times|How often) does {_N} blink\?": _blinks,
    rf"How many times does {_N} move\?": _moves,
    rf"How does the colour of {_N} change\?": (
        lambda clip, noun: "From {from} to {to}".format(**_of(clip, "change_colour", clip.named(noun)["id"]))
    ),
    r"How does the number of (\w+ \w+) change\?": (
        lambda clip, words: "From {from} to {to}".format(**_of(clip, "count_change", clip.several(words)[0]["id"]))
    ),
    rf"Does {_N} look larger or smaller afterwards than it did at first\?": _growth,
    rf"Does {_N} change colour\?": _recoloured,
    rf"Does the colour of {_N} change during the video\?": _recoloured,
    rf"Which is larger at the start: {_N} or {_N}\?": lambda clip, a, b: _by(clip, a, b, 3, 1),
    rf"Which is further to the left at the start: {_N} or {_N}\?": lambda clip, a, b: _by(clip, a, b, 1, -1),
    r"Which lasts longer: (.+), or (.+)\?": (
        lambda clip, one, two: clip.event(max((one, two), key=lambda clause: _length(clip, clause)))
    ),
}
