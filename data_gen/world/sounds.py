"""Sounds of events: some events of a clip are heard while they last, each as another kind of sound.

Which sound an event has is drawn without regard to what happens, so that the frames do not tell it.

Shapes: N samples.
"""

import functools
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from data_gen.world.clip import Event, WorldClip

RATE = 16_000
KINDS = ("low tone", "high tone", "siren", "clicks", "noise")
SPEAKER = "espeak-ng"
SAID = 'word "'  # what the kinds of spoken words begin with
WORDS = tuple(f'{SAID}{word}"' for word in ("river", "window", "seven", "music", "paper"))  # none names what is seen
HEARD = 0.7  # share of events that are heard
FADE_S = 0.01  # so that a sound neither begins nor ends with a click
BACKGROUND = 0.002  # amplitude of the noise behind everything
CLICKS_HZ, SIREN_HZ = 8.0, 3.0  # clicks and sweeps a second


@dataclass(frozen=True, slots=True)
class Sound:
    """kind: one of `KINDS` or `WORDS`. event: the event that it accompanies, from its start to its end."""

    kind: str
    event: Event


def draw_sounds(clip: WorldClip, rng: np.random.Generator, kinds: Sequence[str] = KINDS) -> tuple[Sound, ...]:
    """Returns the sounds of a clip in order of time. No two are of one kind."""
    numbers = iter(rng.permutation(len(kinds)))
    heard = [event for event in clip.events[: len(kinds)] if rng.random() < HEARD]
    return tuple(Sound(kinds[int(next(numbers))], event) for event in heard)


def samples(clip: WorldClip, sounds: tuple[Sound, ...], rng: np.random.Generator) -> np.ndarray:
    """Returns the sound of a clip, float32 (N,) in [-1, 1], with pitch and loudness at random. A word is said again and
    again while its event lasts."""
    made = BACKGROUND * rng.standard_normal(round(clip.duration_s * RATE))
    for sound in sounds:
        start, end = (round(clip.time_s(frame) * RATE) for frame in (sound.event.start, sound.event.end))
        wave = rng.uniform(0.1, 0.4) * _wave(sound.kind, min(end, len(made)) - start, rng)
        ramp = np.clip(np.arange(1, len(wave) + 1) / (FADE_S * RATE), 0, 1)
        made[start : start + len(wave)] += wave * np.minimum(ramp, ramp[::-1])
    return made.clip(-1, 1).astype(np.float32)


def _wave(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(count) / RATE
    pitch = rng.uniform(0.85, 1.15)
    if kind == "noise":
        return rng.standard_normal(count) / 2
    if kind in WORDS:
        return np.resize(_spoken(kind.removeprefix(SAID).rstrip('"')), count)
    if kind == "clicks":
        return (time_s * CLICKS_HZ % 1 < 0.05) * rng.standard_normal(count)
    hertz = {"low tone": 250.0, "high tone": 1500.0, "siren": 700.0}[kind] * pitch
    swing = 0.4 * np.sin(2 * np.pi * SIREN_HZ * time_s) if kind == "siren" else 0.0
    return np.sin(2 * np.pi * np.cumsum(hertz * (1 + swing) * np.ones(count)) / RATE)


@functools.cache
def _spoken(word: str) -> np.ndarray:
    """Returns an English word as espeak-ng says it, float32 (N,) with a peak of 1, without silence around it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "word.wav"
        subprocess.run([SPEAKER, "-v", "en", "-w", str(path), word], check=True, capture_output=True)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        with av.open(str(path)) as file:
            pieces = [out.to_ndarray()[0] for f in (*file.decode(audio=0), None) for out in resampler.resample(f)]
    wave = np.concatenate(pieces)
    wave = wave / np.abs(wave).max()
    loud = np.flatnonzero(np.abs(wave) > FADE_S)
    return wave[loud[0] : loud[-1] + 1]
