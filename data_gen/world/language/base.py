"""What all languages have in common: sentences from clauses, questions from wordings."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from data_gen.world.clip import Background, Event, WorldClip
from data_gen.world.meaning import AbstractQuestion, Clause, Noun, SceneAccount, Value, detailed, in_order


class _Said:
    """A value in a template: `{thing:the}` says it in the form "the"."""

    def __init__(self, language: "Language", value: Value):
        self._language = language
        self._value = value

    def __format__(self, form: str) -> str:
        return self._language.say(self._value, form)


class Language(ABC):
    """A language of the world. A subclass adds words and grammar.

    Attributes:
        code: ISO 639-1.
        wordings: The ways to ask each form of question.
    """

    code: ClassVar[str]
    wordings: ClassVar[dict[str, tuple[str, ...]]]

    @abstractmethod
    def say(self, value: Value, form: str = "") -> str:
        """The words for a value, in a grammatical form of the language."""

    @abstractmethod
    def narrate(self, clauses: list[str]) -> str:
        """One sentence from clauses in their order in time."""

    @abstractmethod
    def set_scene(self, background: Background, things: list[str], *, is_first: bool, many: bool) -> str:
        """A sentence about the background and the things of a scene. many: the first noun is plural."""

    @abstractmethod
    def step(self, clause: str, *, is_first: bool, is_last: bool) -> str:
        """A sentence about one event."""

    @abstractmethod
    def sentence(self, text: str) -> str:
        """The text with a capital and a full stop, or what the language uses instead."""

    @abstractmethod
    def answer(self, text: str) -> str:
        """The text as the answer to a question: a sentence without its full stop."""

    def question(self, question: AbstractQuestion, variant: int) -> str:
        """The question in words. variant is any number; it picks one of the wordings."""
        wordings = self.wordings[question.form]
        slots = {name: _Said(self, value) for name, value in question.slots.items()}
        return self.polish(wordings[variant % len(wordings)].format(**slots))

    def reply(self, value: Value) -> str:
        return self.answer(self.polish(self.say(value)))

    def polish(self, text: str) -> str:
        """Joins words that merge, such as "de el" in Spanish."""
        return text

    def short(self, clauses: Iterable[Clause]) -> str:
        return self.sentence(self.polish(self.narrate([self.say(clause) for clause in clauses])))

    def detailed(self, clip: WorldClip) -> str:
        accounts = detailed(clip)
        count, at, sentences = len(clip.events), 0, []
        for number, account in enumerate(accounts):
            if account.shown or number:
                sentences.append(self._scene(account, is_first=number == 0))
            for clause in account.events:
                sentences.append(self.step(self.say(clause), is_first=at == 0, is_last=at == count - 1 > 0))
                at += 1
        return self.join([self.sentence(self.polish(text)) for text in sentences])

    def _scene(self, account: SceneAccount, *, is_first: bool) -> str:
        nouns: tuple[Noun, ...] = account.shown
        many = len(nouns) > 1 or (bool(nouns) and nouns[0].count > 1)
        return self.set_scene(account.background, [self.say(noun) for noun in nouns], is_first=is_first, many=many)

    def join(self, sentences: list[str]) -> str:
        return " ".join(sentences)

    def dense(self, clip: WorldClip, events: Iterable[Event]) -> list[str]:
        """A sentence for each event."""
        return [self.sentence(self.polish(self.say(clause))) for clause in in_order(clip, events)]


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
