"""What models say of a video that nobody has annotated: merged, checked against each other, and scored.

The frame encoder gives words for each segment, a detector the objects, Whisper or subtitles the speech, and OCR the
text. What two models see alike is one statement. A statement is doubtful, so that a person decides, if its score is
below a threshold or if another model contradicts it.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

import torch

from data_gen.generators.statement import Statement, below, merged, when
from videollm.assets import cache_dir
from videollm.chat.caption import dense_captions
from videollm.chat.prompt_video import TOLD
from videollm.chat.questions import singular
from videollm.checkpoint import load
from videollm.datasets.clip import ClipQuestion, Note
from videollm.datasets.schema import words
from videollm.encoders.build import build_encoder
from videollm.encoders.presence import UNLIKELY, presence
from videollm.encoders.tags import is_below
from videollm.errors import AssetError
from videollm.features.cache import FeatureCache
from videollm.features.encode import EncodedVideo, SegmentFeatures
from videollm.features.observe import SENSES, encode_and_observe
from videollm.model import config_of
from videollm.models.notes import OBJECT_SCORE, PERSON_SCORE, counted, object_counts, plural
from videollm.senses.detector import NAMES
from videollm.senses.finding import Finding, Findings

LOOKED_FOR = ("objects", "speech", "text")
SPOKEN = 0.6  # least mean probability of the words of a sentence that is taken without a review
WRITTEN = 0.99  # the same of the characters of a line
LETTERS = 3  # letters and digits of a line; shorter ones are mostly texture
ALIKE = 0.6  # share of characters from which two readings may be of one line


class Observer:
    """Looks at videos with the models that find things.

    Args:
        captioner: A preset or a checkpoint that writes the captions. None lists what `lite` recognises.
        seed: Chooses the things that are asked for and are not there.
    """

    def __init__(self, captioner: str | None = None, seed: int = 0):
        self.seed = seed
        self.config = config_of(captioner or "lite")
        self.captioner = load(captioner) if captioner else None
        self.encoder = self.captioner.encoder if self.captioner else build_encoder(self.config.encoder)
        self._cache = FeatureCache(cache_dir() / "features")
        versions = {name: f"{SENSES[name].asset} {SENSES[name].key('')}" for name in LOOKED_FOR}
        self._detector, self._listener, self._reader = (versions[name] for name in LOOKED_FOR)
        self._encoder = f"{self.encoder.name} {self.encoder.revision}"

    def __call__(self, path: Path) -> list[Statement]:
        """Returns what models say of a video.

        Raises the VideoError family, and AssetError if the weights of a sense cannot be fetched.
        """
        video = encode_and_observe(path, self.encoder, self.config.sampling, LOOKED_FOR, self._cache)
        if problems := video.findings.problems:
            raise AssetError("; ".join(f"{name}: {reason}" for name, reason in problems.items()))
        return self.statements(video, path.name)

    def statements(self, video: EncodedVideo, name: str) -> list[Statement]:
        """Returns what models say of an encoded video with findings. The name seeds the choice of absent things."""
        # Senses add the length of a frame to the last one, which may lead beyond the end.
        cut = (replace(f, end_s=min(f.end_s, video.info.duration_s)) for f in video.findings.found)
        findings = replace(video.findings, found=tuple(f for f in cut if f.start_s < f.end_s))
        segments = video.segments(self.config, self.encoder.vocabulary)
        objects = [*self._objects(findings, segments)]
        present = sum(s.claim.kind == "exists" and not s.doubt for s in objects)
        return [
            *self._captions(video, segments),
            *objects,
            *self._absent(name, findings, segments, max(1, present)),
            *self._speech(findings),
            *self._texts(findings),
        ]

    def _captions(self, video: EncodedVideo, segments: Sequence[SegmentFeatures]) -> Iterator[Statement]:
        """Yields a caption for each segment, one for neighbours of the same text.

        Neighbours without a cut between them that name nothing in common contradict each other.
        """
        written = {c.start_s: c.text for c in dense_captions(self.captioner, video)} if self.captioner else {}
        model = " + ".join([*([self.config.name] if self.captioner else []), self._encoder, self._detector])
        runs: list[Statement] = []
        shown: list[set[str]] = []  # the things that each of them names
        for segment in segments:
            sure, unsure = self._things(segment)
            text = written.get(segment.start_s) or _sentence(sure or unsure)
            named = {t: score for t, score in sure.items() if not self.captioner or _is_named(t, text)}
            doubt = "" if named else "it names nothing of which the models are sure"
            start_s, score = segment.start_s, min((named or unsure).values(), default=0.0)
            if runs and (runs[-1].text, runs[-1].doubt) == (text, doubt):
                last = runs.pop()
                start_s, score = last.spans[0][0], min(score, last.score)
                shown.pop()
            claim = Note(kind="event", text=text, start=start_s, end=segment.end_s)
            runs.append(Statement(claim=claim, score=score, threshold=TOLD, model=model, text=text, doubt=doubt))
            shown.append({_noun(thing) for thing in named})
        cuts_s = {float(video.times_s[cut]) for cut in video.cuts}
        torn = {
            number
            for first, then in pairwise(range(len(runs)))
            if shown[first] and shown[then] and not shown[first] & shown[then]
            if runs[then].spans[0][0] not in cuts_s
            for number in (first, then)
        }
        for number, run in enumerate(runs):
            yield replace(run, doubt="another caption stands beside it without a cut") if number in torn else run

    def _things(self, segment: SegmentFeatures) -> tuple[dict[str, float], dict[str, float]]:
        """Returns what is surely seen in a segment and what may be seen, with scores.

        A sure tag below a thing that the detector sees once says the same more precisely. A tag of a thing that the
        detector knows and does not see is not sure.
        """
        counts = object_counts(segment.findings)
        sure = {counted(name, count): _scores(segment.findings, name)[count - 1] for name, count in counts.items()}
        others = {f.text: f.score for f in segment.findings.of("object") if f.text not in counts}
        unsure = {counted(name, 1): score for name, score in others.items()}
        for tag in segment.tags:
            known = next((name for name in NAMES if is_below(tag.word, name, self.encoder.vocabulary)), None)
            if tag.prob < TOLD or (known and known not in counts):
                unsure[tag.word] = tag.prob
            elif known is None or counts[known] == 1:
                sure.pop(counted(known or "", 1), None)
                sure[tag.word] = tag.prob
        return sure, unsure

    def _objects(self, findings: Findings, segments: Sequence[SegmentFeatures]) -> Iterator[Statement]:
        """Yields for each kind of object whether it is there, when, and how many there are."""
        for name in dict.fromkeys(f.text for f in findings.of("object")):
            least = PERSON_SCORE if name == "person" else OBJECT_SCORE
            scores = _scores(findings, name)
            tracks = [f for f in findings.of("object") if f.text == name and f.score >= min(least, scores[0])]
            spans = merged((f.start_s, f.end_s) for f in tracks)
            doubt = below(scores[0], least)
            if name in self.encoder.vocabulary.words and self._share(name, segments) < UNLIKELY:
                doubt = "the frame encoder finds it unlikely"
            told = Statement(
                claim=ClipQuestion(
                    kind="exists",
                    question=f"Are there any {plural(name)} in the video?",
                    answer="Yes.",
                    answer_times=spans,
                ),
                score=scores[0],
                threshold=least,
                model=self._detector,
                text=f"{counted(name, 1)} can be seen.",
                doubt=doubt,
            )
            yield told
            if doubt:  # the other questions presuppose it
                continue
            yield replace(told, claim=when(f"When can {plural(name)} be seen?", spans))
            sure, most = object_counts(findings)[name], findings.at_once()[name]
            yield replace(
                told,
                claim=ClipQuestion(
                    kind="count",
                    question=f"How many {plural(name)} are seen at once, at most?",
                    answer=f"{sure}.",
                    answer_times=spans,
                ),
                score=scores[sure - 1],
                text=f"At most {counted(name, most)} can be seen at once.",
                doubt="" if sure == most else f"{sure} without those that are less sure",
            )

    def _absent(
        self, name: str, findings: Findings, segments: Sequence[SegmentFeatures], most: int
    ) -> Iterator[Statement]:
        """Yields things that the detector knows and does not see, and that the frame encoder finds unlikely.

        There are about as many as things that are seen, because a model that is only asked for those says yes always.
        """
        vocabulary, seen = self.encoder.vocabulary, {f.text for f in findings.of("object")}
        tags = [tag.word for segment in segments for tag in segment.tags]
        for thing in random.Random(f"{self.seed}/{name}").sample(NAMES, len(NAMES)):
            if most == 0:
                return
            if thing in seen or thing not in vocabulary.words or any(is_below(tag, thing, vocabulary) for tag in tags):
                continue
            if (share := self._share(thing, segments)) < UNLIKELY:
                most -= 1
                question = f"Are there any {plural(thing)} in the video?"
                yield Statement(
                    claim=ClipQuestion(kind="exists", question=question, answer="No."),
                    score=1 - share,
                    threshold=1 - UNLIKELY,
                    model=f"{self._encoder} + {self._detector}",
                )

    def _share(self, thing: str, segments: Sequence[SegmentFeatures]) -> float:
        """Returns the share of background words that the nearest segment is less near to than to a thing."""
        embeds = torch.stack([segment.embed.float() for segment in segments])
        return float(presence(self.encoder, thing, embeds)[0].max())

    def _speech(self, findings: Findings) -> Iterator[Statement]:
        for said in findings.of("speech"):
            yield Statement(
                claim=Note(
                    kind="speech", text=said.text, language=said.language or "en", start=said.start_s, end=said.end_s
                ),
                score=said.score,
                threshold=SPOKEN,
                model="subtitles" if said.score == 1 else self._listener,  # Whisper is never certain
                text=said.text,
                doubt=below(said.score, SPOKEN),
            )

    def _texts(self, findings: Findings) -> Iterator[Statement]:
        """Yields the lines that are read, each once, except subtitles, which are also said.

        Readings that are alike are of one line. It is doubtful if they differ.
        """
        lines: list[list[Finding]] = []
        for reading in findings.of("text"):
            if not _is_said(reading, findings):
                line = next((line for line in lines if _alike(line[0].text, reading.text) >= ALIKE), None)
                if line is None:
                    lines.append(line := [])
                line.append(reading)
        told = [self._line(readings) for readings in lines]
        yield from told
        if told and not any(statement.doubt for statement in told):  # otherwise the list may lack a line
            spans = merged(span for statement in told for span in statement.spans)
            answer = f"{', '.join(_quoted(_best(readings)) for readings in lines)}."
            listed = ClipQuestion(kind="text", question="What is written here?", answer=answer, answer_times=spans)
            yield replace(told[0], claim=listed, score=min(statement.score for statement in told))

    def _line(self, readings: Sequence[Finding]) -> Statement:
        """Returns what the readings of one line say."""
        best = _best(readings)
        doubt = below(best.score, WRITTEN)
        if len("".join(words(best.text))) < LETTERS:
            doubt = "it is short"
        elif len(others := {" ".join(words(reading.text)) for reading in readings}) > 1:
            doubt = f"it is read as {', '.join(sorted(others))}"
        spans = merged((reading.start_s, reading.end_s) for reading in readings)
        return Statement(
            claim=when(f"When can the text {_quoted(best)} be read?", spans),
            score=best.score,
            threshold=WRITTEN,
            model=self._reader,
            text=f"The text {_quoted(best)} can be read.",
            doubt=doubt,
        )


def _scores(findings: Findings, name: str) -> list[float]:
    """Returns the scores of the tracks of a kind of object, the best first."""
    return sorted((f.score for f in findings.of("object") if f.text == name), reverse=True)


def _alike(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _best(readings: Sequence[Finding]) -> Finding:
    return max(readings, key=lambda reading: reading.score)


def _quoted(line: Finding) -> str:
    return f'"{line.text}"'


def _sentence(things: Iterable[str]) -> str:
    text = f"{', '.join(things) or 'nothing known'} can be seen."
    return f"{text[0].upper()}{text[1:]}"


def _is_named(thing: str, caption: str) -> bool:
    return any(name in caption.lower() for name in (_noun(thing), thing.lstrip("0123456789 ")))


def _noun(thing: str) -> str:
    """Returns the name of a thing of which there may be several, such as "person" of "2 people"."""
    return singular(thing.lstrip("0123456789 "))


def _is_said(line: Finding, findings: Findings) -> bool:
    """Whether the words of a line are said while it is shown."""
    heard = {
        word
        for said in findings.of("speech")
        if said.start_s < line.end_s and line.start_s < said.end_s
        for word in words(said.text)
    }
    return bool(heard) and set(words(line.text)) <= heard
