"""Questions about a whole collection: moments are found in an index, the model looks at them again and answers from
them, and every sentence says which video and which seconds it comes from."""

from dataclasses import dataclass, replace
from pathlib import Path

from videollm.chat.session import ChatSession
from videollm.checkpoint import Model
from videollm.features.encode import encode_video, format_time
from videollm.inference.sampling import GenerationConfig
from videollm.retrieval.index import Index
from videollm.retrieval.search import Filter, Moment, search

VIDEOS = 3  # that an answer cites, at most
MOMENTS = 24  # that are looked through for them
LEAST = 0.5  # of the best score, for a video to be cited, or for a moment to be cited with its better neighbour


@dataclass(frozen=True, slots=True)
class Citation:
    """What the model said of one stretch of one video, and how well that stretch matches the question."""

    path: str
    start_s: float
    end_s: float
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class LibraryAnswer:
    citations: tuple[Citation, ...]

    @property
    def text(self) -> str:
        """A line for each citation, numbered; says so if there is none."""
        lines = [
            f"[{n}] {Path(c.path).name} {format_time(c.start_s)}-{format_time(c.end_s)}: {c.text}"
            for n, c in enumerate(self.citations, 1)
        ]
        return "\n".join(lines) or "No video in the index matches."


def ask_library(
    model: Model, index: Index, question: str, generation: GenerationConfig | None = None, where: Filter | None = None
) -> LibraryAnswer:
    """The model's answer from each of the videos that match the question, best first.

    Raises the VideoError family where a video has gone since it was indexed.
    """
    citations = []
    for stretch in _stretches(search(index, question, MOMENTS, where)):
        sampling = replace(model.config.sampling, start_s=stretch.start_s, end_s=stretch.end_s)
        session = ChatSession(model, encode_video(stretch.path, model.encoder, sampling))
        asked = f'Subtitles: "{stretch.text}"\n{question}' if stretch.text else question
        answer = session.ask(asked, generation)
        citations.append(Citation(stretch.path, stretch.start_s, stretch.end_s, stretch.score, answer.text))
    return LibraryAnswer(tuple(citations))


def _stretches(moments: list[Moment]) -> list[Moment]:
    """The best moment of each of the best videos, grown by those on either side of it that are nearly as good."""
    stretches: list[Moment] = []
    for best in moments:
        if any(s.path == best.path for s in stretches) or best.score < LEAST * moments[0].score:
            continue
        near = sorted(
            (m for m in moments if m.path == best.path and m.score >= LEAST * best.score), key=lambda m: m.start_s
        )
        first = last = near.index(best)
        while first > 0 and near[first - 1].end_s == near[first].start_s:
            first -= 1
        while last + 1 < len(near) and near[last + 1].start_s == near[last].end_s:
            last += 1
        whole = near[first : last + 1]
        text = " ".join(dict.fromkeys(m.text for m in whole if m.text))
        stretches.append(replace(best, start_s=whole[0].start_s, end_s=whole[-1].end_s, text=text))
    return stretches[:VIDEOS]
