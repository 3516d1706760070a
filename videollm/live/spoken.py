"""Standing questions about what is said: "someone says fire", "somebody speaks"."""

import re
from collections.abc import Sequence

from videollm.errors import ConfigError
from videollm.live.standing import Alert
from videollm.senses.finding import Finding

_SAID = re.compile(
    r"(?:when(?:ever)? |if )?(?:some(?:one|body)|any(?:one|body)|people|they|he|she|a voice|the speaker) "
    r"(?:(?:says?|mentions?|shouts?|(?:talks?|speaks?) (?:about|of))(?: the words?)? (?P<words>.+)|speaks?|talks?)",
    re.IGNORECASE,
)
_IDEOGRAPH = r"[\u3040-\u30ff\u3400-\u9fff]"


class SpokenQuestion:
    """Waits for words, or for anybody to speak.

    Attributes:
        text: The standing question.
        words: The words in lower case, empty if any words will do.
    """

    def __init__(self, text: str, words: Sequence[str]):
        self.text, self.words = text, list(words)

    def hear(self, sentence: Finding) -> list[Alert]:
        """Returns that the words begin and end with a sentence in which they are said in a row."""
        heard = words_of(sentence.text)
        places = range(len(heard) - len(self.words) + 1)
        if not heard or not any(heard[at : at + len(self.words)] == self.words for at in places):
            return []
        begins = Alert(self.text, "begins", sentence.start_s, sentence.score, sentence.text)
        return [begins, Alert(self.text, "ends", sentence.end_s, sentence.score, sentence.text)]


def spoken_question(text: str, *, listens: bool) -> SpokenQuestion | None:
    """Returns the question if it is about what is said, or None.

    Raises:
        ConfigError: Nobody listens, or what is waited for has no words.
    """
    found = _SAID.fullmatch(text.strip().rstrip("."))
    if found is None:
        return None
    if not listens:
        raise ConfigError(f"{text!r} is about what is said, and nobody listens; add speech to the senses")
    words = words_of(found["words"] or "")
    if found["words"] and not words:
        raise ConfigError(f"{text!r} has no words to wait for; name some, or wait until someone speaks")
    return SpokenQuestion(text, words)


def words_of(text: str) -> list[str]:
    """Returns the words in lower case. Each character of Chinese and Japanese, which have no spaces, is one."""
    return re.findall(rf"{_IDEOGRAPH}|(?:(?!{_IDEOGRAPH})[^\W_])+(?:['’][^\W_]+)*", text.casefold())
