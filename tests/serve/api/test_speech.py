"""Transcriptions through OpenAI's own client, from real speech."""

import asyncio
import io
from pathlib import Path
from typing import Any

import openai
import pysubs2
import pytest

from serve.api.errors import APIError
from serve.config import ServerConfig
from serve.runtime.service import Service
from tests.senses.test_speech import SHORT, SHORT_TEXT, words
from tests.serve.conftest import SAMPLE, Server
from videollm import checkpoint

MODEL = "whisper-1"


def test_every_format_of_a_transcription(client: Any):
    def transcribed(kind: str, **more: Any) -> Any:
        return client.audio.transcriptions.create(file=SHORT, model=MODEL, response_format=kind, **more)

    plain = transcribed("json")
    assert words(plain.text) == SHORT_TEXT and plain.usage.type == "duration" and plain.usage.seconds == 3
    text = transcribed("text", language="en")
    assert words(text) == SHORT_TEXT and text.endswith("\n")
    for kind in ("srt", "vtt"):
        (line,) = pysubs2.SSAFile.from_string(transcribed(kind), format_=kind)
        assert words(line.plaintext) == SHORT_TEXT and line.end == pytest.approx(2990, abs=500)
    verbose = transcribed("verbose_json", timestamp_granularities=["segment"], prompt="John Dashwood")
    assert (verbose.task, verbose.language) == ("transcribe", "english")
    assert verbose.duration == pytest.approx(2.99, abs=0.02)
    (segment,) = verbose.segments
    assert words(segment.text) == SHORT_TEXT == words(verbose.text)
    assert segment.start == pytest.approx(0, abs=0.5) and segment.end == pytest.approx(2.99, abs=0.5)
    assert -1 < segment.avg_logprob < 0 and 0 <= segment.no_speech_prob < 0.6 and segment.compression_ratio < 2.4
    assert len(segment.tokens) >= len(SHORT_TEXT.split()) and segment.temperature == 0


def test_a_transcription_is_streamed_and_counted(client: Any, server: Server):
    counter = 'videollm_step_seconds_count{step="transcribe"}'
    before = server.metric(counter)
    events = list(client.audio.transcriptions.create(file=SHORT, model="whisper-base", stream=True))
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert events[0].delta == events[1].text and words(events[1].text) == SHORT_TEXT
    assert server.metric(counter) == before + 1


def test_a_translation_is_english(client: Any):
    assert words(client.audio.translations.create(file=SHORT, model=MODEL).text) == SHORT_TEXT


@pytest.mark.parametrize(
    ("change", "status", "code", "param", "message"),
    [
        ({"model": "tts-1"}, 404, "model_not_found", "model", "this server has 'whisper-base'"),
        ({"language": "xx"}, 400, "invalid_value", "language", "language is 'xx'; this model knows"),
        ({"temperature": 2}, 400, "invalid_value", "temperature", "less than or equal to 1"),
        ({"response_format": "diarized_json"}, 400, "invalid_value", "response_format", "verbose_json"),
        ({"timestamp_granularities": ["word"]}, 400, "invalid_value", "timestamp_granularities", "ask for segment"),
        ({"extra_body": {"volume": "11"}}, 400, "unsupported_parameter", "volume", "volume"),
        ({"file": SAMPLE}, 400, "invalid_media", "file", "it has no sound"),
        ({"file": ("a.mp3", io.BytesIO(b"ID3 nothing"))}, 400, "invalid_media", "file", "header is cut off or damaged"),
    ],
)
def test_refusals(client: Any, change: dict[str, Any], status: int, code: str, param: str, message: str):
    with pytest.raises(openai.APIStatusError, match=message) as refused:
        client.audio.transcriptions.create(**{"file": SHORT, "model": MODEL} | change)
    assert (refused.value.status_code, refused.value.code, refused.value.param) == (status, code, param)


def test_weights_that_are_not_there_are_not_looked_for_at_each_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async def ask_twice() -> list[APIError]:
        service = Service(ServerConfig(model="debug", whisper=str(tmp_path)), checkpoint.load("debug", "cpu"))
        refusals = []
        for _ in range(2):
            with pytest.raises(APIError) as caught:
                await service.speech()
            refusals.append(caught.value)
        await service.close()
        return refusals

    first, second = asyncio.run(ask_twice())
    assert (first.status, first.code, str(first)) == (503, "sense_unavailable", str(second))
    assert len([record for record in caplog.records if str(tmp_path) in record.message]) == 1
