"""What senses find in a file, for the rows of an index."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from videollm.config import split_sense
from videollm.errors import ConfigError, VideoError, printable
from videollm.features.cache import FeatureCache
from videollm.features.observe import find
from videollm.models.notes import object_counts
from videollm.retrieval.table import SegmentRow
from videollm.retrieval.words import folded
from videollm.senses.detector import NAMES
from videollm.senses.finding import NOTHING, Findings
from videollm.video.subtitles import Cue, CueTexts, embedded_subtitles, read_subtitles


@dataclass(frozen=True, slots=True)
class SensedFile:
    """What was found in a file.

    Attributes:
        senses: Names of the senses that were used.
        cues: What is said: the subtitles that come with the file, or else what the sense `speech` heard.
        findings: What the senses found.
        problems: What could not be read or used.
    """

    senses: tuple[str, ...]
    cues: list[Cue]
    findings: Findings
    problems: list[str]

    def things(self, start_s: float, end_s: float) -> str:
        """The objects that are seen from `start_s` to `end_s`, in the form that `things_condition` compares."""
        return repeated(object_counts(self.findings.part(start_s, end_s)))

    def added_to(self, row: SegmentRow, texts: CueTexts) -> SegmentRow:
        """Returns a row of the index with what is said and seen during its segment. texts: those of the cues."""
        text = texts.between(row.start_s, row.end_s)
        return replace(row, text=text, said=folded(text), things=self.things(row.start_s, row.end_s))


def sense_file(
    file: str, subtitles: Sequence[Path], senses: Sequence[str], device: str | torch.device | None
) -> SensedFile:
    """Uses `senses` on a file. Findings are kept where chat looks for them too, so each sense runs once.

    subtitles: The subtitle files beside it. Raises the VideoError family if the file is no video.
    """
    cues, unread = _cues(file, subtitles)
    speech = [sense for sense in senses if split_sense(sense)[0] == "speech" and not cues]
    needed = [sense for sense in senses if split_sense(sense)[0] != "speech" or speech]
    findings = find(file, needed, FeatureCache(), device) if needed else NOTHING
    if speech:
        cues = [Cue(f.start_s, f.end_s, f.text) for f in findings.of("speech")]
    problems = [f"{name}: {reason}" for name, reason in findings.problems.items()]
    used = tuple(sense for sense in senses if split_sense(sense)[0] not in findings.problems)
    return SensedFile(used, cues, findings, unread + problems)


def _cues(file: str, subtitles: Sequence[Path]) -> tuple[list[Cue], list[str]]:
    """Returns the cues of the subtitle files beside a video, or else of its own streams, in the order of their starts,
    and the problems with them."""
    cues: list[Cue] = []
    problems: list[str] = []
    for read, source in [(read_subtitles, s) for s in subtitles] or [(embedded_subtitles, Path(file))]:
        try:
            cues += read(source)
        except VideoError as error:
            problems.append(printable(f"{source.name}: {error.reason}"))
    return sorted(cues, key=lambda cue: cue.start_s), problems


def wanted_things(text: str) -> str:
    """Returns what `SensedFile.things` contains where a filter such as "person" or "person>=2" holds.

    Raises ConfigError for a thing that the detector does not know, and for a number below 1.
    """
    name, at_least, number = (part.strip() for part in text.partition(">="))
    if name not in NAMES:
        raise ConfigError(f"no thing is named {name!r}; choose from {', '.join(NAMES)}")
    if at_least and not (number.isdecimal() and int(number) > 0):
        raise ConfigError(f"{text!r} asks for {number!r} of them; write a whole number from 1, as in {name}>=2")
    return repeated({name: int(number) if at_least else 1})


def repeated(counts: dict[str, int]) -> str:
    """Each name as often as it is seen at once, so that a condition of SQL is a search for a part of the text."""
    names = [name for name in sorted(counts) for _ in range(counts[name])]
    return f";{';'.join(names)};" if names else ""
