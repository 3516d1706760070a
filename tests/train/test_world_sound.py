"""The audio branch as a recipe: trained beside a temporal module that stays as it is, kept, and heard by files."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_gen import make_world
from tests.train.rows import sample
from train import stage1, stage2
from train.configs.stage2 import STAGE2, InstructionRecipe
from train.data.rendered import RenderedClip, RenderedClips
from train.data.rendered_conversations import segment
from train.experiments import sound
from train.tasks.video_llm import fresh_model
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.datasets.world_annotation import read_world
from videollm.encoders.audio import HearingEncoder
from videollm.errors import ConfigError, DataError
from videollm.features.encode import encode_video
from videollm.models.processor import Message
from videollm.presets import preset
from videollm.video.audio import SAMPLE_RATE

CLIPS = RenderedClips(8, 5, sound=True)


@pytest.fixture(scope="module")
def deaf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an untrained model of the world that does not hear."""
    folder = tmp_path_factory.mktemp("deaf")
    recipe = STAGE2["world_stage2"].changed(llm="debug")
    assert isinstance(recipe, InstructionRecipe)
    checkpoint.save(fresh_model(recipe), folder / "model")
    return folder


@pytest.fixture(scope="module")
def trained(deaf: Path) -> Model:
    common = {"llm": "debug", "num_videos": 8, "batch_size": 4, "workers": 0, "bf16": False}
    recipe = STAGE2["world_sound"].changed(output=str(deaf / "hears"), init=str(deaf / "model"), **common)
    stage2.train(recipe)
    return checkpoint.load(str(deaf / "hears"))


def test_the_branch_and_the_language_model_learn_and_the_rest_stays(deaf: Path, trained: Model):
    before = checkpoint.load(str(deaf / "model")).llm.state_dict()
    for name, tensor in trained.llm.state_dict().items():
        if name.startswith("temporal."):
            assert torch.equal(tensor, before[name]), name
    assert isinstance(trained.encoder, HearingEncoder)
    recipe = STAGE2["world_sound"].changed(llm="debug")
    untrained = fresh_model(recipe).llm.audio  # type: ignore[arg-type]
    assert untrained is not None and trained.llm.audio is not None
    moved = [not torch.equal(a, b) for a, b in zip(untrained.parameters(), trained.llm.audio.parameters(), strict=True)]
    assert all(moved)


def test_sound_changes_what_the_model_reads_and_one_word_turns_it_off(deaf: Path, trained: Model):
    assert isinstance(trained.encoder, HearingEncoder)
    loud = next(CLIPS[i] for i in range(8) if CLIPS[i].sounds)
    heard, unheard = segment(loud, trained.encoder.audio), segment(loud)
    question = "Which sound comes first?"
    prompts = [trained.processor([Message("user", question)], [part]) for part in (heard, unheard)]
    assert [prompt.audio_tokens for prompt in prompts] == [trained.config.audio.queries, 0]
    off = checkpoint.load(str(deaf / "model"))
    assert off.config.audio.kind == "none" and off.llm.audio is None
    assert off.processor([Message("user", question)], [heard]).audio_tokens == 0


def write(path: Path, clip: RenderedClip) -> None:
    """Writes a clip and its sound without loss."""
    with av.open(str(path), "w") as output:
        pictures = output.add_stream("ffv1", rate=8)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        heard = output.add_stream("pcm_f32le", rate=SAMPLE_RATE, layout="mono")
        for number, picture in enumerate(clip.pixels()):
            frame = av.VideoFrame.from_ndarray(picture.permute(1, 2, 0).numpy().copy(), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 8)
            output.mux(pictures.encode(frame))
        output.mux(pictures.encode())
        audio = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(clip.samples().numpy())[None], format="flt", layout="mono"
        )
        audio.sample_rate, audio.pts, audio.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        output.mux(heard.encode(audio))
        output.mux(heard.encode())


def test_a_file_with_that_sound_is_heard_alike(trained: Model, tmp_path: Path):
    assert isinstance(trained.encoder, HearingEncoder)
    loud = next(CLIPS[i] for i in range(8) if CLIPS[i].sounds)
    write(tmp_path / "clip.mkv", loud)
    video = encode_video(tmp_path / "clip.mkv", trained.encoder, trained.config.sampling)
    (part,) = video.segments(trained.config, trained.encoder.vocabulary)
    own = segment(loud, trained.encoder.audio).audio
    assert part.audio is not None and own is not None
    torch.testing.assert_close(part.audio, own, atol=1e-4, rtol=1e-4)


def test_stage1_compares_what_is_seen_with_what_is_heard(tmp_path: Path):
    loud = [clip for clip in (CLIPS[i] for i in range(8)) if clip.sounds][:4]
    rows = []
    for clip in loud:
        write(tmp_path / f"{clip.index}.mkv", clip)
        rows.append(sample(str(clip.index), "caption/short", *clip.turns(0)[0], video=f"{clip.index}.mkv").to_json())
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    losses = ["--audio", "1", "--contrastive", "0", "--caption", "0"]
    data = ["--data", str(tmp_path / "rows.jsonl"), "--features", "none", "--held-out", "0", "--batch-size", "4"]
    more = ["--model", "world-sound", "--llm", "debug", "--epochs", "2", "--output", str(tmp_path / "out")]
    stage1.main(["debug_stage1", *losses, *data, *more, "--log-every", "1", "--save-every", "2"])
    state = json.loads((tmp_path / "out" / "checkpoint-2" / "trainer_state.json").read_text())
    found = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert len(found) == 2 and all(0 < loss < 10 for loss in found)
    fresh = checkpoint.build(replace(preset("world-sound"), llm=preset("debug").llm)).llm.state_dict()
    trained = load_file(tmp_path / "out" / "projector.safetensors")
    assert all(
        any(not torch.equal(trained[n], fresh[n]) for n in trained if n.startswith(part))
        for part in ("audio.", "temporal.module.")
    )


def test_the_table_has_each_kind_of_question_under_each_control(
    deaf: Path, trained: Model, capsys: pytest.CaptureFixture[str]
):
    sound.main(["--model", str(deaf / "hears"), "--clips", "6"])
    head, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert head == "| | questions | own | silent | swapped |"
    assert {"exists", "count", "seen", "all about sound"} <= {row.split(" |")[0].strip("| ") for row in rows}
    with pytest.raises(ConfigError, match="does not hear"):
        sound.main(["--model", str(deaf / "model")])


def test_files_of_the_world_are_asked_about_alike(
    deaf: Path, trained: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made = ["--out", str(tmp_path), "--size", "64", "--fps", "8", "--seconds", "3", "--things", "1", "2"]
    assert make_world.main([*made, "--split", "test=6", "--sound", "--processes", "1"]) == 0
    assert make_world.main([*made, "--split", "val=2", "--processes", "1"]) == 0
    capsys.readouterr()
    sound.main(["--model", str(deaf / "hears"), "--world", str(tmp_path / "test")])
    head, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert head == "| | questions | own | silent | swapped |"
    assert {"exists", "count", "seen", "all about sound"} <= {row.split(" |")[0].strip("| ") for row in rows}
    (clip, *_) = read_world(tmp_path / "test")
    shown = sound.from_file(tmp_path / "test", clip, trained)
    assert shown.segment.audio is not None and len(shown.segment.times_s) == 24
    heard = [q.messages[0].content for q in shown.questions if q.task != "qa/seen"]
    assert heard == [q.question for q in clip.questions if q.kind.startswith("sound_")]
    with pytest.raises(DataError, match="has no sound"):
        sound.main(["--model", str(deaf / "hears"), "--world", str(tmp_path / "val")])
