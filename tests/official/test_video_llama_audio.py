"""Video-LLaMA with its audio branch as a directory that sees and hears, with the numbers of the official demo."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.published.recorded import Recorded, recorded
from tests.official.published_files import EVIDENCE, part, write_llm
from tests.parity import load_parity
from tests.serve.conftest import asked, data_url, starting
from videollm.chat.plan import make_plan
from videollm.chat.session import ChatSession
from videollm.checkpoint import Model, load
from videollm.cli import main
from videollm.datasets.schema import Message
from videollm.encoders.audio import HearingEncoder
from videollm.errors import CheckpointError
from videollm.features.cache import FeatureCache
from videollm.features.encode import EncodedVideo, encode_video
from videollm.models.visual_prompting import AUDIO_TOKEN_ID, VISUAL_TOKEN_ID
from videollm.official.video_llama import import_video_llama
from videollm.video.audio import SAMPLE_RATE

OPTIONS = ["--max-new-tokens", "4", "--json"]


@pytest.fixture(scope="module")
def data() -> Recorded:
    found, demo = recorded("VideoLLaMA/audio"), load_parity("VideoLLaMA/audio_demo")
    return replace(found, input=found.input | demo["input"], output=found.output | demo["output"])


@pytest.fixture(scope="module")
def files(data: Recorded, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """As they are published: ImageBind has other senses too, and the checkpoint of the audio branch has its scales."""
    folder = tmp_path_factory.mktemp("video_llama")
    imagebind = part(data, "audio_encoder.", "audio_encoder.")
    scale = {"audio_encoder.modality_postprocessors.audio.1.log_logit_scale": torch.tensor(20.0).log()}
    parts = {
        "eva": part(data, "visual_encoder.", "visual_encoder."),
        "blip2": part(data, ("Qformer.", "ln_vision.", "query_tokens")),
        "vl": part(data, ("video_", "llama_proj.")),
        "imagebind": imagebind | {"modality_heads.depth.0.weight": torch.ones(4)},
        "al": part(data, ("audio_Qformer.", "audio_query_tokens", "audio_llama_proj.", "audio_position")) | scale,
    }
    for name, state in parts.items():
        torch.save(state, folder / f"{name}.pth")
    write_llm(data, folder / "llm")
    return [folder / f"{name}.pth" for name in parts]


def settings(data: Recorded) -> dict:
    vit = {"heads": 4, "blocks": data.config["vit"]["depth"]}
    return {"vit": vit, "qformer": data.config["qformer"], "imagebind": data.config["imagebind"]}


@pytest.fixture(scope="module")
def directory(data: Recorded, files: list[Path]) -> Path:
    out = files[0].parent / "out"
    made = import_video_llama(files, files[0].parent / "llm", out, evidence=EVIDENCE, settings=settings(data))
    assert made.audio_tokens == 4
    return out


@pytest.fixture(scope="module")
def model(directory: Path) -> Model:
    return load(str(directory), "cpu")


@pytest.fixture(scope="module")
def clip(data: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded frames and the recorded sound in one file, without loss."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mkv", data, with_sound=True)


def write_clip(path: Path, data: Recorded, *, with_sound: bool) -> Path:
    frames, wave = data.input["demo_frames_thwc"], data.input["wave0_int16"]
    rate = Fraction(len(frames) * SAMPLE_RATE, wave.shape[1])
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", rate=rate)
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "bgr0"
        sound = output.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono") if with_sound else None
        for image in frames.numpy():
            output.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        output.mux(video.encode())
        if sound:
            frame = av.AudioFrame.from_ndarray(wave.numpy(), format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            output.mux(sound.encode(frame))
            output.mux(sound.encode())
    return path


def encoded(model: Model, path: Path, **sampling: float) -> EncodedVideo:
    return encode_video(path, model.encoder, replace(model.config.sampling, **sampling))


def test_sound_without_a_decoder_is_not_heard(model: Model, clip: Path, tmp_path: Path, caplog):
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(clip.read_bytes().replace(b"A_PCM/INT/LIT", b"A_QCM/INT/LIT"))
    video = encoded(model, broken)
    assert video.info.has_audio and video.audio is None and len(video.times_s)
    assert "no decoder for its sound; only the pictures are looked at" in caplog.text


def test_a_plan_counts_what_is_heard(directory: Path, model: Model, clip: Path, data: Recorded, tmp_path: Path):
    question = [Message("user", data.text["inputs"]["demo_q"])]
    for heard, tokens in ((clip, 4), (write_clip(tmp_path / "silent.mkv", data, with_sound=False), None)):
        plan = make_plan(heard, str(directory), model.config.sampling, "cpu")
        prompt = model.processor(question, encoded(model, heard).segments(model.config, model.encoder.vocabulary))
        assert plan.audio_tokens == tokens and plan.visual_tokens == prompt.visual_tokens
        assert prompt.audio_tokens == (tokens or 0)
        assert ("4 audio" in str(plan)) == (tokens == 4)
    assert isinstance(model.encoder, HearingEncoder) and model.llm.audio is not None
    parts = (model.encoder.audio.model, model.llm.audio)  # type: ignore[attr-defined]
    held = sum(tensor.nbytes for part in parts for tensor in part.state_dict().values())
    assert 1e6 * plan.memory_mb["audio"] == pytest.approx(held, rel=0.1)


@torch.inference_mode()
def test_prompt_embeddings_and_logits_are_the_demos(data: Recorded, model: Model, clip: Path):
    video = encoded(model, clip)
    segments = video.segments(model.config, model.encoder.vocabulary)
    prompt = model.processor([Message("user", data.text["inputs"]["demo_q"])], segments)
    assert (prompt.audio_tokens, prompt.visual_tokens) == (4, 6)
    visual = prompt.visual()
    embeds = model.llm.embed_prompt(torch.tensor([prompt.ids]), visual)
    ids = [part for i in range(3) for part in data.input[f"demo/segment{i}_ids"][0].tolist()]
    assert [i for i in prompt.ids if i >= 0] == ids
    torch.testing.assert_close(embeds, data.output["demo/inputs_embeds"], atol=2e-5, rtol=0)
    logits = model.llm.language_model(inputs_embeds=embeds).logits
    torch.testing.assert_close(logits[:, -6:], data.output["demo/logits_last6"], atol=2e-5, rtol=0)
    for kept in range(prompt.ids.index(AUDIO_TOKEN_ID) - 1, prompt.ids.index(VISUAL_TOKEN_ID) + 8):
        torch.testing.assert_close(prompt.inputs(model.llm, kept), embeds[0, kept:])


def test_clips_have_their_true_times_in_parts_and_caches(data: Recorded, model: Model, clip: Path, tmp_path: Path):
    video = encode_video(clip, model.encoder, model.config.sampling, FeatureCache(tmp_path))
    assert video.audio is not None
    starts_s = [start_s for start_s, _ in data.config["clip_timepoints"][0]]
    assert video.audio.times_s.tolist() == pytest.approx(starts_s)
    again = encode_video(clip, model.encoder, model.config.sampling, FeatureCache(tmp_path))
    assert again.audio is not None and torch.equal(again.audio.tokens, video.audio.tokens)
    later = encoded(model, clip, start_s=1.0, end_s=3.0).audio
    assert later is not None and later.times_s.tolist() == pytest.approx([1.0] * 8, abs=1e-3)
    part = video.part(0.5, 0.9).audio
    assert part is not None and part.times_s.tolist() == pytest.approx([0.55, 0.6875, 0.825])


def test_a_directory_that_hears_answers_about_a_video_with_and_without_sound(
    data: Recorded, directory: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    silent = write_clip(tmp_path / "silent.mkv", data, with_sound=False)
    for path, audio_tokens in ((clip, 4), (silent, 0)):
        assert main(["ask", str(path), "what do you hear?", "--model", str(directory), *OPTIONS]) == 0
        receipt = json.loads(capsys.readouterr().out)["receipt"]
        assert (receipt["audio_tokens"], receipt["visual_tokens"]) == (audio_tokens, 6)
        assert ("audio" in receipt["ms"]) == (audio_tokens > 0)
    assert main(["ask", str(silent), "what?", "--model", str(directory), "--max-new-tokens", "4"]) == 0
    assert "6 visual + 0 audio + " in "".join(capsys.readouterr())


def test_the_server_hears(directory: Path, clip: Path, tmp_path: Path):
    with starting(tmp_path) as start:
        client = start("--model", str(directory)).ready().client()
        messages = asked(data_url(clip.read_bytes(), "video/x-matroska"))
        made = client.chat.completions.create(model="Video-LLaMA", messages=messages, max_tokens=4)
    receipt = made.receipt
    assert receipt["audio_tokens"] == 4 and "audio" in receipt["ms"]


def test_without_sound_the_prompt_is_that_of_the_vision_branch(data: Recorded, model: Model, tmp_path: Path):
    silent = encoded(model, write_clip(tmp_path / "silent.mkv", data, with_sound=False))
    assert silent.audio is None
    prompt = model.processor([Message("user", "what?")], silent.segments(model.config, model.encoder.vocabulary))
    text = model.processor.tokenizer.decode([i for i in prompt.ids if i >= 0])
    assert "The video contains 8 frames sampled at" in text and "open your ears" not in text


def test_a_turn_and_a_resumed_session_hear_the_same(model: Model, clip: Path, tmp_path: Path):
    session = ChatSession(model, clip)
    session.ask("what do you hear?")
    session.save(tmp_path / "talk")
    answer = session.ask("and?")
    assert answer.receipt.audio_tokens == 4 and answer.receipt.cached_tokens > 100
    assert ChatSession.resume(model, tmp_path / "talk").ask("and?").text == answer.text


def test_one_word_turns_the_branch_off_and_a_saved_model_still_hears(
    model: Model, directory: Path, clip: Path, tmp_path: Path
):
    from videollm.checkpoint import save

    save(model, tmp_path / "saved")
    assert torch.equal(audio_of(load(str(tmp_path / "saved"), "cpu"), clip), audio_of(model, clip))
    record = json.loads((tmp_path / "saved" / "config.json").read_text())
    record["model"]["audio"]["kind"] = "none"
    (tmp_path / "saved" / "config.json").write_text(json.dumps(record))
    deaf = load(str(tmp_path / "saved"), "cpu")
    assert not isinstance(deaf.encoder, HearingEncoder) and deaf.llm.audio is None
    assert ChatSession(deaf, clip).ask("what?").receipt.audio_tokens is None


def audio_of(model: Model, clip: Path) -> torch.Tensor:
    audio = encoded(model, clip).audio
    assert audio is not None
    return audio.tokens


def test_training_reaches_the_branch_also_where_nothing_is_heard(model: Model, clip: Path):
    messages = [Message("user", "what?"), Message("assistant", "a dog.")]
    heard = encoded(model, clip).segments(model.config, model.encoder.vocabulary)
    model.llm.train()
    try:
        for segments in (heard, [replace(heard[0], audio=None)], []):
            prompt = model.processor(messages, segments)
            model.llm.zero_grad()
            model.llm(**model.processor.arguments(prompt, model.device)).loss.backward()
            grad = model.llm.audio.output.weight.grad  # type: ignore[union-attr]
            assert grad is not None and bool(grad.abs().sum() > 0) == (segments is heard)
    finally:
        model.llm.eval()


def test_files_that_are_missing_or_damaged_are_named(
    data: Recorded, files: list[Path], directory: Path, tmp_path: Path
):
    llm = files[0].parent / "llm"
    with pytest.raises(CheckpointError, match=r"no tensor modality_preprocessors\.audio"):
        import_video_llama([*files[:3], files[4]], llm, tmp_path / "a", evidence=EVIDENCE, settings=settings(data))
    with pytest.raises(CheckpointError, match="no tensor audio_query_tokens"):
        torch.save(part(data, "audio_Qformer."), tmp_path / "half.pth")
        half = [*files[:4], tmp_path / "half.pth"]
        import_video_llama(half, llm, tmp_path / "b", evidence=EVIDENCE, settings=settings(data))
    broken = shutil.copytree(directory, tmp_path / "broken")
    weights = broken / "audio_encoder" / "model.safetensors"
    state = load_file(weights)
    state["modality_heads.audio.2.weight"].fill_(torch.nan)
    save_file(state, weights)
    with pytest.raises(CheckpointError, match="infinite or not numbers"):
        load(str(broken), "cpu")
    weights.unlink()
    with pytest.raises(CheckpointError, match="weights of the audio encoder"):
        load(str(broken), "cpu")
