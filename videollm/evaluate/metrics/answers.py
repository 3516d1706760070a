"""Rules that decide whether a short answer is right."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from string import ascii_uppercase

from videollm.datasets.schema import words

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    name: str(number)
    for number, name in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
}


def normalised(text: str) -> list[str]:
    """Returns the words of a text in lower case, without accents, articles and punctuation, and with number words as
    digits. An article alone is the word itself, and a text without words is itself.

    These are the rules of SQuAD (Rajpurkar et al. 2016) with the number words of VQA (Antol et al. 2015). Only accents
    of Latin, Greek and Cyrillic letters are left out: the marks of other scripts are vowels and tones.
    """
    found = words(_ACCENTS.sub("", unicodedata.normalize("NFKD", text)))
    found = [_NUMBERS.get(word, word) for word in found if word not in _ARTICLES] or found
    return found or text.split()


_ACCENTS = re.compile("[\u0300-\u036f]")


def exact(text: str, right: Sequence[str]) -> float:
    """Returns 1.0 if the text is not empty and equals one of the right answers after `normalised`, else 0.0."""
    given = normalised(text)
    return float(bool(given) and any(given == normalised(answer) for answer in right))


def contains(text: str, right: Sequence[str]) -> float:
    """Returns 1.0 if the words of a right answer occur in the text without gaps, else 0.0."""
    # The spaces at the ends make whole words match only: "cat" is not in "category".
    given = f" {' '.join(normalised(text))} "
    return float(any(f" {' '.join(normalised(answer))} " in given for answer in right if normalised(answer)))


def f1(text: str, right: Sequence[str]) -> float:
    """Returns the F1 score of the words, the maximum over the right answers (Rajpurkar et al. 2016)."""
    return max(_f1(normalised(text), normalised(answer)) for answer in right)


def _f1(given: list[str], right: list[str]) -> float:
    shared = (Counter(given) & Counter(right)).total()
    return 2 * shared / (len(given) + len(right)) if shared else 0.0


def yes_or_no(text: str) -> bool | None:
    """Returns True if an answer begins with "yes", False if it begins with "no", else None."""
    first = (words(text) or [""])[0]
    return {"yes": True, "no": False}.get(first)


def chosen_letter(text: str, letters: str) -> str | None:
    """Returns the letter, one of `letters`, that an answer to a multiple-choice question names, or None.

    A letter counts if it stands alone or before punctuation ("B", "b.", "(B)", "B: a cup"), or after words such as
    "answer is" ("The answer is B"). An article is not a choice: "A rocket comes first." names no letter.
    """
    match = _CHOICE.match(text)
    letter = (match["bare"] or match["said"]).upper() if match else None
    return letter if letter and letter in letters else None


def chosen_option(text: str, choices: Sequence[str]) -> int | None:
    """Returns the number of the option that an answer names by its letter or its whole text, or None."""
    letters, plain = ascii_uppercase[: len(choices)], text.strip().casefold()
    named = {number for number, choice in enumerate(choices) if choice.strip().casefold() == plain}
    if letter := chosen_letter(text, letters):
        named.add(letters.index(letter))
    return named.pop() if len(named) == 1 else None


# The group "bare" is a letter at the start, "said" a letter after words that announce a choice. After such words, a
# capital may be followed by more words ("is B because"), except A and I, which are words of their own ("Answer: A
# rocket"). Small letters and A and I must be followed by punctuation or the end.
_CHOICE = re.compile(
    r"""[\s"'*(\[]*
    (?:(?P<bare>[A-Za-z])(?=[.):,;\]"'*]|\s*$|\s+-)
    |(?i:(?:the|my)?\s*(?:(?:correct|right|best)\s+)?(?:answer|choice|option))(?i:\s+is)?\s*:?[\s"'*(\[]*
     (?P<said>[B-HJ-Z]\b|[AIa-z](?=[.):,;\]"'*]|\s*$)))""",
    re.VERBOSE,
)


def abstains(text: str) -> bool:
    """Whether an English answer says that the video does not show the answer."""
    return bool(_ABSTAINING.search(text.lower().replace("’", "'")))


_ABSTAINING = re.compile(
    r"\b(?:can(?:not|'t| not) (?:be )?(?:tell|told|see|seen|say|said|determined?|know|known|answer(?:ed)?)"
    r"|unable to|not (?:clear|visible|shown|possible to|enough information)|unclear|impossible to"
    r"|(?:do not|don't) know|no way to|not sure|isn't (?:clear|visible|shown)|does not (?:show|say))"
)
