"""Answers about when things are shown and in which order: from tracks, tags and scores, with the times of these.

What is not known to be shown gets no time: nothing is first, before or after something that was not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from videollm.chat.answer import CANNOT_TELL, NOBODY, NOT_LOOKED, Grounded
from videollm.chat.order_questions import OrderQuestion
from videollm.chat.questions import is_person
from videollm.chat.sightings import LEAST_AGREED, Sighting, cited, seen_counts, shown, tagged
from videollm.datasets.schema import format_time
from videollm.encoders.base import FrameEncoder
from videollm.encoders.tags import is_below
from videollm.features.encode import SegmentFeatures
from videollm.models.notes import PERSON_SCORE, counted
from videollm.models.nouns import noun
from videollm.senses.finding import Findings

SPANS = 5  # times that an answer lists, at most
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class SeenShot:
    """A part of the video in which the same is seen: words of tags, and how many of each thing. Nothing where neither
    is known."""

    start_s: float
    end_s: float
    words: tuple[str, ...]
    counts: dict[str, int]
    segments: tuple[SegmentFeatures, ...]

    @property
    def text(self) -> str:
        words = (noun(w) if self.counts.get(w, 1) == 1 else counted(w, self.counts[w]) for w in self.words)
        things = (counted(name, count) for name, count in self.counts.items() if name not in self.words)
        return ", ".join([*words, *things])

    @property
    def sightings(self) -> list[Sighting]:
        return [
            (s, max([t.prob for t in s.tags] + [f.score for f in s.findings.of("object")], default=0.0))
            for s in self.segments
        ]


def ordered(
    encoder: FrameEncoder, asked: OrderQuestion, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    """The answer to a question about times or order."""
    match asked.asks:
        case "length":
            return Grounded(f"{format_time(segments[-1].end_s - segments[0].start_s)}.")
        case "when" | "how long":
            return _times(encoder, asked, findings, segments)
        case "after" | "before":
            return _beside(encoder, asked, findings, segments)
        case "comes after" | "comes before":
            return _compared(encoder, asked, findings, segments)
        case "first" | "last" if asked.other:
            return _one_of_two(encoder, asked, findings, segments)
    if asked.asks == "moment":
        end_s = asked.start_s + 1 if asked.end_s is None else asked.end_s
        inside = [s for s in segments if s.start_s < end_s and s.end_s > asked.start_s]
        if not inside:
            return Grounded(f"The video has ended before {format_time(asked.start_s)}.")
        return _told(shots(encoder, inside))
    seen = shots(encoder, segments)
    match asked.asks:
        case "first":
            return _told(seen[:1])
        case "last":
            return _told(seen[-1:])
        case "timeline":
            return _timeline(seen)
        case "things":
            return _things(seen)
        case _:
            return _change(seen)


def shots(encoder: FrameEncoder, segments: Sequence[SegmentFeatures]) -> list[SeenShot]:
    """Returns what is seen, in order. Neighbouring segments that show the same are one shot."""
    made: list[SeenShot] = []
    for segment in segments:
        words, counts = tuple(t.word for t in segment.tags), seen_counts(encoder, segment.findings, [segment])
        shot = SeenShot(segment.start_s, segment.end_s, words, counts, (segment,))
        joined = _joined(encoder, made[-1], shot) if made else None
        made = [*made, shot] if joined is None else [*made[:-1], joined]
    return made


def _joined(encoder: FrameEncoder, first: SeenShot, second: SeenShot) -> SeenShot | None:
    """One shot of two that may show the same, such as "llama" and "mammal" or "plant" and "1 plant"; else None.

    Words are as special as they are known.
    """
    names = [{*shot.words, *shot.counts} for shot in (first, second)]
    if names[0] == names[1] and all(second.counts.get(n, c) == c for n, c in first.counts.items()):
        words = first.words
    elif first.counts == second.counts and len(first.words) == len(second.words):
        pairs = [*zip(first.words, second.words, strict=True)]
        if not all(is_below(a, b, encoder.vocabulary) or is_below(b, a, encoder.vocabulary) for a, b in pairs):
            return None
        words = tuple(a if is_below(a, b, encoder.vocabulary) else b for a, b in pairs)
    else:
        return None
    counts = first.counts | second.counts
    return SeenShot(first.start_s, second.end_s, words, counts, (*first.segments, *second.segments))


def spans_of(
    encoder: FrameEncoder, thing: str, findings: Findings, segments: Sequence[SegmentFeatures]
) -> tuple[list[Span], list[Sighting]]:
    """Returns when a thing is seen, in order, and the segments that show it. Both are empty where it is not known."""
    name = "person" if is_person(thing) else thing
    if name in seen_counts(encoder, findings, segments):
        least = PERSON_SCORE if name == "person" else LEAST_AGREED
        tracks = [f for f in findings.of("object") if f.text == name and f.score >= least]
        sightings = [
            (s, max((f.score for f in tracks if f in s.findings.found), default=0.0))
            for s in segments
            if any(f in s.findings.found for f in tracks)
        ]
        return _united([(f.start_s, f.end_s) for f in tracks]), sightings
    if name == "person":
        return [], []
    sightings = shown(encoder, thing, segments) or [(s, tag.prob) for s, tag in tagged(encoder, thing, segments)]
    return _united([(s.start_s, s.end_s) for s, _ in sightings]), sightings


def _united(spans: Sequence[Span]) -> list[Span]:
    united: list[Span] = []
    for start_s, end_s in sorted(spans):
        if united and start_s <= united[-1][1]:
            united[-1] = united[-1][0], max(united[-1][1], end_s)
        else:
            united.append((start_s, end_s))
    return united


def _times(
    encoder: FrameEncoder, asked: OrderQuestion, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    spans, sightings = spans_of(encoder, asked.thing, findings, segments)
    if not spans:
        return _unseen(asked.thing, findings)
    listed = " and ".join(f"from {format_time(a)} to {format_time(b)}" for a, b in spans[:SPANS])
    listed += " and later" if len(spans) > SPANS else ""
    if asked.asks == "how long":
        seconds = round(sum(b - a for a, b in spans))
        return Grounded(f"{seconds} second{'s' if seconds != 1 else ''}, {listed}.", cited(sightings))
    return Grounded(f"{listed[0].upper()}{listed[1:]}.", cited(sightings))


def _unseen(thing: str, findings: Findings) -> Grounded:
    if not is_person(thing):
        return Grounded(CANNOT_TELL)
    return Grounded(NOBODY if "objects" in findings.senses else NOT_LOOKED)


def _beside(
    encoder: FrameEncoder, asked: OrderQuestion, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    """ "What comes after the cat?": the shot that follows the last one in which it is seen."""
    spans, _ = spans_of(encoder, asked.thing, findings, segments)
    if not spans:
        return _unseen(asked.thing, findings)
    if asked.asks == "after":
        rest = [s for s in segments if s.start_s >= spans[-1][1] - 1e-3]
        return _told(shots(encoder, rest)[:1]) if rest else Grounded("Nothing comes after it.")
    rest = [s for s in segments if s.end_s <= spans[0][0] + 1e-3]
    return _told(shots(encoder, rest)[-1:]) if rest else Grounded("Nothing comes before it.")


def _compared(
    encoder: FrameEncoder, asked: OrderQuestion, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    """ "Does the cat appear before the rocket?": by when each is first seen."""
    (one, seen), (other, also) = (spans_of(encoder, thing, findings, segments) for thing in (asked.thing, asked.other))
    if not one or not other:
        return Grounded(CANNOT_TELL)
    earlier, later = one[0][0] < other[0][0], one[0][0] > other[0][0]
    is_so = earlier if asked.asks == "comes before" else later
    return Grounded("Yes." if is_so else "No.", cited([*seen, *also]))


def _one_of_two(
    encoder: FrameEncoder, asked: OrderQuestion, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    """ "What comes first, the cat or the rocket?": by when each is first seen."""
    found = {thing: spans_of(encoder, thing, findings, segments) for thing in (asked.thing, asked.other)}
    starts = {thing: spans[0][0] for thing, (spans, _) in found.items() if spans}
    if len(starts) < 2:
        return Grounded(CANNOT_TELL)
    if len(set(starts.values())) == 1:
        return Grounded("Both at once.", cited([s for _, sightings in found.values() for s in sightings]))
    chosen = (min if asked.asks == "first" else max)(starts, key=lambda thing: starts[thing])
    return Grounded(_sentence(noun(chosen)), cited(found[chosen][1]))


def _told(seen: Sequence[SeenShot]) -> Grounded:
    """What is seen in shots, in order."""
    texts = dict.fromkeys(shot.text for shot in seen if shot.text)
    if not texts:
        return Grounded(CANNOT_TELL)
    return Grounded(_sentence(", then ".join(texts)), cited([s for shot in seen if shot.text for s in shot.sightings]))


def _timeline(seen: Sequence[SeenShot]) -> Grounded:
    if not any(shot.text for shot in seen):
        return Grounded(CANNOT_TELL)
    lines = (f"{format_time(s.start_s)}-{format_time(s.end_s)} {s.text or 'unclear'}" for s in seen)
    return Grounded(f"{'; '.join(lines)}.", cited([s for shot in seen if shot.text for s in shot.sightings]))


def _things(seen: Sequence[SeenShot]) -> Grounded:
    """How many different things can be named, and which."""
    names = dict.fromkeys(name for shot in seen for name in (*map(noun, shot.words), *map(noun, shot.counts)))
    if not names:
        return Grounded(CANNOT_TELL)
    return Grounded(
        f"I can name {len(names)}: {', '.join(names)}.", cited([s for shot in seen for s in shot.sightings])
    )


def _change(seen: Sequence[SeenShot]) -> Grounded:
    named = [shot for shot in seen if shot.text]
    sightings = [s for shot in named for s in shot.sightings]
    if named and named[0].text != named[-1].text:
        return Grounded(f"Yes, from {named[0].text} to {named[-1].text}.", cited(sightings))
    if len(named) == len(seen) == 1:
        return Grounded(f"No, it shows {named[0].text} throughout.", cited(sightings))
    return Grounded(CANNOT_TELL)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
