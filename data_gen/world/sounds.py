"""Sounds of events: some events of a clip are heard while they last, each as another kind of sound.

Which sound an event has is drawn without regard to what happens, so that the frames do not tell it.

Shapes: N samples.
"""

from dataclasses import dataclass

import numpy as np

from data_gen.world.clip import Event, WorldClip

RATE = 16_000
KINDS = ("low tone", "high tone", "siren", "clicks", "noise")
HEARD = 0.7  # share of events that are heard
FADE_S = 0.01  # so that a sound neither begins nor ends with a click
BACKGROUND = 0.002  # amplitude of the noise behind everything
CLICKS_HZ, SIREN_HZ = 8.0, 3.0  # clicks and sweeps a second


@dataclass(frozen=True, slots=True)
class Sound:
    """kind: one of `KINDS`. event: the event that it accompanies, from its start to its end."""

    kind: str
    event: Event


def draw_sounds(clip: WorldClip, rng: np.random.Generator) -> tuple[Sound, ...]:
    """Returns the sounds of a clip in order of time. No two are of one kind."""
    kinds = iter(rng.permutation(len(KINDS)))
    heard = [event for event in clip.events[: len(KINDS)] if rng.random() < HEARD]
    return tuple(Sound(KINDS[int(next(kinds))], event) for event in heard)


def samples(clip: WorldClip, sounds: tuple[Sound, ...], rng: np.random.Generator) -> np.ndarray:
    """Returns the sound of a clip, float32 (N,) in [-1, 1], with pitch and loudness at random."""
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
    if kind == "clicks":
        return (time_s * CLICKS_HZ % 1 < 0.05) * rng.standard_normal(count)
    hertz = {"low tone": 250.0, "high tone": 1500.0, "siren": 700.0}[kind] * pitch
    swing = 0.4 * np.sin(2 * np.pi * SIREN_HZ * time_s) if kind == "siren" else 0.0
    return np.sin(2 * np.pi * np.cumsum(hertz * (1 + swing) * np.ones(count)) / RATE)
