"""Questions about an indexed collection of videos.

Search finds moments that match the question. The model sees each of them again and answers from it alone, and the
answer cites the video and the seconds. Of a stream that was watched, it says what the index knows.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from videollm.chat.session import ChatSession
from videollm.config import split_sense
from videollm.encoders.tags import Tag
from videollm.features.cache import FeatureCache
from videollm.features.encode import format_time
from videollm.features.observe import encode_and_observe
from videollm.inference.engine import Engine
from videollm.inference.sampling import GenerationConfig
from videollm.model import Model
from videollm.retrieval.index import Index
from videollm.retrieval.search import Filter, Moment, search

VIDEOS = 3  # the largest number of videos that an answer cites
MOMENTS = 24  # the number of search results that they are chosen from
# A video is cited if its score is at least this share of the best score. A moment joins a better neighbour likewise.
MIN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Citation:
    """The model's answer from one part of one video.

    Attributes:
        path: The path of the video.
        start_s, end_s: The times of the part in seconds.
        score: How well the part matches the question, as a cosine.
        text: The answer.
    """

    path: str
    start_s: float
    end_s: float
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class LibraryAnswer:
    """The answers from the videos that match a question, best first."""

    citations: tuple[Citation, ...]

    @property
    def text(self) -> str:
        """One numbered line per citation, or a line that says that no video matches."""
        lines = [
            f"[{n}] {Path(c.path).name} {format_time(c.start_s)}-{format_time(c.end_s)}: {c.text}"
            for n, c in enumerate(self.citations, 1)
        ]
        return "\n".join(lines) or "No video in the index matches."


def ask_library(
    model: Model,
    index: Index,
    question: str,
    generation: GenerationConfig | None = None,
    where: Filter | None = None,
    engine: Engine | None = None,
) -> LibraryAnswer:
    """Answers a question from each of the videos that match it, best first.

    Args:
        model: The model that answers.
        index: The index to search.
        question: The question. It is also the search query.
        generation: How text is generated. None takes the defaults of the model.
        where: Which videos to search. None searches all.
        engine: What runs the language model. None runs it where the model is.

    Raises:
        VideoError: If a video was removed or damaged after it was indexed.
    """
    cache = FeatureCache()
    citations = []
    for part in _parts(search(index, question, MOMENTS, where)):
        if not part.is_kept:
            citations.append(Citation(part.path, part.start_s, part.end_s, part.score, _seen_in_stream(part)))
            continue
        sampling = replace(model.config.sampling, start_s=part.start_s, end_s=part.end_s)
        senses = _senses(model, index, part)
        video = encode_and_observe(part.path, model.encoder, sampling, senses, cache, model.device)
        session = ChatSession(model, video, engine=engine)
        is_told = "speech" in video.findings.senses
        asked = f'Subtitles: "{part.text}"\n{question}' if part.text and not is_told else question
        answer = session.ask(asked, generation)
        citations.append(Citation(part.path, part.start_s, part.end_s, part.score, answer.text))
    return LibraryAnswer(tuple(citations))


def _senses(model: Model, index: Index, part: Moment) -> tuple[str, ...]:
    """Returns the senses that the index was made with, whose findings are kept, for a model that answers from findings.
    `speech` also reads subtitles."""
    if not model.config.senses:
        return ()
    senses = index.table.senses()
    hears = any(split_sense(sense)[0] == "speech" for sense in senses)
    return senses if hears or not part.text else (*senses, "speech")


def _parts(moments: list[Moment]) -> list[Moment]:
    """Returns the best moment of each of the best videos, joined with neighbours that match nearly as well."""
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
        tags = _best_tags(whole)
        parts.append(replace(best, start_s=whole[0].start_s, end_s=whole[-1].end_s, text=text, tags=tags))
    return parts[:VIDEOS]


def _best_tags(moments: list[Moment]) -> tuple[Tag, ...]:
    """Returns the tags of several moments, each word once with its best probability, the most probable first."""
    best = {tag.word: tag for tag in sorted((tag for m in moments for tag in m.tags), key=lambda tag: tag.prob)}
    return tuple(reversed(best.values()))


def _seen_in_stream(part: Moment) -> str:
    """Returns what the index knows of a part of a stream, whose pictures are gone."""
    words = ", ".join(f"{tag.word} ({tag.prob:.0%})" for tag in part.tags) or "nothing that it has a word for"
    return f"The pictures of this stream were not kept. The index names what was seen: {words}."
