"""Events of a stream as JSON, which `videollm watch --json` prints and the server and webhooks send, and as lines.

Times are those of the wall clock: with their offset from UTC in JSON, and local times of day in lines.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from videollm.cli.output import format_tags
from videollm.cli.shapes import tags_json
from videollm.models.notes import listed, object_counts

if TYPE_CHECKING:
    from videollm.live.memory import LiveSegment
    from videollm.live.session import LiveAnswer
    from videollm.live.standing import Alert
    from videollm.live.watcher import WatchEvent


def event_json(event: "WatchEvent") -> dict[str, Any]:
    """Returns an object whose field `event` names what it is: segment, speech, alert, clip, answer, problem, connected,
    lost or ended."""
    from videollm.live import reader, watcher
    from videollm.live.memory import LiveSegment
    from videollm.live.session import LiveAnswer
    from videollm.live.standing import Alert

    match event:
        case LiveSegment():
            return {"event": "segment", **segment_json(event)}
        case watcher.LiveSentence(start=start, end=end, text=text, language=language):
            return {"event": "speech", **_span(start, end), "text": text, "language": language}
        case Alert():
            return {"event": "alert", **alert_json(event)}
        case LiveAnswer():
            return {"event": "answer", **live_answer_json(event)}
        case watcher.LiveProblem(question=question, reason=reason):
            return {"event": "problem", "question": question, "reason": reason}
        case reader.ClipWritten(path=path, problem=problem, start=start, end=end):
            if problem:
                return {"event": "clip", "file": path, "problem": problem}
            return {"event": "clip", "file": path, "start": date_json(start), "end": date_json(end)}
        case reader.StreamConnected(clips=clips, sound=sound):
            return {"event": "connected", "clips": clips, "sound": sound}
        case reader.StreamLost(reason=reason, retry_s=retry_s):
            return {"event": "lost", "reason": reason, "retry_s": retry_s}
        case reader.StreamEnded(reason=reason):
            return {"event": "ended", "reason": reason}


def segment_json(segment: "LiveSegment") -> dict[str, Any]:
    seen = object_counts(segment.findings)
    return {**_span(segment.start, segment.end), "tags": tags_json(segment.tags), "objects": seen, "text": segment.text}


def alert_json(alert: "Alert") -> dict[str, Any]:
    value = {"when": alert.when, "state": alert.state, "time": date_json(alert.time), "score": round(alert.score, 3)}
    return value | {"answer": alert.answer, "clip": alert.clip}


def live_answer_json(answer: "LiveAnswer") -> dict[str, Any]:
    evidence = [{**_span(e.start, e.end), "score": e.score, "tags": list(e.tags)} for e in answer.evidence]
    receipt = {name: getattr(answer.receipt, name) for name in ("model", "segments", "prompt_tokens", "cached_tokens")}
    return {
        "text": answer.text,
        **_span(answer.start, answer.end),
        "evidence": evidence,
        "receipt": receipt | {"ms": answer.receipt.ms},
    }


def _span(start: float, end: float) -> dict[str, str]:
    return {"start": date_json(start), "end": date_json(end)}


def date_json(time: float) -> str:
    """Returns seconds since 1970 as a date with its offset, such as 2026-05-31T14:05:30.250+02:00."""
    return datetime.fromtimestamp(time).astimezone().isoformat(timespec="milliseconds")


def event_line(event: "WatchEvent") -> str:
    """Returns what is printed for people."""
    from videollm.live import reader, watcher
    from videollm.live.memory import LiveSegment
    from videollm.live.session import LiveAnswer
    from videollm.live.standing import Alert
    from videollm.live.window import format_clock

    match event:
        case LiveSegment():
            seen = "; ".join(filter(None, (listed(object_counts(event.findings)), format_tags(event.tags))))
            return "  ".join(filter(None, (format_clock(event.start), seen or "unclear", event.text)))
        case watcher.LiveSentence(start=start, text=text):
            return f'{format_clock(start)}  "{text}"'
        case Alert():
            said = f": {event.answer}" if event.answer else f" ({event.score:.2f})"
            return f"{format_clock(event.time)}  ALERT {event.when}: {event.state}{said}"
        case LiveAnswer():
            spans = [f"{format_clock(e.start)}-{format_clock(e.end)} ({e.score:.2f})" for e in event.evidence]
            return f"{event.text}\nevidence: {', '.join(spans) or 'none'}"
        case watcher.LiveProblem(reason=reason):
            return reason
        case reader.ClipWritten(path=path, problem=problem):
            return f"no clip {path}: {problem}" if problem else f"wrote {path}"
        case reader.StreamConnected():
            return "connected"
        case reader.StreamLost(reason=reason, retry_s=retry_s):
            return f"lost: {reason}; trying again in {retry_s:g} s"
        case reader.StreamEnded(reason=reason):
            return f"ended: {reason}"
