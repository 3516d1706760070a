"""Parts of the Live tab as HTML, see `serve.web.render`. Times are those of the server's clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from serve.runtime.live import StreamNews, WatchedStream
from serve.web.labels import Labels
from serve.web.render import TEMPLATES

MAX_CELLS, MAX_ALERTS = 24, 24  # latest segments and alerts that are shown
_SHOWN_ALERTS = ("alert", "problem", "lost")


@dataclass(frozen=True, slots=True)
class LiveCell:
    """A part of a stream with its picture. start, end: in seconds since 1970. picture: a data: URL, which may be
    empty."""

    start: float
    end: float
    tags: Sequence[tuple[str, float]]
    picture: str


@dataclass(frozen=True, slots=True)
class LiveTurn:
    """A question about a stream, and its answer so far."""

    question: str
    answer: str = ""
    evidence: tuple[LiveCell, ...] = ()


def streams(known: Sequence[WatchedStream], shown: str, labels: Labels) -> str:
    """The streams that are watched, of which one is shown."""
    return TEMPLATES.get_template("live_streams.html").render(streams=known, shown=shown, labels=labels)


def screen(stream: WatchedStream, labels: Labels) -> str:
    """The latest picture of a stream, and how it is going."""
    reply = stream.reply
    return TEMPLATES.get_template("live_screen.html").render(
        picture=stream.pictures.latest, stream=reply, seen_at=stream.watcher.session.latest, labels=labels
    )


def alerts(stream: WatchedStream, labels: Labels) -> str:
    """What was waited for and happened, the latest first."""
    return TEMPLATES.get_template("live_alerts.html").render(
        alerts=_latest(stream, _SHOWN_ALERTS, MAX_ALERTS), wanted=stream.request.when, labels=labels
    )


def timeline(stream: WatchedStream, labels: Labels) -> str:
    """The latest segments of a stream and what was said, the latest first."""
    return TEMPLATES.get_template("live_timeline.html").render(
        cells=_latest(stream, ("segment", "speech"), MAX_CELLS), labels=labels
    )


def answers(turns: Sequence[LiveTurn], working: str, labels: Labels) -> str:
    """Questions and answers, the latest first. working: what stands in place of an answer that has not begun."""
    return TEMPLATES.get_template("live_answers.html").render(
        turns=list(reversed(turns)), working=working, labels=labels
    )


def _latest(stream: WatchedStream, kinds: tuple[str, ...], most: int) -> list[StreamNews]:
    return [news for news in reversed(stream.events) if news.event["event"] in kinds][:most]
