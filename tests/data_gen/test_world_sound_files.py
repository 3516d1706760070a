"""Sound tracks of the files that make_world.py writes: heard where the annotation says, and asked about truly."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_gen import make_instructions
from data_gen.make_world import main
from data_gen.world.sound_questions import SOUND_QUESTIONS
from data_gen.world.sounds import KINDS, RATE, WORDS
from videollm.datasets.schema import read
from videollm.datasets.world_annotation import WorldAnnotation, read_world
from videollm.video.audio import iter_audio
from videollm.video.decoding import probe

ARGUMENTS = ["--seed", "5", "--size", "64", "--fps", "8", "--seconds", "2", "4", "--processes", "1"]
EDGE_S = 0.1  # around the start and the end of a sound: AAC's blocks are 0.064 s long and spread before what begins


def make(out: Path, *more: str, splits: tuple[str, ...] = ("train=8", "order=2", "perturbed=5")) -> Path:
    assert main(["--out", str(out), "--split", *splits, *ARGUMENTS, *more]) == 0
    return out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("world"), "--sound")


def clips(world: Path) -> Iterator[tuple[Path, WorldAnnotation]]:
    for split in ("train", "order", "perturbed"):
        yield from ((world / split / truth.video, truth) for truth in read_world(world / split))


def heard(path: Path) -> np.ndarray:
    """The samples of a file, as the project decodes them, without gaps."""
    made = np.zeros(0, dtype=np.float32)
    for piece in iter_audio(path):
        assert piece.rate == RATE and round(piece.start_s * RATE) == pytest.approx(len(made), abs=2)
        made = np.concatenate([made, piece.samples.numpy()])
    return made


def test_a_file_is_loud_where_a_sound_is_and_quiet_elsewhere(world: Path):
    checked = 0
    for path, truth in clips(world):
        wave = heard(path)
        assert len(wave) / RATE == pytest.approx(truth.duration_s, abs=0.13)
        time_s, quiet = np.arange(len(wave)) / RATE, np.ones(len(wave), dtype=bool)
        assert truth.sounds is not None
        for sound in truth.sounds:
            assert sound.kind in KINDS and 0 <= sound.start_s < sound.end_s <= truth.duration_s
            inside = (time_s >= sound.start_s) & (time_s < sound.end_s)
            assert np.abs(wave[inside & (time_s < sound.start_s + 0.25)]).max() > 0.04, (path, sound)  # from its start
            assert np.abs(wave[inside & (time_s > sound.end_s - 0.25)]).max() > 0.04, (path, sound)  # to its end
            quiet &= (time_s < sound.start_s - EDGE_S) | (time_s > sound.end_s + EDGE_S)
            checked += 1
        assert not quiet.any() or np.abs(wave[quiet]).max() < 0.02, path
    assert checked > 12


def test_pictures_captions_and_tracks_are_those_of_silent_files(world: Path, tmp_path: Path):
    silent = make(tmp_path, splits=("train=8", "perturbed=5"))
    for split in ("train", "perturbed"):
        for one, other in zip(read_world(world / split), read_world(silent / split), strict=True):
            values, plain = one.to_values(), other.to_values()
            assert "sounds" not in plain and other.sounds is None
            assert [*values.pop("sounds")] == [vars_of(sound) for sound in one.sounds or ()]
            asked = [question for question in values["questions"] if question["kind"].startswith("sound_")]
            values["questions"] = values["questions"][: -len(asked)]
            assert asked and values == plain
            with_sound, without = (probe(folder / split / one.video) for folder in (world, silent))
            assert with_sound.has_audio and not without.has_audio
            assert with_sound.duration_s == pytest.approx(without.duration_s, abs=1e-3)


def vars_of(sound: Any) -> dict[str, Any]:
    return {"kind": sound.kind, "start_s": sound.start_s, "end_s": sound.end_s}


def test_annotations_survive_a_round_trip_and_the_same_arguments_give_the_same_files(world: Path, tmp_path: Path):
    for _, truth in clips(world):
        assert WorldAnnotation.from_values(json.loads(truth.to_json())) == truth
    again = make(tmp_path, "--sound", "tones", splits=("train=2",))
    for name in ("clips/train-000000.mp4", "clips/train-000001.mp4"):
        one, other = (hashlib.sha256((folder / "train" / name).read_bytes()).hexdigest() for folder in (world, again))
        assert one == other


def test_the_answers_follow_from_the_annotation(world: Path):
    seen = set()
    for path, truth in clips(world):
        sounds = truth.sounds or ()
        names = [sound.kind for sound in sounds]
        asked = {q.kind.removeprefix("sound_"): q for q in truth.questions if q.kind.startswith("sound_")}
        assert set(asked) == set(SOUND_QUESTIONS) - ({"while"} if not sounds else set())
        spans = [(sound.start_s, sound.end_s) for sound in sounds]
        assert asked["count"].answer == str(len(sounds)) and [*asked["count"].answer_times] == spans
        for kind, part in (("first", slice(0, 1)), ("last", slice(-1, None))):
            assert asked[kind].answer == ([n.capitalize() for n in names] or ["Nothing"])[part][0]
            assert [*asked[kind].answer_times] == spans[part]
        (named,) = [kind for kind in KINDS if kind in asked["exists"].question]
        assert asked["exists"].answer == ("Yes" if named in names else "No")
        if "while" in asked:
            (sound,) = [s for s in sounds if s.kind in asked["while"].question]
            (event,) = [e for e in truth.captions["en"].dense if (e.start, e.end) == (sound.start_s, sound.end_s)]
            assert asked["while"].answer_times == ((event.start, event.end),)
            seen.add(asked["while"].answer)
        assert path.is_file()
    assert len(seen) > 3


def test_instructions_ask_about_sounds(world: Path, tmp_path: Path):
    out = tmp_path / "rows.jsonl"
    source = str(world / "train/annotations.jsonl")
    assert make_instructions.main([source, "--out", str(out), "--languages", "en"]) == 0
    rows = [row for row in read(out) if row.task.startswith("qa/sound_")]
    asked = {
        (f"{truth.id}.mp4", q.question, q.answer)
        for truth in read_world(world / "train")
        for q in truth.questions
        if q.kind.startswith("sound_")
    }
    made = {(Path(row.video).name, *(m.content for m in row.messages)) for row in rows}
    assert made <= asked and len(made) > 0.8 * len(asked)
    assert {row.task for row in rows} == {f"qa/sound_{kind}" for kind in SOUND_QUESTIONS}


@pytest.mark.skipif(shutil.which("espeak-ng") is None and not os.environ.get("CI"), reason="espeak-ng is not installed")
def test_words_are_said(tmp_path: Path):
    world = make(tmp_path, "--sound", "words", splits=("train=16",))
    said = 0
    for truth in read_world(world / "train"):
        wave = torch.from_numpy(heard(world / "train" / truth.video))
        for sound in truth.sounds or ():
            assert sound.kind in (*KINDS, *WORDS)
            if sound.kind in WORDS:
                part = wave[round(sound.start_s * RATE) : round(sound.end_s * RATE)]
                spectrum = torch.stft(part, 512, window=torch.hann_window(512), return_complex=True).abs().sum(1)
                assert spectrum[: 4000 * 512 // RATE].sum() > 0.6 * spectrum.sum()  # a voice, and no hiss
                said += 1
        named = [q for q in truth.questions if q.kind == "sound_first"]
        first = (truth.sounds or (None,))[0] if truth.sounds else None
        name = "Nothing" if first is None else f"The {first.kind}" if first.kind in WORDS else first.kind.capitalize()
        assert [q.answer for q in named] == [name]
    assert said > 3


def test_words_without_a_speaker_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--out", str(tmp_path), "--split", "train=1", *ARGUMENTS, "--sound", "words"]) == 2
    assert "needs espeak-ng, which is not installed" in capsys.readouterr().err
