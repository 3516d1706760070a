"""The world in English."""

from typing import ClassVar

from data_gen.world.clip import Background
from data_gen.world.language.base import Language, capital
from data_gen.world.meaning import (
    Change,
    Clause,
    Colour,
    Direction,
    Growth,
    Guess,
    Instant,
    Length,
    Noun,
    Number,
    Unknown,
    Value,
    YesNo,
)

_PLURALS = {
    "cross": "crosses",
    "fish": "fish",
    "butterfly": "butterflies",
    "snowman": "snowmen",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_TIMES = ("never", "once", "twice", "three times", "four times", "five times")
_DIRECTIONS = {
    "left": "to the left",
    "right": "to the right",
    "up": "up",
    "down": "down",
    "up_left": "up and to the left",
    "up_right": "up and to the right",
    "down_left": "down and to the left",
    "down_right": "down and to the right",
    "clockwise": "clockwise",
    "counterclockwise": "counterclockwise",
}
# Kind -> the verb as "it ..." and as "to ...", and what follows it.
_VERBS = {
    **{f"move_{name}": ("moves", "move", words) for name, words in _DIRECTIONS.items()},
    **{f"pan_{name}": ("pans", "pan", _DIRECTIONS[name]) for name in ("left", "right", "up", "down")},
    **{f"rotate_{name}": ("rotates", "rotate", name) for name in ("clockwise", "counterclockwise")},
    "approach": ("comes", "come", "closer"),
    "recede": ("goes", "go", "further away"),
    "blink": ("blinks", "blink", "{times}"),
    "change_colour": ("turns", "turn", "{colour}"),
    "appear": ("appears", "appear", ""),
    "disappear": ("disappears", "disappear", ""),
    "collide": ("bumps", "bump", "into {other}"),
    "follow": ("follows", "follow", "{other}"),
    "swap": ("swaps", "swap", "places with {other}"),
    "count_change": ("goes", "go", "{counts}"),
    "zoom_in": ("zooms", "zoom", "in"),
    "zoom_out": ("zooms", "zoom", "out"),
}
_GROUNDS = {
    "plain": "a {} plain background",
    "gradient": "a {} gradient background",
    "noise": "a {} cloudy background",
    "photo": "a {} photographic background",
}
_GUESSES = {
    "sound.whistle": "a whistle",
    "sound.drum": "a drum beat",
    "sound.silence": "no sound at all",
    "weight.gram": "one gram",
    "weight.kilogram": "one kilogram",
    "weight.ton": "one ton",
    "smell.roses": "of roses",
    "smell.smoke": "of smoke",
    "smell.coffee": "of coffee",
    "after.grows": "everything grows",
    "after.leaves": "everything leaves",
    "after.nothing": "nothing more happens",
    "why.bored": "out of boredom",
    "why.pushed": "because somebody wants it to",
    "why.hurry": "to save time",
    "maker.child": "a child",
    "maker.painter": "a painter",
    "maker.robot": "a robot",
}


class English(Language):
    code = "en"
    wordings: ClassVar[dict[str, tuple[str, ...]]] = {
        "existence.is_there": ("Is there {thing} in the video?", "Does the video show {thing} at any time?"),
        "count.start": (
            "How many things are visible at the very start of the video?",
            "How many things does the first frame show?",
        ),
        "count.end": (
            "How many things are visible at the very end of the video?",
            "How many things does the last frame show?",
        ),
        "count.group_start": ("How many {things:bare} are there at the start?",),
        "count.group_end": ("How many {things:bare} are there at the end?",),
        "colour.of": ("What colour is {thing}?", "Which colour does {thing} have?"),
        "colour.actor": ("What colour is the thing that {event:predicate}?",),
        "direction.move": ("In which direction does {thing} move?", "Which way does {thing} move?"),
        "direction.turn": ("In which direction does {thing} rotate?", "Which way round does {thing} rotate?"),
        "direction.camera": ("In which direction does the camera pan?",),
        "order.after": ("What happens right after {event}?", "What is the next thing to happen after {event}?"),
        "order.before": ("What happens right before {event}?",),
        "order.which": ("Which happens first: {event}, or {other}?",),
        "order.is_before": ("Does {event:base} before {other}?",),
        "first_last.first": ("What is the first thing that happens in the video?", "What happens first in the video?"),
        "first_last.last": ("What is the last thing that happens in the video?", "What happens last in the video?"),
        "duration.event": ("For how long does {event:base}?", "How many seconds does it take while {event}?"),
        "when.starts": ("When does {event:subject} start to {event:infinitive}?",),
        "how_many_times.cuts": (
            "How many times does the video cut to another scene?",
            "How many cuts are there in the video?",
        ),
        "how_many_times.blink": ("How many times does {thing} blink?", "How often does {thing} blink?"),
        "how_many_times.move": ("How many times does {thing} move?",),
        "change.colour": ("How does the colour of {thing} change?",),
        "change.count": ("How does the number of {things:bare} change?",),
        "change.size": ("Does {thing} look larger or smaller afterwards than it did at first?",),
        "change.is_recoloured": ("Does {thing} change colour?", "Does the colour of {thing} change during the video?"),
        "comparison.larger": ("Which is larger at the start: {thing} or {other}?",),
        "comparison.further_left": ("Which is further to the left at the start: {thing} or {other}?",),
        "comparison.lasts_longer": ("Which lasts longer: {event}, or {other}?",),
        "cannot_tell.sound": ("What sound does {thing} make?",),
        "cannot_tell.weight": ("How heavy is {thing}?", "How much does {thing} weigh?"),
        "cannot_tell.smell": ("What does {thing} smell of?",),
        "cannot_tell.after": ("What happens after the video has ended?",),
        "cannot_tell.why": ("Why does {event:base}?",),
        "cannot_tell.maker": ("Who made {thing}?", "Who drew {thing}?"),
    }

    def say(self, value: Value, form: str = "") -> str:
        match value:
            case Noun():
                return _noun(value, bare=form == "bare")
            case Clause():
                return self._clause(value, form)
            case Colour(name):
                return name
            case Direction(name):
                return _DIRECTIONS[name]
            case Number(number):
                return str(number)
            case Length(seconds):
                return f"{seconds:.1f} seconds"
            case Instant(seconds):
                return f"at {seconds:.1f} seconds"
            case YesNo(yes):
                return "yes" if yes else "no"
            case Change(before, after):
                return f"from {self.say(before)} to {self.say(after)}"
            case Growth(larger):
                return "larger" if larger else "smaller"
            case Unknown():
                return "it cannot be told from the video"
            case Guess(name):
                return _GUESSES[name]

    def _clause(self, clause: Clause, form: str) -> str:
        """form: "" with its subject, "base" the same after "does", "subject" alone, "predicate" or "infinitive" without
        the subject."""
        finite, infinitive, rest = _VERBS[clause.kind]
        before, after = clause.counts or (0, 0)
        rest = rest.format(
            times=_TIMES[clause.times] if clause.times else "",
            colour=clause.colour,
            other=_noun(clause.other) if clause.other else "",
            counts=f"{'up' if after > before else 'down'} from {before} to {after}",
        )
        if clause.subject is None:
            subject = "the camera"
        elif clause.counts:
            subject = f"the number of {_noun(clause.subject, bare=True)}"
        else:
            subject = _noun(clause.subject)
        parts = {
            "": (subject, finite, rest),
            "base": (subject, infinitive, rest),
            "subject": (subject,),
            "predicate": (finite, rest),
            "infinitive": (infinitive, rest),
        }[form]
        return " ".join(part for part in parts if part)

    def narrate(self, clauses: list[str]) -> str:
        *firsts, last = clauses
        if len(firsts) < 2:
            return ", then ".join(clauses)
        return f"{', then '.join(firsts)}, and finally {last}"

    def set_scene(self, background: Background, things: list[str], *, is_first: bool, many: bool) -> str:
        ground = _GROUNDS[background.kind].format(_light(background))
        opening = "on" if is_first else "after a cut, on"
        return f"{opening} {ground} there {'are' if many else 'is'} {_listed(things)}"

    def step(self, clause: str, *, is_first: bool, is_last: bool) -> str:
        return f"{'first' if is_first else 'finally' if is_last else 'then'}, {clause}"

    def sentence(self, text: str) -> str:
        return capital(text) + "."

    def answer(self, text: str) -> str:
        return capital(text)


def _noun(noun: Noun, *, bare: bool = False) -> str:
    """The noun with its article or number, or without if bare."""
    name = noun.shape if noun.count == 1 else _PLURALS.get(noun.shape, f"{noun.shape}s")
    words = " ".join(word for word in (noun.size, noun.texture, noun.colour, name) if word)
    if bare:
        return words
    if not noun.new:
        return f"the {words}"
    if noun.count > 1:
        return f"{_NUMBERS[noun.count]} {words}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _light(background: Background) -> str:
    return {45: "dark", 130: "medium grey", 215: "light"}[background.level]


def _listed(things: list[str]) -> str:
    if len(things) < 2:
        return things[0] if things else "nothing"
    return f"{', '.join(things[:-1])} and {things[-1]}"
