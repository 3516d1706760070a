"""Pieces of the page as HTML. Whatever comes from a video, a model or a user is escaped here.

A button with `data-seek` takes the player to that second; one with `data-open` opens a video of the shelf at
`data-at` seconds (page.js).
"""

from html import escape
from pathlib import PurePath
from urllib.parse import quote

from serve.api.schemas import CaptionReply, EvidenceOut, SummaryReply
from serve.web.conversation import PageVideo, Turn, as_json, as_markdown, subtitles
from serve.web.labels import LANGUAGES, Labels
from videollm.features.encode import SegmentFeatures, format_time

Tags = list[tuple[str, float]]

NO_PICTURE = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 9'/%3E"


def header(labels: Labels, *, leave: bool) -> str:
    out = f'<a class="vl-link" href="/logout">{labels.leave}</a>' if leave else ""
    return (
        f'<header class="vl-header"><div><h1>videollm</h1><p>{labels.tagline}</p></div><nav>'
        f'<a class="vl-link" href="{labels.other_path}" hreflang="{_other(labels)}">{labels.other}</a>'
        f'<button type="button" class="vl-link" data-theme title="{labels.theme}" aria-label="{labels.theme}">'
        "◐</button>"
        f"{out}</nav></header>"
    )


def _other(labels: Labels) -> str:
    return next(language for language in LANGUAGES if language != labels.language)


def player(file: str, name: str, labels: Labels, at_s: float = 0.0) -> str:
    """file: a session's file id."""
    start = f"#t={at_s:g}" if at_s else ""
    return (
        f'<video class="vl-player" controls playsinline preload="auto" src="/media/{quote(file)}{start}" '
        f'aria-label="{escape(name, quote=True)}"></video>'
        f'<p class="vl-unplayable vl-note" hidden>{labels.unplayable}</p>'
    )


def waiting_player() -> str:
    return '<div class="vl-player vl-skeleton"></div>'


def dropzone(labels: Labels, hours: float) -> str:
    return (
        f'<label class="vl-drop" tabindex="0"><input type="file" accept="video/*,.mkv,.avi,.ts" tabindex="-1">'
        f"<span>{labels.drop}</span>"
        f'<progress max="1" value="0" hidden aria-label="{labels.uploading}"></progress></label>'
        f'<p class="vl-alert" role="alert" data-text="{labels.upload_failed}"></p>'
        f'<p class="vl-note">{labels.uploads_note.format(hours=f"{hours:g}")}</p>'
    )


def timeline(segments: list[SegmentFeatures], pictures: list[str], labels: Labels) -> str:
    cells = []
    for segment, picture in zip(segments, pictures, strict=True):
        tags = [(tag.word, tag.prob) for tag in segment.tags]
        cells.append(
            f'<button type="button" class="vl-cell" data-seek="{segment.start_s:g}" data-end="{segment.end_s:g}" '
            f'style="flex-grow:{segment.end_s - segment.start_s:g}" title="{_spoken(tags)}">'
            f'<img src="{picture}" alt=""><span class="vl-time">{_span(segment.start_s, segment.end_s)}</span>'
            f"{_tags(tags[:2])}</button>"
        )
    return f'<section aria-label="{labels.timeline}" class="vl-timeline">{"".join(cells)}</section>'


def empty(text: str) -> str:
    return f'<p class="vl-note vl-empty">{text}</p>'


def chips(evidence: list[EvidenceOut], pictures: list[str], labels: Labels) -> str:
    made = "".join(
        f'<button type="button" class="vl-chip" data-seek="{one.start:g}" title="{_spoken(one.tags)}">'
        f'<img src="{picture}" alt=""><span><span class="vl-time">{_span(one.start, one.end)}</span>'
        f"{_tags(one.tags[:1])}</span></button>"
        for one, picture in zip(evidence, pictures, strict=True)
    )
    return f'<div class="vl-chips" role="group" aria-label="{labels.evidence}">{made}</div>'


def saves(watched: PageVideo, labels: Labels) -> str:
    """Links to the conversation as files; nothing where there is none."""
    if not watched.turns:
        return ""
    stem = PurePath(watched.name).stem
    return (
        f'<p class="vl-saves vl-note">{labels.save_chat} '
        f"{_file(f'{stem}.chat.json', 'application/json', as_json(watched), 'JSON')}"
        f"{_file(f'{stem}.chat.md', 'text/markdown', as_markdown(watched), 'Markdown')}</p>"
    )


def captions(reply: CaptionReply, name: str, labels: Labels) -> str:
    rows = "".join(
        f'<li><button type="button" class="vl-time vl-jump" data-seek="{one.start:g}">{_span(one.start, one.end)}'
        f"</button><span>{escape(one.text)}</span></li>"
        for one in reply.captions
    )
    stem = PurePath(name).stem
    files = "".join(
        _file(f"{stem}.{kind}", "text/vtt" if kind == "vtt" else "text/plain", subtitles(reply.captions, kind), label)
        for kind, label in (("srt", "SRT"), ("vtt", "VTT"))
    )
    return (
        f'<article class="vl-card"><h3>{labels.whole}</h3><p>{escape(reply.text)}</p></article>'
        f'<ol class="vl-captions">{rows}</ol><p class="vl-saves vl-note">{labels.save} {files}</p>'
    )


def moment(name: str | None, video: str, start: float, end: float, score: float, tags: Tags, picture: str) -> str:
    """name: of the video on the shelf, None for the one that is shown. video: what to call it."""
    action = f'data-seek="{start:g}"' if name is None else f'data-open="{name}" data-at="{start:g}"'
    return (
        f'<button type="button" class="vl-card vl-moment" {action}><img src="{picture}" alt="">'
        f'<span class="vl-body"><span class="vl-row"><span class="vl-time">{_span(start, end)}</span>'
        f'<span class="vl-score">{score:.2f}</span></span>'
        f'<span class="vl-name">{escape(video)}</span>{_tags(tags[:3])}</span></button>'
    )


def grid(cards: list[str]) -> str:
    return f'<div class="vl-grid">{"".join(cards)}</div>'


def storyboard(reply: SummaryReply, pictures: list[str], labels: Labels) -> str:
    cards = [
        f'<article class="vl-card vl-part"><button type="button" data-seek="{part.start:g}">'
        f'<img src="{picture}" alt=""><span class="vl-time">{_span(part.start, part.end)}</span></button>'
        f"<p>{escape(part.text)}</p>{_tags(part.tags[:3])}"
        f'<meter min="0" max="1" value="{part.share:.3f}" title="{_share(part.share, labels)}">'
        f"{_share(part.share, labels)}</meter></article>"
        for part, picture in zip(reply.parts, pictures, strict=True)
    ]
    return f'<article class="vl-card"><h3>{labels.whole}</h3><p>{escape(reply.text)}</p></article>{grid(cards)}'


def _share(share: float, labels: Labels) -> str:
    return labels.share.format(percent=f"{share:.0%}")


def saw(turn: Turn, times: list[float], pictures: list[str], labels: Labels) -> str:
    """times, pictures: of the frames to show, of all that were seen."""
    receipt = turn.receipt
    assert receipt is not None
    video = receipt.videos[0]
    frames = [labels.frames_seen.format(count=video.frames)]
    if video.lost_frames:
        frames.append(labels.frames_lost.format(count=video.lost_frames))
    segments = [str(receipt.segments)]
    if receipt.merged_from:
        segments.append(labels.merged_from.format(count=receipt.merged_from))
    tokens = [
        labels.visual_tokens.format(count=receipt.visual_tokens),
        labels.prompt_tokens.format(count=receipt.prompt_tokens),
        labels.cached_tokens.format(count=receipt.cached_tokens),
        labels.completion_tokens.format(count=receipt.completion_tokens),
    ]
    facts = {
        labels.saw_answer: escape(turn.question),
        labels.model: f"{escape(receipt.model)} <code>{receipt.config_sha[:12]}</code>",
        labels.temperature: f"{receipt.temperature:g}",
        labels.saw_frames: ", ".join(frames),
        labels.saw_range: _span(video.start, video.end),
        labels.saw_segments: ", ".join(segments),
        labels.saw_tokens: ", ".join(tokens),
        labels.saw_time: ", ".join(f"{labels.ms[step]} {ms:,.0f} ms" for step, ms in receipt.ms.items()),
    }
    rows = "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in facts.items())
    cut = f'<p class="vl-note">{labels.cut}</p>' if receipt.truncated else ""
    shown = "".join(
        f'<button type="button" class="vl-frame" data-seek="{time:g}"><img src="{picture}" alt="">'
        f'<span class="vl-time">{format_time(time, 1)}</span></button>'
        for time, picture in zip(times, pictures, strict=True)
    )
    count = labels.frames_shown.format(shown=len(times), count=len(video.times))
    return f'<dl class="vl-facts">{rows}</dl>{cut}<p class="vl-note">{count}</p><div class="vl-frames">{shown}</div>'


def _span(start_s: float, end_s: float) -> str:
    return f"{format_time(start_s)}–{format_time(end_s)}"


def _tags(tags: Tags) -> str:
    return "".join(f'<span class="vl-tag">{escape(word)} <i>{prob:.0%}</i></span>' for word, prob in tags)


def _spoken(tags: Tags) -> str:
    return escape(", ".join(f"{word} {prob:.0%}" for word, prob in tags), quote=True)


def _file(name: str, kind: str, text: str, label: str) -> str:
    """A link that holds its file, so that the server need not keep it."""
    return (
        f'<a class="vl-save" download="{escape(name, quote=True)}" href="data:{kind};charset=utf-8,{quote(text)}">'
        f"{label}</a>"
    )
