"""Findings of the senses as text of the prompt: `2 people, 1 dog; "Hello."; written: "EXIT"; sounds: music`.

A line at the head of a video sums up what each sense found, so that a sense that found nothing differs from one that
was not used; each segment has its own part.
"""

from collections.abc import Iterable, Mapping, Sequence

from videollm.models.nouns import noun
from videollm.senses.finding import Findings, Kind

# Mean scores of a track from which it is told. On 12 real clips all three people and four of four things are right
# then; two things of which the detector was less sure were not there (a vase, a television), one was (a boat).
PERSON_SCORE, OBJECT_SCORE = 0.5, 0.65
CHARACTERS = 200  # of what is said or written in a segment; nobody says more in 8 s, but merged segments are longer
_PLURALS = {
    "person": "people", "sheep": "sheep", "skis": "skis", "knife": "knives", "mouse": "mice", "scissors": "scissors"
}  # fmt: skip


def counted(name: str, count: int) -> str:
    """1 dog, 2 people"""
    return f"{count} {name if count == 1 else plural(name)}"


def plural(name: str) -> str:
    if name in _PLURALS:
        return _PLURALS[name]
    return f"{name}es" if name.endswith(("s", "sh", "ch", "x")) else f"{name}s"


def object_counts(findings: Findings, least: float = OBJECT_SCORE) -> dict[str, int]:
    """How many objects of each name are seen together, of those that are sure enough to be told.

    least: the mean score of a track from which things count; people count from PERSON_SCORE.
    """
    sure = tuple(f for f in findings.of("object") if f.score >= (PERSON_SCORE if f.text == "person" else least))
    return Findings(found=sure).at_once()


def video_note(parts: Sequence[Findings]) -> str:
    """What each sense found in all of a video, given what it found in its segments; "" where no sense was used."""
    if not parts or not parts[0].senses:
        return ""
    whole = Findings(
        senses=parts[0].senses,
        found=tuple(dict.fromkeys(f for part in parts for f in part.found)),
        sound=parts[0].sound,
    )
    clauses = []
    if "objects" in whole.senses:
        clauses.append(f"seen: {listed(object_counts(whole)) or 'no people, no objects'}")
    if "speech" in whole.senses:
        clauses.append(f"heard: {'speech' if whole.of('speech') else 'no speech' if whole.sound else 'no sound track'}")
    if "sounds" in whole.senses and whole.sound:
        clauses.append(f"sounds: {named(whole, 'sound') or 'none that is known'}")
    if "text" in whole.senses:
        clauses.append(f"written: {'text' if whole.of('text') else 'no text'}")
    if "faces" in whole.senses:
        clauses.append(f"faces: {len(whole.of('face')) or 'none'}")
    return "; ".join(clauses)


def segment_note(findings: Findings) -> str:
    """What was found in one segment, "" where nothing was."""
    said, written = (cut(" ".join(f.text for f in findings.of(kind)), CHARACTERS) for kind in ("speech", "text"))
    sounds = named(findings, "sound")
    clauses: Iterable[str] = (
        listed(object_counts(findings)),
        f'"{said}"' if said else "",
        f'written: "{written}"' if written else "",
        f"sounds: {sounds}" if sounds else "",
    )
    return "; ".join(filter(None, clauses))


def cut(text: str, most: int) -> str:
    """`text`, cut at a word after which "..." stands where it has more than `most` characters."""
    return text if len(text) <= most else f"{text[:most].rsplit(' ', 1)[0]} ..."


def named(findings: Findings, kind: Kind) -> str:
    """The names of what is found, each once, in order of time."""
    return ", ".join(dict.fromkeys(f.text for f in findings.of(kind)))


def listed(counts: Mapping[str, int]) -> str:
    """2 people, 1 dog: people first."""
    return ", ".join(_each(counts))


def seen_sentence(words: Sequence[str], counts: Mapping[str, int]) -> str:
    """A rocket, 2 people and 1 dog are seen. "" where there is nothing to tell."""
    things = [*map(noun, words), *_each(counts)]
    if not things:
        return ""
    told = " and ".join(filter(None, (", ".join(things[:-1]), things[-1])))
    return f"{told[0].upper()}{told[1:]} {be(len(words) + sum(counts.values()))} seen."


def _each(counts: Mapping[str, int]) -> list[str]:
    ordered = sorted(counts.items(), key=lambda item: item[0] != "person")
    return [counted(name, count) for name, count in ordered]


def be(count: int) -> str:
    return "is" if count == 1 else "are"
