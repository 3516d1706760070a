"""What a question says of the thing that it asks for: how many there are, and what nothing here can check.

Scores and the detector know things by their names. Of "a black cat on a sofa" they know the cat; the score of the whole
phrase is that of a cat too, whatever its colour and place.
"""

import re
from collections.abc import Container
from dataclasses import dataclass

from videollm.chat.questions import singular

_NUMBER = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:a )?dozens?(?: of)?)"
_PAIRS = r"(?!scissors|glasses|sunglasses|shoes|boots|pants|trousers|jeans|gloves|socks|skis|binoculars)"
_AMOUNT = re.compile(
    r"(?:(?:exactly|only|just|at least|at most|more than|less than|fewer than|up to|about|around|over) )?"
    rf"(?:{_NUMBER}|many|several|multiple|various|few|numerous|both|(?:couple|lot|lots|group|bunch|crowd) of"
    rf"|pair of {_PAIRS}) ?(?:a |an |any |of |the )?(?=\w)"
)
_NONE = re.compile(r"(?:no|not (?:an?|any|one)) ")
_NOBODY = re.compile(r"\b(?:nobody|no one)\b")
_ATTRIBUTE = (
    r"(?:black|white|red|green|blue|yellow|orange|purple|violet|pink|brown|gr[ae]y|blond|colou?rful|colou?red|striped"
    r"|spotted|big|small|little|large|huge|tiny|tall|short|long|fat|thin|wide|narrow|giant|old|young|new|ancient|modern"
    r"|elderly|empty|full|open|closed|broken|wet|dry|dirty|clean|hot|cold|frozen|fresh|rotten|ripe|dead|living|live"
    r"|sleeping|running|walking|sitting|standing|flying|smiling|crying|happy|sad|angry|wooden|metal|plastic|round"
    r"|square|beautiful|cute|pretty|nice|ugly|famous|real|fake|dangerous|expensive|cheap|fast|slow|loud|quiet)"
)
_ATTRIBUTES = re.compile(rf"(?:(?:very |really |bright |dark |light )?{_ATTRIBUTE}(?:-\w+)?(?:,| and)? )+(?=\w)")
_CLAUSE = re.compile(
    r" (?:on|in|at|with|without|under|above|below|behind|beside|near|next to|inside|outside|over|by|against|from|to"
    r"|between|around|across|through|along|who|that|which|whose|doing|wearing|holding|carrying|eating|drinking|playing"
    r"|riding|sitting|standing|walking|running|sleeping|lying|looking|smiling|dancing|swimming|flying|driving|cooking"
    r"|made of|full of|filled with|covered in)\b.*"
)


@dataclass(frozen=True, slots=True)
class NamedThing:
    """A thing as a question names it.

    Attributes:
        name: Its name, in the singular where the detector knows it.
        has_amount: Whether the question says how many there are.
        is_none: Whether the question is about its absence.
        is_qualified: Whether the question says more of it than its name: a colour, a state or a place.
    """

    name: str
    has_amount: bool = False
    is_none: bool = False
    is_qualified: bool = False


def read_thing(words: str, known: Container[str]) -> NamedThing:
    """Reads the words for a thing, without an article. Names in `known` stay whole: a "red wine" is no kind of wine."""
    words = _NOBODY.sub("no person", words)
    rest = _NONE.sub("", words, count=1) if (is_none := _NONE.match(words) is not None) else words
    has_amount = (amount := _AMOUNT.match(rest)) is not None
    rest = rest[amount.end() :] if amount else rest
    whole = singular(rest)
    name = whole
    if whole not in known:
        bare = _CLAUSE.sub("", rest)
        name = singular(bare) if singular(bare) in known else singular(_ATTRIBUTES.sub("", bare, count=1))
    return NamedThing(name, has_amount, is_none, name != whole)
