"""Parts of the page as HTML, from the templates beside this module.

Jinja escapes whatever comes from a video, a model or a user. A button with `data-seek` takes the player to that second;
one with `data-open` opens another video at `data-at` seconds (see page.js).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any, Literal
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from serve.api.schemas.videos import CaptionReply, SummaryReply
from serve.runtime.senses import SensedVideo
from serve.web.catalog import Choice
from serve.web.conversation import PageConversation, PageMedia, PageTurn, ShownFile, as_json, as_markdown, subtitles
from serve.web.history import HistoryEntry
from serve.web.labels import ENGLISH, LANGUAGES, Labels
from serve.web.progress import Progress
from videollm.cli.shapes import TagsJSON
from videollm.datasets.schema import format_time
from videollm.live.window import format_clock
from videollm.models.notes import counted
from videollm.senses.objects import most_at_once
from videollm.video.subtitles import Cue, write_subtitles

MAX_LANES = 6  # kinds of things with a lane of their own; the boxes show all
LEAST_S = 0.001  # a picture has no duration, and shares of it are taken
TIME = re.compile(r"(?<![\d:.])\d{1,3}:[0-5]\d(?::[0-5]\d)?(?![\d:])")
NO_THUMBNAIL = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 9'/%3E"


@dataclass(frozen=True, slots=True)
class PreviewCell:
    """A part of a video with a thumbnail of it, a data: URL."""

    start_s: float
    end_s: float
    tags: TagsJSON
    thumbnail: str


@dataclass(frozen=True, slots=True)
class EvidenceCell:
    """A part of one of the conversation's videos that supports an answer."""

    media: PageMedia
    cell: PreviewCell


@dataclass(frozen=True, slots=True)
class UsedFrame:
    """A frame that the model saw. thumbnail: a data: URL."""

    media: PageMedia
    time_s: float
    thumbnail: str


@dataclass(frozen=True, slots=True)
class MomentCard:
    """A moment that a search found."""

    media: PageMedia
    score: float
    cell: PreviewCell


@dataclass(frozen=True, slots=True)
class SuggestedQuestion:
    """A question that a click asks. shown: in the language of the page. sent: in a language that the model reads."""

    shown: str
    sent: str


@dataclass(frozen=True, slots=True)
class ExampleCard:
    """An example clip that a click asks about. name: in the catalog. thumbnail: a data: URL."""

    name: str
    title: str
    question: SuggestedQuestion
    thumbnail: str


@dataclass(frozen=True, slots=True)
class LaneBar:
    """A time in which somebody speaks or something is seen. text: what is said, or the name of the thing."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """Bars in a row. kind: decides their colour."""

    name: str
    kind: Literal["speech", "things"]
    bars: list[LaneBar]


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that a link of the page contains. type: its media type. label: what the link says."""

    name: str
    type: str
    text: str
    label: str


def _format_span(start_s: float, end_s: float) -> str:
    return f"{format_time(start_s)}–{format_time(end_s)}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("serve.web"),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelled name is an error and not an empty text
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": format_clock,
        "counted": counted,
        "clock_of": lambda date: date[11:19],  # of an ISO date
        "number": lambda value: f"{value:g}",
        "percent": lambda value: f"{value:.0%}",
        "time": format_time,
        "when": lambda seconds: datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M"),
        "url_quote": quote,
    }
    environment.globals["span"] = _format_span
    return environment


TEMPLATES = _environment()


def _render(template: str, **values: Any) -> str:
    return TEMPLATES.get_template(f"{template}.html").render(values)


def login(labels: Labels, problem: str) -> str:
    return _render("login", labels=labels, problem=problem)


def header(labels: Labels, *, logout: bool) -> str:
    other = next(language for language in LANGUAGES if language != labels.language)
    return _render("header", labels=labels, logout=logout, other_language=other)


def player(file: str, media: PageMedia, labels: Labels, at_s: float = 0.0) -> str:
    """file: a file id of the session."""
    return _render("player", file=file, media=media, labels=labels, at_s=at_s)


def empty_player(text: str) -> str:
    return _render("empty_player", text=text)


def welcome(thumbnails: Mapping[str, str], labels: Labels, *, english_only: bool) -> str:
    """What stands in place of an empty conversation.

    Args:
        thumbnails: Of the example clips, by their names.
        english_only: Whether the model reads no other language.
    """
    sent = ENGLISH if english_only else labels
    return _render(
        "welcome",
        questions=[SuggestedQuestion(*pair) for pair in zip(labels.questions, sent.questions, strict=True)],
        examples=[
            ExampleCard(name, text.title, SuggestedQuestion(text.question, sent.examples[name].question), thumbnail)
            for name, thumbnail in thumbnails.items()
            for text in (labels.examples[name],)
        ],
        labels=labels,
        english_only=english_only,
    )


def choices(every: Sequence[Choice], shown: PageMedia | None, labels: Labels) -> str:
    """The list of videos, in which `shown` is chosen."""
    return _render("choices", choices=every, shown=shown, labels=labels)


def attached(media: Sequence[PageMedia], pending: Sequence[PageMedia], shown: PageMedia | None, labels: Labels) -> str:
    """What the conversation is about, and what goes with the next question."""
    return _render("attached", media=media, pending=pending, shown=shown, labels=labels)


def attach(labels: Labels, hours: float) -> str:
    """The button to add files. hours: how long uploads are kept."""
    return _render("attach", labels=labels, hours=hours)


def conversations(entries: Sequence[HistoryEntry], current: str, labels: Labels) -> str:
    """current: the id of the conversation that is shown."""
    return _render("conversations", entries=entries, current=current, labels=labels)


def progress(now: Progress, labels: Labels) -> str:
    """How far a piece of work is, and how long it still takes."""
    return _render("progress", now=now, labels=labels)


def with_links(answer: str) -> str:
    """Returns the answer as Markdown whose times are links, which page.js lets seek."""
    return TIME.sub(lambda time: f"[{time[0]}](#t={_seconds(time[0])})", answer)


def _seconds(time: str) -> int:
    return sum(int(part) * 60**place for place, part in enumerate(reversed(time.split(":"))))


def note(text: str) -> str:
    return _render("note", text=text)


def timeline(cells: Sequence[PreviewCell], labels: Labels) -> str:
    return _render("timeline", cells=cells, labels=labels)


def evidence(cells: Sequence[EvidenceCell], labels: Labels, *, several: bool) -> str:
    """several: whether the conversation has several videos, so that each cell must say which it is from."""
    return _render("evidence", cells=cells, labels=labels, several=several) if cells else ""


def shown(files: Sequence[ShownFile], labels: Labels) -> str:
    """What an answer shows beside its text."""
    return _render("shown", files=files, labels=labels)


def saves(conversation: PageConversation, labels: Labels) -> str:
    """Links to the conversation as files; empty if there is no conversation."""
    if not conversation.turns:
        return ""
    files = [
        SavedFile("conversation.json", "application/json", as_json(conversation), "JSON"),
        SavedFile("conversation.md", "text/markdown", as_markdown(conversation), "Markdown"),
    ]
    return _render("saves", files=files, labels=labels)


def captions(reply: CaptionReply, name: str, labels: Labels) -> str:
    stem = PurePath(name).stem
    files = [
        SavedFile(f"{stem}.srt", "text/plain", subtitles(reply.captions, "srt"), "SRT"),
        SavedFile(f"{stem}.vtt", "text/vtt", subtitles(reply.captions, "vtt"), "VTT"),
    ]
    return _render("captions", reply=reply, files=files, labels=labels)


def lanes(found: SensedVideo, labels: Labels) -> str:
    """Bars of speech and of each kind of thing, people first, with the boxes that page.js draws on the player."""
    named: dict[str, list[LaneBar]] = {}
    for track in sorted(found.tracks, key=lambda track: track.name != "person"):
        text = f"{track.name} {track.number}"
        named.setdefault(track.name, []).append(LaneBar(track.start_s, min(track.end_s, found.duration_s), text))
    spoken = [LaneBar(s.start_s, min(s.end_s, found.duration_s), s.text) for s in found.sentences]
    rows = [Lane(labels.speech, "speech", spoken)] if spoken else []
    rows += [Lane(name, "things", bars) for name, bars in list(named.items())[:MAX_LANES]]
    boxes = [
        {"label": f"{t.name} {t.number}", "times": t.times_s, "end": t.end_s, "boxes": [d.box for d in t.detections]}
        for t in found.tracks
    ]
    return _render("lanes", lanes=rows, boxes=boxes, duration_s=max(found.duration_s, LEAST_S), labels=labels)


def transcript(found: SensedVideo, name: str, labels: Labels) -> str:
    """What is said with its times, and how many things are seen at once."""
    counts = most_at_once(found.tracks)
    seen = ", ".join(f"{thing} {count}" for thing, count in counts.items()) or labels.nothing_seen
    heard = "" if found.sentences else labels.nobody_speaks if found.has_sound else labels.no_sound
    cues = [Cue(s.start_s, s.end_s, s.text) for s in found.sentences]
    stem = PurePath(name).stem
    kinds = (("srt", "text/plain"), ("vtt", "text/vtt"))
    files = [
        SavedFile(f"{stem}.{kind}", media, write_subtitles(cues, kind), kind.upper()) for kind, media in kinds if cues
    ]
    summary = " ".join(filter(None, (heard, labels.seen_at_once.format(seen=seen))))
    return _render("transcript", cues=cues, files=files, summary=summary, labels=labels)


def moments(cards: Sequence[MomentCard], labels: Labels) -> str:
    return _render("moments", cards=cards, labels=labels)


def storyboard(reply: SummaryReply, thumbnails: Sequence[str], labels: Labels) -> str:
    """thumbnails: one for each part."""
    return _render("storyboard", reply=reply, parts=list(zip(reply.parts, thumbnails, strict=True)), labels=labels)


def receipt(turn: PageTurn, frames: Sequence[UsedFrame], labels: Labels) -> str:
    """frames: those to show, which may be fewer than the model used."""
    return _render("receipt", question=turn.question, receipt=turn.receipt, frames=frames, labels=labels)
