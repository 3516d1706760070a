"""Watches a source: encodes its frames, remembers its segments, answers questions and reports what was waited for.

Shapes: T frames, H and W pixels.
"""

import math
import queue
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from videollm.chat.caption import QUESTION
from videollm.errors import EngineError, VideoLLMError
from videollm.inference.engine import Engine
from videollm.live.memory import LiveSegment
from videollm.live.packets import ClipRequest
from videollm.live.reader import (
    GIVE_UP_S,
    MEMORY_BYTES,
    WAITING_EVENTS,
    ClipWritten,
    StreamConnected,
    StreamEnded,
    StreamFrame,
    StreamLost,
    StreamReader,
    StreamSound,
)
from videollm.live.session import LiveAnswer, LiveSession
from videollm.live.source import StreamSource
from videollm.live.speech import LATE_S, LiveSpeech
from videollm.live.spoken import spoken_question
from videollm.live.standing import Alert, StandingQuestion
from videollm.live.window import format_date
from videollm.model import Model
from videollm.senses.finding import Finding
from videollm.senses.objects import ObjectSense
from videollm.senses.speech import SpeechSense

if TYPE_CHECKING:
    from videollm.live.indexing import StreamIndexer

BATCH = 8  # frames that are encoded together when they have come together
LAST_CLIPS_S = 20.0  # longest wait for clips after the end of a stream
CLIP_BEFORE_S, CLIP_AFTER_S = 5.0, 5.0  # around the moment at which something begins


@dataclass(frozen=True, slots=True)
class LiveQuestion:
    """A question to be answered between two frames. since: see `LiveSession.ask`."""

    text: str
    since: float | None = None


@dataclass(frozen=True, slots=True)
class LiveProblem:
    """A question that cannot be answered, and why."""

    question: str
    reason: str


@dataclass(frozen=True, slots=True)
class LiveSentence:
    """Something that was said. start, end: in seconds since 1970. language: as an ISO 639-1 code."""

    start: float
    end: float
    text: str
    language: str


WatchEvent: TypeAlias = (
    LiveSegment
    | LiveSentence
    | Alert
    | LiveAnswer
    | LiveProblem
    | ClipWritten
    | StreamConnected
    | StreamLost
    | StreamEnded
)


class LiveWatcher:
    """Watches a source until it ends, in the thread that consumes `events`.

    Args:
        model: The model.
        source: What is watched.
        standing: What is to be reported when it happens.
        describe: Whether the language model describes each segment.
        index: Where segments are written.
        clips: The folder of clips of what was waited for. None saves none.
        engine: What runs the language model. None runs it in this process.
        compute: What calls functions that compute with torch, with their arguments. None calls them in this thread.
        give_up_s: The seconds without a frame after which a source counts as ended.
        memory_bytes: The memory of the process that reads the source.
        on_frame: Is called with each frame that was looked at.
        objects: What finds people and things. None: nobody looks for them.
        speech: What writes down what is said. None: nobody listens.
    """

    def __init__(
        self,
        model: Model,
        source: StreamSource,
        *,
        standing: Sequence[str] = (),
        describe: bool = False,
        index: "StreamIndexer | None" = None,
        clips: Path | None = None,
        engine: Engine | None = None,
        compute: Callable[..., Any] | None = None,
        give_up_s: float = GIVE_UP_S,
        memory_bytes: int = MEMORY_BYTES,
        on_frame: Callable[[StreamFrame], None] | None = None,
        objects: ObjectSense | None = None,
        speech: SpeechSense | None = None,
    ):
        self.source, self.describe, self.index, self.clips = source, describe, index, clips
        listens = speech is not None
        self.session = LiveSession(model, source.name, source.fps, engine=engine, objects=objects, listens=listens)
        known = {"detects": objects is not None, "fitted": bool(model.config.senses)}
        spoken = {text: spoken_question(text, listens=listens) for text in standing}
        self.spoken = [question for question in spoken.values() if question is not None]
        self.standing = [StandingQuestion(text, model.encoder, **known) for text in standing if spoken[text] is None]
        self._encoder, self._compute, self._on_frame = model.encoder, compute or _call, on_frame
        self._events: queue.Queue[Any] = queue.Queue(WAITING_EVENTS)
        self._can_clip = self._stopping = False
        self.lag_s = 0.0
        # All of a file is heard. What a live source says must not wait.
        self._speech = LiveSpeech(speech, waits=not source.is_live) if speech is not None else None
        short_side = max(model.encoder.image_size, objects.short_side if objects is not None else 0)
        self.reader = StreamReader(
            source, short_side, self._events, listens=listens, give_up_s=give_up_s, memory_bytes=memory_bytes
        )

    @property
    def said_until(self) -> float:
        """The time in seconds since 1970 before which all that is said has been told, or is not waited for because the
        sound has stopped."""
        if self._speech is None or not self.session.has_sound:
            return math.inf
        return max(self._speech.read_until, self.session.latest - LATE_S)

    def ask(self, question: LiveQuestion) -> None:
        """Has a question answered, from any thread. A `LiveAnswer` or `LiveProblem` follows."""
        self._events.put(question)

    def stop(self) -> None:
        """Ends watching, from any thread but the one that consumes `events`: `StreamEnded` follows."""
        self._stopping = True
        with suppress(queue.Full):  # then there is something that the consumer will wake up for
            self._events.put_nowait(StreamEnded("it was stopped"))

    def events(self) -> Iterator[WatchEvent]:
        """Yields what happens, and at last `StreamEnded`. Closing the generator ends watching."""
        held: list[Any] = []
        try:
            while True:
                event = held.pop() if held else self._next()
                event = StreamEnded("it was stopped") if self._stopping else event
                if isinstance(event, StreamFrame):
                    frames, held = self._batch(event)
                    yield from self._see(frames)
                    yield from self._said()
                    continue
                match event:
                    case StreamSound():
                        self._hear(event)
                    case LiveQuestion():
                        yield self._answer(event)
                    case StreamConnected(clips=clips, sound=sound):
                        self._can_clip, self.session.has_sound = clips, sound
                        yield event
                        if not sound:
                            yield from (LiveProblem(q.text, "the stream has no sound") for q in self.spoken)
                    case StreamLost():
                        yield from self._complete(self.session.finish())
                        if self._speech is not None:
                            self._speech.pause()
                        yield event
                    case StreamEnded():
                        yield from self._complete(self.session.finish())
                        if self._speech is not None and not self._stopping:
                            yield from self._tell_said(self._speech.finish())
                        yield from self._last_clips()
                        yield event
                        return
                    case _:
                        yield event
        finally:
            self.reader.stop()
            if self._speech is not None:
                self._speech.stop()
            if self.index is not None:
                self.index.close()

    def _last_clips(self) -> Iterator[ClipWritten]:
        until = time.monotonic() + LAST_CLIPS_S
        while (self.reader.waits_for_clips or not self._events.empty()) and time.monotonic() < until:
            with suppress(queue.Empty):
                event = self._events.get(timeout=0.1)
                if isinstance(event, ClipWritten):
                    yield event

    def _next(self) -> Any:
        try:
            return self._events.get_nowait()
        except queue.Empty:
            with suppress(EngineError):  # a question will say so
                self.session.read_ahead()
            return self._events.get()

    def _batch(self, first: StreamFrame) -> tuple[list[StreamFrame], list[Any]]:
        """Returns a frame and those of the same size that have come since, and the event after them, if there is
        one."""
        frames = [first]
        while len(frames) < BATCH:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                break
            if isinstance(event, StreamSound):
                self._hear(event)
                continue
            if not isinstance(event, StreamFrame) or event.pixels.shape != first.pixels.shape:
                return frames, [event]
            frames.append(event)
        return frames, []

    def _hear(self, sound: StreamSound) -> None:
        if self._speech is not None:
            self._speech.hear(sound.audio)

    def _said(self) -> Iterator[LiveSentence | Alert]:
        return self._tell_said(self._speech.ready()) if self._speech is not None else iter(())

    def _tell_said(self, sentences: list[Finding]) -> Iterator[LiveSentence | Alert]:
        self.session.hear(sentences)
        for sentence in sentences:
            if self.index is not None:
                self.index.hear(sentence)
            yield LiveSentence(sentence.start_s, sentence.end_s, sentence.text, sentence.language or "")
            for question in self.spoken:
                yield from map(self._with_clip, question.hear(sentence))

    def _see(self, frames: list[StreamFrame]) -> Iterator[WatchEvent]:
        segments, alerts = self._compute(self._take, frames)
        if self._on_frame is not None:
            for frame in frames:
                self._on_frame(frame)
        if self.source.is_live:
            self.lag_s = time.time() - frames[-1].time
        yield from map(self._with_clip, alerts)
        yield from self._complete(segments)

    def _take(self, frames: list[StreamFrame]) -> tuple[list[LiveSegment], list[Alert]]:
        """Encodes frames. Returns the segments that are complete, and what the standing questions see."""
        pixels, times = torch.stack([frame.pixels for frame in frames]), [frame.time for frame in frames]
        features = self._encoder.encode_frames(pixels).to("cpu")
        objects = self.session.look(pixels, times)
        alerts = [alert for question in self.standing for alert in question.see(times, features, objects)]
        return self.session.add(pixels, times, features), alerts

    def _complete(self, segments: list[LiveSegment]) -> Iterator[WatchEvent]:
        for segment in segments:
            if self.describe:
                try:
                    segment = replace(segment, text=self.session.ask_about(QUESTION, [segment]).text)
                except VideoLLMError as error:
                    yield LiveProblem(QUESTION, str(error))
            if self.index is not None:
                self.index.add(segment)
            yield segment
            for question in self.standing:
                try:
                    yield from map(self._with_clip, question.ask(segment, self.session.ask_about))
                except VideoLLMError as error:
                    yield LiveProblem(question.text, str(error))

    def _answer(self, question: LiveQuestion) -> LiveAnswer | LiveProblem:
        try:
            return self.session.ask(question.text, question.since)
        except VideoLLMError as error:
            return LiveProblem(question.text, str(error))

    def _with_clip(self, alert: Alert) -> Alert:
        """Has the clip of something that begins written, and returns the alert with its name."""
        if self.clips is None or not self._can_clip or alert.state == "ends":
            return alert
        name = re.sub(r"\W+", "-", f"{format_date(alert.time)} {alert.when}").strip("-")[:80]
        path = str((self.clips / f"{name}.mp4").absolute())
        self.reader.clip(ClipRequest(alert.time - CLIP_BEFORE_S, alert.time + CLIP_AFTER_S, path))
        return replace(alert, clip=path)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
