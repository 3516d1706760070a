"""Parts of the page as HTML, from the templates beside this module.

Jinja escapes whatever comes from a video, a model or a user. A button with `data-seek` takes the player to that second;
one with `data-open` opens another video at `data-at` seconds (see page.js).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from serve.api.schemas.videos import CaptionReply, SummaryReply
from serve.web.conversation import PageTurn, PageVideo, as_json, as_markdown, subtitles
from serve.web.labels import LANGUAGES, Labels
from videollm.cli.shapes import TagsJSON
from videollm.datasets.schema import format_time

NO_THUMBNAIL = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 9'/%3E"


@dataclass(frozen=True, slots=True)
class PreviewCell:
    """A part of a video with a thumbnail of it, a data: URL."""

    start_s: float
    end_s: float
    tags: TagsJSON
    thumbnail: str


@dataclass(frozen=True, slots=True)
class MomentCard:
    """A moment that a search found. name: of its video. choice: the name by which the catalog opens it, None for the
    video that is shown."""

    name: str
    choice: str | None
    score: float
    cell: PreviewCell


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
        "number": lambda value: f"{value:g}",
        "percent": lambda value: f"{value:.0%}",
        "time": format_time,
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


def player(file: str, name: str, labels: Labels, at_s: float = 0.0) -> str:
    """file: a file id of the session."""
    return _render("player", file=file, name=name, labels=labels, at_s=at_s)


def empty_player() -> str:
    return '<div class="vl-player vl-skeleton"></div>'


def dropzone(labels: Labels, hours: float) -> str:
    """hours: how long uploads are kept."""
    return _render("dropzone", labels=labels, hours=hours)


def note(text: str) -> str:
    return _render("note", text=text)


def timeline(cells: Sequence[PreviewCell], labels: Labels) -> str:
    return _render("timeline", cells=cells, labels=labels)


def evidence(cells: Sequence[PreviewCell], labels: Labels) -> str:
    return _render("evidence", cells=cells, labels=labels)


def saves(video: PageVideo, labels: Labels) -> str:
    """Links to the conversation as files; empty if there is no conversation."""
    if not video.turns:
        return ""
    stem = PurePath(video.name).stem
    files = [
        SavedFile(f"{stem}.chat.json", "application/json", as_json(video), "JSON"),
        SavedFile(f"{stem}.chat.md", "text/markdown", as_markdown(video), "Markdown"),
    ]
    return _render("saves", files=files, labels=labels)


def captions(reply: CaptionReply, name: str, labels: Labels) -> str:
    stem = PurePath(name).stem
    files = [
        SavedFile(f"{stem}.srt", "text/plain", subtitles(reply.captions, "srt"), "SRT"),
        SavedFile(f"{stem}.vtt", "text/vtt", subtitles(reply.captions, "vtt"), "VTT"),
    ]
    return _render("captions", reply=reply, files=files, labels=labels)


def moments(cards: Sequence[MomentCard]) -> str:
    return _render("moments", cards=cards)


def storyboard(reply: SummaryReply, thumbnails: Sequence[str], labels: Labels) -> str:
    """thumbnails: one for each part."""
    return _render("storyboard", reply=reply, parts=list(zip(reply.parts, thumbnails, strict=True)), labels=labels)


def receipt(turn: PageTurn, times_s: Sequence[float], thumbnails: Sequence[str], labels: Labels) -> str:
    """times_s, thumbnails: of the frames to show, which may be fewer than the model used."""
    frames = list(zip(times_s, thumbnails, strict=True))
    return _render("receipt", question=turn.question, receipt=turn.receipt, frames=frames, labels=labels)
