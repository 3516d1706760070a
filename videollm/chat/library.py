"""Answer questions about an indexed collection: find moments by search, let the model see each of them again, and cite
video and seconds for every sentence of the answer."""

from dataclasses import dataclass, replace
from pathlib import Path

from videollm.chat.session import ChatSession
from videollm.checkpoint import Model
from videollm.features.encode import encode_video, format_time
from videollm.inference.sampling import GenerationConfig
from videollm.retrieval.index import Index
from videollm.retrieval.search import Filter, Moment, search

VIDEOS = 3  # videos that an answer cites, at most
MOMENTS = 24  # search results that they are chosen from
# Share of the best score that a video needs to be cited, and that a moment needs to be cited with its better neighbour.
MIN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Citation:
    """The model's answer from one part of one video, and how well that part matches the question."""

    path: str
    start_s: float
    end_s: float
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class LibraryAnswer:
    """Answers from each of the videos that match, best first."""

    citations: tuple[Citation, ...]

    @property
    def text(self) -> str:
        """A numbered line for each citation, or a line that says that there is none."""
        lines = [
            f"[{n}] {Path(c.path).name} {format_time(c.start_s)}-{format_time(c.end_s)}: {c.text}"
            for n, c in enumerate(self.citations, 1)
        ]
        return "\n".join(lines) or "No video in the index matches."


def ask_library(
    model: Model, index: Index, question: str, generation: GenerationConfig | None = None, where: Filter | None = None
) -> LibraryAnswer:
    """Answer from each of the videos that match the question, best first.

    where: which videos to search. Raises the `VideoError` family where a video has been removed since it was indexed.
    """
    citations = []
    for part in _parts(search(index, question, MOMENTS, where)):
        sampling = replace(model.config.sampling, start_s=part.start_s, end_s=part.end_s)
        session = ChatSession(model, encode_video(part.path, model.encoder, sampling))
        asked = f'Subtitles: "{part.text}"\n{question}' if part.text else question
        answer = session.ask(asked, generation)
        citations.append(Citation(part.path, part.start_s, part.end_s, part.score, answer.text))
    return LibraryAnswer(tuple(citations))


def _parts(moments: list[Moment]) -> list[Moment]:
    """The best moment of each of the best videos, joined with neighbours that match nearly as well."""
    parts: list[Moment] = []
    for best in moments:
        if any(p.path == best.path for p in parts) or best.score < MIN_SHARE * moments[0].score:
            continue
        near = sorted(
            (m for m in moments if m.path == best.path and m.score >= MIN_SHARE * best.score), key=lambda m: m.start_s
        )
        first = last = near.index(best)
        while first > 0 and near[first - 1].end_s == near[first].start_s:
            first -= 1
        while last + 1 < len(near) and near[last + 1].start_s == near[last].end_s:
            last += 1
        whole = near[first : last + 1]
        text = " ".join(dict.fromkeys(m.text for m in whole if m.text))
        parts.append(replace(best, start_s=whole[0].start_s, end_s=whole[-1].end_s, text=text))
    return parts[:VIDEOS]
