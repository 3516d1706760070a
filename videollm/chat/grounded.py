"""Answers that findings and scores give without the language model: counts, presence, people and speech.

A small language model repeats what is likely and not what was found. So a count comes from tracks only, quoted words
from the transcript only, "No." only from a sense that looked and did not find, and what no sense knows is said to be
unknown. `videollm.chat.questions` tells which questions these are.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from videollm.chat.answer import CANNOT_TELL, NOBODY, NOT_LOOKED, Grounded
from videollm.chat.order import ordered
from videollm.chat.order_questions import read_order
from videollm.chat.questions import (
    COMPARED,
    PEOPLE,
    Question,
    asks_yes_or_no,
    is_person,
    one_by_one,
    questions_in,
    read_question,
    singular,
)
from videollm.chat.sightings import EVIDENCE, cited, embeds_of, evidence_for, evidence_of_findings, seen_counts, tagged
from videollm.chat.things import NamedThing, read_thing
from videollm.datasets.schema import format_time
from videollm.encoders.base import FrameEncoder
from videollm.encoders.presence import UNLIKELY, presence
from videollm.encoders.tags import is_below, kin
from videollm.features.encode import SegmentFeatures
from videollm.models.notes import be, counted, cut, listed
from videollm.models.nouns import noun
from videollm.retrieval.words import folded
from videollm.senses.detector import NAMES
from videollm.senses.finding import Finding, Findings

SILENT, NO_SOUND = "Nobody speaks.", "The video has no sound."
NOT_HEARD = "I cannot tell: nobody listened to the sound (the sense is off)."
ONLY_SPEECH = "I cannot tell: of all sounds only speech is recognised."
NOT_READ = "I cannot tell: nobody read what is written (the sense is off)."
NOTHING_WRITTEN, NO_KNOWN_SOUND = "No text was read.", "No sound was recognised."
HELP = "Ask me about the video: what and who is seen, how many, when, and what is said."
INTRODUCTION = "I answer questions about a video: what and who is seen, how many, when, and what is said. Add a video."
SOME_FIT = "; I cannot tell how many of them fit."
QUOTED_CHARACTERS = 400  # of speech or writing in an answer
SOUNDS = 5  # that an answer lists, at most


def ground(
    encoder: FrameEncoder, question: str, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded | None:
    """The answer to a question about one video; None where it is the language model's."""
    if len(parts := questions_in(question)) > 1:
        answers = [ground(encoder, part, findings, segments) for part in parts]
        known = [answer for answer in answers if answer is not None]
        for answer in known:
            if answer.describes:  # it tells what else is known
                return answer
        if len(known) == len(parts):
            return _joined([(_subject(part), answer) for part, answer in zip(parts, known, strict=True)])
    if (about_order := read_order(question)) is not None:
        return ordered(encoder, about_order, findings, segments)
    asked = read_question(question)
    if asked is None:
        return None
    if asked.time_s is not None:
        end_s = asked.time_s + 1 if asked.end_s is None else asked.end_s
        findings = findings.part(asked.time_s, end_s)
        segments = [s for s in segments if s.start_s < end_s and asked.time_s < s.end_s]
        if not segments:
            return Grounded(f"The video has ended before {format_time(asked.time_s)}.")
    if asked.asks == "greeting":
        return Grounded(HELP)
    if asked.asks == "unknown":
        return Grounded(CANNOT_TELL)
    if asked.asks == "written":
        return written(findings, segments)
    if asked.asks in ("speech", "speaks", "language", "when", "heard", "sound"):
        return heard(asked, findings, segments)
    if asked.asks == "exists":
        return _exists(encoder, asked, findings, segments)
    if asked.asks == "compare":
        return _compared(encoder, asked, findings, segments)
    if asked.asks == "which":
        return _which(encoder, asked.thing, findings, segments)
    if asked.asks == "describe":
        return _described(encoder, findings, segments)
    return _people_or_count(encoder, asked, findings, segments)


def _joined(answers: Sequence[tuple[str, Grounded]]) -> Grounded:
    """One answer from several, each after what it is about, so that a yes or no is understood."""
    texts = [f"{subject.capitalize()}: {answer.text}" if subject else answer.text for subject, answer in answers]
    evidence = {e.start_s: e for _, answer in answers for e in answer.evidence}
    return Grounded(" ".join(texts), tuple(evidence.values())[:EVIDENCE])


def _subject(question: str) -> str:
    """What a question with the answer yes or no is about, "" for others."""
    asked = read_question(question)
    if asked is not None and asked.asks == "speaks" and asked.quoted:
        return f'"{asked.quoted}"'
    return asked.thing if asked is not None and asked.asks == "exists" else ""


def heard(asked: Question, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    """ "What is said?", "Does anyone speak?", "When is ... said?", "What can be heard?"."""
    if not findings.sound:
        return Grounded(NO_SOUND)
    if asked.asks in ("heard", "sound") and "sounds" in findings.senses:
        return _other_sounds(asked, findings, segments)
    if "speech" not in findings.senses:
        return Grounded(NOT_HEARD)
    if asked.asks == "sound":
        return Grounded(ONLY_SPEECH)
    if not findings.of("speech"):
        return Grounded(SILENT)
    is_literal = f'"{asked.quoted.lower()}"' in asked.thing
    if len(words := one_by_one(asked.quoted)) > 1 and not is_literal:
        return _joined([(f'"{word}"', heard(replace(asked, quoted=word), findings, segments)) for word in words])
    said = [f for f in findings.of("speech") if _has(f.text, asked.quoted)]
    if not said:
        return Grounded(f'I did not hear "{asked.quoted}".')
    if asked.asks == "language":
        text = _languages(said)
    elif asked.asks == "when":
        text = f"From {format_time(said[0].start_s)} to {format_time(said[-1].end_s)}."
    else:
        text = _yes_from(said) if asks_yes_or_no(asked.thing) else quoted(said)
    return Grounded(text, evidence_of_findings(said, segments))


def _has(sentence: str, words: str) -> bool:
    """Whether the words follow one another in a sentence, the last of them in the singular or the plural."""
    forms = {words, words.removesuffix("s"), f"{words}s"} if words else {""}
    return any(folded(form) in folded(sentence) for form in forms)


def _languages(said: Sequence[Finding]) -> str:
    codes = dict.fromkeys(f.language for f in said if f.language)
    if not codes:  # subtitles may not say
        return CANNOT_TELL
    from transformers.models.whisper.tokenization_whisper import LANGUAGES  # takes seconds

    return f"{' and '.join(LANGUAGES.get(code, code).capitalize() for code in codes)}."


def _other_sounds(asked: Question, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    """ "What can be heard?", "Is there music?": what is said, and the sounds that are recognised."""
    sounds, said = findings.of("sound"), findings.of("speech")
    if asks_yes_or_no(asked.thing):
        found = sorted([*said, *sounds], key=lambda f: f.start_s) if asked.asks == "heard" else _named(sounds, asked)
        return Grounded(_yes_from(found), evidence_of_findings(found, segments)) if found else Grounded(CANNOT_TELL)
    spans = [f"{f.text.lower()} ({format_time(f.start_s)} to {format_time(f.end_s)})" for f in sounds[:SOUNDS]]
    text = f"Sounds: {', '.join(spans)}." if spans else NO_KNOWN_SOUND
    if said:
        text = f"{quoted(said)} {text if spans else ''}".strip()
    return Grounded(text, evidence_of_findings([*said, *sounds], segments))


def written(findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    """ "What does the sign say?": the lines that were read, with the time at which the first is shown."""
    if "text" not in findings.senses:
        return Grounded(NOT_READ)
    lines = findings.of("text")
    if not lines:
        return Grounded(NOTHING_WRITTEN)
    text = cut(" / ".join(dict.fromkeys(f.text for f in lines)), QUOTED_CHARACTERS)
    return Grounded(f'At {format_time(lines[0].start_s)} it reads: "{text}"', evidence_of_findings(lines, segments))


def _people_or_count(
    encoder: FrameEncoder, asked: Question, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    """ "Who is there?" and "How many ... are there?"."""
    person = asked.asks == "who" or is_person(asked.thing)
    name = "person" if person else asked.thing
    if name not in NAMES:
        return _seen_below(encoder, name, findings, segments)
    if "objects" not in findings.senses:
        return Grounded(NOT_LOOKED)
    count = seen_counts(encoder, findings, segments).get(name, 0)
    if count and person and asked.asks != "who" and asked.thing not in PEOPLE:
        text = counted(name, count) + SOME_FIT
    else:
        text = amount(findings, name, count, who=asked.asks == "who")
    seen = [f for f in findings.of("object") if f.text == name] if count else []
    return Grounded(text, evidence_of_findings(seen, segments))


def amount(findings: Findings, name: str, count: int, *, who: bool = False) -> str:
    """The answer where `count` things or people of this name are seen together, at most."""
    if not count:
        return NOBODY if name == "person" else CANNOT_TELL
    if who:
        return f"{counted(name, count)}; I cannot tell who."
    tracks = {f.track for f in findings.of("object") if f.text == name}
    return f"{counted(name, count)}{' at once, at most' if len(tracks) > count else ''}."


def _exists(
    encoder: FrameEncoder, asked: Question, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    """ "Is there a cat?", "Is there a cat or a dog?": of several things each is told by itself."""
    answers = {}
    for words in one_by_one(asked.thing):
        thing = read_thing(words, (*encoder.vocabulary.words, *NAMES))
        answers[singular(words)] = _one_exists(encoder, replace(asked, thing=thing.name), thing, findings, segments)
    if len(answers) == 1:
        return answers.popitem()[1]
    return _joined(list(answers.items()))


def _one_exists(
    encoder: FrameEncoder, asked: Question, thing: NamedThing, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    if thing.has_amount:  # told as it is, and not as yes or no
        found = _people_or_count(encoder, replace(asked, asks="count"), findings, segments)
        if thing.is_qualified and found.evidence and not found.text.endswith(SOME_FIT):
            return replace(found, text=found.text.removesuffix(".") + SOME_FIT)
        return found
    if is_person(thing.name):
        found = _people_or_count(encoder, replace(asked, asks="count", thing="person"), findings, segments)
        if not found.evidence:
            return found
        count = seen_counts(encoder, findings, segments)["person"]
        number, more = counted("person", count), "" if thing.is_none else "; I cannot tell more about them"
        is_sure = thing.name in PEOPLE and not thing.is_none and not thing.is_qualified
        return replace(found, text=f"Yes, {number}." if is_sure else f"{number} {be(count)} seen{more}.")
    found = _thing(encoder, thing.name, findings, segments)
    if found.evidence and (thing.is_none or thing.is_qualified):
        name = noun(thing.name)
        is_one = name != thing.name
        more = "" if thing.is_none else f"; I cannot tell more about {'it' if is_one else 'them'}"
        return replace(found, text=f"{name[0].upper()}{name[1:]} {'is' if is_one else 'are'} seen{more}.")
    return Grounded(CANNOT_TELL) if thing.is_none else found


def _compared(
    encoder: FrameEncoder, asked: Question, findings: Findings, segments: Sequence[SegmentFeatures]
) -> Grounded:
    """ "Are there more cups than cats?": only what was counted is compared."""
    found = COMPARED.fullmatch(asked.thing)
    assert found is not None, "the form of the question was read before"
    # Of men and women, the detector knows that they are people.
    names = ["person" if thing in PEOPLE else singular(thing) for thing in found.groups()[1:]]
    if "objects" not in findings.senses and all(name in NAMES for name in names):
        return Grounded(NOT_LOOKED)
    counts = seen_counts(encoder, findings, segments)
    if not all(name in counts for name in names):
        return Grounded(CANNOT_TELL)
    first, second = (counts[name] for name in names)
    is_so = {"more": first > second, "as many": first == second}.get(found[1], first < second)
    text = f"{'Yes' if is_so else 'No'}, {counted(names[0], first)} and {counted(names[1], second)}."
    return Grounded(text, evidence_of_findings([f for f in findings.of("object") if f.text in names], segments))


def _which(encoder: FrameEncoder, kind: str, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    """ "What animal is shown?": the tags below the word in the encoder's vocabulary, or else the things that are seen.

    Names of the detector that the vocabulary does not have are below nothing.
    """
    kind = kind if kind in encoder.vocabulary.words else kind.removesuffix("s")
    found = tagged(encoder, kind, segments)
    names = dict.fromkeys(tag.word for _, tag in found if tag.word != kind)
    if names:
        text = ", then ".join(names)
        return Grounded(f"{text[0].upper()}{text[1:]}.", cited([(segment, tag.prob) for segment, tag in found]))
    return _seen_below(encoder, kind, findings, segments)


def _seen_below(encoder: FrameEncoder, kind: str, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    """ "How many animals are there?": the things that are seen and whose names are below the word."""
    known = encoder.vocabulary.words
    kind = kind if kind in known else kind.removesuffix("s")
    counts = {
        name: count
        for name, count in seen_counts(encoder, findings, segments).items()
        if name in known and is_below(name, kind, encoder.vocabulary)
    }
    if not counts:
        return Grounded(CANNOT_TELL)
    return Grounded(
        f"{listed(counts)}.", evidence_of_findings([f for f in findings.of("object") if f.text in counts], segments)
    )


def _thing(encoder: FrameEncoder, thing: str, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    if shown := evidence_for(encoder, thing, findings, segments):
        return Grounded("Yes.", shown)
    tracks = [f for f in findings.of("object") if f.text == thing]
    looked = "objects" in findings.senses and thing in NAMES and not tracks
    unlikely = looked and float(presence(encoder, thing, embeds_of(segments))[0].max()) < UNLIKELY
    return Grounded("No." if unlikely else CANNOT_TELL)


def _described(encoder: FrameEncoder, findings: Findings, segments: Sequence[SegmentFeatures]) -> Grounded:
    said, counts = findings.of("speech"), seen_counts(encoder, findings, segments)
    words: dict[str, frozenset[str]] = {}
    for tag in (tag for segment in segments for tag in segment.tags):
        if words.keys().isdisjoint(own := kin(tag.word, encoder.vocabulary)):  # "mammal" after "llama" is no news
            words[tag.word] = own
    seen = [f for f in findings.of("object") if f.text in counts]
    evidence = evidence_of_findings([*seen, *said], segments)
    return Grounded(quoted(said) if said else "", evidence, counts, words)


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
