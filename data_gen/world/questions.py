"""Questions about a clip with their true answers and hard wrong ones, before they are worded in a language.

A question is asked only if its words fit one thing and its answer follows from the clip alone.
"""

from dataclasses import replace

import numpy as np

from data_gen.world.account import ClipAccount
from data_gen.world.clip import WorldClip
from data_gen.world.meaning import AbstractQuestion, Unknown
from data_gen.world.question_kinds import QUESTION_KINDS

_PER_KIND = 2  # questions of a kind and a clip, at most
_WRONG = 3  # wrong choices, at most


def ask(clip: WorldClip, rng: np.random.Generator) -> list[AbstractQuestion]:
    """At most two questions of each kind, about half of them as multiple choice."""
    account = ClipAccount(clip, rng)
    asked = []
    for find in QUESTION_KINDS.values():
        found = list(find(account))
        asked += [_finished(found[int(k)], rng) for k in rng.permutation(len(found))[:_PER_KIND]]
    return asked


def _finished(question: AbstractQuestion, rng: np.random.Generator) -> AbstractQuestion:
    """Removes wrong answers that are right, and offers choices in about half of the cases."""
    wrong = [value for value in dict.fromkeys(question.wrong) if value != question.answer][:_WRONG]
    if question.kind != "cannot_tell" and len(wrong) == _WRONG and rng.random() < 0.25:
        wrong[-1] = Unknown()
    if not wrong or rng.random() < 0.5:
        return question
    values = [question.answer, *wrong]
    return replace(question, choices=tuple(values[int(k)] for k in rng.permutation(len(values))))
