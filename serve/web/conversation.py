"""The video and the conversation of a tab of the page, and the conversation as files to save."""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from serve.api.schemas.chat import ChatReceipt
from videollm.cli.shapes import CaptionJSON, EvidenceJSON
from videollm.datasets.schema import format_time
from videollm.video.subtitles import Cue, write_subtitles

_RECEIPT = TypeAdapter(ChatReceipt)


@dataclass(frozen=True, slots=True)
class PageTurn:
    """A question and its answer. evidence_html: how its evidence is shown. receipt: None while the answer is generated,
    and if it was stopped."""

    question: str
    answer: str = ""
    evidence_html: str = ""
    evidence: list[EvidenceJSON] = field(default_factory=list)
    receipt: ChatReceipt | None = None


@dataclass(frozen=True, slots=True)
class PageVideo:
    """The video that a tab shows and the conversation about it.

    Attributes:
        file: Its id among the files of the session.
        choice: Its name in the catalog.
        name: What the page calls it.
    """

    file: str = ""
    choice: str = ""
    name: str = ""
    turns: tuple[PageTurn, ...] = ()

    def with_question(self, question: str) -> "PageVideo":
        return replace(self, turns=(*self.turns, PageTurn(question)))

    def with_answer(self, **changes: Any) -> "PageVideo":
        """Returns this with changes to its last turn."""
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], **changes)))

    def before_turn(self, number: int) -> "PageVideo":
        return replace(self, turns=self.turns[:number])


def as_json(video: PageVideo) -> str:
    turns = [
        {
            "question": turn.question,
            "answer": turn.answer,
            "evidence": [asdict(evidence) for evidence in turn.evidence],
            "receipt": turn.receipt and _RECEIPT.dump_python(turn.receipt),
        }
        for turn in video.turns
    ]
    return json.dumps({"video": video.name, "turns": turns}, ensure_ascii=False, indent=2)


def as_markdown(video: PageVideo) -> str:
    lines = [f"# {video.name}", ""]
    for turn in video.turns:
        lines += [f"**{turn.question}**", "", turn.answer, ""]
        lines += [
            f"- {format_time(one.start)}-{format_time(one.end)}: {', '.join(word for word, _ in one.tags)}"
            for one in sorted(turn.evidence, key=lambda one: one.start)
        ]
        lines += [""] if turn.evidence else []
        if turn.receipt:
            lines += [f"*{turn.receipt.model}, {turn.receipt.ms['total'] / 1000:.1f} s*", ""]
    return "\n".join(lines)


def subtitles(captions: list[CaptionJSON], kind: str) -> str:
    """Returns the captions as a subtitle file. kind: srt or vtt."""
    return write_subtitles([Cue(caption.start, caption.end, caption.text) for caption in captions], kind)
