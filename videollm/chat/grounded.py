"""Answers that findings and scores give without the language model: counts, presence, people and speech.

A small language model repeats what is likely and not what was found. So a count comes from tracks only, quoted words
from the transcript only, "No." only from a sense that looked and did not find, and what no sense knows is said to be
unknown. `videollm.chat.questions` tells which questions these are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from videollm.chat.answer import Evidence
from videollm.chat.questions import PEOPLE, Question, asks_yes_or_no, is_person, one_by_one, read_question, singular
from videollm.datasets.schema import format_time
from videollm.encoders.base import FrameEncoder
from videollm.encoders.presence import UNLIKELY, presence, shown_in
from videollm.encoders.tags import Tag, is_below
from videollm.features.encode import SegmentFeatures
from videollm.models.notes import counted, cut, listed, object_counts
from videollm.senses.detector import NAMES
from videollm.senses.finding import Finding, Findings

CANNOT_TELL = "I cannot tell from this video."
NOBODY, NOT_LOOKED = "Nobody was seen.", "I cannot tell: nobody looked for people and things (the sense is off)."
SILENT, NO_SOUND = "Nobody speaks.", "The video has no sound."
NOT_HEARD = "I cannot tell: nobody listened to the sound (the sense is off)."
ONLY_SPEECH = "I cannot tell: of all sounds only speech is recognised."
NOT_READ = "I cannot tell: nobody read what is written (the sense is off)."
NOTHING_WRITTEN, NO_KNOWN_SOUND = "No text was read.", "No sound was recognised."
HELP = "Ask me about the video: what and who is seen, how many, when, and what is said."
INTRODUCTION = "I answer questions about a video: what and who is seen, how many, when, and what is said. Add a video."
EVIDENCE = 3  # segments that an answer cites, at most
LEAST_AGREED = 0.6  # mean score of a track that is told where the frame encoder shows the thing too
QUOTED_CHARACTERS = 400  # of speech or writing in an answer
SOUNDS = 5  # that an answer lists, at most


@dataclass(frozen=True, slots=True)
class Grounded:
    """text: the answer, or what `completed` adds to the language model's. evidence: where it comes from. counts: with
    a description, the things that were seen."""

    text: str
    evidence: tuple[Evidence, ...] = ()
    counts: dict[str, int] | None = None

    @property
    def describes(self) -> bool:
        return self.counts is not None

    def completed(self, text: str) -> str:
        """The language model's description, with the people, things and words that it lacks."""
        lacking = {name: count for name, count in (self.counts or {}).items() if not re.search(rf"\b{name}\b", text)}
        seen = f"{listed(lacking)} {_be(sum(lacking.values()))} seen." if lacking else ""
        kept = "" if text == CANNOT_TELL and (seen or self.text) else text
        return " ".join(filter(None, (kept, seen, self.text)))


def ground(
    encoder: FrameEncoder, question: str, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded | None:
    """The answer to a question about one video; None where it is the language model's."""
    asked = read_question(question)
    if asked is None:
        return None
    if asked.time_s is not None:
        findings = findings.part(asked.time_s, asked.time_s + 1)
        segments = [s for s in segments if s.start_s <= asked.time_s < s.end_s]
        if not segments:
            return Grounded(f"The video has ended before {format_time(asked.time_s)}.")
    if asked.asks == "greeting":
        return Grounded(HELP)
    if asked.asks == "unknown":
        return Grounded(CANNOT_TELL)
    if asked.asks == "written":
        return _written(findings, segments)
    if asked.asks in ("speech", "speaks", "when", "heard", "sound"):
        return _sound(asked, findings, segments)
    if asked.asks == "exists":
        return _exists(encoder, asked, findings, segments)
    if asked.asks == "which":
        return _which(encoder, asked.thing, findings, segments)
    if asked.asks == "describe":
        return _described(encoder, findings, segments)
    return _people_or_count(encoder, asked, findings, segments)


def _counts(encoder: FrameEncoder, findings: Findings, segments: Sequence[SegmentFeatures]) -> dict[str, int]:
    """How many of each thing are seen: of those that the detector is sure of, and of those of which it is less sure
    and the frame encoder shows them too."""
    sure = object_counts(findings)
    return {
        name: count
        for name, count in object_counts(findings, LEAST_AGREED).items()
        if name in sure or _shown(encoder, name, segments)
    }


def _sound(asked: Question, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    said = [f for f in findings.of("speech") if asked.quoted.lower() in f.text.lower()]
    if not findings.sound:
        return Grounded(NO_SOUND)
    if asked.asks in ("heard", "sound") and "sounds" in findings.senses:
        return _other_sounds(asked, findings, segments)
    if "speech" not in findings.senses:
        return Grounded(NOT_HEARD)
    if asked.asks == "sound":
        return Grounded(ONLY_SPEECH)
    if not said:
        return Grounded("That is not said." if asked.quoted else SILENT)
    if asked.asks == "when":
        text = f"From {format_time(said[0].start_s)} to {format_time(said[-1].end_s)}."
    else:
        text = _yes_from(said) if asks_yes_or_no(asked.thing) else quoted(said)
    return Grounded(text, _evidence(said, segments))


def _other_sounds(asked: Question, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    """ "What can be heard?", "Is there music?": what is said, and the sounds that are recognised."""
    sounds, said = findings.of("sound"), findings.of("speech")
    if asks_yes_or_no(asked.thing):
        found = sorted([*said, *sounds], key=lambda f: f.start_s) if asked.asks == "heard" else _named(sounds, asked)
        return Grounded(_yes_from(found), _evidence(found, segments)) if found else Grounded(CANNOT_TELL)
    spans = [f"{f.text.lower()} ({format_time(f.start_s)} to {format_time(f.end_s)})" for f in sounds[:SOUNDS]]
    text = f"Sounds: {', '.join(spans)}." if spans else NO_KNOWN_SOUND
    if said:
        text = f"{quoted(said)} {text if spans else ''}".strip()
    return Grounded(text, _evidence([*said, *sounds], segments))


def _written(findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    """ "What does the sign say?": the lines that were read, with the time at which the first is shown."""
    if "text" not in findings.senses:
        return Grounded(NOT_READ)
    lines = findings.of("text")
    if not lines:
        return Grounded(NOTHING_WRITTEN)
    text = cut(" / ".join(dict.fromkeys(f.text for f in lines)), QUOTED_CHARACTERS)
    return Grounded(f'At {format_time(lines[0].start_s)} it reads: "{text}"', _evidence(lines, segments))


def _people_or_count(
    encoder: FrameEncoder, asked: Question, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    """ "Who is there?", "How many ... are there?" and "Is there a man?"."""
    person = asked.asks == "who" or is_person(asked.thing)
    name = "person" if person else asked.thing
    if name not in NAMES:
        return Grounded(CANNOT_TELL)
    if "objects" not in findings.senses:
        return Grounded(NOT_LOOKED)
    count = _counts(encoder, findings, segments).get(name, 0)
    if not count:
        return Grounded(NOBODY if person else CANNOT_TELL)
    number = counted(name, count)
    seen = [f for f in findings.of("object") if f.text == name]
    if asked.asks == "exists":
        known = asked.thing in PEOPLE
        text = f"Yes, {number}." if known else f"{number} {_be(count)} seen; I cannot tell more about them."
    elif asked.asks == "who":
        text = f"{number}; I cannot tell who."
    elif person and asked.thing not in PEOPLE:
        text = f"{number}; I cannot tell how many of them fit."
    else:
        text = f"{number}{' at once, at most' if len({f.track for f in seen}) > count else ''}."
    return Grounded(text, _evidence(seen, segments))


def _exists(
    encoder: FrameEncoder, asked: Question, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    """ "Is there a cat?", "Is there a cat or a dog?": of several things each is told by itself."""
    answers = {}
    for name in map(singular, one_by_one(asked.thing)):
        one = replace(asked, thing=name)
        found = _people_or_count(encoder, one, findings, segments) if is_person(name) else None
        answers[name] = found or _thing(encoder, name, findings, segments)
    if len(answers) == 1:
        return answers.popitem()[1]
    text = " ".join(f"{name.capitalize()}: {answer.text}" for name, answer in answers.items())
    return Grounded(text, tuple(dict.fromkeys(e for answer in answers.values() for e in answer.evidence))[:EVIDENCE])


def _which(encoder: FrameEncoder, kind: str, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    """ "What animal is shown?": the tags below the word in the encoder's vocabulary, or else the things that are seen.

    Names of the detector that the vocabulary does not have are below nothing.
    """
    found = _tagged(encoder, kind, segments)
    names = dict.fromkeys(tag.word for _, tag in found if tag.word != kind)
    if names:
        text = ", then ".join(names)
        return Grounded(f"{text[0].upper()}{text[1:]}.", _best(found))
    known = encoder.vocabulary.words
    counts = {
        name: count
        for name, count in _counts(encoder, findings, segments).items()
        if name in known and is_below(name, kind, encoder.vocabulary)
    }
    if not counts:
        return Grounded(CANNOT_TELL)
    return Grounded(f"{listed(counts)}.", _evidence([f for f in findings.of("object") if f.text in counts], segments))


def evidence_for(
    encoder: FrameEncoder, thing: str, findings: Findings, segments: Sequence[SegmentFeatures]
) -> tuple[Evidence, ...]:
    """The segments that show a thing: by tracks that are sure enough to be told, by the frame encoder, or by tags."""
    if thing in object_counts(findings):
        return _evidence([f for f in findings.of("object") if f.text == thing], segments)
    return _shown(encoder, thing, segments) or _best(_tagged(encoder, thing, segments))


def _thing(encoder: FrameEncoder, thing: str, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    if shown := evidence_for(encoder, thing, findings, segments):
        return Grounded("Yes.", shown)
    tracks = [f for f in findings.of("object") if f.text == thing]
    looked = "objects" in findings.senses and thing in NAMES and not tracks
    unlikely = looked and float(presence(encoder, thing, _embeds(segments))[0].max()) < UNLIKELY
    return Grounded("No." if unlikely else CANNOT_TELL)


def _described(encoder: FrameEncoder, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded | None:
    said, counts = findings.of("speech"), _counts(encoder, findings, segments)
    if not counts and not said:
        return None
    seen = [f for f in findings.of("object") if f.text in counts]
    return Grounded(quoted(said) if said else "", _evidence([*seen, *said], segments), counts)


def quoted(said: Sequence[Finding]) -> str:
    """What is said, with the time at which it begins; cut at a word where it is long."""
    text = cut(" ".join(f.text for f in said), QUOTED_CHARACTERS)
    return f'At {format_time(said[0].start_s)} someone says: "{text}"'


def _yes_from(found: Sequence[Finding]) -> str:
    return f"Yes, from {format_time(found[0].start_s)} on."


def _named(sounds: Sequence[Finding], asked: Question) -> list[Finding]:
    """The sounds that the question names. AudioSet's names list several words, as in "Male speech, man speaking"."""
    return [
        sound
        for sound in sounds
        if any(re.search(rf"\b{re.escape(name)}\b", asked.thing) for name in sound.text.lower().split(", "))
    ]


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _tagged(encoder: FrameEncoder, word: str, segments: Sequence[SegmentFeatures]) -> list[tuple[SegmentFeatures, Tag]]:
    """The segments' tags that are the word or below it in the encoder's vocabulary, in order of time."""
    return [(s, tag) for s in segments for tag in s.tags if is_below(tag.word, word, encoder.vocabulary)]


def _best(tagged: Sequence[tuple[SegmentFeatures, Tag]]) -> tuple[Evidence, ...]:
    """The segments with the most probable tags."""
    best = sorted(tagged, key=lambda item: -item[1].prob)[:EVIDENCE]
    return tuple(evidence_of(segment, tag.prob) for segment, tag in best)


def _shown(encoder: FrameEncoder, words: str, segments: Sequence[SegmentFeatures]) -> tuple[Evidence, ...]:
    known = [(segment, segment.concepts) for segment in segments if segment.concepts is not None]
    if not known:
        return ()
    seen, concepts = zip(*known, strict=True)
    best = shown_in(encoder, words, _embeds(seen), torch.stack(concepts))[:EVIDENCE]
    return tuple(evidence_of(seen[number], score) for number, score in best)


def _embeds(segments: Sequence[SegmentFeatures]) -> torch.Tensor:
    return torch.stack([segment.embed.float() for segment in segments])


def evidence_of(segment: SegmentFeatures, score: float, video: int = 0) -> Evidence:
    tags = tuple((tag.word, tag.prob) for tag in segment.tags)
    return Evidence(segment.start_s, segment.end_s, score, tags, video, segment.findings.found)


def _evidence(findings: Sequence[Finding], segments: Sequence[SegmentFeatures]) -> tuple[Evidence, ...]:
    """The segments that hold the findings, with the best of their scores."""
    scored = [(max((f.score for f in findings if f in s.findings.found), default=0.0), s) for s in segments]
    best = sorted(scored, key=lambda item: -item[0])[:EVIDENCE]
    return tuple(evidence_of(s, score) for score, s in best if score > 0)
