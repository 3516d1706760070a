"""Questions with answers about a simulated story, from templates.

An answer says only what the encoder's evidence supports: of each scene, the most prominent tag that is true. Where no
tag is true the answer is `CANNOT_TELL`. A tag that is false of its scene never becomes an answer.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from data_gen.simulation.sense_questions import SENSE_KINDS
from data_gen.simulation.story import Story
from data_gen.simulation.templates import (
    AFTER,
    AT,
    BEFORE,
    CHANGE,
    COUNT,
    DENSE,
    DESCRIBE,
    FIRST,
    LAST,
    LENGTH,
    PRESENT,
    UNSEEN,
    WHAT,
    WHEN,
)
from videollm.encoders.base import Vocabulary
from videollm.features.encode import format_time
from videollm.models.notes import object_counts, seen_sentence
from videollm.models.nouns import noun

SENSES_ASKED = 4  # kinds of questions about senses, of each story
CANNOT_TELL = "I cannot tell from this video."
NUMBERS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight")


@dataclass(frozen=True, slots=True)
class StoryQuestion:
    kind: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Shot:
    """A part of the video with one recognised thing, or none (name None); times as the prompt shows them."""

    name: str | None
    start_s: float
    end_s: float


class Taxonomy:
    """The hypernyms of classes and words. Classes are the first concepts of the vocabulary."""

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self.index = {word: i for i, word in enumerate(vocabulary.words)}

    def of_class(self, node: int) -> list[str]:
        """Most specific first."""
        words = []
        while node >= 0:
            words.append(self.vocabulary.words[node])
            node = self.vocabulary.parents[node]
        return words

    def of_word(self, word: str) -> list[str]:
        return self.of_class(self.index[word])

    def compatible(self, a: str | None, b: str | None) -> bool:
        """Whether both may name one thing: equal, or one above the other."""
        return a == b or (a is not None and b is not None and (a in self.of_word(b) or b in self.of_word(a)))

    def finer(self, a: str | None, b: str | None) -> str | None:
        """The more specific of two compatible names."""
        return a if a is None or (b is not None and b in self.of_word(a)) else b

    def distinct(self, names: Sequence[str]) -> list[str]:
        """Each thing once, by its most specific name, in order of appearance."""
        kept: list[str] = []
        for name in names:
            at = next((i for i, k in enumerate(kept) if self.compatible(k, name)), None)
            if at is None:
                kept.append(name)
            else:
                kept[at] = self.finer(kept[at], name) or name
        return kept


def shots(story: Story, taxonomy: Taxonomy) -> list[Shot]:
    """What can be said of the story: one shot a scene, named by the strongest true tag of its segments.

    Compatible tags make the name as specific as they allow. Neighbouring shots that may show the same thing, such as
    "a llama" and "a mammal", become one.
    """
    made: list[Shot] = []
    for i, scene in enumerate(story.scenes):
        true = {word for c in scene.classes for word in taxonomy.of_class(c)}
        segments = [s for s, k in zip(story.segments, story.scene_of, strict=True) if k == i]
        tags = [t for s in segments for t in s.tags]
        # Sorted, because the order of a set of words differs between processes, and the finest name depends on it.
        weight = {word: sum(t.prob for t in tags if t.word == word) for word in sorted(true & {t.word for t in tags})}
        name = max(weight, key=lambda word: (weight[word], word), default=None)
        for word in weight:
            if taxonomy.compatible(name, word):
                name = taxonomy.finer(name, word)
        if name is None and tags and scene.classes:
            name = taxonomy.of_class(scene.classes[0])[0]  # the evidence misleads: the truth stays the truth
        shot = Shot(name, segments[0].start_s, segments[-1].end_s)
        if made and taxonomy.compatible(made[-1].name, name):
            before = made.pop()
            shot = Shot(taxonomy.finer(before.name, name), before.start_s, shot.end_s)
        made.append(shot)
    return made


def capitalise(text: str) -> str:
    return text[0].upper() + text[1:]


def listing(names: Sequence[str]) -> str:
    return ", then ".join(noun(n) for n in names)


class Questioner:
    """Asks about one story. Each method of `KINDS` gives a question with its answer, or None."""

    def __init__(self, story: Story, taxonomy: Taxonomy, rng: random.Random):
        self.story, self.taxonomy, self.rng = story, taxonomy, rng
        self.classes = len(set(range(len(taxonomy.vocabulary.words))) - set(taxonomy.vocabulary.parents))
        self.shots = shots(story, taxonomy)
        self.seen = [s for s in self.shots if s.name is not None]
        self.names = taxonomy.distinct([s.name for s in self.seen if s.name is not None])
        self.counts = object_counts(story.findings)
        self.once = [s for s in self.seen if sum(taxonomy.compatible(s.name, o.name) for o in self.seen) == 1]

    def ask(self, count: int, kinds: Sequence[str] | None = None) -> list[StoryQuestion]:
        """`count` questions of different kinds, fewer where the story does not have them.

        kinds: all but a few of those about senses if nothing else is said.
        """
        if kinds is None:
            asked = SENSES_ASKED if self.story.findings.senses else 1
            kinds = [*VIDEO_KINDS, *self.rng.sample(list(SENSE_KINDS), asked)]
        kinds = list(kinds)
        self.rng.shuffle(kinds)
        made: list[StoryQuestion] = []
        for kind in kinds:
            qa = KINDS[kind](self)
            if qa is not None and qa[0] not in [m.question for m in made]:
                made.append(StoryQuestion(kind, *qa))
            if len(made) == count:
                break
        return made

    def _pick(self, templates: Sequence[str], **values: str) -> str:
        return self.rng.choice(templates).format(**values)

    def what(self) -> tuple[str, str] | None:
        return self._pick(WHAT), self._seen(f"{capitalise(listing(self.names))}." if self.names else "")

    def describe(self) -> tuple[str, str] | None:
        return self._pick(DESCRIBE), self._seen(f"The video shows {listing(self.names)}." if self.names else "")

    def _seen(self, names: str) -> str:
        """The sentence that names what the tags support, and one about what the detector counted beside it."""
        counts = {name: count for name, count in self.counts.items() if name not in self.names}
        return " ".join(filter(None, (names, seen_sentence((), counts)))) or CANNOT_TELL

    def dense(self) -> tuple[str, str] | None:
        if len(self.shots) > 4:
            return None
        lines = [
            f"{format_time(s.start_s)}-{format_time(s.end_s)} {noun(s.name) if s.name else 'unclear'}"
            for s in self.shots
        ]
        return self._pick(DENSE), "; ".join(lines) + "."

    def first(self) -> tuple[str, str] | None:
        return self._edge(FIRST, 0)

    def last(self) -> tuple[str, str] | None:
        return self._edge(LAST, -1)

    def _edge(self, templates: Sequence[str], at: int) -> tuple[str, str]:
        name = self.shots[at].name
        return self._pick(templates), f"{capitalise(noun(name))}." if name else CANNOT_TELL

    def after(self) -> tuple[str, str] | None:
        return self._beside(AFTER, 1)

    def before(self) -> tuple[str, str] | None:
        return self._beside(BEFORE, -1)

    def _beside(self, templates: Sequence[str], step: int) -> tuple[str, str] | None:
        if len(self.shots) < 2 or not self.once:
            return None
        shot = self.rng.choice(self.once)
        at = self.shots.index(shot) + step
        question = self._pick(templates, x=shot.name or "")
        if not 0 <= at < len(self.shots):
            return question, "Nothing."
        name = self.shots[at].name
        return question, f"{capitalise(noun(name))}." if name else CANNOT_TELL

    def count(self) -> tuple[str, str] | None:
        if any(s.name is None for s in self.shots):
            return (self._pick(COUNT), CANNOT_TELL) if not self.names else None
        return self._pick(COUNT), f"{NUMBERS[len(self.names)]}."

    def change(self) -> tuple[str, str] | None:
        question = self._pick(CHANGE)
        if not self.names:
            return question, CANNOT_TELL
        if len(self.shots) == 1:
            return question, f"No, it shows {noun(self.names[0])} throughout."
        first, last = self.seen[0].name or "", self.seen[-1].name or ""
        if self.taxonomy.compatible(first, last):
            return None
        return question, f"Yes, from {noun(first)} to {noun(last)}."

    def present(self) -> tuple[str, str] | None:
        things = [*self.names, *self.counts]
        if not things:
            return None
        word = self.rng.choice(things)
        if word in self.names and self.rng.random() < 0.3:
            word = self.rng.choice(self.taxonomy.of_word(word))
        return self._pick(PRESENT, x=noun(word)), "Yes."

    def absent(self) -> tuple[str, str] | None:
        """Ask for something absent: "No." where every shot is recognised, else it cannot be told."""
        word = self._kin() if self.rng.random() < 0.5 else self._any()
        if word is None:
            return None
        true = {w for scene in self.story.scenes for c in scene.classes for w in self.taxonomy.of_class(c)}
        tags = {t.word for s in self.story.segments for t in s.tags}
        if word in true or any(word in self.taxonomy.of_word(tag) for tag in tags) or self._counted(word):
            return None
        finer = not tags.isdisjoint(self.taxonomy.of_word(word))  # "a dog" was seen, "a poodle" is asked for
        sure = not finer and all(s.name is not None for s in self.shots)
        return self._pick(PRESENT, x=noun(word)), "No." if sure else CANNOT_TELL

    def _counted(self, word: str) -> bool:
        """Whether the detector found what the word may name: "vehicle", where it found a car."""
        return any(
            word == name or (name in self.taxonomy.index and self.taxonomy.compatible(word, name))
            for name in self.counts
        )

    def _any(self) -> str:
        """A word as general as those that `present` asks about: otherwise a general word would give the answer away."""
        lineage = self.taxonomy.of_class(self.rng.randrange(self.classes))
        return self.rng.choice(lineage) if self.rng.random() < 0.6 else lineage[0]

    def _kin(self) -> str | None:
        """A word that shares a hypernym with something seen: a dog, where a llama is."""
        if not self.names:
            return None
        above = self.rng.choice(self.taxonomy.of_word(self.rng.choice(self.names)))
        lineages = [self.taxonomy.of_class(c) for c in range(self.classes)]
        below = [lineage[: lineage.index(above)] for lineage in lineages if above in lineage[1:]]
        return self.rng.choice(self.rng.choice(below)) if below else None

    def when(self) -> tuple[str, str] | None:
        if not self.once:
            return None
        shot = self.rng.choice(self.once)
        answer = f"From {format_time(shot.start_s)} to {format_time(shot.end_s)}."
        return self._pick(WHEN, x=shot.name or ""), answer

    def at(self) -> tuple[str, str] | None:
        shot = self.rng.choice(self.shots)
        low, high = int(shot.start_s) + 1, int(shot.end_s)
        if low >= high:
            return None
        question = self._pick(AT, t=format_time(self.rng.randrange(low, high)))
        return question, f"{capitalise(noun(shot.name))}." if shot.name else CANNOT_TELL

    def length(self) -> tuple[str, str] | None:
        return self._pick(LENGTH), f"{format_time(self.story.segments[-1].end_s)}."

    def unseen(self) -> tuple[str, str] | None:
        """Ask about what neither this encoder nor a sense knows: actions, colours, places, reasons."""
        x = self.rng.choice(self.names) if self.names else "video"
        return self._pick(UNSEEN, x=x), CANNOT_TELL


def _about_senses(
    ask: Callable[[Story, random.Random], tuple[str, str] | None], questioner: Questioner
) -> tuple[str, str] | None:
    return ask(questioner.story, questioner.rng)


VIDEO_KINDS: dict[str, Callable[[Questioner], tuple[str, str] | None]] = {
    "what": Questioner.what,
    "describe": Questioner.describe,
    "dense": Questioner.dense,
    "first": Questioner.first,
    "last": Questioner.last,
    "after": Questioner.after,
    "before": Questioner.before,
    "count": Questioner.count,
    "change": Questioner.change,
    "present": Questioner.present,
    "absent": Questioner.absent,
    "when": Questioner.when,
    "at": Questioner.at,
    "length": Questioner.length,
    "unseen": Questioner.unseen,
}
KINDS = VIDEO_KINDS | {kind: partial(_about_senses, ask) for kind, ask in SENSE_KINDS.items()}
