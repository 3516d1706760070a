"""Captions of a whole video, or of each of its segments with its times."""

from dataclasses import dataclass, replace

from videollm.chat.answer import Answer
from videollm.chat.session import ChatSession
from videollm.features.encode import EncodedVideo
from videollm.inference.engine import Engine
from videollm.model import Model

QUESTION = "Describe the video."


@dataclass(frozen=True, slots=True)
class TimedCaption:
    """A text about the part of a video from `start_s` to `end_s`, in seconds."""

    start_s: float
    end_s: float
    text: str


def caption(model: Model, video: EncodedVideo, engine: Engine | None = None) -> Answer:
    """Describes the whole video. `engine` runs the language model; None runs it in this process."""
    return ChatSession(model, video, engine=engine).ask(QUESTION)


def dense_captions(model: Model, video: EncodedVideo, engine: Engine | None = None) -> list[TimedCaption]:
    """Describes each segment, which the model sees without the others. Neighbours with the same text are joined.

    The times are those of the segments. They are not generated, so that the language model cannot invent them.
    """
    made: list[TimedCaption] = []
    for segment in video.segments(model.config, model.encoder.vocabulary):
        text = caption(model, video.part(segment.start_s, segment.end_s), engine).text
        if made and made[-1].text == text:
            made[-1] = replace(made[-1], end_s=segment.end_s)
        else:
            made.append(TimedCaption(segment.start_s, segment.end_s, text))
    return made
