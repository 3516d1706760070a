"""What a model shows beside its text, through OpenAI's own client."""

import asyncio
import base64
import io
from pathlib import Path
from typing import Any, cast

import av
import pytest
from PIL import Image

from serve.config import ServerConfig
from serve.runtime.generated import MediaGenerator
from tests.serve.conftest import Server, Start, asked
from tests.serve.showing import SAYS, save_showing
from videollm.chat.answer import Answer
from videollm.chat.turn import generate_answer
from videollm.checkpoint import Model, load
from videollm.decoders.media import GENERATED
from videollm.errors import CheckpointError, ConfigError
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.processor import Message
from videollm.output_config import MODALITIES, Modality


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("showing")
    save_showing(made)
    return made


@pytest.fixture(scope="module")
def showing(start: Start, folder: Path) -> Server:
    decoders = [word for modality in MODALITIES for word in (f"--{modality}-decoder", str(folder / modality))]
    return start("--model", str(folder / "checkpoint"), *decoders, "--steps", "1", "--size", "16").ready()


def create(server: Server, clip: str, **options: Any) -> Any:
    return server.client().chat.completions.create(model="showing", messages=asked(clip), **options)


def bytes_of(part: dict) -> bytes:
    text = part["input_audio"]["data"] if part["type"] == "input_audio" else part[part["type"]]["url"]
    return base64.b64decode(text.rpartition(",")[2])


def test_an_answer_has_files_that_are_marked_as_generated(showing: Server, clip: str):
    made = create(showing, clip, seed=3)
    (choice,) = made.choices
    assert choice.message.content == SAYS and choice.finish_reason == "stop"
    picture, video, sound = choice.media
    assert [part["type"] for part in choice.media] == ["image_url", "video_url", "input_audio"]
    assert all(part["generated"] for part in choice.media) and sound["input_audio"]["format"] == "wav"
    with Image.open(io.BytesIO(bytes_of(picture))) as image:
        assert image.format == "PNG" and image.size == (16, 16)
        assert GENERATED in image.info["XML:com.adobe.xmp"]
    for part, kind in ((video, "video"), (sound, "audio")):
        with av.open(io.BytesIO(bytes_of(part))) as container:
            assert GENERATED in container.metadata["comment"]
            assert [stream.type for stream in container.streams] == [kind]
    assert create(showing, clip, seed=3).choices[0].media[0] == picture
    assert create(showing, clip, seed=4).choices[0].media[0] != picture


def test_a_stream_ends_with_the_files_and_each_answer_has_its_own(showing: Server, clip: str):
    found: dict[int, Any] = {}
    for chunk in create(showing, clip, seed=3, n=2, stream=True):
        for choice in chunk.choices:
            if choice.finish_reason:
                found[choice.index] = choice.media
    whole = create(showing, clip, seed=3, n=2)
    assert [choice.media for choice in whole.choices] == [found[0], found[1]]
    assert found[0][0] != found[1][0]  # the seeds differ


def test_a_picture_that_was_made_can_be_asked_about(showing: Server, clip: str):
    picture, *_ = create(showing, clip).choices[0].media
    messages = asked(clip)
    messages.append({"role": "assistant", "content": SAYS})
    part = {"type": "image_url", "image_url": picture["image_url"]}
    messages.append({"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]})
    made: Any = showing.client().chat.completions.create(model="showing", messages=messages, max_tokens=1)
    assert [video["frames"] for video in made.receipt["videos"]] == [24, 1]


def test_the_responses_api_has_the_same_files(showing: Server):
    made: Any = showing.client().responses.create(model="showing", input="Hello")
    assert made.output_text == SAYS
    assert [part["type"] for part in made.media] == ["image_url", "video_url", "input_audio"]
    kept: Any = showing.client().responses.retrieve(made.id)
    assert kept.media == made.media
    assert showing.metric('videollm_cache_bytes{cache="responses"}') > len(bytes_of(made.media[0]))
    *_, last = showing.client().responses.create(model="showing", input="Hello", stream=True)
    assert len(last.response.media) == 3


def files(model: Model, folder: Path, **decoders: str) -> list[str]:
    """The problem of each file of an answer that shows a picture and a video, "" where there is none."""
    config = ServerConfig(decoders=cast(dict[Modality, str], decoders), steps=1)
    generator = MediaGenerator(config, model, folder / "generated")
    engine, prompt = LocalEngine(model.llm, model.processor.stop_ids), model.processor([Message("user", "Hello")])
    most = GenerationConfig(max_new_tokens=4)
    cache, made = PromptCache(), generator.modalities
    *_, answer = generate_answer(model, engine, prompt, "Hello", (), cache, most, {}, 0.0, made=made)
    assert isinstance(answer, Answer) and answer.text == SAYS
    return [file.problem for file in asyncio.run(generator.files(answer, seed=None))]


def test_a_file_that_is_not_made_costs_that_file_alone(folder: Path, caplog: pytest.LogCaptureFixture):
    model = load(str(folder / "checkpoint"))
    picture, video = "this server makes no image; start it with --image-decoder PIPELINE", "the video could not be made"
    assert files(model, folder, video=str(folder / "video")) == [picture, ""]
    assert files(model, folder)[0] == picture
    assert files(model, folder, image=str(folder / "image"), video=str(folder / "image"))[1].startswith(video)
    assert "its text condition is (16, 16), and the model's is (16, 24)" in caplog.text


def test_nothing_is_computed_for_files_that_nobody_makes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    model = load(str(folder / "checkpoint"))
    monkeypatch.delattr(type(model.llm), "conditions")
    assert "" not in files(model, folder)


def test_decoders_that_cannot_be_used_end_the_start(folder: Path):
    with pytest.raises(ConfigError, match="debug shows no image; leave --image-decoder x out"):
        MediaGenerator(ServerConfig(decoders={"image": "x"}), load("debug"), folder)
    with pytest.raises(CheckpointError, match="nowhere cannot be loaded as a diffusers pipeline"):
        MediaGenerator(ServerConfig(decoders={"image": "nowhere"}), load(str(folder / "checkpoint")), folder)
    with pytest.raises(ConfigError, match="take engine local"):
        ServerConfig(decoders={"image": "x"}, engine="vllm")
