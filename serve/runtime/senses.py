"""What senses find in a video of the server: what is said, and which people, things and texts are seen where.

Pictures and sound are decoded in the sandbox. What is found is kept for the videos that were used last, by owner: a
fast answer would else tell the holder of one key what another has looked at.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from serve.api.errors import APIError
from serve.runtime.decoding import SandboxedDecoder
from serve.runtime.executor import ModelExecutor, run_in_new_thread
from serve.runtime.progress import OnProgress, silent, told
from videollm.config import SamplingConfig, split_sense
from videollm.features.observe import HEARING
from videollm.senses.detector import SIDE, SSDMobileNetV2
from videollm.senses.finding import Finding, Findings
from videollm.senses.objects import ObjectSense
from videollm.senses.speech import SpeechSense, SpeechTask, SpokenSentence
from videollm.senses.tracks import ObjectTrack
from videollm.senses.windows import thinned
from videollm.video.frames import VideoInfo

MAX_KEPT = 64  # videos
# Errors of one sense, without which the others still look and listen.
OF_ONE_SENSE = ("sense_unavailable", "invalid_media")


@dataclass(frozen=True, slots=True)
class SensedVideo:
    """What was found. findings: what the language model and answers are told of, with the times that were spent now.

    sentences and tracks: of speech and objects, in order of time. has_sound: whether there is anything to hear.
    problems: why a sense could not be used, by its name.
    """

    duration_s: float
    has_sound: bool
    sentences: tuple[SpokenSentence, ...]
    tracks: tuple[ObjectTrack, ...]
    findings: Findings
    problems: dict[str, APIError]


class VideoSenses:
    """Lets senses look and listen, each once for each video of an owner.

    load: returns a sense, see `SenseLoader.load`.
    """

    def __init__(self, decoder: SandboxedDecoder, executor: ModelExecutor, load: Callable[[str], Awaitable[Any]]):
        self.decoder, self.executor, self._load = decoder, executor, load
        self._kept: OrderedDict[tuple[str, str], dict[str, tuple[Any, ...]]] = OrderedDict()
        self._finding: dict[tuple[str, str], asyncio.Lock] = {}

    async def of(
        self,
        owner: str,
        path: Path,
        sha: str,
        senses: Sequence[str],
        info: VideoInfo | None = None,
        progress: OnProgress = silent,
    ) -> SensedVideo:
        """Returns what `senses` (see `split_sense`) find in the file with the content hash `sha`.

        A sense that cannot be loaded, or that cannot read the file, is left out and named in `problems`. `progress` is
        called with the names of senses while they work.

        Args:
            info: The video, if it has been decoded before.

        Raises APIError 400 for a file that cannot be decoded at all.
        """
        key = owner, sha
        ms: dict[str, float] = {}
        problems: dict[str, APIError] = {}
        try:
            async with self._finding.setdefault(key, asyncio.Lock()):  # who asks meanwhile waits for the same result
                info = info or await self._probe(owner, path, sha)
                kept = self._results(key)
                for sense in senses:
                    name, started = split_sense(sense)[0], perf_counter()
                    try:
                        if sense not in kept:
                            kept[sense] = tuple(await self._find(sense, owner, path, info, progress))
                    except APIError as error:
                        if error.code not in OF_ONE_SENSE:
                            raise
                        problems[name] = error
                    ms[name] = round(1000 * (perf_counter() - started), 1)
        finally:
            self._finding.pop(key, None)
        by_name = {split_sense(sense)[0]: kept[sense] for sense in senses if sense in kept}
        return _sensed(info, by_name, ms, problems)

    def _results(self, key: tuple[str, str]) -> dict[str, tuple[Any, ...]]:
        """Returns what was found in a video, by sense."""
        kept = self._kept.setdefault(key, {})
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _probe(self, owner: str, path: Path, sha: str) -> VideoInfo:
        async with self.decoder.decode(path, SamplingConfig(frames=1), SIDE, owner, sha) as decoded:
            return decoded.info

    async def _find(
        self, sense: str, owner: str, path: Path, info: VideoInfo, progress: OnProgress
    ) -> Iterable[SpokenSentence | ObjectTrack | Finding]:
        name = split_sense(sense)[0]
        if name in HEARING and not info.has_audio:
            return ()
        progress(name, 0)
        loaded = await self._load(sense)
        match name:
            case "speech":
                return await self._speech(loaded, owner, path, info, progress)
            case "sounds":
                async with self.decoder.sound(path, owner, info.content_sha) as sound:
                    return await run_in_new_thread(loaded.listen, thinned(sound.pieces(), info.duration_s))
            case "objects":
                loaded = _in_executor(loaded, self.executor)
        async with self.decoder.decode(path, loaded.sampling, loaded.short_side, owner, info.content_sha) as decoded:
            return await run_in_new_thread(loaded.follow, told(decoded.pieces, name, progress))

    async def _speech(
        self, sense: SpeechSense, owner: str, path: Path, info: VideoInfo, progress: OnProgress
    ) -> list[SpokenSentence]:
        sentences: list[SpokenSentence] = []
        async with self.decoder.sound(path, owner, info.content_sha) as sound:
            pieces = thinned(sound.pieces(), info.duration_s)
            found = self.executor.iterate(lambda: sense.sentences(pieces, SpeechTask()))
            async with aclosing(found):
                async for sentence in found:
                    sentences.append(sentence)
                    progress("speech", sentence.end_s / info.duration_s)
        return sentences


def _sensed(
    info: VideoInfo, kept: dict[str, tuple[Any, ...]], ms: dict[str, float], problems: dict[str, APIError]
) -> SensedVideo:
    found = [one if isinstance(one, Finding) else one.finding for items in kept.values() for one in items]
    findings = Findings(
        senses=tuple(kept),
        found=tuple(sorted(found, key=lambda finding: finding.start_s)),
        sound=info.has_audio,
        ms=ms,
        problems={name: str(error) for name, error in problems.items()},
    )
    sentences, tracks = kept.get("speech", ()), kept.get("objects", ())
    return SensedVideo(info.duration_s, info.has_audio, sentences, tracks, findings, problems)


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
