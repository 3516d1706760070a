"""The exported graphs compute what PyTorch computes, for any number of frames, segments and texts."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer

from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.cli import main
from videollm.config import SamplingConfig
from videollm.cpu.openvino_runtime import import_openvino
from videollm.encoders.images import resize_crop
from videollm.models.visual_prompting import VisualBatch
from videollm.presets import DEBUG
from videollm.video.decoding import decode

SAMPLE = Path(__file__).parents[1] / "scripts/samples/sample.mp4"
Run = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "lite"
    assert main(["export", "lite", "--onnx", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def lite() -> Model:
    return checkpoint.load("lite")


def with_onnxruntime(file: Path) -> Run:
    session = onnxruntime.InferenceSession(str(file))
    names = [one.name for one in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))


def with_openvino(file: Path) -> Run:
    compiled = import_openvino().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda *inputs: list(compiled.create_infer_request().infer(list(inputs)).values())


RUNTIMES = pytest.mark.parametrize("runtime", [with_onnxruntime, with_openvino])


def close(made: np.ndarray, expected: torch.Tensor) -> None:
    expected = expected.detach()
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected.numpy(), rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@RUNTIMES
def test_frames(exported: Path, lite: Model, runtime: Callable[[Path], Run]):
    run = runtime(exported / "frame_encoder.onnx")
    pixels = decode(SAMPLE, SamplingConfig(fps=2)).pixels
    for part in (pixels[:1], pixels):
        features = lite.encoder.encode_frames(part)
        made = run(resize_crop(part, 224).numpy())
        for one, expected in zip(made, (features.tokens, features.embed, features.concepts), strict=True):
            close(one, expected)


@RUNTIMES
def test_texts(exported: Path, lite: Model, runtime: Callable[[Path], Run]):
    run, tokenizer = runtime(exported / "text_tower.onnx"), Tokenizer.from_file(str(exported / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=0)
    for texts in (["a dog"], ["a cat", "a red car that turns left at the corner", "", "tea " * 100]):
        rows = tokenizer.encode_batch(texts)
        mask = np.array([row.attention_mask for row in rows], bool)
        tokens, embed = run(np.array([row.ids for row in rows], np.int64), mask)
        expected = lite.encoder.encode_text(texts)
        close(embed, expected.embed)
        close(tokens[mask], expected.tokens[expected.mask])


@RUNTIMES
def test_segments(exported: Path, lite: Model, runtime: Callable[[Path], Run]):
    run, random = runtime(exported / "temporal_module.onnx"), torch.Generator().manual_seed(0)
    for lengths in ([1], [8, 3, 5], [20, 1]):
        tokens = [torch.nn.functional.normalize(torch.randn(n, 5, 384, generator=random), dim=-1) for n in lengths]
        batch = VisualBatch.pad(tokens, [100 + 0.5 * torch.arange(n) for n in lengths])
        (made,) = run(batch.tokens.numpy(), batch.times_s.numpy(), batch.mask.numpy())
        close(made, lite.llm.embed_segments(batch))


def test_words_of_concepts_come_with_the_files(exported: Path, lite: Model):
    described = json.loads((exported / "model.json").read_text())
    assert tuple(described["concepts"]) == lite.encoder.vocabulary.words and described["model"] == "lite"


def test_what_cannot_be_exported_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "out"
    assert main(["export", "lite", "--onnx", "--out", str(folder), "--dtype", "float16"]) == 2
    assert "--dtype float16 is for the language model" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as where it is not installed
    assert main(["export", "lite", "--onnx", "--out", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "pip install 'videollm[onnx]'" in said and said.count("\n") == 1
    assert not folder.exists()


def test_other_frame_encoders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkpoint.save(checkpoint.build(DEBUG), tmp_path / "debug", card="")
    assert main(["export", str(tmp_path / "debug"), "--onnx", "--out", str(tmp_path / "out")]) == 2
    assert "its frame encoder is debug; only lite's is exported" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
