"""Whether what the language model says of people, speech, text and times is what the senses found.

The language model answers questions of a form that `videollm.chat.questions` does not know. It has learnt the sentences
of the senses, and may write them where nothing of the kind was found or asked for.
"""

import re
from collections.abc import Iterator, Sequence

from videollm.chat.answer import CANNOT_TELL
from videollm.chat.grounded import amount, heard, quoted, written
from videollm.chat.questions import Question
from videollm.models.notes import object_counts
from videollm.senses.finding import Findings

_CLAIM = re.compile(
    r'\b(?:says|reads): "|\bnobody\b|\bno sound\b|\bsounds?: '
    r"|^(?:I cannot tell:|Yes\b|No\b|Nothing\b|\d+ [a-z]|From \d|At \d)",
    re.IGNORECASE,
)


def believed(text: str, findings: Sequence[Findings]) -> str:
    """Returns an answer of the language model, or that it cannot tell where the answer claims something that is not
    among the findings of these videos. That a sense is off, or that there is no sound, answers no such question."""
    if not _CLAIM.search(text) or any(text in _told(found) for found in findings):
        return text
    return CANNOT_TELL


def _told(findings: Findings) -> Iterator[str]:
    """Yields what the senses have found, in their sentences."""
    if findings.of("speech"):
        yield heard(Question("speech"), findings, ()).text
        yield heard(Question("speaks", "does"), findings, ()).text
        yield from (quoted([sentence]) for sentence in findings.of("speech"))
    if findings.of("sound"):
        yield heard(Question("heard"), findings, ()).text
    if findings.of("text"):
        yield written(findings, ()).text
    if "objects" in findings.senses:
        counts = object_counts(findings)
        for name in ("person", *counts):
            yield amount(findings, name, counts.get(name, 0))
            yield amount(findings, name, counts.get(name, 0), who=True)
