"""Messages in other words, written by a language model that must keep what is not language.

A text and what it becomes must have the same number of lines and the same marks: numbers and times, placeholders such
as <video>, {name} and $name, and the letters of choices. A model that loses one is told so and asked again. Words that
are heard stay as they were said.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from data_gen.generators.base import without_transcript
from data_gen.generators.conversation import Conversation
from data_gen.generators.replies import ReplyError
from data_gen.prompts import prompts
from videollm.datasets.schema import Message
from videollm.evaluate.metrics.answers import normalised

LANGUAGES = {
    "ar": "Arabic",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "pt": "Portuguese",
    "ru": "Russian",
    "tr": "Turkish",
    "zh": "Simplified Chinese",
}

_MARKS = re.compile(r"\d+(?:[.:,]\d+)*|<[^<>\s]+>|\{[^{}\s]*\}|\$\w+|^[A-Z]\.(?=\s)", re.MULTILINE)
_QUOTED = re.compile(r'"(.*)"\n')  # the words of the lines that `with_transcript` writes
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_BEFORE_A_SENTENCE = re.compile(r"(?:^|[.!?:])[\s\"'“‘(¿¡]*\Z", re.MULTILINE)


def marks(text: str) -> Counter[str]:
    """Counts what every form of the text must keep."""
    return Counter(_MARKS.findall(text))


def names(text: str) -> set[str]:
    """Returns the words with a capital within a sentence, without the English "I". In German, these are all nouns.

    A name that is found nowhere but at the start of a sentence is not known as one.
    """
    found = ((word.group(), text[: word.start()]) for word in _WORD.finditer(text))
    capital = ((word, before) for word, before in found if word[0].isupper() and word[:2] not in ("I", "I'", "I’"))
    return {word for word, before in capital if not _BEFORE_A_SENTENCE.search(before)}


def numbers(text: str) -> Counter[str]:
    """Counts the numbers from two on, in digits or in English words. "One" is also a pronoun."""
    return Counter(word for word in normalised(text) if word.isdigit() and word not in ("0", "1"))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a message gets its text from.

    Args:
        role: The role of the message.
        kept: What stays as it is, before the new text.
        number: The number of the text that is rewritten, or None.
        line: The line of that text, or None for all of it.
    """

    role: str
    kept: str = ""
    number: int | None = None
    line: int | None = None

    def message(self, texts: Sequence[str]) -> Message:
        text = "" if self.number is None else texts[self.number]
        return Message(self.role, self.kept + (text if self.line is None else text.splitlines()[self.line]))


async def translate(asked: Conversation, messages: Sequence[Message], language: str) -> list[Message]:
    """Returns the messages in another language, or nothing if no reply of the model can be used.

    `messages` may be several conversations, one after the other. An answer that is a line of its question, such as the
    right choice, is that line of the translated question. `asked.unusable` tells why replies were not used.
    """
    roles = {message.role for message in messages}
    return await _rewrite(asked, messages, roles, "translation", language=LANGUAGES.get(language, language))


async def paraphrase(
    asked: Conversation, messages: Sequence[Message], language: str, *, answers: bool
) -> list[Message]:
    """Returns the messages in other words of their language, or nothing if no reply of the model can be used.

    If not `answers`, those stay, except an answer that is a line of its question. Names stay too (except in German,
    whose nouns all have capitals), and so do English words for numbers.
    """
    roles = {"user", "assistant"} if answers else {"user"}
    base = language.partition("-")[0]

    def check(number: int, text: str, made: str) -> None:
        known, found = ({word for word in _WORD.findall(some) if word[0].isupper()} for some in (text, made))
        if base != "de" and (lost := names(text) - found):
            raise ReplyError(f"text {number} must keep the names {', '.join(sorted(lost))}")
        if base != "de" and (new := names(made) - known):
            raise ReplyError(f"text {number} must not have the names {', '.join(sorted(new))}")
        if base == "en" and numbers(text) != numbers(made):
            raise ReplyError(f"text {number} must have the numbers {', '.join(numbers(text)) or 'of before'}")

    return await _rewrite(asked, messages, roles, "paraphrase", check, language=LANGUAGES.get(language, language))


async def _rewrite(
    asked: Conversation,
    messages: Sequence[Message],
    roles: Collection[str],
    prompt_name: str,
    check: Callable[[int, str, str], None] = lambda number, text, made: None,
    **values: str,
) -> list[Message]:
    """roles: of the messages that are rewritten. check: raises ReplyError for a text and what it becomes."""
    texts: list[str] = []
    places: list[_Place] = []
    heard = question = ""
    for message in messages:
        content = message.content
        if message.role != "assistant":
            question = without_transcript(content)
            heard = content.removesuffix(question)
            if message.role in roles:
                places.append(_Place(message.role, kept=heard, number=len(texts)))
                texts.append(question)
            else:
                places.append(_Place(message.role, kept=content))
        elif content in (lines := question.splitlines()):
            places.append(_Place(message.role, number=len(texts) - 1, line=lines.index(content)))
        elif message.role not in roles or content in " ".join(_QUOTED.findall(heard)):
            places.append(_Place(message.role, kept=content))
        else:
            places.append(_Place(message.role, number=len(texts)))
            texts.append(content)
    found = await _replies(asked, texts, prompt_name, check, **values)
    return [place.message(found) for place in places] if found else []


async def _replies(
    asked: Conversation, texts: Sequence[str], prompt_name: str, check: Callable[[int, str, str], None], **values: str
) -> list[str]:
    prompt = prompts()[prompt_name]
    numbered = "\n".join(f"{n}. {text}" for n, text in enumerate(texts, 1))

    def check_all(entries: list[dict[str, Any]]) -> None:
        if len(entries) != len(texts):
            raise ReplyError(f"there are {len(entries)} texts; there must be {len(texts)}")
        for number, (text, entry) in enumerate(zip(texts, entries, strict=True), 1):
            if marks(text) != marks(entry["text"]):
                raise ReplyError(f"text {number} must keep {', '.join(marks(text)) or 'the absence of numbers'}")
            if len(text.splitlines()) != len(entry["text"].splitlines()):
                raise ReplyError(f"text {number} must have {len(text.splitlines())} lines")
            check(number, text, entry["text"])

    return [entry["text"] for entry in await asked.entries(prompt, prompt.render(texts=numbered, **values), check_all)]
