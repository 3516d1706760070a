"""Texts of any language in one form, so that words can be found whatever their case and accents."""

import re
import unicodedata

# Accents of Latin, Greek and Cyrillic letters, and the vowel points of Hebrew and Arabic, which are left out at will.
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")
# Scripts that write no spaces between words: Thai, Lao, Burmese, Khmer, kana and Chinese characters.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
TEXT_WEIGHT = 0.3  # added to the score of a moment in which every word of the query is said
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def folded(text: str) -> str:
    """Returns the words of a text in lower case, without accents, each between two spaces; "" for a text of none.

    A character of a script without spaces is a word of its own. `folded(part) in folded(text)` therefore tells whether
    the words of `part` follow one another in `text`, and a part of a longer word does not count.
    """
    plain = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text))).casefold()
    words = _WORD.findall(plain)
    return f" {' '.join(words)} " if words else ""
