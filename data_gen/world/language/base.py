"""What all languages do alike: sentences from clauses, questions from wordings. Each adds its words and grammar."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from data_gen.world.clip import Background, Event, WorldClip
from data_gen.world.meaning import Clause, Noun, SceneAccount, Value, detailed, in_order
from data_gen.world.questions import AbstractQuestion


class _Said:
    """A value in a template: `{thing:the}` says it in the form "the"."""

    def __init__(self, language: "Language", value: Value):
        self._language = language
        self._value = value

    def __format__(self, form: str) -> str:
        return self._language.say(self._value, form)


class Language(ABC):
    """code: ISO 639-1. wordings: for each form of question, the ways to put it."""

    code: ClassVar[str]
    wordings: ClassVar[dict[str, tuple[str, ...]]]

    @abstractmethod
    def say(self, value: Value, form: str = "") -> str:
        """The words for a value, in a grammatical form of the language."""

    @abstractmethod
    def narrate(self, clauses: list[str]) -> str:
        """One sentence of clauses in their order in time, the last one being the end of the story."""

    @abstractmethod
    def set_scene(self, background: Background, things: list[str], *, is_first: bool, many: bool) -> str:
        """A sentence about where a scene is set and what is there. many: whether the first thing named is several."""

    @abstractmethod
    def step(self, clause: str, *, is_first: bool, is_last: bool) -> str:
        """A sentence about one event."""

    @abstractmethod
    def sentence(self, text: str) -> str:
        """With a capital and a full stop, or what the language has."""

    @abstractmethod
    def answer(self, text: str) -> str:
        """As the answer to a question: a sentence without its full stop."""

    def question(self, question: AbstractQuestion, variant: int) -> str:
        """variant: any number; picks one of the wordings."""
        wordings = self.wordings[question.form]
        slots = {name: _Said(self, value) for name, value in question.slots.items()}
        return self.polish(wordings[variant % len(wordings)].format(**slots))

    def reply(self, value: Value) -> str:
        return self.answer(self.polish(self.say(value)))

    def polish(self, text: str) -> str:
        """Sounds that merge across words."""
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
