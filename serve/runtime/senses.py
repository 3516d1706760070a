"""What senses find in a video of the server: who speaks, and which people and things are seen where.

Pictures and sound are decoded in the sandbox. What is found is kept for the videos that were used last, by owner: a
fast answer would else tell the holder of one key what another has looked at.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from serve.runtime.decoding import SandboxedDecoder
from serve.runtime.executor import ModelExecutor, run_in_new_thread
from serve.runtime.progress import OnProgress, silent, told
from videollm.config import SamplingConfig
from videollm.features.observe import FPS, MAX_FRAMES, thinned
from videollm.senses.detector import SIDE, SSDMobileNetV2
from videollm.senses.finding import Findings
from videollm.senses.objects import ObjectSense
from videollm.senses.speech import SpeechSense, SpeechTask, SpokenSentence
from videollm.senses.tracks import ObjectTrack

MAX_KEPT = 64  # videos


@dataclass(frozen=True, slots=True)
class SensedVideo:
    """sentences and tracks: in order of time. has_sound: whether there is anything to hear."""

    duration_s: float
    has_sound: bool
    sentences: tuple[SpokenSentence, ...]
    tracks: tuple[ObjectTrack, ...]

    @property
    def findings(self) -> Findings:
        """What the language model and answers are told of."""
        found = [*(s.finding for s in self.sentences), *(t.finding for t in self.tracks)]
        ordered = tuple(sorted(found, key=lambda f: f.start_s))
        return Findings(senses=("speech", "objects"), found=ordered, sound=self.has_sound)


class VideoSenses:
    """Finds speech, people and things, once for each video of an owner.

    objects, speech: load the models when they are first needed. They raise APIError 503 where that fails.
    """

    def __init__(
        self,
        decoder: SandboxedDecoder,
        executor: ModelExecutor,
        objects: Callable[[], Awaitable[ObjectSense]],
        speech: Callable[[], Awaitable[SpeechSense]],
    ):
        self.decoder, self.executor = decoder, executor
        self._objects, self._speech = objects, speech
        self._kept: OrderedDict[tuple[str, str], SensedVideo] = OrderedDict()
        self._finding: dict[tuple[str, str], asyncio.Lock] = {}

    async def of(self, owner: str, path: Path, sha: str, progress: OnProgress = silent) -> SensedVideo:
        """Returns what the senses find in the file with the content hash `sha`.

        `progress` is called with "objects" and "speech" while these work.

        Raises APIError: 400 for a file that cannot be decoded, 503 where a sense cannot be loaded."""
        key = owner, sha
        try:
            async with self._finding.setdefault(key, asyncio.Lock()):  # who asks meanwhile waits for the same result
                if key not in self._kept:
                    self._kept[key] = await self._find(owner, path, progress)
        finally:
            self._finding.pop(key, None)
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    async def _find(self, owner: str, path: Path, progress: OnProgress) -> SensedVideo:
        progress("objects", 0)
        sampling = SamplingConfig(fps=FPS, max_frames=MAX_FRAMES)
        objects = _in_executor(await self._objects(), self.executor)
        async with self.decoder.decode(path, sampling, SIDE, owner) as decoded:
            tracks = await run_in_new_thread(objects.follow, told(decoded.pieces, "objects", progress))
        info = decoded.info
        sentences = await self._listen(owner, path, info.duration_s, progress) if info.has_audio else []
        return SensedVideo(info.duration_s, info.has_audio, tuple(sentences), tuple(tracks))

    async def _listen(self, owner: str, path: Path, duration_s: float, progress: OnProgress) -> list[SpokenSentence]:
        progress("speech", 0)
        sense, sentences = await self._speech(), []
        async with self.decoder.sound(path, owner) as sound:
            pieces = thinned(sound.pieces(), duration_s)
            found = self.executor.iterate(lambda: sense.sentences(pieces, SpeechTask()))
            async with aclosing(found):
                async for sentence in found:
                    sentences.append(sentence)
                    progress("speech", sentence.end_s / duration_s)
        return sentences


@dataclass(frozen=True)
class _ExecutorDetector:
    """A detector for other threads than the executor's: each batch is one job of the executor."""

    model: SSDMobileNetV2
    executor: ModelExecutor

    @property
    def anchors(self) -> torch.Tensor:
        return self.model.anchors

    def detect(self, pixels: torch.Tensor, least: float) -> Any:
        return self.executor.run_blocking(self.model.detect, pixels, least)


def _in_executor(sense: ObjectSense, executor: ModelExecutor) -> ObjectSense:
    detector: Any = _ExecutorDetector(sense.model, executor)  # has the part of the model that `follow` uses
    return sense.with_model(detector)
