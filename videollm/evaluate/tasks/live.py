"""Multiple-choice questions about a stream, each asked at its own time.

Shapes: T frames, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from videollm.config import SamplingConfig
from videollm.datasets.item import Item, Prediction
from videollm.encoders.base import FrameFeatures
from videollm.errors import VideoRangeError
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.subject import Subject
from videollm.evaluate.tasks.mcqa import MultipleChoice, choose
from videollm.evaluate.views import WHOLE_VIDEO
from videollm.live.session import WINDOW_S, LiveSession
from videollm.live.window import LiveWindow, asked_window
from videollm.model import Model
from videollm.video.decoding import decode

FPS = 1.0  # at which `videollm watch` looks at a source


@dataclass(frozen=True, slots=True)
class Recording:
    """The frames uint8 (T,3,H,W) of a video as a stream shows them, their times in seconds (T,), and their features."""

    pixels: torch.Tensor
    times_s: list[float]
    features: FrameFeatures

    @classmethod
    def of(cls, model: Model, video: Path) -> "Recording":
        frames = decode(video, SamplingConfig(fps=FPS), short_side=model.encoder.image_size)
        return cls(frames.pixels, frames.times_s.tolist(), model.encoder.encode_frames(frames.pixels).to("cpu"))

    def watched(self, model: Model, until_s: float) -> LiveSession:
        """Returns a session that has seen the stream up to a time."""
        session = LiveSession(model, "stream", FPS)
        for number, time_s in enumerate(self.times_s):
            if time_s <= until_s:
                part = slice(number, number + 1)
                session.add(self.pixels[part], self.times_s[part], self.features[part])
        return session


class LiveQuestions:
    name = "live"
    about = (
        "Multiple-choice questions about a stream, each asked at its own time, as in StreamingBench and OVO-Bench. The "
        "video is watched as `videollm watch` does, at a frame a second up to that time, and a question about now is "
        "answered from the last seconds. The choice is the letter that is the most probable first token. accuracy: the "
        "share of choices that are right at that time. changing: the same for the questions whose right answer is "
        "another one at the end of the video. foreseen: the share of these whose choice is the answer of the end. "
        "The control whole_video sees all of the video, also what comes later. Chance: 1 divided by the number of "
        "options."
    )
    controls = (WHOLE_VIDEO, "text_only")

    def lacks(self, item: Item) -> str | None:
        if (
            MultipleChoice().lacks(item) is None
            and item.end_s is not None
            and set(item.references) <= set(item.choices)
        ):
            return None
        return "a question with options, one of them right, and the time `end_s` at which it is asked"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        model = subject.model
        if condition == "text_only":
            return choose(subject, None, item)
        kept: dict[Path, Recording] = subject.once(self.name, dict)
        if item.video not in kept:  # items come video by video
            kept.clear()
            kept[item.video] = Recording.of(model, item.video)
        if condition == WHOLE_VIDEO:
            parts = kept[item.video].watched(model, float("inf")).segments(0.0)
            return choose(subject, LiveWindow.of("stream", parts), item)
        assert item.end_s is not None
        session = kept[item.video].watched(model, item.end_s)
        if not session.segments(0.0):
            raise VideoRangeError(str(item.video), f"no frame is shown before {item.end_s:g} s")
        asked = asked_window(item.question, session.latest)
        start = session.latest - WINDOW_S if asked.start is None else asked.start
        parts = session.segments(start, float("inf") if asked.end is None else asked.end)
        return choose(subject, LiveWindow.of("stream", parts), replace(item, question=asked.text))

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        made = np.array([p["choice"] if p["choice"] is not None else -1 for p in predictions])
        now, end = (np.array([item.choices.index(item.references[at]) for item in items]) for at in (0, -1))
        changing = now != end
        return {
            "accuracy": (made == now).astype(float),
            "changing": np.where(changing, made == now, np.nan),
            "foreseen": np.where(changing, made == end, np.nan),
        }

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {"accuracy": float(np.mean([1 / len(item.choices) for item in items]))}
