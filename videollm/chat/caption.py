"""Captions: one for the whole video, or one for each of its parts with real times."""

from dataclasses import dataclass, replace

from videollm.chat.answer import Answer
from videollm.chat.session import ChatSession
from videollm.checkpoint import Model
from videollm.features.encode import EncodedVideo
from videollm.inference.engine import Engine

QUESTION = "Describe the video."


@dataclass(frozen=True, slots=True)
class TimedCaption:
    start_s: float
    end_s: float
    text: str


def caption(model: Model, video: EncodedVideo, engine: Engine | None = None) -> Answer:
    """One description of the whole video."""
    return ChatSession(model, video, engine=engine).ask(QUESTION)


def dense_captions(model: Model, video: EncodedVideo, engine: Engine | None = None) -> list[TimedCaption]:
    """A description of each segment, seen by itself; neighbours that read the same become one.

    The times are the segments' own, never the language model's, so they cannot be made up.
    """
    made: list[TimedCaption] = []
    for segment in video.segments(model.config, model.encoder.vocabulary):
        text = caption(model, video.part(segment.start_s, segment.end_s), engine).text
        if made and made[-1].text == text:
            made[-1] = replace(made[-1], end_s=segment.end_s)
        else:
            made.append(TimedCaption(segment.start_s, segment.end_s, text))
    return made
