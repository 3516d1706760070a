"""When a short answer is right."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from videollm.datasets.schema import words

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    name: str(number)
    for number, name in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
}


def normalised(text: str) -> list[str]:
    """Words in lower case without accents, articles and punctuation; number words as digits (SQuAD's rules, Rajpurkar
    et al. 2016, with VQA's numbers, Antol et al. 2015)."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return [_NUMBERS.get(word, word) for word in words(plain) if word not in _ARTICLES]


def exact(text: str, right: Sequence[str]) -> float:
    """1 where the text is one of the right answers."""
    given = normalised(text)
    return float(any(given == normalised(answer) for answer in right))


def contains(text: str, right: Sequence[str]) -> float:
    """1 where a right answer stands in the text, word for word."""
    given = f" {' '.join(normalised(text))} "
    return float(any(f" {' '.join(normalised(answer))} " in given for answer in right if normalised(answer)))


def f1(text: str, right: Sequence[str]) -> float:
    """Of words, with the right answer that it is best for (Rajpurkar et al. 2016)."""
    return max(_f1(normalised(text), normalised(answer)) for answer in right)


def _f1(given: list[str], right: list[str]) -> float:
    if not given or not right:
        return float(given == right)
    shared = (Counter(given) & Counter(right)).total()
    return 2 * shared / (len(given) + len(right))


def yes_or_no(text: str) -> bool | None:
    """What an answer begins with, None where it is neither yes nor no."""
    first = (words(text) or [""])[0]
    return {"yes": True, "no": False}.get(first)


def chosen_letter(text: str, letters: str) -> str | None:
    """The option that an answer to a multiple-choice question names, one of `letters`; None where it names none.

    A letter counts where it stands alone or before punctuation ("B", "b.", "(B)", "B: a cup"), and behind "answer is"
    or the like ("The answer is B"). The article of a sentence is no choice: "A rocket comes first." names none.
    """
    match = _CHOICE.match(text)
    letter = (match["bare"] or match["said"]).upper() if match else None
    return letter if letter and letter in letters else None


# "said" follows words that announce a choice. A capital there may go on ("is B because"), unless it is a word by itself
# ("Answer: A rocket"); a small letter may not ("is a rocket").
_CHOICE = re.compile(
    r"""[\s"'*(\[]*
    (?:(?P<bare>[A-Za-z])(?=[.):,;\]"'*]|\s*$|\s+-)
    |(?i:(?:the|my)?\s*(?:(?:correct|right|best)\s+)?(?:answer|choice|option))(?i:\s+is)?\s*:?[\s"'*(\[]*
     (?P<said>[B-HJ-Z]\b|[AIa-z](?=[.):,;\]"'*]|\s*$)))""",
    re.VERBOSE,
)


def abstains(text: str) -> bool:
    """Whether an English answer says that it cannot be told from the video."""
    return bool(_ABSTAINING.search(text.lower().replace("’", "'")))


_ABSTAINING = re.compile(
    r"\b(?:can(?:not|'t| not) (?:be )?(?:tell|told|see|seen|say|said|determined?|know|known|answer(?:ed)?)"
    r"|unable to|not (?:clear|visible|shown|possible to|enough information)|unclear|impossible to"
    r"|(?:do not|don't) know|no way to|not sure|isn't (?:clear|visible|shown)|does not (?:show|say))"
)
