"""Filters that reject bad samples with a reason, in the order of `STEPS`.

schema      the row is not a valid sample
origin      a translation whose original was rejected
length      too few or too many words for its kind
language    written in another language than it says
blocked     a word or phrase that does not belong in a sample about a video
times       times lie outside the clip
leak        the question gives the answer away
unsupported the annotation does not support the answer
duplicate   the same question and answer about the same part of a video
near        nearly the same words about the same part of a video
judge       a second language model rejects it (`generators/llm.py`; only with --judge)
doubtful    models are not sure of it, so a person decides (`generators/auto.py`)
"""

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from itertools import chain, pairwise

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  (compiled, without stubs)

from data_gen.generators.base import DOUBTFUL, without_transcript
from videollm.datasets.clip import Clip
from videollm.datasets.schema import SLACK_S, Sample, words

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
    DOUBTFUL,
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
LANGUAGE_LETTERS = 24  # the language of a shorter text cannot be recognised
LANGUAGE_CHANCE = 0.01  # a stated language that is less likely than this is wrong
SUPPORT = 0.5  # share of an answer's content words that must occur in the annotation
NEAR = 0.8  # estimated Jaccard similarity of word triples
PERMUTATIONS = 64  # of MinHash; more estimate the similarity better and cost more

_ALTERNATIVES = re.compile(r"\bor\b|\bo\b|\bou\b|\boder\b|还是|或|和.*哪", re.IGNORECASE)
_CLOCK = re.compile(r"\b(?:(\d+):)?(\d{1,2}):(\d{2}(?:\.\d+)?)\b")
_HAN = re.compile(r"[\u3400-\u9fff]")


class Filters:
    """The steps from `length` to `near`, for one sample after the other.

    Samples that pass are remembered as hashes, so that later ones can be compared with them. `remember` adds the
    samples that an earlier run wrote.

    Args:
        blocked: Phrases in addition to those of `blocked.txt`.
    """

    def __init__(self, blocked: Iterable[str] = ()):
        self._contents: set[int] = set()
        self._like: defaultdict[tuple[object, ...], list[RMinHash]] = defaultdict(list)
        self._blocked = [(phrase.lower(), _phrase_pattern(phrase)) for phrase in [*default_blocked(), *blocked]]
        self._annotated: tuple[Clip | None, dict[str, str | None]] = (None, {})

    def reject(self, sample: Sample, clip: Clip, *, grounded: bool) -> tuple[str, str] | None:
        """Returns the step that rejects the sample and the reason, or None if all steps pass. The sample is then
        remembered.

        If `grounded`, the text is that of the annotation. It then needs no support, and its language is recognised from
        the whole annotation, which is longer than one sample.
        """
        steps: tuple[tuple[str, Callable[[], str | None]], ...] = (
            ("length", lambda: length(sample)),
            ("language", lambda: self._annotation_language(clip, sample.language) if grounded else language(sample)),
            ("blocked", lambda: self._blocked_phrase(sample)),
            ("times", lambda: times(sample, clip)),
            ("leak", lambda: leak(sample)),
            ("unsupported", lambda: None if grounded else unsupported(sample, clip)),
            ("duplicate", lambda: self._duplicate(sample)),
        )
        for name, step in steps:
            if reason := step():
                return name, reason
        mine = signature(sample)
        if any(mine.jaccard(other) >= NEAR for other in self._like[_part(sample)]):
            return "near", f"another sample about this part has at least {NEAR:.0%} of its word triples"
        self._remember(sample, mine)
        return None

    def remember(self, sample: Sample) -> None:
        """Adds a sample that an earlier run wrote."""
        self._remember(sample, signature(sample))

    def _remember(self, sample: Sample, mine: RMinHash) -> None:
        self._contents.add(hash(sample.content))
        self._like[_part(sample)].append(mine)

    def _duplicate(self, sample: Sample) -> str | None:
        return "the video has this question and answer already" if hash(sample.content) in self._contents else None

    def _blocked_phrase(self, sample: Sample) -> str | None:
        text = "\n".join(message.content for message in sample.messages).lower().replace("’", "'")
        found = (phrase for phrase, pattern in self._blocked if phrase in text and pattern.search(text))
        return next((f"has {phrase!r}" for phrase in found), None)

    def _annotation_language(self, clip: Clip, claimed: str) -> str | None:
        """Returns what is wrong with the language of an annotation, or None. It is computed once per clip."""
        if self._annotated[0] is not clip:
            self._annotated = (clip, {})
        known = self._annotated[1]
        if claimed not in known:
            known[claimed] = wrong_language(annotated(clip, claimed), claimed)
        return known[claimed]


def _part(sample: Sample) -> tuple[object, ...]:
    return sample.video, sample.start, sample.end, sample.language


def default_blocked() -> list[str]:
    """Returns the phrases of `blocked.txt`, which has one per line. Comments start with #."""
    return _lines_of("blocked.txt")


def _lines_of(name: str) -> list[str]:
    lines = resources.files("data_gen").joinpath(name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _phrase_pattern(phrase: str) -> re.Pattern[str]:
    """Returns a pattern of whole words of lower-case text. A Chinese phrase matches anywhere, because Chinese does
    not separate words."""
    part = re.escape(phrase.strip().lower())
    return re.compile(part if _HAN.search(phrase) else rf"(?<!\w){part}(?!\w)")


def length(sample: Sample) -> str | None:
    """Rejects questions and answers with too few or too many words."""
    fewest, most = LENGTHS[sample.task.partition("/")[0]]
    for question, answer in _turns(sample):
        if not QUESTION_WORDS[0] <= (n := len(words(question))) <= QUESTION_WORDS[1]:
            return f"a question of {n} words; {QUESTION_WORDS[0]} to {QUESTION_WORDS[1]} are allowed"
        if not fewest <= (n := len(words(answer))) <= most:
            return f"an answer of {n} words; {fewest} to {most} are allowed"
    return None


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(sample: Sample) -> str | None:
    """Checks questions and answers separately, because models often change the language in their answers."""
    sides = (" ".join(m.content for m in sample.messages if m.role == role) for role in ("user", "assistant"))
    return next((wrong for side in sides if (wrong := wrong_language(side, sample.language))), None)


def wrong_language(text: str, claimed: str) -> str | None:
    """Returns what the text reads as if it is not in the stated language, otherwise None.

    Chinese is recognised by its characters, and other languages by py3langid if there is enough text.
    """
    letters, han = sum(map(str.isalpha, text)), len(_HAN.findall(text))
    claimed = claimed.partition("-")[0]
    if claimed == "zh":
        return "hardly any Chinese characters" if han < letters / 3 else None
    if claimed != "ja" and han > letters / 3:
        return "Chinese characters"
    if letters < LANGUAGE_LETTERS:
        return None
    # The rank of the stated language counts, not the probability of the first one: related languages (Spanish,
    # Catalan, Extremaduran) share it between them.
    ranked = _identifier().rank(text)
    return f"reads as {ranked[0][0]}" if dict(ranked).get(claimed, 1.0) < LANGUAGE_CHANCE else None


def times(sample: Sample, clip: Clip) -> str | None:
    """Compares the times of the answer, and times in its text, with the part of the video that is shown."""
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


def leak(sample: Sample) -> str | None:
    """Rejects an answer that its own question contains.

    A question that offers alternatives may contain its answer: options of a multiple choice, "this or that", or a
    quotation to judge.
    """
    if not sample.task.startswith("qa/"):
        return None
    for question, answer in _turns(sample):
        given = words(answer)
        if len("".join(given)) >= 4 and not _ALTERNATIVES.search(question) and _within(given, words(question)):
            return f"the question has the answer {answer!r}"
    return None


def _turns(sample: Sample) -> Iterator[tuple[str, str]]:
    """Yields each question, without the words that were heard, with its answer."""
    return ((without_transcript(question), answer) for question, answer in sample.turns())


def _within(part: list[str], whole: list[str]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def unsupported(sample: Sample, clip: Clip) -> str | None:
    """Rejects an answer with many content words (in Chinese, pairs of characters) that neither the annotation nor the
    question has.

    It applies only if the annotation is in the language of the sample. Creative tasks may add to the annotation.
    """
    if sample.task.startswith("creative") or sample.language not in clip.languages:
        return None
    known = stems(annotated(clip, sample.language))
    for question, answer in sample.turns():
        if needed := stems(answer):
            missing = needed - known - stems(question)
            if len(missing) > (1 - SUPPORT) * len(needed):
                return f"the annotation does not mention {', '.join(sorted(missing)[:5])}"
    return None


def annotated(clip: Clip, language: str) -> str:
    """Returns all text of the annotation in one language. Conversations do not state their language and always
    count."""
    questions = [f"{q.question} {q.answer}" for q in clip.questions if q.language == language]
    spoken = [message.content for dialogue in clip.dialogues for message in dialogue]
    return " ".join([*(n.text for n in clip.notes if n.language == language), *questions, *spoken])


def stems(text: str) -> set[str]:
    """Returns content words without their endings, so that walks equals walking, and for Chinese pairs of
    characters."""
    if len(_HAN.findall(text)) > len(text) / 3:
        characters = [w for w in words(text) if _HAN.fullmatch(w)]
        return {a + b for a, b in pairwise(characters)}
    return {_stem(word) for word in words(text) if len(word) > 2 and word not in _empty_words()}


@functools.cache
def _empty_words() -> frozenset[str]:
    """Words that say nothing about the content of a video."""
    return frozenset(" ".join(_lines_of("empty_words.txt")).split())


def _stem(word: str) -> str:
    return re.sub(r"(?:ing|ed|es|s|ly|ando|iendo|ados?|adas?|as?|os?)$", "", word) if len(word) > 4 else word


def signature(sample: Sample) -> RMinHash:
    """Returns the MinHash (Broder 1997) of the triples of words in questions and answers."""
    said = [w for text in chain.from_iterable(_turns(sample)) for w in ("", *words(text), "")]
    made = RMinHash(num_perm=PERMUTATIONS, seed=1)
    made.update([" ".join(triple) for triple in zip(said, said[1:], said[2:], strict=False)])
    return made
