"""What keeps bad samples out: named steps, each with the reason for what it rejects, in the order of `STEPS`.

schema      the row is no valid sample
origin      a translation whose original was rejected
length      too few or too many words for its kind
language    written in another language than it says
blocked     a word or phrase that does not belong in an answer about a video
times       times outside the clip
leak        the question gives the answer away
unsupported the annotation does not bear the answer
duplicate   the same question and answer about the same part of a video
near        nearly the same
judge       a second language model says no (`data_gen/judge.py`; only where asked for)
"""

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from itertools import pairwise

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  (compiled, without stubs)

from data_gen.clips import Clip
from videollm.data import SLACK_S, Sample, words

STEPS = (
    "schema",
    "origin",
    "length",
    "language",
    "blocked",
    "times",
    "leak",
    "unsupported",
    "duplicate",
    "near",
    "judge",
)

# Fewest and most words of an answer, by family.
LENGTHS = {
    "caption": (2, 600),
    "qa": (1, 200),
    "choice": (1, 60),
    "conversation": (1, 200),
    "locate": (1, 60),
    "summary": (5, 400),
    "creative": (15, 800),
}
QUESTION_WORDS = (2, 200)
LANGUAGE_LETTERS = 24  # shorter text cannot be told by its letters; a Chinese character tells as much as three
LANGUAGE_CERTAINTY = 0.95
SUPPORT = 0.5  # share of an answer's content words that the annotation must have
NEAR = 0.8  # estimated Jaccard similarity of word triples
PERMUTATIONS = 64

_ALTERNATIVES = re.compile(r"\bor\b|\bo\b|\bou\b|\boder\b|还是|或", re.IGNORECASE)
_CLOCK = re.compile(r"\b(?:(\d+):)?(\d{1,2}):(\d{2}(?:\.\d+)?)\b")
_HAN = re.compile(r"[\u3400-\u9fff]")

Step = Callable[[Sample, Clip], str | None]


class Filters:
    """The steps from `length` to `near` for samples one after the other.

    blocked: phrases besides those of `blocked.txt`. Keeps the samples that it has let through in mind, as hashes, to
    find their like; `remember` tells it of those that an earlier run wrote.
    """

    def __init__(self, blocked: Iterable[str] = ()):
        self._contents: set[int] = set()
        self._like: defaultdict[tuple[str, str], list[RMinHash]] = defaultdict(list)
        self._blocked = _phrase_pattern([*default_blocked(), *blocked])
        self._steps: tuple[tuple[str, Step], ...] = (
            ("length", length),
            ("language", language),
            ("blocked", self._blocked_phrase),
            ("times", times),
            ("leak", leak),
        )

    def reject(self, sample: Sample, clip: Clip, *, grounded: bool) -> tuple[str, str] | None:
        """The step that rejects the sample and its reason; None lets it through and remembers it."""
        for name, step in self._steps:
            if reason := step(sample, clip):
                return name, reason
        if not grounded and (reason := unsupported(sample, clip)):
            return "unsupported", reason
        if hash(sample.content) in self._contents:
            return "duplicate", "the video has this question and answer already"
        mine = signature(sample)
        if any(mine.jaccard(other) >= NEAR for other in self._like[sample.video, sample.language]):
            return "near", f"the video has a sample that is alike in {NEAR:.0%} of its word triples or more"
        self._remember(sample, mine)
        return None

    def remember(self, sample: Sample) -> None:
        self._remember(sample, signature(sample))

    def _remember(self, sample: Sample, mine: RMinHash) -> None:
        self._contents.add(hash(sample.content))
        self._like[sample.video, sample.language].append(mine)

    def _blocked_phrase(self, sample: Sample, clip: Clip) -> str | None:
        for message in sample.messages:
            if found := self._blocked.search(message.content):
                return f"has {found[0]!r}"
        return None


def default_blocked() -> list[str]:
    """The phrases of `blocked.txt`: one a line, # starts a comment."""
    return _lines_of("blocked.txt")


def _lines_of(name: str) -> list[str]:
    lines = resources.files("data_gen").joinpath(name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _phrase_pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    """Whole words; a Chinese phrase anywhere, since nothing separates words there."""
    parts = [p if _HAN.search(p) else rf"(?<!\w){p}(?!\w)" for p in (re.escape(phrase.strip()) for phrase in phrases)]
    return re.compile("|".join(parts), re.IGNORECASE)


def length(sample: Sample, clip: Clip) -> str | None:
    fewest, most = LENGTHS[sample.task.partition("/")[0]]
    for question, answer in sample.turns():
        if not QUESTION_WORDS[0] <= (n := len(words(question))) <= QUESTION_WORDS[1]:
            return f"a question of {n} words; {QUESTION_WORDS[0]} to {QUESTION_WORDS[1]} are allowed"
        if not fewest <= (n := len(words(answer))) <= most:
            return f"an answer of {n} words; {fewest} to {most} are allowed"
    return None


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(sample: Sample, clip: Clip) -> str | None:
    """Chinese is known by its characters; others by py3langid, where there is text enough to be certain."""
    text = " ".join(m.content for m in sample.messages if m.role != "system")
    letters, han = sum(map(str.isalpha, text)), len(_HAN.findall(text))
    claimed = sample.language.partition("-")[0]
    if claimed == "zh":
        return "hardly any Chinese characters" if han < letters / 3 else None
    if claimed != "ja" and han > letters / 3:
        return "Chinese characters"
    if letters < LANGUAGE_LETTERS:
        return None
    found, certainty = _identifier().classify(text)
    return f"reads as {found}" if found != claimed and certainty >= LANGUAGE_CERTAINTY else None


def times(sample: Sample, clip: Clip) -> str | None:
    """Times of the answer, and times in its text, against the part of the video that is shown."""
    start = sample.start or 0.0
    ends = [t for t in (sample.end, clip.duration) if t is not None]
    end = min(ends, default=float("inf"))
    for a, b in sample.answer_times:
        if a < start - SLACK_S or b > end + SLACK_S:
            return f"answer_times {[a, b]} outside {start} to {end}"
    for message in sample.messages:
        for hours, minutes, seconds in _CLOCK.findall(message.content):
            said = 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds)
            if not start - 1 <= said <= end + 1:  # text rounds to seconds
                return f"says {said:g} s, outside {start} to {end}"
    return None


def leak(sample: Sample, clip: Clip) -> str | None:
    """An answer that its own question spells out. Not where the question offers alternatives: options of a multiple
    choice, "this or that", or a quotation to be judged, which all hold the answer beside what is false."""
    if not sample.task.startswith("qa/"):
        return None
    for question, answer in sample.turns():
        given = words(answer)
        if len("".join(given)) >= 4 and not _ALTERNATIVES.search(question) and _within(given, words(question)):
            return f"the question has the answer {answer!r}"
    return None


def _within(part: list[str], whole: list[str]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def unsupported(sample: Sample, clip: Clip) -> str | None:
    """Content words of the answer (in Chinese, pairs of characters) that neither the annotation nor the question has.
    Only where the annotation is in the sample's language; creative tasks may add to it."""
    if sample.task.startswith("creative") or sample.language not in clip.languages:
        return None
    known = stems(annotated(clip, sample.language))
    for question, answer in sample.turns():
        if needed := stems(answer):
            missing = needed - known - stems(question)
            if len(missing) > (1 - SUPPORT) * len(needed):
                return f"the annotation has nothing of {', '.join(sorted(missing)[:5])}"
    return None


@functools.lru_cache(maxsize=256)
def annotated(clip: Clip, language: str) -> str:
    """All that the annotation says in one language."""
    questions = [f"{q.question} {q.answer}" for q in clip.questions if q.language == language]
    return " ".join([*(n.text for n in clip.notes if n.language == language), *questions])


def stems(text: str) -> set[str]:
    """Content words without their endings, so that walks is walking; pairs of Chinese characters."""
    if len(_HAN.findall(text)) > len(text) / 3:
        characters = [w for w in words(text) if _HAN.fullmatch(w)]
        return {a + b for a, b in pairwise(characters)}
    return {_stem(word) for word in words(text) if len(word) > 2 and word not in _empty_words()}


@functools.cache
def _empty_words() -> frozenset[str]:
    """Words that say nothing of what is in a video."""
    return frozenset(" ".join(_lines_of("empty_words.txt")).split())


def _stem(word: str) -> str:
    return re.sub(r"(?:ing|ed|es|s|ly|ando|iendo|ados?|adas?|as?|os?)$", "", word) if len(word) > 4 else word


def signature(sample: Sample) -> RMinHash:
    """MinHash of the triples of words in questions and answers."""
    said = [w for m in sample.messages if m.role != "system" for w in ("", *words(m.content), "")]
    made = RMinHash(num_perm=PERMUTATIONS, seed=1)
    made.update([" ".join(triple) for triple in zip(said, said[1:], said[2:], strict=False)])
    return made
