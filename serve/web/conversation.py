"""What a tab shows, and its conversation as files to keep."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pysubs2

from serve.api.schemas import EvidenceOut, ReceiptOut, TimedText
from videollm.features.encode import format_time


@dataclass(frozen=True, slots=True)
class Turn:
    """chips: the evidence as it is shown. receipt: None while the answer is being made, and where it was stopped."""

    question: str
    answer: str = ""
    chips: str = ""
    evidence: list[EvidenceOut] = field(default_factory=list)
    receipt: ReceiptOut | None = None


@dataclass(frozen=True, slots=True)
class PageVideo:
    """The video of a tab, and what was said about it. file: its id among the session's files. choice: its name on the
    shelf."""

    file: str = ""
    choice: str = ""
    name: str = ""
    turns: tuple[Turn, ...] = ()

    def asked(self, question: str) -> "PageVideo":
        return replace(self, turns=(*self.turns, Turn(question)))

    def answered(self, **changes: Any) -> "PageVideo":
        """With the last turn changed."""
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], **changes)))

    def until(self, number: int) -> "PageVideo":
        """Before turn `number`."""
        return replace(self, turns=self.turns[:number])


def as_json(watched: PageVideo) -> str:
    turns = [
        {
            "question": turn.question,
            "answer": turn.answer,
            "evidence": [one.model_dump() for one in turn.evidence],
            "receipt": turn.receipt and turn.receipt.model_dump(),
        }
        for turn in watched.turns
    ]
    return json.dumps({"video": watched.name, "turns": turns}, ensure_ascii=False, indent=2)


def as_markdown(watched: PageVideo) -> str:
    lines = [f"# {watched.name}", ""]
    for turn in watched.turns:
        lines += [f"**{turn.question}**", "", turn.answer, ""]
        lines += [
            f"- {format_time(one.start)}-{format_time(one.end)}: {', '.join(word for word, _ in one.tags)}"
            for one in sorted(turn.evidence, key=lambda one: one.start)
        ]
        lines += [""] if turn.evidence else []
        if turn.receipt:
            lines += [f"*{turn.receipt.model}, {turn.receipt.ms['total'] / 1000:.1f} s*", ""]
    return "\n".join(lines)


def subtitles(captions: list[TimedText], kind: str) -> str:
    """kind: srt or vtt."""
    file = pysubs2.SSAFile()
    for caption in captions:
        event = pysubs2.SSAEvent(start=round(1000 * caption.start), end=round(1000 * caption.end))
        event.plaintext = caption.text
        file.append(event)
    return file.to_string(kind)
