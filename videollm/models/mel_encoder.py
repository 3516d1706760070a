"""The spectrum of each moment of a sound, as an audio encoder without weights.

Shapes: N samples, S clips, F spectrogram frames of a clip, M mel bins.
"""

from pathlib import Path

import torch

from videollm.audio_config import AudioConfig
from videollm.encoders.audio import AudioFeatures
from videollm.errors import ConfigError
from videollm.models.published.mel import HOP_S, WINDOW_S, log_mel
from videollm.video.audio import SAMPLE_RATE

CLIP_S = 0.125
# Log energies of silence and of full scale are about -16 and 8; the quietest part holds rounding alone.
LEAST, MIDDLE, HALF_RANGE = -12.0, -2.0, 10.0


class MelEncoder:
    """AudioEncoder whose features are the mean and the largest log-mel energies of consecutive clips of 1/8 s.

    A tone shows in the mean and a click in the largest. Half of `config.token_dim` is the number of mel bins.

    Raises ConfigError if it is odd.
    """

    name = "mel"

    def __init__(self, config: AudioConfig):
        if config.token_dim % 2:
            raise ConfigError(f"audio token_dim is {config.token_dim}; the kind mel needs an even number")
        self.bins = config.token_dim // 2
        self.revision = f"1-{self.bins}"

    def encode_audio(self, samples: torch.Tensor) -> AudioFeatures | None:
        """See `AudioEncoder.encode_audio`. The features are (S,2M). A rest that is shorter than a clip is not heard."""
        window, hop, clip = (round(seconds * SAMPLE_RATE) for seconds in (WINDOW_S, HOP_S, CLIP_S))
        count = len(samples) // clip
        if count == 0:
            return None
        frames = 1 + (clip - window) // hop
        energies = torch.stack(
            [log_mel(part, SAMPLE_RATE, self.bins)[:frames] for part in samples[: count * clip].view(count, clip)]
        )
        scaled = (energies.clamp(min=LEAST) - MIDDLE) / HALF_RANGE  # (S,F,M)
        tokens = torch.cat([scaled.mean(1), scaled.amax(1)], dim=-1)
        return AudioFeatures(tokens, CLIP_S * torch.arange(count, dtype=torch.float64))

    def save(self, folder: Path) -> None:
        """Writes nothing: there are no weights, and the configuration tells the rest."""


def load_mel(folder: Path, config: AudioConfig, device: torch.device | str | None = None) -> MelEncoder:
    return MelEncoder(config)
