"""The one thing that every sense returns, and all that was found in a video."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Kind = Literal["speech", "object", "text", "face", "sound"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that a sense has found between two times of a video.

    start_s, end_s: seconds from the video's first frame. text: the words that are said or written, or the name of what
    is seen or heard. score: the probability that the sense gives it, from 0 to 1. box: left, top, right, bottom as
    fractions of the picture, None for what has no place in the picture. language: of `text`, as an ISO 639-1 code, None
    where it is not known. track: the number of the object that findings of different times share, None without tracks.
    """

    start_s: float
    end_s: float
    kind: Kind
    text: str
    score: float
    box: tuple[float, float, float, float] | None = None
    language: str | None = None
    track: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What senses found in a video, or in a part of one.

    senses: names of those that looked or listened; a sense that failed is not among them. found: in order of time.
    sound: whether the video has a sound track, True where no sense asked. ms: milliseconds that each sense took now, 0
    where its findings were kept from before. problems: why a sense could not be used, by its name.
    """

    senses: tuple[str, ...] = ()
    found: tuple[Finding, ...] = ()
    sound: bool = True
    ms: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def of(self, kind: Kind) -> tuple[Finding, ...]:
        return tuple(f for f in self.found if f.kind == kind)

    def part(self, start_s: float, end_s: float, *, first: bool = True) -> "Findings":
        """What was found from start_s up to end_s. A sentence belongs to the part in which it begins, so that it is in
        one part only; the first part also has the sentence that was already being said."""
        return replace(self, found=tuple(f for f in self.found if _belongs(f, start_s, end_s, first)))

    def at_once(self) -> dict[str, int]:
        """How many objects of each name are seen together, at most, by name in order of appearance."""
        objects = self.of("object")
        counts: dict[str, int] = {}
        for one in objects:  # the most are seen when one of them appears
            same = (o for o in objects if o.text == one.text and _is_there(o, one.start_s))
            counts[one.text] = max(counts.get(one.text, 0), sum(1 for _ in same))
        return counts

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for `from_dict`. Times that were spent and problems are not kept."""
        return {"senses": self.senses, "found": [asdict(f) for f in self.found], "sound": self.sound}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Findings":
        found = tuple(finding_from(row) for row in values["found"])
        return cls(senses=tuple(values["senses"]), found=found, sound=values["sound"])


def finding_from(row: dict[str, Any]) -> Finding:
    """A finding from the plain JSON values that `dataclasses.asdict` makes of it."""
    return Finding(**{**row, "box": tuple(row["box"]) if row["box"] else None})


def _is_there(finding: Finding, time_s: float) -> bool:
    """Whether it begins at that time or goes on then. What is seen in a picture begins and ends at 0."""
    return finding.start_s == time_s or finding.start_s < time_s < finding.end_s


def _belongs(finding: Finding, start_s: float, end_s: float, first: bool) -> bool:
    if not (_is_there(finding, start_s) or start_s <= finding.start_s < end_s):
        return False
    return finding.kind != "speech" or first or finding.start_s >= start_s


NOTHING = Findings()  # where no sense was used
