"""Questions about a stream while it is watched.

Shapes: T frames, H and W pixels.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from videollm.chat.answer import Answer, Receipt
from videollm.chat.prompt_video import PromptVideo
from videollm.chat.turn import fit_to_context, generate_answer
from videollm.encoders.base import FrameFeatures
from videollm.errors import VideoRangeError
from videollm.inference.engine import Engine, LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.live.memory import LiveSegment, StreamMemory
from videollm.live.objects import LiveObjects
from videollm.live.segmenter import LiveSegmenter
from videollm.live.speech import SENSE as SPEECH
from videollm.live.window import LiveWindow, asked_window, format_clock, with_clock_times
from videollm.model import Model
from videollm.models.processor import Message, Prompt
from videollm.models.visual_prompting import VISUAL_TOKEN_ID, VisualPrompting
from videollm.senses.finding import Finding
from videollm.senses.objects import ObjectSense

# The rolling window holds at least the last minute. It grows to half as much again before its oldest part leaves it,
# because all that stays must then be read anew: the keys and values of a segment depend on what is before it.
WINDOW_S, LONGEST_WINDOW_S = 60.0, 90.0
QUESTION_TOKENS = 256  # of the context that a question may take, with the words around it
MOST_SENTENCES = 2_000  # that are remembered


@dataclass(frozen=True, slots=True)
class LiveEvidence:
    """A part of the stream that supports an answer. start, end: in seconds since 1970. score: see `Evidence`."""

    start: float
    end: float
    score: float
    tags: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """An answer about a stream. start, end: the part that it is about, in seconds since 1970."""

    text: str
    evidence: tuple[LiveEvidence, ...]
    start: float
    end: float
    receipt: Receipt


class LiveSession:
    """Remembers a stream and answers questions about it.

    Frames go in through `add`, in order of time. The keys and values of the last minute's segments are kept, so that a
    question reads only what is new.

    Args:
        model: The model that answers.
        name: What the stream is called.
        fps: The rate at which frames come.
        engine: What runs the language model. None runs it in this process.
        objects: What finds people and things. None: nobody looks for them.
        listens: Whether somebody writes down what is said, for `hear`.

    Attributes:
        has_sound: Whether the stream has sound.
        latest: The time of the latest frame.
    """

    def __init__(
        self,
        model: Model,
        name: str,
        fps: float,
        *,
        engine: Engine | None = None,
        objects: ObjectSense | None = None,
        listens: bool = False,
    ):
        self.model, self.name = model, name
        self.engine = engine or LocalEngine(model.llm, model.processor.stop_ids)
        config, vocabulary = model.config, model.encoder.vocabulary
        self.memory = StreamMemory(vocabulary, config.prompt, config.segments.frames)
        self._segmenter = LiveSegmenter(model.encoder, config, fps)
        self._objects = LiveObjects(objects, fps) if objects is not None else None
        self._rolling: list[LiveSegment] = []
        self._cache = PromptCache()
        self._read = 0  # tokens at the beginning of the cache that stand for complete segments
        self._listens, self._said = listens, deque[Finding](maxlen=MOST_SENTENCES)
        self.has_sound = True
        self.latest = 0.0

    def look(self, pixels: torch.Tensor, times: Sequence[float]) -> list[dict[str, float]] | None:
        """Looks for people and things in frames uint8 (T,3,H,W), before these are added.

        Returns the best score of each name in each frame; None where nobody looks.
        """
        return self._objects.see(pixels, times) if self._objects is not None else None

    def add(self, pixels: torch.Tensor, times: Sequence[float], features: FrameFeatures) -> list[LiveSegment]:
        """Takes frames uint8 (T,3,H,W), their wall-clock times and features. Returns the segments that are complete."""
        self.latest = times[-1]
        return self._remember(self._segmenter.add(pixels, times, features.to("cpu")))

    def hear(self, sentences: Sequence[Finding]) -> None:
        """Takes what is said, with times in seconds since 1970. It may come later than the frames of its time."""
        self._said += sentences

    def finish(self) -> list[LiveSegment]:
        """Ends the segment that is not complete, because the stream has ended or was lost."""
        return self._remember(self._segmenter.finish())

    def segments(self, start: float, end: float = float("inf")) -> list[LiveSegment]:
        """Returns the segments that have a part between two times, with the one that is not complete yet."""
        last = self._open_segment()
        parts = [*self.memory.between(start, end), *([last] if last and last.end > start and last.start < end else ())]
        return [self._with_speech(part) for part in parts]

    def _open_segment(self) -> LiveSegment | None:
        segment = self._segmenter.open_segment()
        return self._with_objects(segment) if segment is not None else None

    def _with_speech(self, segment: LiveSegment) -> LiveSegment:
        """Returns a segment with the sentences that begin in it."""
        if not self._listens:
            return segment
        said = [s for s in self._said if segment.start <= s.start_s < segment.end]
        findings = segment.findings
        found = tuple(sorted((*findings.found, *said), key=lambda finding: finding.start_s))
        senses = (*findings.senses, SPEECH)
        return replace(segment, findings=replace(findings, senses=senses, found=found, sound=self.has_sound))

    def _with_objects(self, segment: LiveSegment) -> LiveSegment:
        if self._objects is None:
            return segment
        return replace(segment, findings=self._objects.between(segment.start, segment.end))

    def ask(self, question: str, since: float | None = None, generation: GenerationConfig | None = None) -> LiveAnswer:
        """Answers a question about the last minute, or about the time that `since` or the question names.

        Args:
            question: The question. It may say when, see `asked_window`.
            since: The time from which on the stream is looked at, in seconds since 1970.
            generation: How text is generated. None takes the defaults of the model.

        Raises:
            VideoRangeError: If nothing is remembered of that time.
            ContextOverflowError: If the question does not fit the context.
        """
        asked = asked_window(question, self.latest)
        start = asked.start if since is None else since
        if start is None and isinstance(self.model.llm, VisualPrompting):
            return self._ask_rolling(asked.text, generation)
        start = self.latest - WINDOW_S if start is None else start
        parts = self.segments(start, float("inf") if asked.end is None else asked.end)
        return self.ask_about(asked.text, parts, generation, start)

    def ask_about(
        self,
        question: str,
        parts: Sequence[LiveSegment],
        generation: GenerationConfig | None = None,
        start: float = 0.0,
    ) -> LiveAnswer:
        """Answers a question about some segments. Raises VideoRangeError if there are none."""
        if not parts:
            first = next(iter(self.memory), None)
            known = f"it is remembered since {format_clock(first.start)}" if first else "no frame has come yet"
            raise VideoRangeError(self.name, f"nothing is remembered of {format_clock(start)}; {known}")
        video = PromptVideo(self.model, LiveWindow.of(self.name, parts))
        messages, generation = [Message("user", question)], self._generation(generation)
        return self._answer(
            question,
            parts,
            video,
            lambda: fit_to_context(self.model, messages, [video], generation.max_new_tokens),
            PromptCache(),
            generation,
        )

    def read_ahead(self) -> None:
        """Lets the language model read the segments that it has not read, so that a question need not wait for it."""
        if not self._rolling or not isinstance(self.model.llm, VisualPrompting):
            return  # prompts of other models are read as a whole
        _, prompt, end = self._rolling_prompt("", self._rolling)
        if end > self._read:
            prompt.ids = prompt.ids[:end]
            tokens = self.engine.stream(prompt, self._cache, GenerationConfig(max_new_tokens=1))
            next(tokens, None)
            tokens.close()
            self._keep(end)

    def _ask_rolling(self, question: str, generation: GenerationConfig | None) -> LiveAnswer:
        last = self._open_segment()
        parts = [*self._rolling, *([last] if last else ())]
        if not parts:
            return self.ask_about(question, parts)
        video, prompt, end = self._rolling_prompt(question, parts)
        answer = self._answer(question, parts, video, lambda: prompt, self._cache, self._generation(generation))
        self._keep(end)
        return answer

    def _rolling_prompt(self, question: str, parts: Sequence[LiveSegment]) -> tuple[PromptVideo, Prompt, int]:
        """Returns the prompt about the rolling window, and the number of its tokens up to the last complete segment."""
        video = PromptVideo(self.model, LiveWindow.of(self.name, [self._with_speech(part) for part in parts]))
        prompt = self.model.processor([Message("user", question)], video.segments, length_s=LONGEST_WINDOW_S)
        complete = len(self._rolling) * self.model.config.temporal.queries
        visual = [at for at, token in enumerate(prompt.ids) if token == VISUAL_TOKEN_ID][:complete]
        return video, prompt, visual[-1] + 1 if visual else 0

    def _keep(self, length: int) -> None:
        """Forgets what the cache has after `length` tokens: visual tokens that may stand for other frames the next
        time, under the same ids."""
        self._cache.ids, self._read = self._cache.ids[:length], length

    def _remember(self, segments: list[LiveSegment]) -> list[LiveSegment]:
        segments = [self._with_objects(segment) for segment in segments]
        if self._objects is not None and segments:
            self._objects.forget(segments[-1].end)
        for segment in segments:
            self.memory.add(segment)
            self._rolling.append(segment)
            if segment.end - self._rolling[0].start > LONGEST_WINDOW_S or self._is_full():
                from_ = max(segment.end - WINDOW_S, self._rolling[len(self._rolling) // 3].start)
                self._rolling = [s for s in self._rolling if s.start >= from_ or s is segment]
                self._cache, self._read = PromptCache(), 0
        return segments

    def _is_full(self) -> bool:
        """Whether the window, with a question and an answer, fills more than the context."""
        prompt = self.model.config.prompt
        if not isinstance(self.model.llm, VisualPrompting):
            return False
        _, _, end = self._rolling_prompt("", self._rolling)
        return end > prompt.context - 2 * prompt.max_new_tokens - QUESTION_TOKENS

    def _answer(
        self,
        question: str,
        parts: Sequence[LiveSegment],
        video: PromptVideo,
        prompt: Callable[[], Prompt],
        cache: PromptCache,
        generation: GenerationConfig,
    ) -> LiveAnswer:
        started, no_ms = perf_counter(), {"decode": 0.0, "encode": 0.0}
        made = generate_answer(self.model, self.engine, prompt(), question, [video], cache, generation, no_ms, started)
        answer = next(item for item in made if isinstance(item, Answer))
        origin = parts[0].start
        evidence = tuple(LiveEvidence(origin + e.start_s, origin + e.end_s, e.score, e.tags) for e in answer.evidence)
        text = with_clock_times(answer.text, video.video.end_s, origin)
        return LiveAnswer(text, evidence, origin, parts[-1].end, answer.receipt)

    def _generation(self, given: GenerationConfig | None) -> GenerationConfig:
        return given or GenerationConfig(max_new_tokens=self.model.config.prompt.max_new_tokens)
