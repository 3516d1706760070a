"""Questions with answers about a simulated story, from templates.

An answer says only what the encoder's evidence supports: of each scene, the most prominent tag that is true. Where no
tag is true the answer is `CANNOT_TELL`. A tag that is false of its scene never becomes an answer.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_gen.simulation.story import Story
from videollm.encoders.base import Vocabulary
from videollm.features.encode import format_time
from videollm.models.nouns import noun

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
        self.once = [s for s in self.seen if sum(taxonomy.compatible(s.name, o.name) for o in self.seen) == 1]

    def ask(self, count: int, kinds: Sequence[str] | None = None) -> list[StoryQuestion]:
        """`count` questions of different kinds, fewer where the story does not have them."""
        kinds = list(kinds or KINDS)
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
        question = self._pick(WHAT)
        return question, f"{capitalise(listing(self.names))}." if self.names else CANNOT_TELL

    def describe(self) -> tuple[str, str] | None:
        question = self._pick(DESCRIBE)
        return question, f"The video shows {listing(self.names)}." if self.names else CANNOT_TELL

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
        if not self.names:
            return None
        name = self.rng.choice(self.names)
        word = self.rng.choice(self.taxonomy.of_word(name)) if self.rng.random() < 0.3 else name
        return self._pick(PRESENT, x=noun(word)), "Yes."

    def absent(self) -> tuple[str, str] | None:
        """Ask for something absent: "No." where every shot is recognised, else it cannot be told."""
        word = self._kin() if self.rng.random() < 0.5 else self._any()
        if word is None:
            return None
        true = {w for scene in self.story.scenes for c in scene.classes for w in self.taxonomy.of_class(c)}
        tags = {t.word for s in self.story.segments for t in s.tags}
        if word in true or any(word in self.taxonomy.of_word(tag) for tag in tags):
            return None
        finer = not tags.isdisjoint(self.taxonomy.of_word(word))  # "a dog" was seen, "a poodle" is asked for
        sure = not finer and all(s.name is not None for s in self.shots)
        return self._pick(PRESENT, x=noun(word)), "No." if sure else CANNOT_TELL

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
        """Ask about what this encoder never sees: people, actions, speech, writing, colours, reasons."""
        x = self.rng.choice(self.names) if self.names else "video"
        return self._pick(UNSEEN, x=x), CANNOT_TELL


KINDS: dict[str, Callable[[Questioner], tuple[str, str] | None]] = {
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

WHAT = (
    "What is in this video?",
    "What is in the video?",
    "What does the video show?",
    "What can you see?",
    "What do you see in this clip?",
    "What is this video about?",
    "What appears in the video?",
    "Which things appear in this video?",
    "What is shown here?",
    "What is the main subject?",
    "What object is visible?",
    "Name what you see.",
    "List the things in the video in order.",
    "Tell me what is in the clip.",
    "what's in this",
    "What is it?",
    "What kind of thing is this?",
    "What are we looking at?",
)
DESCRIBE = (
    "Describe the video.",
    "Describe this video.",
    "Describe the video briefly.",
    "Write a caption for this video.",
    "Caption this clip.",
    "Summarize the video.",
    "What happens in this video?",
    "What is going on in the video?",
    "What is happening?",
    "Give a short description.",
    "Tell me about this video.",
    "Can you describe the clip in one sentence?",
)
DENSE = (
    "Describe the video with times.",
    "What is shown at each time?",
    "Give a timeline of the video.",
    "List what is shown and when.",
    "Caption each part of the video with its times.",
    "Describe each part with start and end times.",
)
FIRST = (
    "What appears first?",
    "What comes first?",
    "What is shown at the beginning?",
    "What does the video start with?",
    "How does the video begin?",
    "What is the first thing shown?",
    "Which thing is seen first?",
)
LAST = (
    "What appears last?",
    "What comes last?",
    "What is shown at the end?",
    "What does the video end with?",
    "How does the video end?",
    "What is the last thing shown?",
    "Which thing is seen last?",
)
AFTER = (
    "What comes after the {x}?",
    "What appears after the {x}?",
    "What is shown after the {x}?",
    "What follows the {x}?",
    "After the {x}, what is shown next?",
)
BEFORE = (
    "What comes before the {x}?",
    "What appears before the {x}?",
    "What is shown before the {x}?",
    "What precedes the {x}?",
    "Before the {x}, what is shown?",
)
COUNT = (
    "How many different things are shown?",
    "How many different things appear?",
    "How many things can you see in the video?",
    "Count the different things in the video.",
    "How many different subjects are there?",
)
CHANGE = (
    "Does the scene change?",
    "Does the video change what it shows?",
    "Does the subject change?",
    "Is there a change in the video?",
    "What changes in the video?",
)
PRESENT = (
    "Is there {x} in the video?",
    "Is there {x}?",
    "Does the video show {x}?",
    "Can you see {x}?",
    "Do you see {x} in this clip?",
    "Does {x} appear?",
    "Is {x} visible?",
)
WHEN = (
    "When does the {x} appear?",
    "When is the {x} shown?",
    "At what time can the {x} be seen?",
    "From when to when is the {x} visible?",
    "Where in the video is the {x}?",
)
AT = (
    "What is shown at {t}?",
    "What can be seen at {t}?",
    "What is in the video at {t}?",
    "What appears at {t}?",
)
LENGTH = (
    "How long is the video?",
    "What is the length of the video?",
    "How long does this clip last?",
    "What is the duration?",
)
UNSEEN = (
    "What is the person saying?",
    "What is the man doing?",
    "What is the woman wearing?",
    "Who is in the video?",
    "How many people are there?",
    "Is anyone smiling?",
    "What color is the {x}?",
    "What is written on the sign?",
    "What does the text say?",
    "Why is the {x} there?",
    "How does the person feel?",
    "What is the name of the place?",
    "In which country was this filmed?",
    "What will happen next?",
    "What music is playing?",
    "What is the {x} doing?",
    "How big is the {x}?",
    "Is the man happy?",
    "What is the child holding?",
    "What time of day is it?",
    "Which direction does the {x} move?",
    "How much does the {x} cost?",
    "Who made this video?",
    "What is the relationship between the people?",
    "Is the person running or walking?",
    "What brand is it?",
    "How old is the person?",
    "What did they talk about?",
    "Is the {x} to the left or to the right?",
    "What is behind the {x}?",
)
