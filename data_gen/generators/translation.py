"""Translation of messages by a language model, which must keep what is not language.

A text and its translation must have the same number of lines and the same marks: numbers and times, placeholders such
as <video>, {name} and $name, and the letters of choices. A model that loses one is told so and asked again. Words that
are heard stay as they were said.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_gen.generators.base import without_transcript
from data_gen.generators.conversation import Conversation
from data_gen.generators.replies import ReplyError
from data_gen.prompts import prompts
from videollm.datasets.schema import Message

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


def marks(text: str) -> Counter[str]:
    """Counts what a translation of the text must keep."""
    return Counter(_MARKS.findall(text))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a message gets its text from.

    Args:
        role: The role of the message.
        kept: What stays as it is, before the translation.
        number: The number of the text that is translated, or None.
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
    texts: list[str] = []
    places: list[_Place] = []
    heard = question = ""
    for message in messages:
        content = message.content
        if message.role != "assistant":
            question = without_transcript(content)
            heard = content.removesuffix(question)
            places.append(_Place(message.role, kept=heard, number=len(texts)))
            texts.append(question)
        elif content in (lines := question.splitlines()):
            places.append(_Place(message.role, number=len(texts) - 1, line=lines.index(content)))
        elif content in " ".join(_QUOTED.findall(heard)):
            places.append(_Place(message.role, kept=content))
        else:
            places.append(_Place(message.role, number=len(texts)))
            texts.append(content)
    found = await _translations(asked, texts, language)
    return [place.message(found) for place in places] if found else []


async def _translations(asked: Conversation, texts: Sequence[str], language: str) -> list[str]:
    prompt = prompts()["translation"]
    numbered = "\n".join(f"{n}. {text}" for n, text in enumerate(texts, 1))

    def check(entries: list[dict[str, Any]]) -> None:
        if len(entries) != len(texts):
            raise ReplyError(f"there are {len(entries)} texts; there must be {len(texts)}")
        for number, (text, entry) in enumerate(zip(texts, entries, strict=True), 1):
            if marks(text) != marks(entry["text"]):
                raise ReplyError(f"text {number} must keep {', '.join(marks(text)) or 'the absence of numbers'}")
            if len(text.splitlines()) != len(entry["text"].splitlines()):
                raise ReplyError(f"text {number} must have {len(text.splitlines())} lines")

    messages = prompt.render(texts=numbered, language=LANGUAGES.get(language, language))
    return [entry["text"] for entry in await asked.entries(prompt, messages, check)]
