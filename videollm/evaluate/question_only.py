"""Predictions of a guesser that reads the questions and never sees a video: the control `question_only`.

The guesser gives the same answer wherever a question of the same template is asked: the answer that is right most
often there. It knows the right answers of the whole data, so that its score is the most that this way of guessing
can reach. A model that does not score above it need not have seen anything, even if it scores above chance.

The templates of a question are, from the most special to the most general, all of its words, its first four, its first
two, its kind, and none. The most special one that is asked about at least `SUPPORT` videos counts.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from math import log
from statistics import median

from videollm.datasets.item import Item, Prediction
from videollm.datasets.schema import words
from videollm.evaluate.metrics.answers import normalised

QUESTION_ONLY = "question_only"
SUPPORT = 10  # videos; fewer would give away their own answers
Template = tuple[str, ...]


def question_only(task: str, asked: Sequence[Item], known: Sequence[Item]) -> list[Prediction] | None:
    """Returns the guess for each item in `asked`, or None if the task has no questions that can be guessed at.

    known: All items of the data, whose right answers the guesser knows.
    """
    return _GUESSERS[task](asked, known) if task in _GUESSERS else None


def templates(item: Item) -> list[Template]:
    """Returns the templates of the question of an item, from the most special to the most general."""
    group, asked = (item.slices.get("kind", ""), item.slices.get("language", "")), words(item.question)
    return [*((*group, *asked[:count]) for count in (len(asked), 4, 2, 0)), ()]


def _answers(asked: Sequence[Item], known: Sequence[Item]) -> list[Prediction]:
    """Returns the commonest answer of each question's template, or, where that is right more often, the first of the
    things that the question names ("Which is larger, the star or the circle?")."""
    videos: defaultdict[Template, set[object]] = defaultdict(set)
    right: defaultdict[Template, Counter[str]] = defaultdict(Counter)
    named: defaultdict[Template, float] = defaultdict(float)  # how often a thing that is named at random is right
    for item in known:
        for template in templates(item):
            videos[template].add(item.video)
            right[template].update(dict.fromkeys(item.references, 1))
            things = _named(item)
            named[template] += sum(thing in item.references for thing in things) / max(1, len(things))
    guesses = []
    for item in asked:
        template = next((t for t in templates(item) if len(videos[t]) >= SUPPORT), ())
        [(commonest, count)] = right[template].most_common(1)
        things = _named(item)
        guesses.append(things[0] if things and named[template] > count else commonest)
    return [{"answer": guess} for guess in guesses]


def _named(item: Item) -> list[str]:
    """Returns the options that the question names, in its order."""
    asked = f" {' '.join(normalised(item.question))} "
    places = {choice: asked.find(f" {' '.join(normalised(choice))} ") for choice in item.choices}
    return sorted((choice for choice, place in places.items() if place >= 0), key=lambda choice: places[choice])


def _choices(asked: Sequence[Item], known: Sequence[Item]) -> list[Prediction]:
    """Returns the option whose traits are most often those of the right one, as a naive Bayes classifier finds it."""
    videos: defaultdict[Template, set[object]] = defaultdict(set)
    right: defaultdict[Template, float] = defaultdict(float)
    expected: defaultdict[Template, float] = defaultdict(float)  # how often it would be right by chance
    for item in known:
        for number, choice in enumerate(item.choices):
            for trait in chain.from_iterable(_traits(item, number)):
                videos[trait].add(item.video)
                right[trait] += choice == item.references[0]
                expected[trait] += 1 / len(item.choices)

    def likelihood(item: Item, number: int) -> float:
        found = [next((t for t in ways if len(videos[t]) >= SUPPORT), None) for ways in _traits(item, number)]
        return sum(log((right[t] + 0.5) / (expected[t] + 0.5)) for t in found if t is not None)

    guesses = [max(range(len(item.choices)), key=partial(likelihood, item)) for item in asked]
    return [{"choice": guess, "cloze": guess} for guess in guesses]


def _traits(item: Item, number: int) -> list[list[Template]]:
    """Returns what a guesser can know of an option: its text, where the question names it, its place and whether it is
    the longest. Each is given with every template of the question, from the most special to the most general."""
    texts, named = [" ".join(normalised(choice)) for choice in item.choices], _named(item)
    where = named.index(item.choices[number]) + 1 if item.choices[number] in named else "not"
    longest = len(texts[number]) == max(map(len, texts))
    traits = (f"text {texts[number]}", f"named {where} of {len(named)}", f"place {number}", f"longest {longest}")
    return [[(*template, trait) for template in templates(item)[1:]] for trait in traits]


def _spans(asked: Sequence[Item], known: Sequence[Item]) -> list[Prediction]:
    """Returns the median of all right starts and ends, whatever the query."""
    starts, ends = zip(*(span for item in known for span in item.spans), strict=True)
    return [{"spans": [[median(starts), median(ends), 1.0]]} for _ in asked]


_GUESSERS: dict[str, Callable[[Sequence[Item], Sequence[Item]], list[Prediction]]] = {
    "grounding": _spans,
    "live": _choices,
    "mcqa": _choices,
    "openqa": _answers,
}
