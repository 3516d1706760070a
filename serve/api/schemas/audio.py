"""Transcriptions and translations of speech, as OpenAI's API has them."""

from typing import Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from serve.api.schemas.base import ReplyModel

SpeechFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]


class TranslationForm(BaseModel):
    """The fields of a form. file: a sound or video file. prompt: text that shows the spelling of names.

    temperature: of sampling; 0 takes the likeliest words.
    """

    model_config = ConfigDict(extra="forbid")

    file: UploadFile
    model: str
    prompt: str = ""
    response_format: SpeechFormat = "json"
    temperature: float = Field(default=0.0, ge=0, le=1)


class TranscriptionForm(TranslationForm):
    """language: an ISO 639-1 code; without it the language is detected. stream: send the text as it is found."""

    language: str | None = None
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default=["segment"], alias="timestamp_granularities[]"
    )
    stream: bool = False


class DurationUsage(ReplyModel):
    """seconds: of sound, rounded up."""

    type: Literal["duration"] = "duration"
    seconds: int


class Transcription(ReplyModel):
    text: str
    usage: DurationUsage


class TranscriptionSegment(ReplyModel):
    """seek: where the window that holds the segment begins, in hundredths of a second; here the segment's own start."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class VerboseTranscription(ReplyModel):
    """language: its English name, in lower case. duration: seconds of sound."""

    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    segments: list[TranscriptionSegment]
    usage: DurationUsage
