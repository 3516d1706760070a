"""The spectrum as an audio encoder: where a tone lies, when a click comes, and what is too short to be heard."""

import math

import pytest
import torch

from videollm.audio_config import AudioConfig
from videollm.errors import ConfigError
from videollm.models.mel_encoder import CLIP_S, MelEncoder
from videollm.video.audio import SAMPLE_RATE

ENCODER = MelEncoder(AudioConfig(kind="mel", token_dim=64))


def tone(hertz: float, seconds: float) -> torch.Tensor:
    return 0.3 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def test_a_higher_tone_lies_in_a_higher_bin():
    bins = []
    for hertz in (250, 700, 1500, 4000):
        found = ENCODER.encode_audio(tone(hertz, 1.0))
        assert found is not None and found.tokens.shape == (8, 64)
        assert found.times_s.tolist() == [CLIP_S * i for i in range(8)]
        bins.append(found.tokens[:, :32].mean(0).argmax().item())
    assert bins == sorted(set(bins))


def test_a_click_shows_in_its_clip_and_in_the_largest_energies():
    samples = torch.zeros(SAMPLE_RATE)
    samples[5000:5100] = torch.randn(100, generator=torch.Generator().manual_seed(0))
    found = ENCODER.encode_audio(samples)
    assert found is not None
    mean, largest = found.tokens.split(32, dim=1)
    assert largest.mean(1).argmax() == 5000 // round(CLIP_S * SAMPLE_RATE) and largest[2].mean() > mean[2].mean() + 0.5


def test_silence_and_full_scale_stay_in_range():
    for samples in (torch.zeros(SAMPLE_RATE), torch.ones(SAMPLE_RATE), torch.randn(SAMPLE_RATE).sign()):
        found = ENCODER.encode_audio(samples)
        assert found is not None and found.tokens.isfinite().all() and found.tokens.abs().max() <= 1.5


def test_what_is_shorter_than_a_clip_is_not_heard():
    assert ENCODER.encode_audio(torch.zeros(100)) is None


def test_an_odd_width_is_refused():
    with pytest.raises(ConfigError, match="even number"):
        MelEncoder(AudioConfig(kind="mel", token_dim=65))
