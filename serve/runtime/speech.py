"""Writes down the speech of an uploaded file: decoded in the sandbox, transcribed by Whisper."""

import asyncio
import json
import math
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from serve.api.errors import APIError, api_errors
from serve.api.schemas.audio import (
    DurationUsage,
    Transcription,
    TranscriptionForm,
    TranscriptionSegment,
    TranslationForm,
    VerboseTranscription,
)
from serve.runtime.decoding import DecodedSound
from serve.runtime.service import Service
from videollm.senses.speech import SpeechTask, SpokenSentence
from videollm.video.subtitles import Cue, write_subtitles

ALIAS = "whisper-1"  # OpenAI's name of Whisper, which clients send unless they are told another


@dataclass(frozen=True)
class Transcript:
    """What has been found in the sound of a request. duration_s: of the sound."""

    task: SpeechTask
    duration_s: float
    sentences: list[SpokenSentence] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def usage(self) -> DurationUsage:
        return DurationUsage(seconds=math.ceil(self.duration_s))

    def subtitles(self, kind: str) -> str:
        return write_subtitles((Cue(s.start_s, s.end_s, s.text) for s in self.sentences), kind)

    def plain(self) -> Transcription:
        return Transcription(text=self.text, usage=self.usage)

    def verbose(self) -> VerboseTranscription:
        from transformers.models.whisper.tokenization_whisper import LANGUAGES  # takes seconds to import

        code = self.sentences[0].language if self.sentences else self.task.language or "en"
        segments = [
            TranscriptionSegment(
                id=number,
                seek=round(100 * sentence.start_s),
                start=sentence.start_s,
                end=sentence.end_s,
                text=sentence.text,
                tokens=list(sentence.tokens),
                temperature=self.task.temperature,
                avg_logprob=sentence.log_probability,
                compression_ratio=sentence.compression,
                no_speech_prob=sentence.no_speech,
            )
            for number, sentence in enumerate(self.sentences)
        ]
        return VerboseTranscription(
            task="translate" if self.task.translate else "transcribe",
            language=LANGUAGES[code],
            duration=self.duration_s,
            text=self.text,
            segments=segments,
            usage=self.usage,
        )


async def transcripts(service: Service, form: TranslationForm, owner: str) -> AsyncGenerator[Transcript]:
    """Yields a transcript once the sound is decoded, and again with each sentence that is found. Raises APIError."""
    _check(service, form)
    sense = await service.speech()
    asked = form.language if isinstance(form, TranscriptionForm) else None
    translate = not isinstance(form, TranscriptionForm)
    with api_errors("language"):
        task = sense.checked(
            SpeechTask(language=asked, prompt=form.prompt, translate=translate, temperature=form.temperature)
        )
    with tempfile.NamedTemporaryFile(dir=service.folder / "media") as copy:
        await asyncio.to_thread(shutil.copyfileobj, form.file.file, copy)
        copy.flush()
        started = perf_counter()
        async with _sound(service, Path(copy.name), owner) as sound:
            service.metrics.seconds.labels("decode").observe(perf_counter() - started)
            transcript = Transcript(task, sound.end_s)
            yield transcript
            started = perf_counter()
            found = service.executor.iterate(lambda: sense.sentences(sound.pieces(), task))
            async with aclosing(found):
                async for sentence in found:
                    transcript.sentences.append(sentence)
                    yield transcript
            service.metrics.seconds.labels("transcribe").observe(perf_counter() - started)


@asynccontextmanager
async def _sound(service: Service, path: Path, owner: str) -> AsyncIterator[DecodedSound]:
    try:
        async with service.decoder.sound(path, owner) as sound:
            yield sound
    except APIError as error:
        error.param = "file"
        raise


async def transcribe(service: Service, form: TranslationForm, owner: str) -> Transcript:
    """Returns the transcript of a whole file. Raises APIError."""
    async with aclosing(transcripts(service, form, owner)) as growing:
        transcript = await anext(growing)
        async for _ in growing:
            pass
    return transcript


async def transcript_events(growing: AsyncGenerator[Transcript], transcript: Transcript) -> AsyncIterator[str]:
    """Server-sent events: a delta for each sentence, and at the end the whole text."""
    async with aclosing(growing):
        async for _ in growing:
            separator = " " if len(transcript.sentences) > 1 else ""
            yield _event("transcript.text.delta", delta=separator + transcript.sentences[-1].text)
    yield _event("transcript.text.done", text=transcript.text, usage=transcript.usage.model_dump())


def _event(kind: str, **values: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **values})}\n\n"


def _check(service: Service, form: TranslationForm) -> None:
    own = service.sense_loader.speech_model
    if form.model not in (own, ALIAS):
        raise APIError(
            404,
            f"no speech model {form.model!r}; this server has {own!r}, also called {ALIAS!r}",
            "model_not_found",
            param="model",
        )
    if isinstance(form, TranscriptionForm) and "word" in form.timestamp_granularities:
        raise APIError(
            400,
            "times of single words are not available; leave timestamp_granularities out, or ask for segment",
            "invalid_value",
            param="timestamp_granularities",
        )
