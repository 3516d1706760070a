"""A conversation about videos and pictures, and the conversation as files to save."""

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter

from serve.api.schemas.chat import ChatReceipt
from videollm.cli.shapes import CaptionJSON, EvidenceJSON
from videollm.datasets.schema import format_time
from videollm.output_config import Modality
from videollm.video.subtitles import Cue, write_subtitles

TITLE_CHARACTERS = 80  # of the first question, which names a conversation

_RECEIPT = TypeAdapter(ChatReceipt)


def _new_id() -> str:
    return secrets.token_urlsafe(9)


@dataclass(frozen=True, slots=True)
class PageMedia:
    """A video or a picture that a person has chosen.

    Attributes:
        choice: Its name in the catalog, which for an upload is the id of its file.
        name: What the page calls it.
        sha: The hash of its content, by which an upload is found again after it was deleted and uploaded anew.
        is_picture: Whether it is a picture.
    """

    choice: str
    name: str
    sha: str
    is_picture: bool = False


@dataclass(frozen=True, slots=True)
class ShownFile:
    """Something generated that an answer shows.

    Attributes:
        modality: What it is.
        file: The id of its file, which is deleted as an upload is.
        problem: Why there is no file, or "".
    """

    modality: Modality
    file: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PageTurn:
    """A question and its answer.

    Attributes:
        media: What was added to the conversation with this question.
        status: "pending" while the answer is generated, then "done", or "stopped" if it was not completed.
        evidence_html: How the evidence is shown.
        shown: What the answer shows beside its text.
        receipt: None unless the answer was completed.
        rating: 1 for a good answer, -1 for a bad one, 0 without a rating.
    """

    question: str
    media: tuple[PageMedia, ...] = ()
    id: str = field(default_factory=_new_id)
    answer: str = ""
    status: Literal["pending", "done", "stopped"] = "pending"
    evidence_html: str = ""
    evidence: list[EvidenceJSON] = field(default_factory=list)
    shown: tuple[ShownFile, ...] = ()
    receipt: ChatReceipt | None = None
    rating: int = 0


@dataclass(frozen=True, slots=True)
class PageConversation:
    """Questions and answers in order."""

    id: str = field(default_factory=_new_id)
    turns: tuple[PageTurn, ...] = ()

    @property
    def title(self) -> str:
        return self.turns[0].question[:TITLE_CHARACTERS] if self.turns else ""

    @property
    def media(self) -> list[PageMedia]:
        """All videos and pictures in the order in which they were added; evidence counts them in it."""
        return [media for turn in self.turns for media in turn.media]

    def with_question(self, question: str, media: tuple[PageMedia, ...] = ()) -> "PageConversation":
        return replace(self, turns=(*self.turns, PageTurn(question, media)))

    def with_answer(self, **changes: Any) -> "PageConversation":
        """Returns this with changes to its last turn."""
        return self.with_turn(len(self.turns) - 1, **changes)

    def with_turn(self, number: int, **changes: Any) -> "PageConversation":
        turns = list(self.turns)
        turns[number] = replace(turns[number], **changes)
        return replace(self, turns=tuple(turns))

    def before_turn(self, number: int) -> "PageConversation":
        return replace(self, turns=self.turns[:number])

    def stopped(self) -> "PageConversation":
        """Returns this with a last answer that nobody generates any more."""
        return self.with_answer(status="stopped") if self.turns and self.turns[-1].status == "pending" else self


def as_json(conversation: PageConversation) -> str:
    turns = [
        {
            "question": turn.question,
            "media": [media.name for media in turn.media],
            "answer": turn.answer,
            "evidence": [asdict(evidence) for evidence in turn.evidence],
            "receipt": turn.receipt and _RECEIPT.dump_python(turn.receipt),
            "rating": turn.rating,
        }
        for turn in conversation.turns
    ]
    return json.dumps({"title": conversation.title, "turns": turns}, ensure_ascii=False, indent=2)


def as_markdown(conversation: PageConversation) -> str:
    lines, media = [f"# {conversation.title}", ""], conversation.media
    for turn in conversation.turns:
        lines += [f"*{one.name}*\n" for one in turn.media]
        lines += [f"**{turn.question}**", "", turn.answer, ""]
        for one in turn.evidence:
            where = f"{media[one.video].name} " if len(media) > 1 else ""
            words = ", ".join(word for word, _ in one.tags)
            lines.append(f"- {where}{format_time(one.start)}-{format_time(one.end)}: {words}")
        lines += [""] if turn.evidence else []
        if turn.receipt:
            lines += [f"*{turn.receipt.model}, {turn.receipt.ms['total'] / 1000:.1f} s*", ""]
    return "\n".join(lines)


def subtitles(captions: list[CaptionJSON], kind: str) -> str:
    """Returns the captions as a subtitle file. kind: srt or vtt."""
    return write_subtitles([Cue(caption.start, caption.end, caption.text) for caption in captions], kind)
