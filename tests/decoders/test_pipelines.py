"""Pipelines of random weights make from a text's condition what they make from the text, as files with a mark."""

from pathlib import Path

import av
import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from scripts import tiny_pipeline
from videollm.decoders.conditions import TextConditions
from videollm.decoders.media import GENERATED, GeneratedAudio, GeneratedImage, GeneratedVideo
from videollm.decoders.pipeline import RESULTS, DecodingConfig, MediaDecoder
from videollm.decoders.studio import MediaStudio
from videollm.errors import CheckpointError, ConfigError
from videollm.output_config import MODALITIES, Modality

ONE_STEP = DecodingConfig(steps=1, seed=0)
TEXT = "a red ball"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of each modality."""
    made = tmp_path_factory.mktemp("pipelines")
    for modality in MODALITIES:
        tiny_pipeline.write(modality, made / modality)
    return made


@pytest.mark.parametrize(("modality", "shape"), [("image", (16, 16)), ("video", (16, 24)), ("audio", (1, 12))])
def test_a_condition_stands_for_its_text(folder: Path, modality: Modality, shape: tuple[int, int]):
    source = str(folder / modality)
    condition = TextConditions(source, "cpu")([TEXT])
    assert condition.shape == (1, *shape) and condition.dtype == torch.float32
    decoder = MediaDecoder(source, modality, "cpu")
    made = decoder(condition, ONE_STEP)

    pipeline = diffusers.DiffusionPipeline.from_pretrained(source, use_safetensors=True)
    generator = torch.Generator().manual_seed(0)
    found = pipeline(prompt=TEXT, num_inference_steps=1, generator=generator, output_type="np")
    expected = np.asarray(getattr(found, RESULTS[modality])[0])
    match made:
        case GeneratedImage(pixels=pixels) | GeneratedVideo(frames=pixels):
            np.testing.assert_allclose(pixels / 255, expected, atol=1 / 255)
        case GeneratedAudio(samples=samples, rate=rate):
            assert rate == 16_000
            np.testing.assert_allclose(samples[0], expected, atol=1e-5)


def test_files_hold_what_was_made_and_say_that_it_is_generated(folder: Path, tmp_path: Path):
    sources: dict[Modality, str] = {modality: str(folder / modality) for modality in MODALITIES}
    studio = MediaStudio(sources, tmp_path / "new" / "media", DecodingConfig(steps=1, size=16, seed=0), "cpu")
    conditions = [(modality, TextConditions(sources[modality], "cpu")([TEXT])) for modality in MODALITIES]
    written = studio.write([*conditions, conditions[0]])
    names = ["0001-image.png", "0001-video.mp4", "0001-audio.wav", "0002-image.png"]
    assert [path.name for _, path in written] == names
    picture, video, sound, again = (path for _, path in written)

    with Image.open(picture) as image:
        assert image.size == (16, 16) and GENERATED in image.info["XML:com.adobe.xmp"]
        assert image.tobytes() == Image.open(again).tobytes()  # the seed is the same
    with av.open(str(video)) as container:
        assert GENERATED in container.metadata["comment"]
        frames = [*container.decode(video=0)]
        assert len(frames) == 16 and (frames[0].width, frames[0].height) == (16, 16) and frames[8].time == 1.0
    with av.open(str(sound)) as container:
        assert GENERATED in container.metadata["comment"]
        heard = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1)
        assert container.streams.audio[0].rate == 16_000 and heard.size > 500


def test_stereo_keeps_its_channels(tmp_path: Path):
    samples = np.stack([np.linspace(-1, 1, 100), np.zeros(100)])
    GeneratedAudio(samples, 8000).write(tmp_path / "stereo.wav")
    with av.open(str(tmp_path / "stereo.wav")) as container:
        read = np.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in container.decode(audio=0)])
    np.testing.assert_allclose(read / 32767, samples.T, atol=1e-4)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path):
    tiny_pipeline.write("image", tmp_path / "pickled")
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        weights = tmp_path / "pickled" / f"{name}.safetensors"
        target = weights.with_name("diffusion_pytorch_model.bin" if "unet" in name else "pytorch_model.bin")
        state = load_file(weights)
        weights.unlink()
        torch.save(state, target)
        with pytest.raises(CheckpointError, match="safetensors"):
            MediaDecoder(str(tmp_path / "pickled"), "image", "cpu")
    with pytest.raises(CheckpointError, match="safetensors"):
        TextConditions(str(tmp_path / "pickled"), "cpu")


def test_what_does_not_fit_is_said(folder: Path, tmp_path: Path):
    image = MediaDecoder(str(folder / "image"), "image", "cpu")
    with pytest.raises(ConfigError, match=r"is \(16, 16\), and the model's is \(16, 24\)"):
        image(torch.zeros(1, 16, 24), ONE_STEP)
    sound = MediaDecoder(str(folder / "image"), "audio", "cpu")
    with pytest.raises(ConfigError, match="a StableDiffusionPipeline makes no audio"):
        sound(torch.zeros(1, 16, 16), ONE_STEP)
    with pytest.raises(CheckpointError, match=r"nowhere cannot be loaded"):
        MediaDecoder(str(tmp_path / "nowhere"), "image", "cpu")
    (tmp_path / "taken").touch()
    studio = MediaStudio({"image": str(folder / "image")}, tmp_path / "taken", ONE_STEP, "cpu")
    with pytest.raises(ConfigError, match="cannot be written"):
        studio.write([("image", torch.zeros(1, 16, 16))])


@pytest.mark.parametrize(("values", "message"), [({"steps": 0}, "steps is 0"), ({"size": 12}, "multiple of 8")])
def test_limits(values: dict[str, int], message: str):
    with pytest.raises(ConfigError, match=message):
        DecodingConfig(**values)
